"""One form for every error that a user can mend: what, where, what was got, what was expected, what to do."""

import difflib
from collections.abc import Iterable
from pathlib import Path

INTERRUPTED = "Interrupted. Run the same command again to go on."
ENDED = "Ended by SIGTERM. Run the same command again to go on."
"""What a command says that is told to end; its exit code is 130 or 143."""


class AffectusError(Exception):
    """Bad input, in one clear sentence; the command line prints it and exits with code 2.

    Args:
        what: What is wrong, starting with a capital, without a full stop.
        where: The file, and the row, key or column in it.
        got: The offending value.
        expected: What would have been right.
        remedy: What the user can do; a full sentence.

    >>> print(AffectusError("Label out of range", where="labels.csv, row 3", got=7, expected="a number in [-3, 3]"))
    Label out of range in labels.csv, row 3: got 7; expected a number in [-3, 3].
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        got: object = None,
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.got, self.expected, self.remedy = what, where, got, expected, remedy
        sentence = what if where is None else f"{what} in {where}"
        details = []
        if got is not None:
            details.append(f"got {got}")
        if expected is not None:
            details.append(f"expected {expected}")
        if details:
            sentence += ": " + "; ".join(details)
        sentence = sentence.rstrip(".") + "."
        if remedy:
            sentence += " " + remedy.strip().rstrip(".?") + ("?" if remedy.strip().endswith("?") else ".")
        super().__init__(sentence)


class WriteError(AffectusError):
    """A place cannot be written: the fault is not of what was to be written, so the next thing would fare no better."""


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Return ``Did you mean 'x'?`` for the known name nearest to ``name``, or None."""
    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return f"Did you mean {folded[near[0]]!r}?" if near else None


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: str | Path | None = None) -> AffectusError:
    """Build the error for a name that is not in a closed list, with the nearest known one."""
    listed = sorted(known)
    return AffectusError(
        f"Unknown {kind} {name!r}",
        where=where,
        expected="one of: " + ", ".join(listed) if listed else f"no {kind} at all here",
        remedy=suggest(name, listed),
    )
