"""Metrics of classes: binary, one of k, and multi-label.

A share that the *data* leave undefined (no utterance of the class in the truth) is nan, so that a mean over classes can
leave it out; one that the *model* leaves undefined (it never predicts the class) counts 0.
"""

import math

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.metrics._checks import FloatArray, IntArray, binary_pair, class_pair
from affectus.metrics.info import register_metric

_SOKOLOVA = "Sokolova and Lapalme 2009, Information Processing & Management 45(4)"
_FEW = 256  # class numbers below this are counted directly, others are renumbered first


@register_metric(
    kind="one_of_k",
    rule="Share of utterances whose predicted class is the true one.",
    empty_class="a class without utterances has no effect",
    citation=_SOKOLOVA,
)
def accuracy(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of utterances whose predicted class is the true one.

    ``1/n Σ [p_i = t_i]``, in [0, 1], higher is better. A class without utterances has no effect.

    Args:
        truth: (n,) class numbers.
        prediction: (n,) class numbers.

    Raises:
        AffectusError: an array is empty, not finite or not whole numbers, or the shapes differ.

    Source: Sokolova and Lapalme 2009.

    >>> accuracy([0, 1, 2], [0, 1, 1])
    0.6666666666666666
    """
    truths, predictions = class_pair(truth, prediction)
    return float(np.mean(truths == predictions))


@register_metric(
    kind="one_of_k",
    rule="Mean of the classes' F1, each weighted by its share of the true labels.",
    empty_class="a class absent from the truth weighs nothing; one that is never predicted has F1 0",
    citation="Akhtar et al. 2019, NAACL; scikit-learn's f1_score(average='weighted', zero_division=0)",
)
def weighted_f1(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Mean of the classes' F1, each weighted by its share of the true labels.

    ``Σ_c n_c/n · 2 TP_c / (n_c + m_c)`` where n_c utterances are truly c and m_c are predicted so; in [0, 1], higher is
    better. Not symmetric: swapping truth and prediction changes the weights. A class absent from the truth weighs
    nothing, one that is never predicted has F1 0. In a binary problem the negative class counts too, so that an emotion
    which is rare scores high even if it is never found.

    Args:
        truth: (n,) class numbers.
        prediction: (n,) class numbers.

    Raises:
        AffectusError: an array is empty, not finite or not whole numbers, or the shapes differ.

    Source: scikit-learn's ``f1_score(average="weighted", zero_division=0)``; Akhtar et al. 2019 for emotions.

    >>> round(weighted_f1([0, 0, 1], [0, 1, 1]), 4)
    0.6667
    """
    f1, support, _ = _f1_of_classes(truth, prediction)
    return float(f1 @ support / support.sum())


@register_metric(
    kind="one_of_k",
    rule="Mean of the classes' F1, every class counting the same.",
    empty_class="a class absent from truth and prediction is left out, or counts 0 if `classes` says that it exists",
    citation="Yang and Liu 1999, SIGIR",
)
def macro_f1(truth: npt.ArrayLike, prediction: npt.ArrayLike, *, classes: int | None = None) -> float:
    """Mean of the classes' F1, every class counting the same.

    ``1/k Σ_c 2 TP_c / (n_c + m_c)``, in [0, 1], higher is better. A class found in only one of truth and prediction has
    F1 0. A class absent from both is left out, or counts 0 if ``classes`` says that it exists; both as in scikit-learn.

    Args:
        truth: (n,) class numbers.
        prediction: (n,) class numbers.
        classes: How many classes there are, numbered from 0; by default those that occur.

    Raises:
        AffectusError: an array is empty, not finite or not whole numbers, the shapes differ, or a class number is not
            in ``range(classes)``.

    Source: Yang and Liu 1999, SIGIR.

    >>> round(macro_f1([0, 0, 1], [0, 1, 1]), 4), round(macro_f1([0, 0, 1], [0, 1, 1], classes=3), 4)
    (0.6667, 0.4444)
    """
    truths, predictions = class_pair(truth, prediction)
    f1, support, predicted = _f1_of_classes(truths, predictions)
    if classes is None:
        return float(np.mean(f1[support + predicted > 0]))
    _check_numbered(truths, predictions, classes)
    return float(f1.sum() / classes)


@register_metric(
    kind="multi_label",
    rule="F1 of the positive labels of all classes pooled.",
    empty_class="a class without labels only adds its false positives; nan if neither truth nor prediction has a label",
    citation="Yang and Liu 1999, SIGIR",
)
def micro_f1(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """F1 of the positive labels of all classes pooled.

    ``2 TP / (2 TP + FP + FN)`` over all n × k decisions, in [0, 1], higher is better. A class without positive labels
    only adds its false positives; nan if neither truth nor prediction holds a positive label.

    Args:
        truth: (n, k) of 0 and 1.
        prediction: (n, k) of 0 and 1.

    Raises:
        AffectusError: an array is empty, not finite or not binary, or the shapes differ.

    Source: Yang and Liu 1999, SIGIR.

    >>> micro_f1([[1, 0], [1, 1], [0, 0]], [[1, 0], [0, 1], [0, 1]])
    0.6666666666666666
    """
    truths, predictions = binary_pair(truth, prediction, ndim=2)
    positive = int(truths.sum()) + int(predictions.sum())
    return 2 * int((truths & predictions).sum()) / positive if positive else math.nan


@register_metric(
    kind="multi_label",
    rule="Mean over utterances of the labels in both sets divided by those in either set.",
    empty_class="an utterance without a label, for which none is predicted, scores 1",
    citation="Godbole and Sarawagi 2004, PAKDD",
)
def jaccard(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Mean over utterances of the labels in both sets divided by those in either set; also called set accuracy.

    ``1/n Σ_i |T_i ∩ P_i| / |T_i ∪ P_i|``, in [0, 1], higher is better. An utterance without a label, for which none is
    predicted, scores 1: the empty set was the right answer.

    Args:
        truth: (n, k) of 0 and 1.
        prediction: (n, k) of 0 and 1.

    Raises:
        AffectusError: an array is empty, not finite or not binary, or the shapes differ.

    Source: Godbole and Sarawagi 2004, PAKDD.

    >>> jaccard([[1, 0], [1, 1], [0, 0]], [[1, 0], [0, 1], [0, 0]])
    0.8333333333333334
    """
    truths, predictions = binary_pair(truth, prediction, ndim=2)
    either = (truths | predictions).sum(axis=1)
    both = (truths & predictions).sum(axis=1)
    return float(np.mean(np.where(either == 0, 1.0, both / np.maximum(either, 1))))


@register_metric(
    kind="binary",
    rule="Accuracy with positives weighted as if they were as many as negatives: the mean of both classes' recall.",
    empty_class="nan if the truth holds only one of the two classes",
    citation="Tong et al. 2017, ACL; equal to the balanced accuracy of Brodersen et al. 2010, ICPR",
)
def weighted_accuracy(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Accuracy with positives weighted as if they were as many as negatives (W-Acc).

    ``(TP · N/P + TN) / (2N) = (TP/P + TN/N) / 2`` with P positives and N negatives in the truth: the mean of both
    classes' recall. In [0, 1], higher is better; any constant prediction scores 0.5. nan if the truth holds only one of
    the two classes.

    Args:
        truth: (n,) of 0 and 1.
        prediction: (n,) of 0 and 1.

    Raises:
        AffectusError: an array is empty, not finite or not binary, or the shapes differ.

    Source: Tong et al. 2017, ACL, used for the emotions of CMU-MOSEI; the balanced accuracy of Brodersen et al. 2010.

    >>> weighted_accuracy([0, 0, 1], [0, 1, 1])
    0.75
    """
    truths, predictions = binary_pair(truth, prediction)
    positives, negatives = int(truths.sum()), int((~truths).sum())
    if positives == 0 or negatives == 0:
        return math.nan
    hits, rejections = int((truths & predictions).sum()), int((~truths & ~predictions).sum())
    return (hits / positives + rejections / negatives) / 2


@register_metric(
    kind="binary",
    rule="Share of the utterances predicted as positive that truly are.",
    empty_class="0 if nothing is predicted as positive",
    citation=_SOKOLOVA,
)
def precision(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of the utterances predicted as positive that truly are.

    ``TP / (TP + FP)``, in [0, 1], higher is better. 0 if nothing is predicted as positive.

    Args:
        truth: (n,) of 0 and 1.
        prediction: (n,) of 0 and 1.

    Raises:
        AffectusError: an array is empty, not finite or not binary, or the shapes differ.

    Source: Sokolova and Lapalme 2009.

    >>> precision([0, 0, 1], [0, 1, 1])
    0.5
    """
    truths, predictions = binary_pair(truth, prediction)
    return int((truths & predictions).sum()) / max(int(predictions.sum()), 1)


@register_metric(
    kind="binary",
    rule="Share of the truly positive utterances that are found.",
    empty_class="nan if the truth holds no positive utterance",
    citation=_SOKOLOVA,
)
def recall(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Share of the truly positive utterances that are found.

    ``TP / (TP + FN)``, in [0, 1], higher is better. nan if the truth holds no positive utterance.

    Args:
        truth: (n,) of 0 and 1.
        prediction: (n,) of 0 and 1.

    Raises:
        AffectusError: an array is empty, not finite or not binary, or the shapes differ.

    Source: Sokolova and Lapalme 2009.

    >>> recall([0, 1, 1], [0, 0, 1])
    0.5
    """
    truths, predictions = binary_pair(truth, prediction)
    positives = int(truths.sum())
    return int((truths & predictions).sum()) / positives if positives else math.nan


@register_metric(
    kind="binary",
    rule="Harmonic mean of precision and recall of the positive class alone.",
    empty_class="0 if a positive utterance is only in truth or only in prediction, nan if in neither",
    citation=_SOKOLOVA,
)
def f1(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Harmonic mean of precision and recall of the positive class alone.

    ``2 TP / (2 TP + FP + FN)``, in [0, 1], higher is better. 0 if only the truth or only the prediction holds positive
    utterances, nan if neither does.

    Args:
        truth: (n,) of 0 and 1.
        prediction: (n,) of 0 and 1.

    Raises:
        AffectusError: an array is empty, not finite or not binary, or the shapes differ.

    Source: Sokolova and Lapalme 2009.

    >>> f1([0, 0, 1], [0, 1, 1])
    0.6666666666666666
    """
    truths, predictions = binary_pair(truth, prediction)
    positive = int(truths.sum()) + int(predictions.sum())
    return 2 * int((truths & predictions).sum()) / positive if positive else math.nan


def confusion_matrix(truth: npt.ArrayLike, prediction: npt.ArrayLike, *, classes: int | None = None) -> IntArray:
    """Count the utterances of each true class by predicted class.

    Args:
        truth: (n,) class numbers from 0.
        prediction: (n,) class numbers from 0.
        classes: How many classes there are; by default the largest number plus one.

    Returns:
        (classes, classes) int64; entry (t, p) counts the utterances of class t that were taken for p. A class without
        utterances is a row of zeros.

    Raises:
        AffectusError: an array is empty, not finite or not whole numbers, the shapes differ, or a class number is not
            in ``range(classes)``.

    >>> confusion_matrix([0, 1, 1], [0, 0, 1], classes=2).tolist()
    [[1, 0], [1, 1]]
    """
    truths, predictions = class_pair(truth, prediction)
    if classes is None:
        classes = int(max(truths.max(), predictions.max(), 0)) + 1
    _check_numbered(truths, predictions, classes)
    counts = np.bincount(truths * classes + predictions, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def _check_numbered(truths: IntArray, predictions: IntArray, classes: int) -> None:
    for name, array in (("truth", truths), ("prediction", predictions)):
        wrong = np.flatnonzero((array < 0) | (array >= classes))
        if len(wrong):
            raise AffectusError(
                f"The {name} names an unknown class",
                where=f"row {wrong[0]}",
                got=int(array[wrong[0]]),
                expected=f"a class number from 0 to {classes - 1}",
            )


def _f1_of_classes(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[FloatArray, IntArray, IntArray]:
    """Return per class F1 (0 if the class does not occur), how many are truly of it, and how many are predicted so."""
    truths, predictions = class_pair(truth, prediction)
    if min(truths.min(), predictions.min()) < 0 or max(truths.max(), predictions.max()) >= _FEW:
        _, numbers = np.unique(np.concatenate([truths, predictions]), return_inverse=True)
        truths, predictions = numbers[: len(truths)], numbers[len(truths) :]
    k = int(max(truths.max(), predictions.max())) + 1
    support = np.bincount(truths, minlength=k)
    predicted = np.bincount(predictions, minlength=k)
    hits = np.bincount(truths[truths == predictions], minlength=k)
    return 2 * hits / np.maximum(support + predicted, 1), support, predicted
