"""``python -m affectus`` and the command ``affectus``: what can hinder them from outside is minded before all else.

That is: they are told to end, perhaps while modules are still imported, or standard output takes no or not all letters.
"""

import codecs
import contextlib
import errno
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

from affectus.errors import ENDED, INTERRUPTED

_SENTENCES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: ENDED}
_PATIENCE = 10.0
"""Seconds in which a command that is told to end is expected to; somebody's code may pass over that, too."""
_told: list[int] = []
"""Signals that told the command to end."""


class Stopped(BaseException):
    """The command was told to end. No KeyboardInterrupt: libraries have ideas of their own about that."""


def run() -> NoReturn:
    """Run the command line and exit; the entry point of the ``affectus`` command."""
    for number in _SENTENCES:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it, and shells in the background
            signal.signal(number, _tell)
    sys.unraisablehook = _unraisable
    _open_streams()
    code = 1
    try:
        code = _run()
    except BaseException:
        # modules whose import is interrupted raise what they like
        if not _told:
            raise
    if _told:
        code = _farewell()
    for number in _SENTENCES:
        signal.signal(number, signal.SIG_IGN)  # nothing is left that could be ended
    sys.exit(code)


def _run() -> int:
    from affectus.cli.main import main
    from affectus.threads import sleep_soon

    sleep_soon()
    try:
        code = main()
        sys.stdout.flush()
    except OSError as error:
        # a file that cannot be written is told by whoever writes it
        if error.filename is not None or error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        _forget_output()
        if error.errno != errno.EPIPE:
            print(f"error: Standard output could not be written: {error.strerror}.", file=sys.stderr)
            return 2
        return 1
    return code


def _tell(number: int, frame: FrameType | None) -> None:
    at_once = bool(_told)
    _told.append(number)
    while frame is not None and not at_once:
        # who imports may pass over whatever it raises, as if the module were not installed
        at_once = frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    if at_once:
        _leave()
    patience = threading.Timer(_PATIENCE, _leave)
    patience.daemon = True
    patience.start()
    raise Stopped


def _farewell() -> int:
    number = signal.Signals(_told[0])
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, b"\x1b[?25h")  # a bar of progress has hidden the cursor
        os.write(2, f"{_SENTENCES[number]}\n".encode())
    return 128 + number


def _leave() -> NoReturn:
    # whatever was being written has no final name yet, and worker processes end with this one
    os._exit(_farewell())


def _unraisable(unraisable: Any) -> None:
    if isinstance(unraisable.exc_value, Stopped):
        _leave()  # raised where Python passes nothing on, as in what an import calls when a lock goes
    sys.__unraisablehook__(unraisable)


def _open_streams() -> None:
    """Let standard output take any text, and be there; else the first file that is opened would get what is printed."""
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError:
            other = os.open(os.devnull, os.O_WRONLY)
            if other != number:
                os.dup2(other, number)
                os.close(other)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    codecs.register_error("affectus", _escaped)
    with contextlib.suppress(AttributeError):  # somebody's own stream
        sys.stdout.reconfigure(errors="affectus")  # type: ignore[union-attr]


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Write letters that the encoding lacks as JSON does (``\u00e9``), so that JSON stays what it is."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)), error.end


def _forget_output() -> None:
    # what is left in the buffer would be tried again at the end
    with contextlib.suppress(OSError):
        other = os.open(os.devnull, os.O_WRONLY)
        os.dup2(other, 1)
        os.close(other)
        sys.stdout.flush()


if __name__ == "__main__":
    run()
