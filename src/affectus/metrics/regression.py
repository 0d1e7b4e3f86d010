"""Metrics of a real label, above all sentiment intensity: error, correlation, and the accuracies read off its value.

Two families of rules turn an intensity into a class. On CMU-MOSI and CMU-MOSEI (labels in [-3, 3]) values are clipped
and rounded to whole numbers, and 0 is either non-negative or left out. On CH-SIMS (labels in [-1, 1], functions named
``sims_*``) every value is clipped first, also for the error and the correlation, the classes are bins closed on the
right, and 0 is negative. The defaults are the rules of MMSA, which most published tables follow.
"""

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError, unknown_name
from affectus.metrics._checks import FloatArray, IntArray, clean_pair, real_pair
from affectus.metrics.classification import weighted_f1
from affectus.metrics.info import register_metric

Rounding = Literal["half_even", "half_away"]
"""Where a half goes: to the even neighbour (0.5 to 0, 1.5 to 2; NumPy's rule) or away from zero (0.5 to 1)."""

_MMSA = "the rule of MMSA (Mao et al. 2022, ACL demo, M-SENA)"
_SIMS = "Yu et al. 2020, ACL, CH-SIMS; the rule of MMSA (Mao et al. 2022, ACL demo)"


@register_metric(
    kind="real",
    rule="Mean distance between prediction and truth.",
    empty_class="defined whatever the labels are",
    citation="Willmott and Matsuura 2005, Climate Research 30",
    range=(0.0, math.inf),
    direction="lower",
)
def mae(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Mean distance between prediction and truth.

    ``1/n Σ |p_i - t_i|`` in the label's unit, in [0, inf), lower is better. Nothing is clipped.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Willmott and Matsuura 2005.

    >>> mae([0.0, 1.0, -2.0], [0.5, 1.0, -1.0])
    0.5
    """
    truths, predictions = real_pair(truth, prediction)
    return float(np.mean(np.abs(predictions - truths)))


@register_metric(
    kind="real",
    rule="Pearson's linear correlation of prediction and truth.",
    empty_class="nan if truth or prediction is constant, so also for a single utterance",
    citation="Pearson 1895, Proceedings of the Royal Society 58",
    range=(-1.0, 1.0),
)
def pearson(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Pearson's linear correlation of prediction and truth.

    ``cov(t, p) / sqrt(var(t) var(p))``, in [-1, 1], higher is better. nan if truth or prediction is constant, so also
    for a single utterance.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Pearson 1895.

    >>> round(pearson([0, 1, 1], [0, 1, 2]), 4)
    0.866
    """
    truths, predictions = real_pair(truth, prediction)
    return _correlation(truths, predictions)


@register_metric(
    kind="real",
    rule="Concordance correlation: Pearson's, reduced by any difference in mean and spread.",
    empty_class="0 if only one of truth and prediction is constant or both are and differ; nan if equal and constant",
    citation="Lin 1989, Biometrics 45(1)",
    range=(-1.0, 1.0),
)
def ccc(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Concordance correlation: Pearson's, reduced by any difference in mean and spread.

    ``2 cov(t, p) / (var(t) + var(p) + (mean(t) - mean(p))²)`` with variances and covariance divided by n, as Lin has
    them, not by n - 1. In [-1, 1], higher is better. 0 if only one of truth and prediction is constant, or if both are
    and differ; nan if both are the same constant.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Lin 1989.

    >>> round(ccc([0, 1, 1], [0, 1, 2]), 4)
    0.6667
    """
    truths, predictions = real_pair(truth, prediction)
    true_rest, true_mean = _centred(truths)
    predicted_rest, predicted_mean = _centred(predictions)
    shift = true_mean - predicted_mean
    scale = max(float(np.abs(true_rest).max()), float(np.abs(predicted_rest).max()), abs(shift))
    if scale == 0:
        return math.nan
    t, p, shift = true_rest / scale, predicted_rest / scale, shift / scale  # tiny values must not vanish when squared
    return float(2 * np.mean(t * p) / (np.mean(t**2) + np.mean(p**2) + shift**2))


@register_metric(
    kind="real",
    rule="Share of utterances put on the right side of 0, where 0 itself is non-negative.",
    empty_class="a side without utterances has no effect",
    citation=f"Zadeh et al. 2018, AAAI, MARN; {_MMSA}: Has0_acc_2",
)
def acc2_negative_nonnegative(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of utterances put on the right side of 0, where 0 itself is non-negative.

    ``1/n Σ [(p_i ≥ 0) = (t_i ≥ 0)]``, in [0, 1], higher is better. A side without utterances has no effect.

    Args:
        truth: (n,) real, negative below 0.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Zadeh et al. 2018 (MARN); MMSA's ``Has0_acc_2``.

    >>> acc2_negative_nonnegative([-1.0, 0.0, 2.0], [-0.2, 0.0, -0.1])
    0.6666666666666666
    """
    truths, predictions = real_pair(truth, prediction)
    return float(np.mean((truths >= 0) == (predictions >= 0)))


@register_metric(
    kind="real",
    rule="Share of utterances whose sign is right; a truth of 0 is left out, a prediction of 0 is negative.",
    empty_class="a side without utterances has no effect; nan if every truth is 0",
    citation=f"Tsai et al. 2019, ACL, MulT; {_MMSA}: Non0_acc_2",
)
def acc2_negative_positive(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of the non-neutral utterances whose sign is right.

    The mean of ``[(p_i > 0) = (t_i > 0)]`` over the utterances with t_i ≠ 0, in [0, 1], higher is better. A prediction
    of 0 counts as negative. A side without utterances has no effect; nan if every truth is 0.

    Args:
        truth: (n,) real, negative below 0.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Tsai et al. 2019 (MulT); MMSA's ``Non0_acc_2``.

    >>> acc2_negative_positive([-1.0, 0.0, 2.0], [-0.2, 1.0, -0.1])
    0.5
    """
    truths, predictions = real_pair(truth, prediction)
    rated = truths != 0
    return float(np.mean((truths > 0)[rated] == (predictions > 0)[rated])) if rated.any() else math.nan


@register_metric(
    kind="real",
    rule="Weighted F1 of negative against non-negative, where 0 is non-negative.",
    empty_class="a side absent from the truth weighs nothing; one that is never predicted has F1 0",
    citation=f"Zadeh et al. 2018, AAAI, MARN; {_MMSA}: Has0_F1_score",
)
def weighted_f1_negative_nonnegative(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Weighted F1 of negative against non-negative, where 0 is non-negative.

    ``weighted_f1(t ≥ 0, p ≥ 0)``, in [0, 1], higher is better. A side absent from the truth weighs nothing, one that is
    never predicted has F1 0.

    Args:
        truth: (n,) real, negative below 0.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Zadeh et al. 2018 (MARN); MMSA's ``Has0_F1_score``.

    >>> round(weighted_f1_negative_nonnegative([-1.0, 0.0, 2.0], [-0.2, 0.0, -0.1]), 4)
    0.6667
    """
    truths, predictions = real_pair(truth, prediction)
    return weighted_f1(truths >= 0, predictions >= 0)


@register_metric(
    kind="real",
    rule="Weighted F1 of negative against positive; a truth of 0 is left out, a prediction of 0 is negative.",
    empty_class="a side absent from the truth weighs nothing, one never predicted has F1 0; nan if every truth is 0",
    citation=f"Tsai et al. 2019, ACL, MulT; {_MMSA}: Non0_F1_score",
)
def weighted_f1_negative_positive(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Weighted F1 of negative against positive over the non-neutral utterances.

    ``weighted_f1(t > 0, p > 0)`` over the utterances with t ≠ 0, in [0, 1], higher is better. A prediction of 0 counts
    as negative. A side absent from the truth weighs nothing, one that is never predicted has F1 0; nan if every truth
    is 0.

    Args:
        truth: (n,) real, negative below 0.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Tsai et al. 2019 (MulT); MMSA's ``Non0_F1_score``.

    >>> round(weighted_f1_negative_positive([-1.0, 0.0, 2.0], [-0.2, 1.0, -0.1]), 4)
    0.3333
    """
    truths, predictions = real_pair(truth, prediction)
    rated = truths != 0
    return weighted_f1((truths > 0)[rated], (predictions > 0)[rated]) if rated.any() else math.nan


@register_metric(
    kind="real",
    rule="Share of utterances whose value, clipped to [-1, 1] and rounded (a half to the even number, in the protocol "
    "cai2025 away from 0), is the true one's.",
    empty_class="a class without utterances has no effect",
    citation=_MMSA,
)
def acc3(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, *, limit: float = 1.0, rounding: Rounding = "half_even"
) -> float:
    """Share of utterances whose value, clipped to [-1, 1] and rounded, is the true one's.

    As ``acc7`` with another limit, in [0, 1], higher is better. A class without utterances has no effect.

    Args:
        truth: (n,) real.
        prediction: (n,) real.
        limit: Both are clipped to [-limit, limit].
        rounding: Where a half goes, ``half_even`` or ``half_away`` (from zero).

    Raises:
        AffectusError: an array is empty or not finite, the shapes differ, or the rounding or the limit is unknown.

    Source: MMSA, which computes it but does not print it.

    >>> acc3([-3.0, 0.4, 1.0], [-0.6, 0.5, 0.2])
    0.6666666666666666
    """
    return _rounded_accuracy(truth, prediction, limit, rounding)


@register_metric(
    kind="real",
    rule="Share of utterances whose value, clipped to [-2, 2] and rounded (a half to the even number, in the protocol "
    "cai2025 away from 0), is the true one's.",
    empty_class="a class without utterances has no effect",
    citation=f"{_MMSA}: Mult_acc_5",
)
def acc5(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, *, limit: float = 2.0, rounding: Rounding = "half_even"
) -> float:
    """Share of utterances whose value, clipped to [-2, 2] and rounded, is the true one's.

    As ``acc7`` with another limit, in [0, 1], higher is better. A class without utterances has no effect.

    Args:
        truth: (n,) real.
        prediction: (n,) real.
        limit: Both are clipped to [-limit, limit].
        rounding: Where a half goes, ``half_even`` or ``half_away`` (from zero).

    Raises:
        AffectusError: an array is empty or not finite, the shapes differ, or the rounding or the limit is unknown.

    Source: MMSA's ``Mult_acc_5``.

    >>> acc5([-3.0, 0.5, 1.0], [-1.6, 0.4, 1.6])
    0.6666666666666666
    """
    return _rounded_accuracy(truth, prediction, limit, rounding)


@register_metric(
    kind="real",
    rule="Share of utterances whose value, clipped to [-3, 3] and rounded (a half to the even number, in the protocol "
    "cai2025 away from 0), is the true one's.",
    empty_class="a class without utterances has no effect",
    citation=f"Zadeh et al. 2018, AAAI, MFN; {_MMSA}: Mult_acc_7",
)
def acc7(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, *, limit: float = 3.0, rounding: Rounding = "half_even"
) -> float:
    """Share of utterances whose value, clipped to [-3, 3] and rounded, is the true one's.

    ``1/n Σ [round(clip(p_i)) = round(clip(t_i))]``, in [0, 1], higher is better. A class without utterances has no
    effect. Labels that are means of several raters are often halves, so the rounding moves the result by up to a point.

    Args:
        truth: (n,) real.
        prediction: (n,) real.
        limit: Both are clipped to [-limit, limit].
        rounding: Where a half goes, ``half_even`` (NumPy's rule, as in MMSA) or ``half_away`` (from zero).

    Raises:
        AffectusError: an array is empty or not finite, the shapes differ, or the rounding or the limit is unknown.

    Source: Zadeh et al. 2018 (MFN); MMSA's ``Mult_acc_7``.

    >>> acc7([0.5, 3.0, -1.0], [0.0, 4.2, 1.0]), acc7([0.5, 3.0, -1.0], [0.0, 4.2, 1.0], rounding="half_away")
    (0.6666666666666666, 0.3333333333333333)
    """
    return _rounded_accuracy(truth, prediction, limit, rounding)


@register_metric(
    kind="real",
    rule="Mean distance between prediction and truth, both clipped to [-1, 1].",
    empty_class="defined whatever the labels are",
    citation=_SIMS,
    range=(0.0, 2.0),
    direction="lower",
)
def sims_mae(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Mean distance between prediction and truth, both clipped to [-1, 1] (CH-SIMS).

    ``mae(clip(t), clip(p))``, in [0, 2], lower is better.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Yu et al. 2020 (CH-SIMS); MMSA's ``MAE`` for SIMS.

    >>> sims_mae([0.0, 1.0, -1.0], [0.5, 3.0, -0.5])
    0.3333333333333333
    """
    truths, predictions = _sims_pair(truth, prediction)
    return float(np.mean(np.abs(predictions.astype(np.float64) - truths.astype(np.float64))))


@register_metric(
    kind="real",
    rule="Pearson's linear correlation of prediction and truth, both clipped to [-1, 1].",
    empty_class="nan if truth or prediction is constant once clipped",
    citation=_SIMS,
    range=(-1.0, 1.0),
)
def sims_pearson(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Pearson's linear correlation of prediction and truth, both clipped to [-1, 1] (CH-SIMS).

    ``pearson(clip(t), clip(p))``, in [-1, 1], higher is better. nan if truth or prediction is constant once clipped.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Yu et al. 2020 (CH-SIMS); MMSA's ``Corr`` for SIMS.

    >>> round(sims_pearson([0.0, 1.0, -1.0], [0.5, 3.0, -0.5]), 4)
    0.982
    """
    truths, predictions = _sims_pair(truth, prediction)
    return _correlation(truths.astype(np.float64), predictions.astype(np.float64))


@register_metric(
    kind="real",
    rule="Share of utterances put on the right side of 0, where 0 itself is negative.",
    empty_class="a side without utterances has no effect",
    citation=f"{_SIMS}: Mult_acc_2",
)
def sims_acc2(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of utterances put on the right side of 0, where 0 itself is negative (CH-SIMS).

    Classes [-1, 0] and (0, 1] after clipping, in [0, 1], higher is better. A side without utterances has no effect.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Yu et al. 2020 (CH-SIMS); MMSA's ``Mult_acc_2``.

    >>> sims_acc2([0.0, 0.4, -1.0], [-0.5, 0.1, 0.2])
    0.6666666666666666
    """
    return _binned_accuracy(truth, prediction, (0.0,))


@register_metric(
    kind="real",
    rule="Share of utterances in the right one of the bins [-1, -0.1], (-0.1, 0.1], (0.1, 1].",
    empty_class="a class without utterances has no effect",
    citation=f"{_SIMS}: Mult_acc_3",
)
def sims_acc3(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of utterances in the right one of three bins (CH-SIMS).

    Classes [-1, -0.1], (-0.1, 0.1] and (0.1, 1] after clipping, in [0, 1], higher is better. Compared in single
    precision, in which 0.1 belongs to the middle bin. A class without utterances has no effect.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Yu et al. 2020 (CH-SIMS); MMSA's ``Mult_acc_3``.

    >>> sims_acc3([0.0, 0.4, -0.1], [0.1, 0.2, 0.0])
    0.6666666666666666
    """
    return _binned_accuracy(truth, prediction, (-0.1, 0.1))


@register_metric(
    kind="real",
    rule="Share of utterances in the right one of the bins cut at -0.7, -0.1, 0.1 and 0.7, closed on the right.",
    empty_class="a class without utterances has no effect",
    citation=f"{_SIMS}: Mult_acc_5",
)
def sims_acc5(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of utterances in the right one of five bins (CH-SIMS).

    Classes [-1, -0.7], (-0.7, -0.1], (-0.1, 0.1], (0.1, 0.7] and (0.7, 1] after clipping, in [0, 1], higher is better.
    Compared in single precision. A class without utterances has no effect.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Yu et al. 2020 (CH-SIMS); MMSA's ``Mult_acc_5``.

    >>> sims_acc5([0.0, 0.8, -0.7], [0.1, 0.7, -1.0])
    0.6666666666666666
    """
    return _binned_accuracy(truth, prediction, (-0.7, -0.1, 0.1, 0.7))


@register_metric(
    kind="real",
    rule="Weighted F1 of [-1, 0] against (0, 1]: 0 is negative.",
    empty_class="a side absent from the truth weighs nothing; one that is never predicted has F1 0",
    citation=f"{_SIMS}: F1_score",
)
def sims_weighted_f1(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Weighted F1 of negative against positive, where 0 is negative (CH-SIMS).

    ``weighted_f1`` of the classes [-1, 0] and (0, 1], in [0, 1], higher is better. A side absent from the truth weighs
    nothing, one that is never predicted has F1 0.

    Args:
        truth: (n,) real.
        prediction: (n,) real.

    Raises:
        AffectusError: an array is empty or not finite, or the shapes differ.

    Source: Yu et al. 2020 (CH-SIMS); MMSA's ``F1_score`` for SIMS.

    >>> round(sims_weighted_f1([0.0, 0.4, -1.0], [-0.5, 0.1, 0.2]), 4)
    0.6667
    """
    truths, predictions = _sims_pair(truth, prediction)
    return weighted_f1(truths > 0, predictions > 0)


def _centred(values: FloatArray) -> tuple[FloatArray, float]:
    """Return the values less their mean, and the mean; exactly 0 for a constant, whose mean may be rounded."""
    if np.all(values == values[0]):
        return np.zeros_like(values), float(values[0])
    mean = float(values.mean())
    return values - mean, mean


def _correlation(truths: FloatArray, predictions: FloatArray) -> float:
    t, _ = _centred(truths)
    p, _ = _centred(predictions)
    if not t.any() or not p.any():
        return math.nan
    t, p = t / np.abs(t).max(), p / np.abs(p).max()  # tiny values must not vanish when squared
    return float(np.clip(t @ p / math.sqrt(float(t @ t) * float(p @ p)), -1.0, 1.0))


def _rounded_accuracy(truth: npt.ArrayLike, prediction: npt.ArrayLike, limit: float, rounding: Rounding) -> float:
    if rounding not in get_args(Rounding):
        raise unknown_name("rounding", rounding, get_args(Rounding))
    if not limit > 0:
        raise AffectusError("The limit of a rounded accuracy is not positive", got=limit, expected="a number above 0")
    truths, predictions = (np.clip(values, -limit, limit) for values in real_pair(truth, prediction))
    return float(np.mean(_rounded(truths, rounding) == _rounded(predictions, rounding)))


def _rounded(values: FloatArray, rounding: Rounding) -> FloatArray:
    if rounding == "half_even":
        return np.rint(values)
    whole: FloatArray = np.trunc(values)
    away: FloatArray = np.sign(values) * (np.abs(values - whole) >= 0.5)  # adding 0.5 first would round 0.5 - ε up
    return whole + away


def _sims_pair(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], ...]:
    """Return both in [-1, 1], in single precision as the field's tools hold them: a label of 0.1 lies on the cut."""
    return tuple(np.clip(values, -1.0, 1.0).astype(np.float32) for values in clean_pair(truth, prediction))


def _binned_accuracy(truth: npt.ArrayLike, prediction: npt.ArrayLike, cuts: tuple[float, ...]) -> float:
    truths, predictions = (_bins(values, cuts) for values in _sims_pair(truth, prediction))
    return float(np.mean(truths == predictions))


def _bins(values: npt.NDArray[np.float32], cuts: tuple[float, ...]) -> IntArray:
    """Return for each value how many cuts lie below it: bins closed on the right."""
    return np.searchsorted(np.asarray(cuts, np.float32), values, side="left")
