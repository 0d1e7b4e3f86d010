"""Feature scaling, fitted on the training utterances alone and stored with the run.

A non-finite value does not take part in the fit; after scaling it becomes 0, which under ``standard`` is the training
mean of its column. A column that is constant on train becomes 0.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError

FloatArray = npt.NDArray[np.floating]
Chunks = Callable[[], Iterable[FloatArray]]
"""Gives the parts of an array, from the first one again at each call."""


class Scale(StrEnum):
    """How features are scaled.

    ``standard``: minus the mean, over the standard deviation of each column. ``max``: over the largest absolute value
    of each column. ``none``: as they are.
    """

    STANDARD = "standard"
    MAX = "max"
    NONE = "none"


@dataclass(frozen=True, eq=False)
class Scaler:
    """Per modality a shift and a factor per column: ``(x - shift) * factor``.

    Attributes:
        shift: per modality (dim,) float32.
        factor: per modality (dim,) float32; 0 for a column that is constant on train.
    """

    shift: Mapping[str, npt.NDArray[np.float32]]
    factor: Mapping[str, npt.NDArray[np.float32]]

    @classmethod
    def fit(cls, values: Mapping[str, FloatArray | Chunks], scale: Scale) -> Self:
        """Fit on (n, dim) training vectors per modality.

        Args:
            values: the vectors, or a function that gives them in parts, one at least; of ``standard`` it is called
                twice, for the mean and for the deviations from it, which are summed in double precision.
            scale: how.
        """
        shift, factor = {}, {}
        for name, given in values.items():
            shift[name], factor[name] = _fit_columns(_chunks_of(given), scale)
        return cls(shift, factor)

    def apply(self, name: str, values: FloatArray, *, given_away: bool = False) -> npt.NDArray[np.float32]:
        """Scale (..., dim) values of a modality; non-finite results become 0.

        Args:
            name: of the modality.
            values: to be scaled.
            given_away: the values may be overwritten, which saves a copy of them.

        Raises:
            AffectusError: the width is not the one of the training data.
        """
        if values.shape[-1] != len(self.shift[name]):
            raise AffectusError(
                f"Modality {name!r} has another width than in training",
                got=values.shape[-1],
                expected=str(len(self.shift[name])),
                remedy="Extract the features as for the training corpus",
            )
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = values.astype(np.float32, copy=not given_away)
            if self.shift[name].any() or (self.factor[name] != 1).any():
                scaled -= self.shift[name]
                scaled *= self.factor[name]
        if not all_finite(scaled):
            scaled[~np.isfinite(scaled)] = 0.0
        return np.asarray(scaled, dtype=np.float32)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the fitted numbers under ``<modality>.shift`` and ``<modality>.factor``."""
        shifts = {f"{name}.shift": value for name, value in self.shift.items()}
        return shifts | {f"{name}.factor": value for name, value in self.factor.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float32]]) -> Self:
        """Rebuild from :meth:`arrays`."""
        shift = {key.removesuffix(".shift"): value for key, value in arrays.items() if key.endswith(".shift")}
        factor = {key.removesuffix(".factor"): value for key, value in arrays.items() if key.endswith(".factor")}
        return cls(shift, factor)


def all_finite(values: FloatArray) -> bool:
    """Return True only if every value is a finite number; False may also mean that their sum is none."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum(dtype=np.float32)))


def _chunks_of(values: FloatArray | Chunks) -> Chunks:
    return (lambda: (values,)) if isinstance(values, np.ndarray) else values


def _fit_columns(chunks: Chunks, scale: Scale) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    if scale is Scale.NONE:
        width = next(iter(chunks())).shape[-1]  # the rest need not be read
        return np.zeros(width, np.float32), np.ones(width, np.float32)
    total, count, largest = (np.zeros(1) for _ in range(3))
    for array in chunks():
        finite = np.isfinite(array)
        clean = np.where(finite, array, 0.0).astype(np.float64)
        total = total + clean.sum(axis=0)
        count = count + finite.sum(axis=0)
        largest = np.maximum(largest, np.abs(clean).max(axis=0, initial=0.0))
    shift, factor = np.zeros(len(total)), np.ones(len(total))
    count = np.maximum(count, 1)
    if scale is Scale.STANDARD:
        shift = total / count
        squares = np.zeros(len(total))
        for array in chunks():
            squares += (np.where(np.isfinite(array), array.astype(np.float64) - shift, 0.0) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / count)
        # rounding noise in a constant column, or in one that is all but zero, must not be blown up
        useful = deviation > np.maximum(1e-6 * np.abs(shift), 1e-8)
        factor = np.where(useful, 1.0 / np.where(useful, deviation, 1.0), 0.0)
    elif scale is Scale.MAX:
        factor = np.where(largest > 0, 1.0 / np.where(largest > 0, largest, 1.0), 0.0)
    return shift.astype(np.float32), factor.astype(np.float32)
