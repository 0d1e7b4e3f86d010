"""In a worker: a file -> its analysis, also with modalities switched off, and its features."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from affectus.corpus import Corpus, Ragged, load_corpus, save_corpus
from affectus.errors import AffectusError
from affectus.files import atomic_path, write_json
from affectus.predict.analyze import analyze, kind_of
from affectus.predict.exports import write_exports
from affectus.predict.predictor import Predictor
from affectus.predict.results import Analysis, Opinion
from affectus.vocabulary import TEXT, order_modalities

Tell = Callable[[str, float], None]
"""Called with what is being done and how much is done, 0 to 1."""
FEATURES, ANALYSIS, VIEW = "features", "result.json", "view.json"
"""Within the folder of a result: a corpus; what downloads give; what the page shows."""
WHAT_IF = "switching modalities off"


class KeepingPredictor(Predictor):
    """A predictor that keeps the corpus that it was last given.

    Args:
        predictor: that tells.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor, predictor.run)
        self.corpus: Corpus | None = None

    def predict(self, corpus: Corpus | str | Path, **settings: Any) -> Any:
        """See :meth:`affectus.predict.predictor.Predictor.predict`."""
        self.corpus = corpus if isinstance(corpus, Corpus) else load_corpus(corpus)
        return super().predict(self.corpus, **settings)


@dataclass(frozen=True)
class MediaTask:
    """A file to analyse.

    Attributes:
        path: of the file.
        name: as its sender calls it.
        out: folder to write.
        options: settings of the extraction.
        longest: seconds; a longer recording is refused.
        threads: of each network.
    """

    path: Path
    name: str
    out: Path
    options: Mapping[str, Any]
    longest: float
    threads: int = 1


def analyse_media(task: MediaTask, predictor: Predictor, tell: Tell) -> dict[str, Any]:
    """Analyse a file, write what was found, and return it in short.

    Raises:
        AffectusError: the file cannot be read, is too long or holds nothing.
    """
    _check_length(task)
    keeping = KeepingPredictor(predictor)
    found = analyze(
        task.path,
        model=keeping,
        threads=task.threads,
        report=lambda what, share: tell(what, 0.9 * share),
        **task.options,
    )
    found = replace(found, source=task.name)
    assert keeping.corpus is not None
    subsets = switched_off(found, keeping.corpus, predictor, task.threads, tell)
    with atomic_path(task.out) as folder:
        folder.mkdir()
        write_exports(found, folder)
        write_json(folder / VIEW, {**found.to_json(), "modalities": found.modalities, "subsets": subsets})
        save_corpus(keeping.corpus, folder / FEATURES)
    tell("done", 1.0)
    return summary_of(found)


def _check_length(task: MediaTask) -> None:
    _, duration = kind_of(task.path)
    if duration is not None and duration > task.longest:
        raise AffectusError(
            "The recording is too long", got=f"{duration / 60:.0f} minutes",
            expected=f"at most {task.longest / 60:.0f}",
        )  # fmt: skip


def switched_off(
    found: Analysis, corpus: Corpus, predictor: Predictor, threads: int, tell: Tell
) -> dict[str, list[dict[str, Any]]]:
    """Return what is said of every utterance when modalities are switched off.

    Returns:
        Opinions by the modalities that are left on, joined by ``+``. What the model cannot do without is not there.
    """
    names = found.modalities
    all_on = "+".join(names)
    subsets: dict[str, list[dict[str, Any]]] = {all_on: [asdict(one.opinion) for one in found.utterances]}
    kept = [c for size in range(1, len(names)) for c in itertools.combinations(names, size)]
    for number, chosen in enumerate(kept):
        tell(WHAT_IF, 0.9 + 0.1 * number / len(kept))
        if len(chosen) == 1 and all(chosen[0] in one.alone for one in found.utterances if one.alone):
            said: Sequence[Opinion] = [one.alone.get(chosen[0], Opinion()) for one in found.utterances]
        else:
            try:
                told = predictor.predict(only(corpus, chosen), threads=threads)
            except AffectusError:
                continue  # the model needs what is hidden
            said = [one.opinion if set(one.alone) or one.opinion.intensity is None else Opinion() for one in told]
        subsets["+".join(order_modalities(chosen))] = [asdict(one) for one in said]
    return subsets


def only(corpus: Corpus, kept: Sequence[str]) -> Corpus:
    """Return a corpus in which all but some modalities are missing everywhere; transcripts too, unless text is kept."""
    nothing = np.zeros(len(corpus) + 1, np.int64)
    features = {
        name: ragged if name in kept else Ragged(ragged.values[:0], nothing) for name, ragged in corpus.features.items()
    }
    table = corpus.table
    if TEXT not in kept:
        table = table.with_columns(pl.lit(None, pl.String()).alias("text"))
    return Corpus(table, features, corpus.card)


def summary_of(found: Analysis) -> dict[str, Any]:
    """Return an analysis in short, as the list shows it."""
    values = [one.opinion.intensity for one in found.utterances if one.opinion.intensity is not None]
    emotions: dict[str, int] = {}
    for one in found.utterances:
        if one.opinion.emotion is not None:
            emotions[one.opinion.emotion] = emotions.get(one.opinion.emotion, 0) + 1
    return {
        "media": found.media,
        "duration": found.duration,
        "utterances": len(found.utterances),
        "disagreements": sum(one.disagree for one in found.utterances),
        "intensity": sum(values) / len(values) if values else None,
        "emotions": dict(sorted(emotions.items(), key=lambda entry: -entry[1])),
        "modalities": list(found.modalities),
        "model": found.model,
    }
