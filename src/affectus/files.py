"""Writing so that a reader never sees half a file, and hashing."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from affectus.errors import AffectusError, WriteError

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

_PART = ".affectus.part"
"""Ends the name of a folder that holds what is not whole yet; its process keeps it locked."""
_REPLACED = ".replaced"
_swept: set[Path] = set()
"""Folders in which this process has looked for what killed ones left."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def explain_os_error(error: OSError, path: Path) -> WriteError:
    """Turn a failed write into one sentence: disk full, no permission, or what the system said."""
    if error.errno in _FULL:
        return WriteError(
            "No space left while writing", where=path, remedy="Free some space or choose another --out folder"
        )
    if error.errno in _DENIED:
        return WriteError("No permission to write", where=path, remedy="Choose another --out folder")
    return WriteError("Could not write", where=path, got=error.strerror or str(error))


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it when the block succeeds, remove it when it fails.

    Works for a file or a folder: the block creates whichever it wants. An existing folder at ``path`` is replaced.

    Raises:
        AffectusError: the disk is full or the place cannot be written.
    """
    path = Path(path)
    with _part(path) as holder:
        yield from _written(path, holder)


def _written(path: Path, holder: Path) -> Iterator[Path]:
    temporary = holder / path.name
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            old = holder / _REPLACED
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


@contextlib.contextmanager
def claim(path: str | Path) -> Iterator[None]:
    """Hold a file or folder that is going to be written as a whole for this process alone.

    It is not touched; the claim goes with the process, even a killed one. Found out at once: that the place cannot be
    written, which else shows at the end of the work.

    Raises:
        AffectusError: another process holds it, or the place cannot be written.
    """
    path = Path(path)
    absent = [parent for parent in path.parents if not parent.exists()]
    _swept.discard(path.parent.absolute())
    try:
        with _part(path) as mine:
            if any(_in_use(other) for other in _parts(path.parent, path.name) if other != mine):
                raise _another(path)
            yield
    finally:
        for parent in absent:  # the innermost first; one that holds something by now stays
            with contextlib.suppress(OSError):
                parent.rmdir()


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder for what is needed during the block; one that a killed process left goes when the next begins."""
    with _part(Path(tempfile.gettempdir()) / "scratch") as folder:
        yield folder


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, locked as long as this process lives, and remove it after the block."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.absolute() not in _swept:
            sweep(path.parent)
        holder, handle = _new_part(path)
        while not holder.is_dir():  # swept by another process before it was locked
            if handle >= 0:
                os.close(handle)
            holder, handle = _new_part(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        yield holder
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        if handle >= 0:
            os.close(handle)


def _new_part(path: Path) -> tuple[Path, int]:
    """Return a new folder beside a path, and what holds its lock; -1 where there are no locks."""
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent))
    handle = -1
    # a file system without locks is none's hindrance; nothing is swept there either
    with contextlib.suppress(OSError):
        if fcntl is not None:
            handle = os.open(holder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
    return holder, handle


def _parts(folder: Path, name: str = "") -> list[Path]:
    """Return the folders of unfinished files in a folder; those of one file if it is named."""
    prefix = f".{name}." if name else "."
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.endswith(_PART) and entry.name.startswith(prefix)]
    return [part for part in found if not name or part.name.removesuffix(_PART).rpartition(".")[0] == f".{name}"]


def _in_use(part: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), _locked(part) as held:
        return not held
    return False


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[bool]:
    handle = os.open(part, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def sweep(folder: str | Path) -> None:
    """Remove what killed processes left in a folder, and finish what one was about to put in its place.

    Whoever writes a file there does so anyway; this is for a folder in which nothing may be left to write.
    """
    folder = Path(folder)
    _swept.add(folder.absolute())
    if fcntl is None or not folder.is_dir():
        return
    for part in _parts(folder):
        with contextlib.suppress(OSError), _locked(part) as free:
            if not free:
                continue
            name = part.name.removesuffix(_PART).rpartition(".")[0][1:]
            # the old folder was moved away and the new one is whole, but was not moved in yet
            for whole in (part / name, part / _REPLACED):
                if (part / _REPLACED).exists() and whole.exists() and not (folder / name).exists():
                    whole.rename(folder / name)
            shutil.rmtree(part, ignore_errors=True)


def _another(path: Path) -> AffectusError:
    return AffectusError(
        "Another affectus is writing", where=path, remedy="Wait for it, or choose another --out folder"
    )


def write_text(path: str | Path, text: str) -> None:
    """Write text so that a reader sees the old file or the whole new one."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream,
    ):
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON, indented; NaN and infinite numbers become null, since JSON has neither."""
    write_text(path, json_text(data) + "\n")


def json_text(data: Any) -> str:
    """Return data as JSON, indented; NaN and infinite numbers become null, since JSON has neither."""
    return json.dumps(_jsonable(data), indent=1, ensure_ascii=False, allow_nan=False)


def _jsonable(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, str):
        return valid_text(data)
    if isinstance(data, dict):
        return {_jsonable(key): _jsonable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_jsonable(value) for value in data]
    return data


def valid_text(text: str) -> str:
    r"""Return text without what is left of a file's name that is not UTF-8, which no format of ours can hold.

    >>> valid_text("Größe"), valid_text("clip\udcfe")
    ('Größe', 'clip\\udcfe')
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        AffectusError: the file is absent or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AffectusError("There is no file", where=path) from None
    except OSError as error:
        raise AffectusError("Could not read", where=path, got=error.strerror or error) from None
    except RecursionError:
        raise AffectusError("Not a JSON file of ours", where=path, got="lists nested too deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AffectusError("Not a JSON file", where=path, got=str(error)) from None


def read_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """Read a YAML mapping.

    Args:
        path: the file.
        what: it is, such as ``configuration``.

    Raises:
        AffectusError: the file is absent or is no YAML mapping.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AffectusError(f"There is no {what} file", where=path) from None
    except OSError as error:
        raise AffectusError(f"Could not read the {what}", where=path, got=error.strerror or error) from None
    except RecursionError:
        raise AffectusError("Not a YAML file of ours", where=path, got="lists nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, or a date that is none
        raise AffectusError("Not a YAML file", where=path, got=" ".join(str(error).split())) from None
    if not isinstance(raw, dict):
        raise AffectusError(f"The {what} is not a mapping", where=path, expected="keys such as model")
    return raw


FORMULA = r"^'*(?:[=@\t\r]|[+-][\w.+-]*[^\w.+-])"
"""Text that a spreadsheet would compute; ``-3g5yACwYnA``, the name of a video, and numbers are none."""


def no_formula(value: Any) -> Any:
    """Return a cell of a CSV file; before text that a spreadsheet would compute stands an apostrophe.

    >>> no_formula("=1+1"), no_formula("- Yes."), no_formula("-1.5"), no_formula(-1.5)
    ("'=1+1", "'- Yes.", '-1.5', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and re.match(FORMULA, value) else value


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
                raise _another(folder) from None
        _swept.difference_update([place for place in _swept if place.is_relative_to(folder.absolute())])
        yield
