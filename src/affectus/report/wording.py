"""Labels in words, and whether what is said of an utterance is right."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from affectus.evaluation import Thresholds
from affectus.objectives import Task, TaskKind
from affectus.report.data import Said
from affectus.report.figures import score_sets
from affectus.report.judging import cut_labels
from affectus.vocabulary import Emotion

FloatArray = npt.NDArray[np.float32]

UNKNOWN = "–"
FAINT = 0.5
"""An emotion's intensity below this is not worth a word."""


def gold_words(task: Task, target: FloatArray) -> str:
    """Return the label of one utterance, (values,) with NaN where missing, in words; a dash if there is none."""
    if np.isnan(target).all():
        return UNKNOWN
    if task.kind is TaskKind.REAL:
        return _numbers(task, target)
    if task.kind is TaskKind.MULTI_LABEL:
        return _labels(task, target)
    return task.values[int(target[0])]


def said_words(task: Task, probabilities: FloatArray, target: FloatArray, cuts: Mapping[str, Thresholds]) -> Said:
    """Return what is predicted for one utterance, (outputs,), in words, and whether it is right."""
    known = not np.isnan(target).any()
    if task.kind is TaskKind.REAL:
        return Said(_numbers(task, probabilities), None)
    if task.kind is TaskKind.MULTI_LABEL:
        labels = cut_labels(task, probabilities[None], cuts)
        f1 = float(score_sets(np.nan_to_num(target)[None], labels).f1[0])
        mark = "right" if f1 == 1 else "partly" if f1 > 0 else "wrong"
        return Said(label_words(task, labels[0]), mark if known else None)
    best = int(probabilities.argmax())
    return Said(task.values[best], ("right" if best == target[0] else "wrong") if known else None)


def label_words(task: Task, labels: npt.NDArray[np.generic]) -> str:
    """Return the names of the labels that are 1, (values,)."""
    if str(Emotion.NONE) in task.values and not (labels == 1).any():
        # that there is no emotion is a label too, which was not given
        return "no label, not even none"
    return _labels(task, labels)


def _labels(task: Task, labels: npt.NDArray[np.generic]) -> str:
    there = [value for value, label in zip(task.values, labels, strict=True) if label == 1]
    return ", ".join(there) or "none of them"


def _numbers(task: Task, values: FloatArray) -> str:
    if len(task.values) == 1:
        return number(float(values[0]))
    pairs = [(name, float(value)) for name, value in zip(task.values, values, strict=True) if not np.isnan(value)]
    if task.scheme == "emotions":
        pairs = [(name, value) for name, value in pairs if value >= FAINT]
    return ", ".join(f"{name} {number(value)}" for name, value in pairs) or "none of them"


def number(value: float) -> str:
    """Return a number with one decimal and a true minus sign."""
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")
