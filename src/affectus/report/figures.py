"""Figures that only a report shows: pure functions of arrays, without a model, a corpus or a page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from affectus import metrics

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bin:
    """The utterances whose probability lies in one interval.

    Attributes:
        low: lower end of the interval.
        high: upper end of it, which belongs to the last interval alone.
        n: how many there are.
        probability: their mean probability; NaN if there is none.
        frequency: how often what was predicted was so; NaN if there is none.
    """

    low: float
    high: float
    n: int
    probability: float
    frequency: float


def reliability(truth: npt.ArrayLike, probability: npt.ArrayLike, *, bins: int = 10) -> tuple[Bin, ...]:
    """Compare probabilities with how often they came true, in intervals of equal width.

    Args:
        truth: (n,) of 0 and 1.
        probability: (n,) in [0, 1].
        bins: how many intervals.

    >>> [(b.n, round(b.probability, 2), b.frequency) for b in reliability([0, 1, 1], [0.2, 0.4, 0.9], bins=2)]
    [(2, 0.3, 0.5), (1, 0.9, 1.0)]
    """
    truths, probabilities = np.asarray(truth, np.float64), np.asarray(probability, np.float64)
    index = np.clip((probabilities * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(index, probabilities, bins) / counts
        shares = np.bincount(index, truths, bins) / counts
    edges = np.arange(bins + 1) / bins
    return tuple(
        Bin(float(edges[i]), float(edges[i + 1]), int(counts[i]), float(means[i]), float(shares[i]))
        for i in range(bins)
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance of probability and frequency over the bins, each weighed by its utterances.

    ``Σ_b n_b/n |p_b - f_b|``, in [0, 1], lower is better; NaN without an utterance. Source: Naeini et al. 2015, AAAI.

    >>> round(expected_calibration_error(reliability([0, 1, 1], [0.2, 0.4, 0.9], bins=2)), 4)
    0.1667
    """
    total = sum(b.n for b in bins)
    return sum(b.n * abs(b.probability - b.frequency) for b in bins if b.n) / total if total else float("nan")


def mean_confusion(truth: npt.ArrayLike, predictions: Sequence[npt.ArrayLike], classes: int) -> FloatArray:
    """Return the mean over models of their confusion matrices.

    Args:
        truth: (n,) class numbers.
        predictions: per model (n,) class numbers.
        classes: how many classes there are.

    Returns:
        (classes, classes); entry (t, p) counts the utterances of class t that were taken for p.

    >>> mean_confusion([0, 1], [[0, 0], [0, 1]], 2).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    if not np.size(truth):
        return np.zeros((classes, classes))
    matrices = [metrics.confusion_matrix(truth, said, classes=classes) for said in predictions]
    mean: FloatArray = np.mean(matrices, axis=0)
    return mean


@dataclass(frozen=True)
class SetScores:
    """How well the label sets of n utterances were found, each (n,).

    Attributes:
        precision: share of the predicted labels that are right; NaN if none is predicted.
        recall: share of the true labels that are found; NaN if there is none.
        f1: their harmonic mean; 1 if both sets are empty.
    """

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray


def score_sets(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> SetScores:
    """Score each utterance's set of labels by itself.

    Args:
        truth: (n, k) of 0 and 1.
        prediction: (n, k) of 0 and 1.

    >>> found = score_sets([[1, 1, 0], [0, 0, 0]], [[1, 0, 1], [0, 0, 0]])
    >>> found.precision.tolist(), found.recall.tolist(), found.f1.tolist()
    ([0.5, nan], [0.5, nan], [0.5, 1.0])
    """
    truths, predictions = np.asarray(truth, bool), np.asarray(prediction, bool)
    both, true, said = (part.sum(axis=1) for part in (truths & predictions, truths, predictions))
    with np.errstate(invalid="ignore"):
        precision, recall = both / said, both / true
    return SetScores(precision, recall, np.where(true + said == 0, 1.0, 2 * both / np.maximum(true + said, 1)))


def choose_video(lengths: Sequence[int], most: int = 12) -> int:
    """Return which video shows most while fitting on a page: the longest of at most ``most`` utterances.

    If all are longer, the shortest; of several equally long ones the first.

    >>> choose_video([3, 12, 40, 12]), choose_video([30, 20, 20])
    (1, 1)
    """
    return min(
        range(len(lengths)), key=lambda i: (lengths[i] > most, -lengths[i] if lengths[i] <= most else lengths[i])
    )
