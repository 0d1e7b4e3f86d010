"""Each modality's own prediction beside that of all together: how far off, how often negative, where they disagree."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus import Corpus
from affectus.objectives import Task, TaskKind
from affectus.report.data import HeadRow, HeadScore, HeadTable, ModalitiesPart, Sample, SampleList, Score
from affectus.report.inside import FINAL, FUSED, Inside
from affectus.report.judging import Judged

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

SENTIMENT = ("intensity", "polarity")
"""The tasks of which this part tells, the one with more to see first."""
MOST_SAMPLES = 20
"""Shown in each list."""


def sentiment_tasks(one: Judged) -> list[Task]:
    """Return those tasks of a run that tell sentiment."""
    return [task for name in SENTIMENT if (task := one.task(name)) is not None]


def modalities_part(
    judged: Sequence[Judged], insides: Sequence[Sequence[Inside]], corpus: Corpus
) -> ModalitiesPart | None:
    """Tell what the modalities say; None if no run tells sentiment, or all see one modality and so did the annotators.

    Args:
        judged: the runs.
        insides: per run, per seed.
        corpus: that was judged.
    """
    sources = tuple(seeds[0].source for seeds in insides)
    owned = len(_owned(corpus)) > 1
    tables = tuple(
        _table(name, judged, insides, corpus)
        for name in SENTIMENT
        if any((source or owned) and one.task(name) for source, one in zip(sources, judged, strict=True))
    )
    if not tables:
        return None
    # samples of the task that most runs tell, so that they can stand side by side
    name = max((table.task for table in tables), key=lambda name: sum(one.task(name) is not None for one in judged))
    low, high = _range(next(task for one in judged if (task := one.task(name))))
    return ModalitiesPart(sources, tables, name, low, high, tuple(_lists(name, judged, insides, corpus)))


def _range(task: Task) -> tuple[float, float]:
    if task.kind is TaskKind.BINARY:
        return 0.0, 1.0
    return (-3.0 if task.low is None else task.low), (3.0 if task.high is None else task.high)


def _values(task: Task, probabilities: FloatArray) -> FloatArray:
    """(n,) of what is said: the number itself, or the probability of *positive*."""
    return probabilities[:, -1]


def _labels(task: Task, sentiment: FloatArray) -> FloatArray:
    """(n,) of what should be said, from a sentiment (n,), NaN where it is missing."""
    if task.kind is TaskKind.REAL:
        return sentiment
    return np.where(np.isnan(sentiment), np.nan, (sentiment >= 0).astype(np.float64))


def _negative(task: Task, values: FloatArray) -> BoolArray:
    return values < (0.5 if task.kind is TaskKind.BINARY else 0.0)


def _heads_of(
    name: str, judged: Sequence[Judged], insides: Sequence[Sequence[Inside]]
) -> Iterator[tuple[str, list[list[FloatArray] | None]]]:
    """Yield each head with, per run, what it says per seed (n,); None where a run lacks it."""
    found: dict[str, list[list[FloatArray] | None]] = {}
    for place, (one, seeds) in enumerate(zip(judged, insides, strict=True)):
        task = one.task(name)
        if task is None:
            continue
        for head in seeds[0].heads:
            if name in seeds[0].heads[head]:
                said = [_values(task, of.heads[head][name]) for of in seeds]
                found.setdefault(head, [None] * len(judged))[place] = said
        final = [_values(task, of.probabilities[name]) for of in one.given]
        found.setdefault(FINAL, [None] * len(judged))[place] = final
    # what is made of the modalities stands after them, whichever run came first
    yield from sorted(found.items(), key=lambda item: (item[0] in (FUSED, FINAL), item[0] == FINAL))


def _truth(name: str, judged: Sequence[Judged]) -> tuple[Task, npt.NDArray[np.int64], FloatArray]:
    """The task, the rows of the corpus, and the labels (n,)."""
    first, task = next((one, task) for one in judged if (task := one.task(name)))
    return task, first.mean.rows, first.mean.targets[name][:, 0].astype(np.float64)


def _owned(corpus: Corpus) -> dict[str, str]:
    """Per modality that annotators perceived alone, the column with their sentiment."""
    prefix = "sentiment_"
    schemes = {name.removeprefix(prefix): scheme for name, scheme in corpus.schemes.items() if name.startswith(prefix)}
    return {modality: scheme.columns[0] for modality, scheme in schemes.items()}


def _own_labels(task: Task, corpus: Corpus, rows: npt.NDArray[np.int64]) -> dict[str, FloatArray]:
    """Per modality whose own sentiment the corpus has, (n,) labels."""
    table = corpus.table[rows]
    return {
        name: _labels(task, table[column].cast(pl.Float64).fill_null(np.nan).to_numpy())
        for name, column in _owned(corpus).items()
    }


def _table(name: str, judged: Sequence[Judged], insides: Sequence[Sequence[Inside]], corpus: Corpus) -> HeadTable:
    task, rows, truth = _truth(name, judged)
    heads = dict(_heads_of(name, judged, insides))
    own = _own_labels(task, corpus, rows)
    return HeadTable(name, tuple(_head_row(task, head, truth, own.get(head), said) for head, said in heads.items()))


def _head_row(
    task: Task, head: str, truth: FloatArray, own: FloatArray | None, said: Sequence[list[FloatArray] | None]
) -> HeadRow:
    first = next(of for of in said if of is not None)
    known = ~np.isnan(truth) & ~np.isnan(first[0])
    scores = [
        None
        if of is None
        else HeadScore(
            bias=Score.of([_mean(values[known] - truth[known]) for values in of]),
            negative=Score.of([_mean(_negative(task, values[known])) for values in of]),
        )
        for of in said
    ]
    return HeadRow(
        head=head,
        n=int(known.sum()),
        label=_mean(_negative(task, truth[known])),
        own=None if own is None else _mean(_negative(task, own[~np.isnan(own)])),
        scores=tuple(scores),
    )


def _mean(values: FloatArray | BoolArray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _lists(
    name: str, judged: Sequence[Judged], insides: Sequence[Sequence[Inside]], corpus: Corpus
) -> Iterator[SampleList]:
    task, rows, truth = _truth(name, judged)
    heads = {
        head: [None if seeds is None else np.mean(seeds, axis=0) for seeds in said]
        for head, said in _heads_of(name, judged, insides)
    }
    own = _own_labels(task, corpus, rows)
    alone = {head: said for head, said in heads.items() if head not in (FUSED, FINAL)}
    # a modality that no run sees may still have labels
    alone |= {name: [None] * len(judged) for name in own if name not in alone}
    heads = alone | heads
    each = [[said[place] for said in alone.values() if said[place] is not None] for place in range(len(judged))]
    ranges = [_apart([of for of in said if of is not None]) for said in each if len(said) > 1]
    if ranges:
        yield _list("said", _nanmean(np.stack(ranges)), corpus, rows, truth, own, heads)
    if len(own) > 1:
        yield _list("labels", _apart(list(own.values())), corpus, rows, truth, own, heads)


def _apart(values: Sequence[FloatArray]) -> FloatArray:
    """(n,): largest less smallest of the values that are there; NaN with fewer than two."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    top = np.where(known, stacked, -np.inf).max(axis=0)
    bottom = np.where(known, stacked, np.inf).min(axis=0)
    apart: FloatArray = np.where(known.sum(axis=0) > 1, top, np.nan) - np.where(known.any(axis=0), bottom, 0)
    return apart


def _nanmean(values: FloatArray) -> FloatArray:
    known = ~np.isnan(values)
    total: FloatArray = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known.any(axis=0), total, np.nan)


def _list(
    by: str,
    apart: FloatArray,
    corpus: Corpus,
    rows: npt.NDArray[np.int64],
    truth: FloatArray,
    own: Mapping[str, FloatArray],
    heads: Mapping[str, Sequence[FloatArray | None]],
) -> SampleList:
    known = np.flatnonzero(~np.isnan(apart))
    shown = known[np.argsort(-apart[known], kind="stable")][:MOST_SAMPLES]
    samples = [
        Sample(
            id=str(corpus.table["id"][int(rows[i])]),
            text=corpus.table["text"][int(rows[i])],
            label=_known(truth[i]),
            own={head: _known(labels[i]) for head, labels in own.items()},
            said={head: tuple(None if of is None else _known(of[i]) for of in said) for head, said in heads.items()},
            apart=float(apart[i]),
        )
        for i in shown
    ]
    return SampleList(by, len(known), tuple(samples))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
