"""What `affectus tune` searches: ranges and choices of a model's options and of training settings.

A model names those of its own where it is registered (``space=``); :data:`TRAINING_SPACE` is added to every model that
is trained by gradient. A key is an option of the model or a training setting, as after ``--set``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Whole:
    """Whole numbers from ``low`` to ``high``, both included; ``log`` where each doubling counts alike."""

    low: int
    high: int
    log: bool = False

    def holds(self, value: object) -> bool:
        """True if a value lies in it."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low}..{self.high}"


@dataclass(frozen=True)
class Real:
    """Numbers from ``low`` to ``high``; ``log`` where each doubling counts alike."""

    low: float
    high: float
    log: bool = False

    def holds(self, value: object) -> bool:
        """True if a value lies in it."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class Choice:
    """Some values: numbers, words, True and False, None."""

    values: tuple[Any, ...]

    def holds(self, value: object) -> bool:
        """True if a value is one of them, and not just equal to one, as 1 is to True."""
        return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in self.values)

    def __str__(self) -> str:
        return ",".join("none" if value is None else str(value).lower() for value in self.values)


Axis = Whole | Real | Choice
Space = Mapping[str, Axis]


def one_of(*values: Any) -> Choice:
    """Return a choice of the given values.

    >>> str(one_of(16, 32, None))
    '16,32,none'
    """
    return Choice(values)


def widened(axis: Axis, value: Any) -> Axis:
    """Return the axis with a value in it: what is published for a model must be among what is searched.

    >>> str(widened(Real(1e-4, 1e-2, log=True), 0.05)), str(widened(one_of(16, 32), 128))
    ('log:0.0001..0.05', '16,32,128')
    """
    if axis.holds(value):
        return axis
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(axis, Choice):
        return Choice((*axis.values, value))
    if not number or (axis.log and value <= 0):
        return axis
    if isinstance(axis, Whole):
        return Whole(min(axis.low, int(value)), max(axis.high, int(value)), axis.log) if value == int(value) else axis
    return Real(min(axis.low, value), max(axis.high, value), axis.log)


DROPOUT = Real(0.0, 0.6)
"""The usual range of a share that is dropped."""
TRAINING_SPACE: Space = {
    "learning_rate": Real(1e-4, 1e-2, log=True),
    "batch_size": one_of(16, 32, 64, 128),
    "weight_decay": one_of(0.0, 1e-5, 1e-4, 1e-3, 1e-2),
}
"""For every model that is trained by gradient."""
