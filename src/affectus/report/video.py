"""One video: its utterances with true and predicted labels, and where contextual attention looks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus
from affectus.errors import AffectusError, suggest
from affectus.report.data import Heatmap, HeatmapPair, Said, UtteranceRow, VideoPart
from affectus.report.figures import choose_video
from affectus.report.judging import Judged
from affectus.report.wording import gold_words, said_words
from affectus.vocabulary import View

MOST_UTTERANCES = 24
"""A longer video is shown up to here: more would be neither legible nor small."""


def video_part(judged: Sequence[Judged], corpus: Corpus, split: str, video: str | None) -> VideoPart:
    """Tell one video of the split.

    Args:
        judged: the runs.
        corpus: that was judged.
        split: of it.
        video: by id; None chooses the one with most utterances up to twelve.

    Raises:
        AffectusError: the split has no such video.
    """
    recordings = corpus.recordings(split)
    names = [str(corpus.table["video"][int(rows[0])]) for rows in recordings]
    if video is not None and video not in names:
        raise AffectusError(
            f"The split {split!r} of the corpus {corpus.name!r} has no video {video!r}",
            expected=f"one of its {len(names)} videos, for instance {names[0]!r}",
            remedy=suggest(video, names),
        )
    chosen = choose_video([len(rows) for rows in recordings]) if video is None else names.index(video)
    rows = recordings[chosen]
    shown = rows[:MOST_UTTERANCES]
    return VideoPart(
        video=names[chosen],
        total=len(rows),
        utterances=tuple(_utterance(judged, corpus, int(row)) for row in shown),
        heatmaps=tuple(_heatmaps(one, corpus, split, rows) for one in judged),
    )


def _utterance(judged: Sequence[Judged], corpus: Corpus, row: int) -> UtteranceRow:
    gold: dict[str, str] = {}
    said: dict[str, list[Said | None]] = {}
    for place, one in enumerate(judged):
        at = int(np.searchsorted(one.mean.rows, row))
        for task in one.tasks:
            target = one.mean.targets[task.name][at]
            gold.setdefault(task.name, gold_words(task, target))
            words = said_words(task, one.mean.probabilities[task.name][at], target, one.mean_cuts)
            said.setdefault(task.name, [None] * len(judged))[place] = words
    return UtteranceRow(
        id=str(corpus.table["id"][row]),
        text=corpus.table["text"][row],
        gold=gold,
        said={task: tuple(each) for task, each in said.items()},
    )


def _heatmaps(one: Judged, corpus: Corpus, split: str, rows: npt.NDArray[np.int64]) -> tuple[HeatmapPair, ...]:
    """Return the attention over the video, mean over the seeds."""
    run = one.run
    if run.config.view is not View.CONTEXTUAL or len(rows) < 2:
        return ()  # a lone utterance has nothing else to look at
    alone = corpus.select(rows)
    every = [run.predict(run.model(seed), alone, split, attention=True).attention for seed in run.seeds]
    maps: dict[tuple[str, str], Heatmap] = {}
    for name in every[0]:
        query, _, key = name.partition(".")
        weights = np.mean([of[name][0][1] for of in every], axis=0)
        if not key or weights.shape != (len(rows), len(rows)):
            continue  # a model's own kind of attention, which is no map of utterances by utterances
        shown = weights[:MOST_UTTERANCES, :MOST_UTTERANCES]
        maps[query, key] = Heatmap(query, key, tuple(tuple(map(float, line)) for line in shown))
    pairs = []
    while maps:
        (query, key), first = next(iter(maps.items()))
        del maps[query, key]
        pairs.append(HeatmapPair(first, maps.pop((key, query), None)))
    return tuple(pairs)
