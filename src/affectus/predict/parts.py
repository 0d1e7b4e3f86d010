"""Predictions of a corpus as partitioned Parquet: recordings whole, parts side by side, on one machine or on many."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectus.corpus import Corpus, load_corpus
from affectus.corpus.parts import Part, open_parts, part_key, part_path, write_parts
from affectus.corpus.storage import corpus_hash
from affectus.files import sha256
from affectus.parallel import Alive, Executor
from affectus.predict.table import check_output, predict_table
from affectus.threads import torch_threads
from affectus.training.loading import load_run

PART_UTTERANCES = 20_000
"""A part holds so many utterances at most, but for a recording that is longer."""


@dataclass(frozen=True)
class Stretch:
    """A part, and the rows of the corpus that it tells of, from ``begin`` to before ``end``."""

    part: Part
    begin: int
    end: int


@dataclass(frozen=True)
class PredictStretches:
    """Work that predicts stretches of a corpus.

    Attributes:
        run: its folder.
        corpus: its folder.
        attention: add the attention weights.
        threads: of torch.
    """

    run: Path
    corpus: Path
    attention: bool = False
    threads: int = 1

    def open(self) -> Callable[[Stretch, Alive], None]:
        """Load the run and open the corpus; return what predicts a stretch."""
        run, corpus = load_run(self.run), load_corpus(self.corpus)

        def predict(stretch: Stretch, alive: Alive) -> None:
            some = corpus.select(np.arange(stretch.begin, stretch.end))
            with torch_threads(self.threads):
                stretch.part.write(predict_table(run, some, attention=self.attention).to_arrow())

        return predict

    def done(self, item: Stretch) -> bool:
        """Return whether a part is there."""
        return item.part.written()


def predict_parts(
    run: str | Path,
    corpus: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    attention: bool = False,
    threads: int = 1,
    utterances: int = PART_UTTERANCES,
    executor: Executor | None = None,
) -> tuple[int, int]:
    """Write predictions as partitioned Parquet, and return how many utterances and parts there are.

    What a part holds depends on the corpus alone, so the parts are the same whoever writes them; those that are there,
    of the same run and corpus, are not written anew.

    Args:
        run: its folder.
        corpus: its folder.
        out: the folder of the parts.
        split: of the corpus; None for all.
        attention: add the attention weights of contextual models.
        threads: of torch.
        utterances: in a part at most.
        executor: predicts the parts; its machines must see the three folders.

    Raises:
        AffectusError: the folder's name ends as that of a file in another format, the corpus does not fit the run, or a
            part cannot be written.
    """
    folder, source, out = Path(run).resolve(), Path(corpus).resolve(), Path(out).resolve()
    check_output(out, parts=True)
    load_run(folder)
    open_parts(out)
    whole = load_corpus(source)
    facts = (sha256(folder / "run.json"), _weights(folder), corpus_hash(source), attention)
    stretches = [
        Stretch(Part(part_path(out, number), part_key(*facts, begin, end)), begin, end)
        for number, (begin, end) in enumerate(_divide(whole, split, utterances))
    ]
    work = PredictStretches(folder, source, attention, threads)
    return write_parts(out, work, stretches, executor), len(stretches)


def _weights(run: Path) -> list[str]:
    """Return the hashes of the seeds' weights: a run may have been given more seeds meanwhile."""
    return [sha256(path) for path in sorted(run.glob("*/model*.safetensors"))]


def _divide(corpus: Corpus, split: str | None, utterances: int) -> Iterator[tuple[int, int]]:
    """Yield stretches of rows that hold whole recordings."""
    begin = end = -1
    for rows in corpus.recordings(split):
        first, after = int(rows[0]), int(rows[-1]) + 1
        if begin >= 0 and (first != end or after - begin > utterances):
            yield begin, end
            begin = first
        begin, end = first if begin < 0 else begin, after
    if begin >= 0:
        yield begin, end
