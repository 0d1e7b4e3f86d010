"""Predictions and targets -> metrics by name.

A metric's name is ``<task>.<metric>`` or ``<task>.<value>.<metric>`` (``emotions.anger.weighted_f1``). ``emotions.*``
are means over the six emotions, ``emotions7.*`` over the six and *none*. A label that is missing takes no part; a
metric that is undefined (a class that no labelled utterance has) is NaN and takes no part in a mean.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from affectus import metrics
from affectus.metrics import METRICS
from affectus.objectives import Task, TaskKind
from affectus.vocabulary import Emotion

Arrays = Mapping[str, npt.NDArray[np.float32]]
Metric = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], float]
PLAIN_THRESHOLD = 0.5


@dataclass(frozen=True)
class Thresholds:
    """Where the probabilities of a multi-label task are cut, per value.

    Attributes:
        weighted_f1: used by F1, accuracy and every other metric but the next.
        weighted_accuracy: used by weighted accuracy.
    """

    weighted_f1: tuple[float, ...]
    weighted_accuracy: tuple[float, ...]

    @classmethod
    def plain(cls, values: int) -> "Thresholds":
        """Return 0.5 everywhere."""
        return cls((PLAIN_THRESHOLD,) * values, (PLAIN_THRESHOLD,) * values)


def choose_thresholds(
    task: Task,
    probabilities: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    *,
    per_class: bool = False,
    grid: Sequence[float] = metrics.AKHTAR_GRID,
) -> Thresholds:
    """Choose a multi-label task's thresholds on the given predictions.

    Args:
        task: multi-label.
        probabilities: (n, values).
        targets: (n, values), NaN where missing.
        per_class: one threshold per value instead of one for all.
        grid: what to choose from.
    """
    values = task.outputs
    if not any(len(set(column[~np.isnan(column)].tolist())) > 1 for column in targets.T):
        return Thresholds.plain(values)  # nothing to choose by
    chosen: dict[str, tuple[float, ...]] = {}
    kinds: tuple[metrics.ThresholdMetric, ...] = ("weighted_f1", "weighted_accuracy")
    for kind in kinds:
        if per_class:
            found = metrics.best_thresholds_per_class(targets, probabilities, metric=kind, thresholds=grid)
            chosen[kind] = tuple(float(value) for value in found)
        else:
            chosen[kind] = (metrics.best_threshold(targets, probabilities, metric=kind, thresholds=grid),) * values
    return Thresholds(**chosen)


MMSA_INTENSITY: dict[str, Metric] = {
    "mae": metrics.mae,
    "pearson": metrics.pearson,
    "ccc": metrics.ccc,
    "acc2_negative_nonnegative": metrics.acc2_negative_nonnegative,
    "acc2_negative_positive": metrics.acc2_negative_positive,
    "weighted_f1_negative_nonnegative": metrics.weighted_f1_negative_nonnegative,
    "weighted_f1_negative_positive": metrics.weighted_f1_negative_positive,
    "acc3": metrics.acc3,
    "acc5": metrics.acc5,
    "acc7": metrics.acc7,
}
"""The rules of MMSA for CMU-MOSI and CMU-MOSEI (values rounded half to even)."""

CAI_INTENSITY: dict[str, Metric] = {
    **MMSA_INTENSITY,
    "acc3": lambda t, p: metrics.acc3(t, p, rounding="half_away"),
    "acc5": lambda t, p: metrics.acc5(t, p, rounding="half_away"),
    "acc7": lambda t, p: metrics.acc7(t, p, rounding="half_away"),
}
"""The same with values rounded half away from zero, which the confusion matrix of Cai et al. 2025 implies."""

SIMS_INTENSITY: dict[str, Metric] = {
    "mae": metrics.sims_mae,
    "pearson": metrics.sims_pearson,
    "ccc": metrics.ccc,
    "acc2": metrics.sims_acc2,
    "acc3": metrics.sims_acc3,
    "acc5": metrics.sims_acc5,
    "weighted_f1": metrics.sims_weighted_f1,
}
"""The rules of MMSA for CH-SIMS: clipped to [-1, 1] first; 0 is negative."""

_PLAIN_REAL: dict[str, Metric] = {"mae": metrics.mae, "pearson": metrics.pearson, "ccc": metrics.ccc}
_CLASSES: dict[str, Metric] = {
    "accuracy": metrics.accuracy,
    "weighted_f1": metrics.weighted_f1,
    "macro_f1": metrics.macro_f1,
}


@dataclass(frozen=True)
class Scorer:
    """Scores the predictions of one split.

    Attributes:
        intensity: the rules for the tasks ``intensity`` and ``sentiment_*``.
        thresholds: per multi-label task; 0.5 where none is given.
    """

    intensity: Mapping[str, Metric] = field(default_factory=lambda: MMSA_INTENSITY)
    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)

    def __call__(self, tasks: Sequence[Task], probabilities: Arrays, targets: Arrays) -> dict[str, float]:
        """Return every metric of every task by name.

        Args:
            tasks: what was predicted.
            probabilities: per task (n, outputs), the numbers themselves for real tasks.
            targets: per task (n, values), NaN where missing.
        """
        scores: dict[str, float] = {}
        for task in tasks:
            given, target = probabilities[task.name], targets[task.name]
            if task.kind is TaskKind.REAL:
                scores |= self._real(task, given, target)
            elif task.kind is TaskKind.MULTI_LABEL:
                scores |= self._multi_label(task, given, target)
            else:
                known = ~np.isnan(target[:, 0])
                truth, said = target[known, 0].astype(np.int64), given[known].argmax(axis=1)
                for name, metric in _CLASSES.items():
                    scores[f"{task.name}.{name}"] = metric(truth, said) if known.any() else np.nan
        return scores

    def higher_is_better(self, name: str) -> bool:
        """True if a larger value of the metric is better; ``loss`` and errors are better small."""
        metric = name.rsplit(".", 1)[-1]
        return metric != "loss" and (metric not in METRICS or METRICS[metric].direction == "higher")

    def real_rules(self, task: Task) -> Mapping[str, Metric]:
        """Return the rules for a real task."""
        sentiment = task.name == "intensity" or task.name.startswith("sentiment_")
        return self.intensity if sentiment else _PLAIN_REAL

    def _real(self, task: Task, given: npt.NDArray[np.float32], target: npt.NDArray[np.float32]) -> dict[str, float]:
        rules = self.real_rules(task)
        scores: dict[str, float] = {}
        for column, value in enumerate(task.values):
            known = ~np.isnan(target[:, column])
            prefix = task.name if len(task.values) == 1 else f"{task.name}.{value}"
            for name, metric in rules.items():
                truth, said = target[known, column], given[known, column]
                scores[f"{prefix}.{name}"] = metric(truth, said) if known.any() else np.nan
        if len(task.values) > 1:
            for name in rules:
                scores[f"{task.name}.{name}"] = nanmean(
                    [scores[f"{task.name}.{value}.{name}"] for value in task.values]
                )
        return scores

    def _multi_label(
        self, task: Task, given: npt.NDArray[np.float32], target: npt.NDArray[np.float32]
    ) -> dict[str, float]:
        cuts = self.thresholds.get(task.name, Thresholds.plain(task.outputs))
        said = {
            "weighted_f1": metrics.apply_threshold(given, cuts.weighted_f1),
            "weighted_accuracy": metrics.apply_threshold(given, cuts.weighted_accuracy),
        }
        rules: dict[str, Metric] = {
            "weighted_f1": metrics.weighted_f1,
            "weighted_accuracy": metrics.weighted_accuracy,
            "accuracy": metrics.accuracy,
            "f1": metrics.f1,
        }
        name = "emotions" if task.name == "emotions6" else task.name
        each: dict[str, dict[str, float]] = {}
        for column, value in enumerate(task.values):
            known = ~np.isnan(target[:, column])
            truth = target[known, column].astype(np.int64)
            each[value] = {
                rule: metric(truth, said.get(rule, said["weighted_f1"])[known, column]) if known.any() else np.nan
                for rule, metric in rules.items()
            }
        scores = {f"{name}.{value}.{rule}": score for value, found in each.items() for rule, score in found.items()}
        six = [value for value in task.values if value != Emotion.NONE]
        for rule in rules:
            scores[f"{name}.{rule}"] = nanmean([each[value][rule] for value in six])
        if len(six) < len(task.values):
            for rule in rules:
                scores[f"{name}7.{rule}"] = nanmean([found[rule] for found in each.values()])
        columns = [task.values.index(value) for value in six]
        known_rows = ~np.isnan(target[:, columns]).any(axis=1)
        if known_rows.any():
            truth, cut = target[known_rows][:, columns].astype(np.int64), said["weighted_f1"][known_rows][:, columns]
            scores[f"{name}.micro_f1"] = metrics.micro_f1(truth, cut)
            scores[f"{name}.jaccard"] = metrics.jaccard(truth, cut)
        return scores


def nanmean(values: Sequence[float]) -> float:
    """Return the mean of the defined values; NaN if there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(np.asarray(values, np.float64)))
