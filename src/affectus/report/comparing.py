"""The utterances that two runs tell differently."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus
from affectus.objectives import Task, TaskKind
from affectus.report.data import Difference, Example
from affectus.report.figures import score_sets
from affectus.report.judging import Judged, cut_labels
from affectus.report.wording import label_words

MOST_EXAMPLES = 20
"""Shown of each direction."""


def compare_runs(judged: Sequence[Judged], corpus: Corpus) -> tuple[Difference, ...]:
    """Return where two runs differ, for each task with classes that exactly two of the runs have.

    So one run for several tasks can stand beside one run for each of them.
    """
    found = []
    for name in dict.fromkeys(task.name for one in judged for task in one.tasks):
        places = [place for place, one in enumerate(judged) if one.task(name) is not None]
        if len(places) != 2:
            continue
        first, second = (judged[place] for place in places)
        task, other = first.task(name), second.task(name)
        if task is not None and other is not None and other.values == task.values and task.kind is not TaskKind.REAL:
            compare = _compare_sets if task.kind is TaskKind.MULTI_LABEL else _compare_classes
            found.append(replace(compare(task, first, second, corpus), runs=(places[0], places[1])))
    return tuple(found)


def _compare_sets(task: Task, first: Judged, second: Judged, corpus: Corpus) -> Difference:
    known = ~np.isnan(first.mean.targets[task.name]).any(axis=1)
    rows, truth = first.mean.rows[known], first.mean.targets[task.name][known].astype(np.int64)
    said = [cut_labels(task, one.mean.probabilities[task.name], one.mean_cuts)[known] for one in (first, second)]
    scores = [score_sets(truth, labels) for labels in said]

    def example(i: int) -> Example:
        precision, recall = ([float(getattr(s, name)[i]) for s in scores] for name in ("precision", "recall"))
        return Example(
            *_utterance(corpus, int(rows[i])),
            gold=label_words(task, truth[i]),
            said=(label_words(task, said[0][i]), label_words(task, said[1][i])),
            precision=(precision[0], precision[1]),
            recall=(recall[0], recall[1]),
        )

    differ = (said[0] != said[1]).any(axis=1)
    return _difference(task, scores[0].f1 - scores[1].f1, differ, example)


def _compare_classes(task: Task, first: Judged, second: Judged, corpus: Corpus) -> Difference:
    targets = first.mean.targets[task.name][:, 0]
    known = ~np.isnan(targets)
    rows, truth = first.mean.rows[known], targets[known].astype(np.int64)
    given = [one.mean.probabilities[task.name][known] for one in (first, second)]
    said = [of.argmax(axis=1) for of in given]
    # among the utterances that one run alone tells right, those come first whose truth they hold most unlike
    sure = [of[np.arange(len(truth)), truth] for of in given]
    right = [(of == truth).astype(np.float64) for of in said]
    gain = np.where(right[0] == right[1], 0.0, right[0] - right[1] + sure[0] - sure[1])

    def example(i: int) -> Example:
        return Example(
            *_utterance(corpus, int(rows[i])),
            gold=task.values[truth[i]],
            said=(task.values[said[0][i]], task.values[said[1][i]]),
            precision=None,
            recall=None,
        )

    return _difference(task, gain, said[0] != said[1], example)


def _difference(
    task: Task,
    gain: npt.NDArray[np.floating],
    differ: npt.NDArray[np.bool_],
    example: Callable[[int], Example],
) -> Difference:
    better = [np.flatnonzero(sign * gain > 0) for sign in (1, -1)]
    shown = [of[np.argsort(-np.abs(gain[of]), kind="stable")][:MOST_EXAMPLES] for of in better]
    return Difference(
        task=task.name,
        runs=(0, 1),
        n=len(gain),
        better=(len(better[0]), len(better[1])),
        even=int((differ & (gain == 0)).sum()),
        examples=(tuple(example(int(i)) for i in shown[0]), tuple(example(int(i)) for i in shown[1])),
    )


def _utterance(corpus: Corpus, row: int) -> tuple[str, str | None]:
    return str(corpus.table["id"][row]), corpus.table["text"][row]
