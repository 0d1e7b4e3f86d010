"""Uploads, as they arrive: counted, timed, looked at, and written to the disk."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from affectus.app.settings import Limits
from affectus.app.sniffing import HEAD, Kind, decoded, kept_name, sniff
from affectus.errors import AffectusError


class RefusedError(AffectusError):
    """An upload that is not taken.

    Args:
        status: of HTTP.
        what: as for every error, like the rest.
        got: likewise.
        expected: likewise.
        remedy: likewise.
    """

    def __init__(
        self, status: int, what: str, *, got: object = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(what, got=got, expected=expected, remedy=remedy)
        self.status = status


@dataclass(frozen=True)
class Received:
    """What arrived.

    Attributes:
        path: where it is kept.
        kind: what it is.
        bytes: its length.
    """

    path: Path
    kind: Kind
    bytes: int


async def receive(chunks: AsyncIterator[bytes], name: str, folder: Path, limits: Limits) -> Received:
    """Write an upload into a folder.

    Args:
        chunks: of the body.
        name: of the file, as its sender calls it; only letters of it are kept.
        folder: that exists.
        limits: of size, slowness and disk.

    Raises:
        RefusedError: it is too long or too slow, breaks off, is nothing that can be analysed, or the disk is full.
    """
    head = b""
    count, begun = 0, time.monotonic()
    kind: Kind | None = None
    part = folder / ".upload.part"
    try:
        with part.open("wb") as stream:
            async for chunk in _timed(chunks, limits):
                count += len(chunk)
                most = limits.text_bytes if kind is not None and kind.text else limits.upload_bytes
                if count > most:
                    raise RefusedError(413, "The file is too large", got=f"more than {most} bytes")
                spent = time.monotonic() - begun
                if spent > limits.stall_seconds and count < limits.slowest * spent:
                    raise RefusedError(408, "The file arrives too slowly", got=f"{count} bytes in {spent:.0f} s")
                if kind is None:
                    head += chunk[: HEAD - len(head)]
                    if len(head) >= HEAD:
                        kind = _known(head)
                stream.write(chunk)
                if shutil.disk_usage(folder).free < limits.free_bytes:
                    raise RefusedError(507, "The disk is nearly full", remedy="Delete analyses that are not needed")
        if count == 0:
            raise RefusedError(400, "The file is empty")
        kind = kind or _known(head)
        if kind.text and (count > limits.text_bytes or decoded(part.read_bytes(), whole=True) is None):
            if count > limits.text_bytes:
                raise RefusedError(413, "The text is too large", got=f"{count} bytes")
            raise RefusedError(415, "The text is not UTF-8")
        path = folder / kept_name(name, kind)
        part.rename(path)
    except OSError as error:
        raise RefusedError(507, "The file could not be written", got=error.strerror) from None
    finally:
        part.unlink(missing_ok=True)
    return Received(path, kind, count)


async def _timed(chunks: AsyncIterator[bytes], limits: Limits) -> AsyncIterator[bytes]:
    """Yield the chunks; give up if none comes for too long."""
    source = chunks.__aiter__()
    while True:
        try:
            async with asyncio.timeout(limits.stall_seconds):
                chunk = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RefusedError(408, "Nothing more of the file arrived", got=f"{limits.stall_seconds:g} s") from None
        if chunk:
            yield chunk


async def drain(chunks: AsyncIterator[bytes], most: int = 8 * 1024**2, seconds: float = 5.0) -> None:
    """Read the rest of a body that is not wanted, as far as it is short: its sender then sees the answer."""
    count = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in chunks:
                count += len(chunk)
                if count > most:
                    return
    except Exception:
        return  # nobody listens any more


def _known(head: bytes) -> Kind:
    kind = sniff(head)
    if kind is None:
        raise RefusedError(
            415, "This is no video, sound, subtitles or text that can be analysed",
            expected="MP4, MOV, WebM, MKV, AVI, FLV, MPEG, WAV, FLAC, MP3, M4A, AAC, Ogg, SRT, WebVTT or UTF-8 text",
        )  # fmt: skip
    return kind
