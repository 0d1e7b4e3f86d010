"""Feature scaling, fitted on the training utterances alone and stored with the run.

A non-finite value does not take part in the fit; after scaling it becomes 0, which under ``standard`` is the training
mean of its column. A column that is constant on train becomes 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError

FloatArray = npt.NDArray[np.floating]


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
    def fit(cls, values: Mapping[str, FloatArray], scale: Scale) -> Self:
        """Fit on (n, dim) training vectors per modality."""
        shift, factor = {}, {}
        for name, array in values.items():
            shift[name], factor[name] = _fit_columns(array, scale)
        return cls(shift, factor)

    def apply(self, name: str, values: FloatArray) -> npt.NDArray[np.float32]:
        """Scale (..., dim) values of a modality; non-finite results become 0.

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
            scaled = (values.astype(np.float32) - self.shift[name]) * self.factor[name]
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


def _fit_columns(array: FloatArray, scale: Scale) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    dim = array.shape[1]
    shift, factor = np.zeros(dim), np.ones(dim)
    finite = np.isfinite(array)
    clean = np.where(finite, array, 0.0).astype(np.float64)
    count = np.maximum(finite.sum(axis=0), 1)
    if scale is Scale.STANDARD:
        shift = clean.sum(axis=0) / count
        deviation = np.sqrt((np.where(finite, clean - shift, 0.0) ** 2).sum(axis=0) / count)
        # rounding noise in a constant column, or in one that is all but zero, must not be blown up
        useful = deviation > np.maximum(1e-6 * np.abs(shift), 1e-8)
        factor = np.where(useful, 1.0 / np.where(useful, deviation, 1.0), 0.0)
    elif scale is Scale.MAX:
        largest = np.abs(clean).max(axis=0, initial=0.0)
        factor = np.where(largest > 0, 1.0 / np.where(largest > 0, largest, 1.0), 0.0)
    return shift.astype(np.float32), factor.astype(np.float32)
