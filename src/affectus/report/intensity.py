"""The ways to cut a sentiment intensity into classes, as the metrics do that read accuracies off it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from affectus.metrics import Rounding

IntArray = npt.NDArray[np.int64]

SIMS_CUTS = {
    2: ((0.0,), ("to 0", "above 0")),
    3: ((-0.1, 0.1), ("to −0.1", "to 0.1", "above")),
    5: ((-0.7, -0.1, 0.1, 0.7), ("to −0.7", "to −0.1", "to 0.1", "to 0.7", "above")),
}
"""Where MMSA cuts the intensities of CH-SIMS, in [-1, 1], and what the classes are called; each is closed above."""
WHOLE = ("−3", "−2", "−1", "0", "1", "2", "3")


@dataclass(frozen=True)
class Cut:
    """A way to cut intensities.

    Attributes:
        title: how many classes, and what is special about them.
        labels: their names.
        classes: maps intensities (n,) to class numbers (n,).
        neutral: utterances whose true intensity is 0 take part.
    """

    title: str
    labels: tuple[str, ...]
    classes: Callable[[npt.ArrayLike], IntArray]
    neutral: bool = True


def cuts_for(high: float | None, rounding: Rounding = "half_even") -> tuple[Cut, ...]:
    """Return the ways that fit a label's range: those of CH-SIMS up to 1, else those of CMU-MOSI and CMU-MOSEI.

    Args:
        high: largest value of the label, if known.
        rounding: where a half goes.

    >>> [cut.title for cut in cuts_for(1.0)]
    ['2 classes', '3 classes', '5 classes']
    """
    if high is not None and high <= 1:
        return tuple(Cut(f"{n} classes", labels, _binned(cuts)) for n, (cuts, labels) in SIMS_CUTS.items())
    return (
        Cut("2 classes, 0 is positive", ("negative", "positive"), lambda values: _ones(np.asarray(values) >= 0)),
        Cut(
            "2 classes without neutral ones",
            ("negative", "positive"),
            lambda values: _ones(np.asarray(values) > 0),
            neutral=False,
        ),
        *(
            Cut(f"{2 * limit + 1} classes", WHOLE[3 - limit : 4 + limit], _rounded(limit, rounding))
            for limit in (1, 2, 3)
        ),
    )


def round_within(values: npt.ArrayLike, limit: int, rounding: Rounding = "half_even") -> IntArray:
    """Return the class 0 to 2 ``limit`` of intensities that are clipped to [-limit, limit] and rounded.

    >>> round_within([-4.0, 0.5, 2.6], 3).tolist(), round_within([0.5], 3, "half_away").tolist()
    ([0, 3, 6], [4])
    """
    clipped = np.clip(np.asarray(values, np.float64), -limit, limit)
    if rounding == "half_even":
        return np.rint(clipped).astype(np.int64) + limit
    whole = np.trunc(clipped)
    away: IntArray = (whole + np.sign(clipped) * (np.abs(clipped - whole) >= 0.5)).astype(np.int64)
    return away + limit


def bin_sims(values: npt.ArrayLike, cuts: tuple[float, ...]) -> IntArray:
    """Return the bin of intensities in [-1, 1], as MMSA does for CH-SIMS; each bin is closed on the right.

    >>> bin_sims([-1.0, -0.1, 0.0, 0.4, 1.0], (-0.7, -0.1, 0.1, 0.7)).tolist()
    [0, 1, 2, 3, 4]
    """
    # in single precision 0.1 itself belongs to the middle bin
    clipped = np.clip(np.asarray(values, np.float32), -1, 1)
    return np.searchsorted(np.asarray(cuts, np.float32), clipped, side="left").astype(np.int64)


def _rounded(limit: int, rounding: Rounding) -> Callable[[npt.ArrayLike], IntArray]:
    return lambda values: round_within(values, limit, rounding)


def _binned(cuts: tuple[float, ...]) -> Callable[[npt.ArrayLike], IntArray]:
    return lambda values: bin_sims(values, cuts)


def _ones(true: npt.NDArray[np.bool_]) -> IntArray:
    return true.astype(np.int64)
