"""What every metric asks of its arrays; the errors say which array, where and what to do."""

from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_REMEDIES = {
    "truth": "Leave out the utterances whose label is missing",
    "prediction": "A model that predicts this has diverged; a lower learning rate or clipped gradients help",
}


def number_array(name: str, values: npt.ArrayLike, *, ndim: int) -> npt.NDArray[Any]:
    """Return ``values`` as an array of numbers of any dtype, not empty and with ``ndim`` axes."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise AffectusError(f"The {name} holds no numbers", got=f"dtype {array.dtype}", expected="numbers")
    if array.ndim != ndim:
        raise AffectusError(
            f"The {name} has the wrong number of axes",
            got=f"shape {array.shape}",
            expected="shape (n,)" if ndim == 1 else "shape (n, k)",
        )
    if array.size == 0:
        raise AffectusError(f"The {name} is empty", got=f"shape {array.shape}", expected="one number or more")
    return array


def check_finite(name: str, array: npt.NDArray[Any]) -> None:
    """Raise for the first value that is nan or infinite."""
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise AffectusError(
            f"The {name} is not finite",
            where=_place(place),
            got=str(array[place]),
            expected="a finite number",
            remedy=_REMEDIES.get(name),
        )


def check_binary(name: str, array: npt.NDArray[Any]) -> None:
    """Raise for the first value that is neither 0 nor 1."""
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AffectusError(f"The {name} is not binary", where=_place(place), got=str(array[place]), expected="0 or 1")


def check_same_shape(name: str, first: npt.NDArray[Any], other_name: str, second: npt.NDArray[Any]) -> None:
    """Raise unless both arrays have the same shape."""
    if first.shape != second.shape:
        raise AffectusError(
            f"The {name} and the {other_name} differ in shape",
            got=f"{first.shape} and {second.shape}",
            expected="the same shape",
        )


def clean_pair(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, *, ndim: int = 1
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return both as arrays of numbers that have one shape and are finite, each in its own dtype."""
    truths = number_array("truth", truth, ndim=ndim)
    predictions = number_array("prediction", prediction, ndim=ndim)
    check_same_shape("truth", truths, "prediction", predictions)
    check_finite("truth", truths)
    check_finite("prediction", predictions)
    return truths, predictions


def real_pair(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return both as (n,) float64."""
    truths, predictions = clean_pair(truth, prediction)
    return truths.astype(np.float64), predictions.astype(np.float64)


def class_pair(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Return both as (n,) int64 class numbers; whole numbers of a float dtype are taken too."""
    truths, predictions = clean_pair(truth, prediction)
    return _whole("truth", truths), _whole("prediction", predictions)


def binary_pair(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, *, ndim: int = 1
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return both as bool arrays; the values must be 0 or 1."""
    truths, predictions = clean_pair(truth, prediction, ndim=ndim)
    check_binary("truth", truths)
    check_binary("prediction", predictions)
    return truths.astype(np.bool_), predictions.astype(np.bool_)


def _whole(name: str, array: npt.NDArray[Any]) -> IntArray:
    if array.dtype.kind == "f":
        wrong = array != np.rint(array)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise AffectusError(
                f"The {name} is not a class number",
                where=_place((row,)),
                got=str(array[row]),
                expected="a whole number",
                remedy="Turn scores into classes first",
            )
    return array.astype(np.int64)


def _place(place: tuple[int, ...]) -> str | None:
    return ", ".join(f"{axis} {i}" for axis, i in zip(("row", "column"), place)) or None
