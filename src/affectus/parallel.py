"""The thin interface between work on many items and what does it: this process, or the machines of a cluster.

A :class:`Work` knows how to do one item and whether its result is there; its results are files that are renamed into
place when they are whole. An :class:`Executor` does the items in any order and tells how each ended, exactly once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from affectus.errors import AffectusError, WriteError

Alive = Callable[[], None]
"""Called from time to time by work that goes on; where nothing is heard for long, it counts as hanging."""


@dataclass(frozen=True)
class Ended:
    """How an item ended.

    Attributes:
        number: of the item.
        error: why there is no result of it; None if there is one.
        seconds: that were spent on it.
    """

    number: int
    error: str | None = None
    seconds: float = 0.0


class Work(Protocol):
    """What is done with each item; plain data, since it goes to other processes."""

    def open(self) -> Callable[[Any, Alive], None]:
        """Load what all items need, once for each process, and return what does one item."""

    def done(self, item: Any) -> bool:
        """Return whether the result of an item is there."""


class Executor(Protocol):
    """Does work on items."""

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Ended]:
        """Do all items and yield how each ended, in the order in which they end.

        Raises:
            WriteError: a result cannot be written; those of the other items could not be, either.
        """


class Here:
    """Does one item after another in this process."""

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Ended]:
        """Do all items and yield how each ended."""
        call = work.open() if items else None
        for number, item in enumerate(items):
            assert call is not None
            yield attempt(call, number, item)


def attempt(call: Callable[[Any, Alive], None], number: int, item: Any, alive: Alive = lambda: None) -> Ended:
    """Do an item and return how it ended; whatever it raises is the reason that it has no result.

    Raises:
        WriteError: so does what it does.
    """
    begun = time.monotonic()
    try:
        call(item, alive)
    except WriteError:
        raise
    except AffectusError as error:
        reason: str | None = str(error)
    except Exception as error:
        # one item of many, perhaps in the code of a third party; the others do not depend on it
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    else:
        reason = None
    return Ended(number, reason, round(time.monotonic() - begun, 1))
