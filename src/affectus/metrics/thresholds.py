"""Where to cut a probability: the scores of many thresholds at once, and the best of them.

Choose a threshold on the validation split. One that was chosen on the test split makes every score that it gives an
upper bound, not an estimate.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError, unknown_name
from affectus.metrics._checks import (
    FloatArray,
    IntArray,
    check_binary,
    check_finite,
    check_same_shape,
    number_array,
)

ThresholdMetric = Literal["weighted_f1", "weighted_accuracy"]

AKHTAR_GRID = (0.10, 0.15, 0.16, 0.17, 0.18, 0.19, 0.20, 0.21, 0.22, 0.23, 0.24, 0.25, 0.30, 0.35, 0.40, 0.50)
"""The thresholds that the code of Akhtar et al. 2019 tries for the emotions of CMU-MOSEI."""

_TIE = 1e-12


def apply_threshold(probability: npt.ArrayLike, threshold: npt.ArrayLike) -> IntArray:
    """Return 1 where the probability reaches the threshold, 0 elsewhere.

    Args:
        probability: (n, k), or (n,) with one threshold.
        threshold: One for all classes, or (k,) one per class. It is compared in the probability's own precision, so
            that a single-precision 0.35 reaches 0.35.

    Raises:
        AffectusError: a probability or threshold is not finite, or the number of thresholds is not that of the classes.

    >>> apply_threshold([[0.2, 0.6], [0.4, 0.5]], [0.4, 0.6]).tolist()
    [[0, 1], [1, 0]]
    """
    probabilities = np.asarray(probability)
    probabilities = _floats(number_array("probability", probabilities, ndim=2 if probabilities.ndim == 2 else 1))
    check_finite("probability", probabilities)
    cuts = np.asarray(threshold, dtype=probabilities.dtype)
    check_finite("threshold", cuts)
    if cuts.ndim and cuts.shape != probabilities.shape[1:]:
        raise AffectusError(
            "The thresholds do not fit the probabilities",
            got=f"shapes {cuts.shape} and {probabilities.shape}",
            expected="one threshold, or one per class",
        )
    return (probabilities >= cuts).astype(np.int64)


def score_thresholds(
    truth: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    metric: ThresholdMetric = "weighted_f1",
    thresholds: npt.ArrayLike = AKHTAR_GRID,
    mask: npt.ArrayLike | None = None,
) -> FloatArray:
    """Score every threshold for every class.

    Entry (j, c) is ``metric(truth[:, c], probability[:, c] >= thresholds[j])`` over the utterances that have a label of
    class c, in [0, 1], higher is better.

    Args:
        truth: (n, k) of 0 and 1; nan where the label is missing.
        probability: (n, k), higher for more likely; finite where the label is known.
        metric: ``weighted_f1`` or ``weighted_accuracy``.
        thresholds: (m,) in any order, compared in the probability's own precision.
        mask: (n, k), False where a label is to be left out although the truth is a number.

    Returns:
        (m, k) float64; nan for a class without any label, and with ``weighted_accuracy`` also for one whose labels are
        all the same.

    Raises:
        AffectusError: an array is empty or the shapes differ, a known truth is not 0 or 1, a probability beside it or a
            threshold is not finite, or the metric is unknown.

    Source: the grid and the two metrics of Akhtar et al. 2019, NAACL.

    >>> score_thresholds([[0], [1], [1]], [[0.2], [0.3], [0.6]], thresholds=[0.1, 0.3, 0.5]).round(2).tolist()
    [[0.53], [1.0], [0.67]]
    """
    if metric not in _METRICS:
        raise unknown_name("metric of a threshold", metric, _METRICS)
    known, positive, probabilities = _labelled(truth, probability, mask)
    cuts = _cuts(thresholds).astype(probabilities.dtype)
    order = np.argsort(cuts, kind="stable")
    m, k = len(cuts), known.shape[1]
    # How many thresholds each probability reaches; summing their counts from above gives what each threshold accepts.
    reached = np.searchsorted(cuts[order], np.where(known, probabilities, 0), side="right")
    cells = (reached * k + np.arange(k)).ravel()

    def accepted(utterances: npt.NDArray[np.bool_]) -> FloatArray:
        counts = np.bincount(cells, weights=utterances.ravel(), minlength=(m + 1) * k).reshape(m + 1, k)
        at_least = counts[::-1].cumsum(axis=0)[::-1][1:]  # (m, k) for rising thresholds
        given = np.empty_like(at_least)
        given[order] = at_least
        return given

    positives, negatives = positive.sum(axis=0), (known & ~positive).sum(axis=0)
    hits, alarms = accepted(positive), accepted(known & ~positive)
    return _METRICS[metric](hits, alarms, positives, negatives)


def best_threshold(
    truth: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    metric: ThresholdMetric = "weighted_f1",
    thresholds: npt.ArrayLike = AKHTAR_GRID,
    mask: npt.ArrayLike | None = None,
) -> float:
    """Return the one threshold for all classes with the highest mean score over the classes.

    The mean leaves out classes whose score is nan. Of several best thresholds the one nearest 0.5 is returned, of two
    equally near the lower one.

    Args:
        truth: (n, k) of 0 and 1; nan where the label is missing.
        probability: (n, k).
        metric: ``weighted_f1`` or ``weighted_accuracy``.
        thresholds: (m,) to choose from.
        mask: (n, k), False where a label is to be left out although the truth is a number.

    Raises:
        AffectusError: as ``score_thresholds``, and if no class can be scored.

    Source: Akhtar et al. 2019, NAACL, who use one threshold for all emotions.

    >>> best_threshold([[0], [1], [1]], [[0.2], [0.35], [0.6]])
    0.35
    """
    scores = score_thresholds(truth, probability, metric=metric, thresholds=thresholds, mask=mask)
    defined = ~np.isnan(scores[0])  # whether a class can be scored depends on its labels alone
    if not defined.any():
        raise AffectusError(
            f"No class can be scored by {metric}",
            expected="a class with labels" if metric == "weighted_f1" else "a class that some have and others lack",
            remedy="Set the threshold by hand, or choose it on more utterances",
        )
    cuts = _cuts(thresholds)
    return float(cuts[_best(scores[:, defined].mean(axis=1), cuts)])


def best_thresholds_per_class(
    truth: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    metric: ThresholdMetric = "weighted_f1",
    thresholds: npt.ArrayLike = AKHTAR_GRID,
    mask: npt.ArrayLike | None = None,
) -> FloatArray:
    """Return for each class the threshold with the highest score.

    Of several best thresholds the one nearest 0.5 is returned, of two equally near the lower one; so too for a class
    that cannot be scored, to which all thresholds are equal.

    Args:
        truth: (n, k) of 0 and 1; nan where the label is missing.
        probability: (n, k).
        metric: ``weighted_f1`` or ``weighted_accuracy``.
        thresholds: (m,) to choose from.
        mask: (n, k), False where a label is to be left out although the truth is a number.

    Returns:
        (k,) float64.

    Raises:
        AffectusError: as ``score_thresholds``.

    >>> best_thresholds_per_class([[0, 0], [1, 0], [1, 1]], [[0.2, 0.6], [0.35, 0.3], [0.6, 0.6]]).tolist()
    [0.35, 0.5]
    """
    scores = score_thresholds(truth, probability, metric=metric, thresholds=thresholds, mask=mask)
    cuts = _cuts(thresholds)
    return np.array([cuts[_best(column, cuts)] for column in np.nan_to_num(scores).T])


def _best(scores: FloatArray, cuts: FloatArray) -> int:
    best = np.flatnonzero(scores >= scores.max() - _TIE)
    distance = np.abs(cuts[best] - 0.5).round(9)  # 0.3 and 0.7 are equally near
    return int(best[np.lexsort((cuts[best], distance))[0]])


def _weighted_f1(hits: FloatArray, alarms: FloatArray, positives: IntArray, negatives: IntArray) -> FloatArray:
    rejections, total = negatives - alarms, positives + negatives
    positive_f1 = 2 * hits / np.maximum(positives + hits + alarms, 1)
    negative_f1 = 2 * rejections / np.maximum(negatives + total - hits - alarms, 1)
    weighed = (positives * positive_f1 + negatives * negative_f1) / np.maximum(total, 1)
    return np.where(total == 0, np.nan, weighed)


def _weighted_accuracy(hits: FloatArray, alarms: FloatArray, positives: IntArray, negatives: IntArray) -> FloatArray:
    recalls = hits / np.maximum(positives, 1) + (negatives - alarms) / np.maximum(negatives, 1)
    return np.where((positives == 0) | (negatives == 0), np.nan, recalls / 2)


_METRICS: dict[str, Callable[[FloatArray, FloatArray, IntArray, IntArray], FloatArray]] = {
    "weighted_f1": _weighted_f1,
    "weighted_accuracy": _weighted_accuracy,
}


def _floats(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _cuts(thresholds: npt.ArrayLike) -> FloatArray:
    cuts = number_array("list of thresholds", thresholds, ndim=1).astype(np.float64)
    check_finite("list of thresholds", cuts)
    return cuts


def _labelled(
    truth: npt.ArrayLike, probability: npt.ArrayLike, mask: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[Any]]:
    """Return where a label is known, where it is known and 1, and the probabilities; all (n, k)."""
    truths = _floats(number_array("truth", truth, ndim=2))
    probabilities = _floats(number_array("probability", probability, ndim=2))
    check_same_shape("truth", truths, "probability", probabilities)
    known = ~np.isnan(truths)
    if mask is not None:
        masks = number_array("mask", mask, ndim=2).astype(np.bool_)
        check_same_shape("mask", masks, "truth", truths)
        known &= masks
    check_binary("truth", np.where(known, truths, 0))
    check_finite("probability", np.where(known, probabilities, 0))
    return known, known & (truths == 1), probabilities
