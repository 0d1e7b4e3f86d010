"""The server from start to end: its address, its token, its lock, its page."""

import contextlib
import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from affectus.app.guard import is_loopback
from affectus.app.server import create_app
from affectus.app.settings import Limits, Settings, default_folder
from affectus.errors import AffectusError
from affectus.files import lock_folder

_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Serving:
    """What the command line asks for.

    Attributes:
        folder: where recordings, features and results are kept; None for the user's data folder.
        model: a run's folder; None for the model that ships.
        roots: folders in which runs and corpora may be opened.
        host: address to listen at.
        port: 0 for any.
        names: by which other machines call this one.
        token: what a client must know; made if one is needed and None is given.
        workers: analyses at once.
        threads: of each network in each worker.
        queue: most analyses that wait.
        max_mb: largest upload.
        max_minutes: longest recording.
        browser: open the page.
    """

    folder: Path | None = None
    model: Path | None = None
    roots: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = ()
    token: str | None = None
    workers: int = 1
    threads: int = 1
    queue: int = 8
    max_mb: int = 2048
    max_minutes: float = 120.0
    browser: bool = False


def run(asked: Serving, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Raises:
        AffectusError: the address is taken or none of this machine, a folder is absent or in use, the model's folder
            holds no run or one without a trained seed, or the token is too short.
    """
    for root in (*asked.roots, *([asked.model] if asked.model else [])):
        if not root.is_dir():
            raise AffectusError("There is no folder", where=root)
    if asked.model is not None:
        from affectus.training import load_run  # slow to import

        unfinished = load_run(asked.model).unfinished
        if unfinished is not None:
            say(unfinished)
    settings = settings_of(asked)
    folder = settings.folder
    with lock_folder(folder), listen(asked.host, asked.port) as listener:
        port = listener.getsockname()[1]
        settings = replace(settings, hosts=own_names(asked, port))
        app = create_app(settings)
        address = address_of(asked.host, port, settings.token)
        say(f"The page is at {address}")
        if settings.token is not None and not is_loopback(asked.host):
            say("Whoever has this address and reaches this machine can see every analysis. It is not encrypted.")
        say(f"Recordings and results are kept in {folder}. Press Ctrl+C to end.")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, date_header=False,
            timeout_keep_alive=10, timeout_graceful_shutdown=3, limit_concurrency=256, ws="none", http="h11",
        )  # fmt: skip
        server = uvicorn.Server(config)
        if asked.browser:
            threading.Timer(0.8, lambda: webbrowser.open(address)).start()
        with _ended_by_interrupt():
            server.run(sockets=[listener])


@contextlib.contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Take Ctrl-C for the way to end it, which it is here: nothing is left half done, so it is no failure."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def settings_of(asked: Serving) -> Settings:
    """Return the settings; a token is made if the server can be reached from beyond this machine.

    Raises:
        AffectusError: the token is too short to keep anybody out.
    """
    token = asked.token
    if token is None and not is_loopback(asked.host):
        token = secrets.token_urlsafe(32)
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise AffectusError(
            "The token is too short", got=f"{len(token)} characters", expected=f"{_SHORTEST_TOKEN} or more"
        )
    if token is not None and not all("!" <= c <= "~" and c not in '";,\\' for c in token):
        raise AffectusError("The token holds characters that a cookie cannot", expected="letters, digits, - and _")
    limits = Limits(waiting=asked.queue, upload_bytes=asked.max_mb * 1024**2, media_seconds=asked.max_minutes * 60)
    return Settings(
        folder=(asked.folder or default_folder()).resolve(),
        model=asked.model.resolve() if asked.model else None,
        roots=tuple(root.resolve() for root in asked.roots),
        workers=asked.workers,
        threads=asked.threads,
        limits=limits,
        token=token,
    )


def own_names(asked: Serving, port: int) -> tuple[str, ...]:
    """Return the names, with port, by which the server may be asked."""
    names = {"localhost", "127.0.0.1", "[::1]", *asked.names}
    if not is_loopback(asked.host):
        any_address = asked.host in ("0.0.0.0", "::")
        names |= {socket.gethostname()} if any_address else {_bracketed(asked.host)}
        if any_address:
            with contextlib.suppress(OSError):
                names |= {_bracketed(str(found[4][0])) for found in socket.getaddrinfo(socket.gethostname(), port)}
    else:
        names.add(_bracketed(asked.host))
    short = sorted(name.lower() for name in names) if port == 80 else []
    return (*sorted(f"{name.lower()}:{port}" for name in names), *short)


def address_of(host: str, port: int, token: str | None) -> str:
    """Return the address of the page; a token stands behind ``#``, which browsers do not send."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{_bracketed(name)}:{port}/" + (f"#token={token}" if token else "")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        AffectusError: the address is taken, or none of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise AffectusError(
            f"Cannot listen at {host}, port {port}",
            got=error.strerror or str(error),
            remedy="Name another --port or --host",
        ) from None
    return listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
