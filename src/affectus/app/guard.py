"""Who may ask the server, and what every answer carries.

A server on loopback can be reached by every page that its user's browser shows. So it answers only if it is asked by a
name that is its own (against rebinding of names), refuses requests that another site makes, and, where it was given a
token, those who do not know it.
"""

import hmac
import ipaddress
import re
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse

from affectus.app.settings import Settings

Scope = dict[str, Any]
COOKIE = "affectus_token"
SESSION_PATH = "/api/session"
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
REPORT_CSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""Of a run's report, a page without scripts and with its style within."""
FILE_CSP = "sandbox; default-src 'none'; media-src 'self'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=(), display-capture=()",
    "content-security-policy": PAGE_CSP,
}
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>\d{1,5}))?\Z")
_SAFE = {"GET", "HEAD", "OPTIONS"}
_MOST_BODY = 64 * 1024
"""Bytes of the body of a request that is no upload."""


class Guard:
    """Stands before the application.

    Args:
        app: the application.
        settings: of the server.
        upload_path: whose bodies may be as long as an upload.
    """

    def __init__(self, app: Any, settings: Settings, upload_path: str) -> None:
        self.app, self.settings, self.upload_path = app, settings, upload_path

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer, or let the application answer."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets here

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = dict(_HEADERS)
                if scope["path"].startswith("/api"):
                    added["cache-control"] = "no-store"
                else:
                    added["cache-control"] = "no-cache"
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in added.items() if n.encode() not in present),
                ]
            await send(message)

        refusal = self.refusal(scope)
        if refusal is not None:
            status, why = refusal
            headers = {"www-authenticate": "Bearer"} if status == 401 else {}
            # what is left of the body is not read
            response = JSONResponse({"error": why}, status, headers={**headers, "connection": "close"})
            await response(scope, receive, answer)
            return
        await self.app(scope, receive, answer)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason if a request is refused."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key in headers and key in ("host", "origin", "content-length", "authorization"):
                return 400, f"The header {key} was given twice."
            headers[key] = value.decode("latin-1")
        host = headers.get("host", "")
        if not self._own(host):
            return 403, "This server does not go by the name that it was asked by."
        if not _same_site(headers, scope, host):
            return 403, "Another site asked for this; it is refused."
        length = headers.get("content-length")
        upload = scope["path"] == self.upload_path and scope["method"] == "POST"
        most = self.settings.limits.upload_bytes if upload else _MOST_BODY
        if length is not None and (not (length.isascii() and length.isdigit()) or int(length) > most):
            if not (length.isascii() and length.isdigit()):
                return 400, "The content length is no number."
            return 413, f"The request is too large: got {int(length)} bytes; expected at most {most}."
        if not upload and length is None and "transfer-encoding" in headers:
            return 411, "The length of the request must be given."
        if self.settings.token is not None and _needs_token(scope) and not self._knows(headers):
            return 401, "A token is needed: open the address that `affectus serve` printed."
        return None

    def _own(self, host: str) -> bool:
        match = _HOST.match(host)
        if match is None:
            return False
        if self.settings.hosts:
            return host.lower() in self.settings.hosts
        return is_loopback(match["name"])

    def _knows(self, headers: dict[str, str]) -> bool:
        token = self.settings.token or ""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), token.encode())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), token.encode())


def is_loopback(name: str) -> bool:
    """Return whether a name or address is this machine and no other can reach it."""
    plain = name.strip("[]").lower()
    if plain == "localhost":
        return True
    try:
        return ipaddress.ip_address(plain).is_loopback
    except ValueError:
        return False


def _needs_token(scope: Scope) -> bool:
    # the page and its files hold nothing of anyone's; it asks for the rest
    return bool(scope["path"].startswith("/api")) and scope["path"] != SESSION_PATH


def _same_site(headers: dict[str, str], scope: Scope, host: str) -> bool:
    """Return whether a request comes from the server's own page, or from no page at all."""
    origin = headers.get("origin")
    if origin is not None:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower():
            return False
    site = headers.get("sec-fetch-site")
    if site in (None, "same-origin", "none"):
        return True
    # another page may link to the page itself, and to nothing else
    link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return scope["method"] in _SAFE and not scope["path"].startswith("/api") and link
