"""What every run makes of each emotion: its scores, how often it is there and how often it is said to be."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from affectus import metrics
from affectus.objectives import Task, TaskKind
from affectus.report.data import EmotionRow, Score, ScoreRow
from affectus.report.judging import Judged, cut_labels, family

IntArray = npt.NDArray[np.int64]

Rule = Callable[[IntArray, IntArray], float]
CLASS_RULES: dict[str, Rule] = {
    "weighted_f1": metrics.weighted_f1,
    "weighted_accuracy": metrics.weighted_accuracy,
    "f1": metrics.f1,
}
"""What is told of each class."""
TWO_CLASS_RULES: dict[str, Rule] = {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1}
"""What is told where there are but two, which share their weighted figures."""


def class_rows(
    judged: Sequence[Judged], scores: Sequence[ScoreRow], *, one_majority: bool = True
) -> dict[str, tuple[EmotionRow, ...]]:
    """Return one row per class, by the name under which a task's metrics stand (``emotions``, ``polarity``).

    Args:
        judged: the runs.
        scores: all figures of the runs; those of a multi-label task's values are taken from here.
        one_majority: one majority baseline stands for all runs.
    """
    by_name = {row.metric: row for row in scores}
    names = dict.fromkeys(family(task) for one in judged for task in one.tasks if task.kind is not TaskKind.REAL)
    found = {}
    for name in names:
        tasks = [next((task for task in one.tasks if family(task) == name), None) for one in judged]
        values = max((task.values for task in tasks if task is not None), key=len)
        found[name] = tuple(_row(judged, tasks, name, value, by_name, one_majority) for value in values)
    return found


def _row(
    judged: Sequence[Judged],
    tasks: Sequence[Task | None],
    name: str,
    value: str,
    by_name: dict[str, ScoreRow],
    one_majority: bool,
) -> EmotionRow:
    pairs = [
        (one, task) if task is not None and value in task.values else None
        for one, task in zip(judged, tasks, strict=True)
    ]
    first, first_task = next(pair for pair in pairs if pair is not None)
    truth = _truth(first, first_task, value)
    told = [_told(*pair, value) if pair else None for pair in pairs]
    rows = {}
    rules = TWO_CLASS_RULES if first_task.kind is TaskKind.BINARY else CLASS_RULES
    for rule, metric in rules.items():
        title = f"{name}.{value}.{rule}"
        if title in by_name:
            rows[rule] = by_name[title]
            continue
        # one class against the rest, which the run's own metrics do not tell
        each = [Score.of([metric(truth, of) for of in said]) if said and len(truth) else None for said in told]
        guesses = [_guess(*pair, value) if pair and len(truth) else None for pair in pairs]
        baselines = [None if of is None else metric(truth, of) for of in guesses]
        shared = next((of for of in baselines if of is not None), None)
        rows[rule] = ScoreRow(title, tuple(each), (shared,) if one_majority else tuple(baselines))
    return EmotionRow(
        emotion=value,
        known=len(truth),
        gold=int(truth.sum()),
        predicted=tuple(None if said is None else float(np.mean([of.sum() for of in said])) for said in told),
        scores=rows,
    )


def _truth(one: Judged, task: Task, value: str) -> IntArray:
    """(n,) of 0 and 1 for the utterances with a label."""
    targets, column = one.mean.targets[task.name], task.values.index(value)
    if task.kind is not TaskKind.MULTI_LABEL:
        return _ones(targets[~np.isnan(targets[:, 0]), 0] == column)
    return _ones(targets[~np.isnan(targets[:, column]), column] == 1)


def _told(one: Judged, task: Task, value: str) -> list[IntArray]:
    """Per seed (n,) of 0 and 1, for the same utterances as the truth."""
    targets, column = one.mean.targets[task.name], task.values.index(value)
    if task.kind is not TaskKind.MULTI_LABEL:
        known = ~np.isnan(targets[:, 0])
        return [_ones(of.probabilities[task.name][known].argmax(axis=1) == column) for of in one.given]
    known = ~np.isnan(targets[:, column])
    return [
        cut_labels(task, of.probabilities[task.name], cuts)[known, column]
        for of, cuts in zip(one.given, one.cuts, strict=True)
    ]


def _guess(one: Judged, task: Task, value: str) -> IntArray:
    """(n,) of 0 and 1: what the majority baseline says of a task with one class per utterance."""
    known = ~np.isnan(one.majority.targets[task.name][:, 0])
    best = one.majority.probabilities[task.name][known].argmax(axis=1)
    return _ones(best == task.values.index(value))


def _ones(true: npt.NDArray[np.bool_]) -> IntArray:
    return true.astype(np.int64)
