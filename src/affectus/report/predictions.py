"""Confusion matrices, calibration and threshold curves of one run."""

import numpy as np
import numpy.typing as npt

from affectus.evaluation import Thresholds
from affectus.evaluation.scoring import CAI_INTENSITY
from affectus.metrics import AKHTAR_GRID, Rounding, ThresholdMetric, score_thresholds
from affectus.objectives import Task, TaskKind
from affectus.report.data import Calibration, Confusion, ThresholdCurves
from affectus.report.figures import expected_calibration_error, mean_confusion, reliability
from affectus.report.intensity import cuts_for
from affectus.report.judging import Judged, cut_labels
from affectus.training.inference import Predictions

FloatArray = npt.NDArray[np.float32]


def confusions(one: Judged) -> tuple[Confusion, ...]:
    """Return the matrices of every task that has classes, and of sentiment intensity cut into classes."""
    found: list[Confusion] = []
    for task in one.tasks:
        targets = one.mean.targets[task.name]
        given = [of.probabilities[task.name] for of in one.given]
        if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
            known = ~np.isnan(targets[:, 0])
            said = [of[known].argmax(axis=1) for of in given]
            found.append(_confusion(task.name, task.values, targets[known, 0].astype(np.int64), said))
        elif task.kind is TaskKind.MULTI_LABEL:
            cut = [cut_labels(task, of, cuts) for of, cuts in zip(given, one.cuts, strict=True)]
            for column, value in enumerate(task.values):
                known = ~np.isnan(targets[:, column])
                truth = targets[known, column].astype(np.int64)
                said = [labels[known, column] for labels in cut]
                found.append(_confusion(f"{task.name}: {value}", (f"not {value}", value), truth, said))
        elif task.name == "intensity" or task.name.startswith("sentiment_"):
            found += _intensity(one, task, targets, given)
    return tuple(found)


def _intensity(one: Judged, task: Task, targets: FloatArray, given: list[FloatArray]) -> list[Confusion]:
    rounding: Rounding = "half_away" if one.found.protocol.intensity is CAI_INTENSITY else "half_even"
    found = []
    for cut in cuts_for(task.high, rounding):
        known = ~np.isnan(targets[:, 0]) & (cut.neutral | (targets[:, 0] != 0))
        truth, *said = (cut.classes(of[known, 0]) for of in (targets, *given))
        found.append(_confusion(f"{task.name}, {cut.title}", cut.labels, truth, said))
    return found


def _confusion(
    title: str, labels: tuple[str, ...], truth: npt.NDArray[np.int64], said: list[npt.NDArray[np.int64]]
) -> Confusion:
    counts = mean_confusion(truth, said, len(labels))
    return Confusion(title, labels, tuple(tuple(float(cell) for cell in row) for row in counts))


def calibrations(one: Judged) -> tuple[Calibration, ...]:
    """Return the calibration of every probability: of the positive class, of each label, of the likeliest class."""
    found = []
    for task in one.tasks:
        targets = one.mean.targets[task.name]
        if task.kind is TaskKind.BINARY:
            known = ~np.isnan(targets[:, 0])
            each = [(targets[known, 0], of.probabilities[task.name][known, 1]) for of in one.given]
            found.append(_calibration(f"{task.name}: {task.values[1]}", each))
        elif task.kind is TaskKind.ONE_OF_K:
            known = ~np.isnan(targets[:, 0])
            every = [of.probabilities[task.name][known] for of in one.given]
            each = [(of.argmax(axis=1) == targets[known, 0], of.max(axis=1)) for of in every]
            found.append(_calibration(f"{task.name}: the likeliest class", each))
        elif task.kind is TaskKind.MULTI_LABEL:
            for column, value in enumerate(task.values):
                known = ~np.isnan(targets[:, column])
                each = [(targets[known, column], of.probabilities[task.name][known, column]) for of in one.given]
                found.append(_calibration(f"{task.name}: {value}", each))
    return tuple(found)


def _calibration(title: str, each: list[tuple[npt.NDArray[np.generic], FloatArray]]) -> Calibration:
    errors = [expected_calibration_error(reliability(truth, probability)) for truth, probability in each]
    pooled = reliability(np.concatenate([t for t, _ in each]), np.concatenate([p for _, p in each]))
    return Calibration(title, pooled, float(np.mean(errors)))


def threshold_curves(one: Judged, split: str) -> tuple[ThresholdCurves, ...]:
    """Return per label of a multi-label task what each threshold of the grid scores, on valid and on the split."""
    found = []
    for task in (task for task in one.tasks if task.kind is TaskKind.MULTI_LABEL):
        known = [predictions for predictions in one.valid if predictions is not None]
        on = {"valid": known} if known and split != "valid" else {}
        on[split] = list(one.given)
        f1 = {name: _grid(task, of, "weighted_f1") for name, of in on.items()}
        accuracy = {name: _grid(task, of, "weighted_accuracy") for name, of in on.items()}
        plain = Thresholds.plain(task.outputs)
        cuts = [of.get(task.name, plain) for of in one.cuts]
        for column, value in enumerate(task.values):
            found.append(
                ThresholdCurves(
                    emotion=value,
                    grid=AKHTAR_GRID,
                    weighted_f1={name: tuple(scores[:, column].tolist()) for name, scores in f1.items()},
                    weighted_accuracy={name: tuple(scores[:, column].tolist()) for name, scores in accuracy.items()},
                    chosen_f1=tuple(cut.weighted_f1[column] for cut in cuts),
                    chosen_accuracy=tuple(cut.weighted_accuracy[column] for cut in cuts),
                )
            )
    return tuple(found)


def _grid(task: Task, each: list[Predictions], metric: ThresholdMetric) -> npt.NDArray[np.float64]:
    """(thresholds, values), mean over the models."""
    scores = [score_thresholds(of.targets[task.name], of.probabilities[task.name], metric=metric) for of in each]
    mean: npt.NDArray[np.float64] = np.mean(scores, axis=0)
    return mean
