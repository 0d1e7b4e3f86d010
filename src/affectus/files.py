"""Writing so that a reader never sees half a file, and hashing."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from affectus.errors import AffectusError

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def explain_os_error(error: OSError, path: Path) -> AffectusError:
    """Turn a failed write into one sentence: disk full, no permission, or what the system said."""
    if error.errno in _FULL:
        return AffectusError(
            "No space left while writing", where=path, remedy="Free some space or choose another --out folder"
        )
    if error.errno in _DENIED:
        return AffectusError("No permission to write", where=path, remedy="Choose another --out folder")
    return AffectusError("Could not write", where=path, got=error.strerror or str(error))


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it when the block succeeds, remove it when it fails.

    Works for a file or a folder: the block creates whichever it wants. An existing folder at ``path`` is replaced.

    Raises:
        AffectusError: the disk is full or the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise explain_os_error(error, path) from error
    temporary = holder / path.name
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            old = holder / "replaced"
            path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                old.rename(path)
                raise
        else:
            temporary.replace(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except AffectusError:
        raise
    except Exception as error:
        # polars and safetensors write from Rust and wrap the system's error in their own
        found = _RUST_OS_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise explain_os_error(OSError(number, os.strerror(number)), path) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write text so that a reader sees the old file or the whole new one."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON, indented; NaN becomes null, since JSON has no NaN."""
    write_text(path, json_text(data) + "\n")


def json_text(data: Any) -> str:
    """Return data as JSON, indented; NaN becomes null, since JSON has no NaN."""
    return json.dumps(_jsonable(data), indent=1, ensure_ascii=False, allow_nan=False)


def _jsonable(data: Any) -> Any:
    if isinstance(data, float) and data != data:
        return None
    if isinstance(data, dict):
        return {key: _jsonable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_jsonable(value) for value in data]
    return data


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        AffectusError: the file is absent or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AffectusError("There is no file", where=path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AffectusError("Not a JSON file", where=path, got=str(error)) from None


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def lock_folder(folder: str | Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder for this process alone; the lock goes with the process, even a killed one.

    Args:
        folder: made if it is not there.
        wait: seconds to wait for another process.

    Raises:
        AffectusError: another process holds it, or the folder cannot be written.
    """
    until = time.monotonic() + wait
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("w")
    except OSError as error:
        raise explain_os_error(error, folder) from error
    with stream:
        while fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() < until:
                    time.sleep(0.02)
                    continue
                raise AffectusError(
                    "Another affectus is writing", where=folder, remedy="Wait for it, or choose another --out folder"
                ) from None
        yield
