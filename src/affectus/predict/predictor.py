"""A trained model that tells what the utterances of a corpus express: the one that ships, or a run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus import Corpus, Ragged, load_corpus
from affectus.evaluation.evaluate import average
from affectus.objectives import Task, TaskKind
from affectus.predict.results import Opinion, Utterance
from affectus.predict.table import mean_attention
from affectus.training.inference import Predictions
from affectus.training.loading import Run, load_run
from affectus.vocabulary import TEXT, Emotion

DEFAULT = "default"
"""The name of the model that ships."""
Progress = Callable[[int, int], None]


class Teller(Protocol):
    """Anything that tells the utterances of a corpus."""

    @property
    def identity(self) -> str:
        """Name and, where known, hash."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that it reads."""

    def predict(self, corpus: Corpus, *, threads: int = 1, progress: Progress | None = None) -> tuple[Utterance, ...]:
        """Tell every utterance, in the order of the corpus's table."""

    def notes(self, corpus: Corpus) -> list[str]:
        """What a reader of its predictions has to know."""


class Predictor:
    """Tells utterances; made by :meth:`load`.

    Args:
        teller: the model.
        run: the run that it is of; None for the model that ships.
    """

    def __init__(self, teller: Teller, run: Run | None = None) -> None:
        self._teller, self.run = teller, run

    @classmethod
    def load(cls, source: "Run | Predictor | str | Path | None" = None) -> "Predictor":
        """Load a predictor.

        Args:
            source: a run or its folder; ``default`` or None for the model that ships.

        Raises:
            AffectusError: the folder holds no run, or the files of the shipped model are absent or damaged.
        """
        if isinstance(source, Predictor):
            return source
        if source is None or source == DEFAULT:
            from affectus.predict.default.model import load_default

            return cls(load_default())
        run = source if isinstance(source, Run) else load_run(source)
        return cls(RunTeller(run), run)

    @property
    def identity(self) -> str:
        """What it is: name and hash, or the run's folder and model."""
        return self._teller.identity

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that it reads."""
        return self._teller.modalities

    def predict(
        self, corpus: Corpus | str | Path, *, threads: int = 1, progress: Progress | None = None
    ) -> tuple[Utterance, ...]:
        """Tell every utterance of a corpus, labelled or not, in the order of its table.

        Args:
            corpus: in memory, or its folder, with what the model reads; a modality may be missing for any utterance.
            threads: of torch.
            progress: told how many utterances are done, and of how many.

        Raises:
            AffectusError: the corpus does not fit the model.
        """
        opened = corpus if isinstance(corpus, Corpus) else load_corpus(corpus)
        return self._teller.predict(opened, threads=threads, progress=progress)

    def notes(self, corpus: Corpus) -> list[str]:
        """Return what a reader of the predictions has to know, a sentence each."""
        return self._teller.notes(corpus)

    def analyze(self, path: str | Path, **settings: Any) -> Any:
        """Analyse a file with this model; see :func:`affectus.predict.analyze.analyze`."""
        from affectus.predict.analyze import analyze

        return analyze(path, model=self, **settings)


class RunTeller:
    """A run, the mean of its seeds.

    Args:
        run: trained.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._models = [run.model(seed) for seed in run.seeds]

    @property
    def identity(self) -> str:
        """The run's folder and model."""
        return f"{self.run.config.model}, run {self.run.folder.name}, {len(self._models)} seeds"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of the run."""
        return tuple(self.run.file.inputs)

    def predict(self, corpus: Corpus, *, threads: int = 1, progress: Progress | None = None) -> tuple[Utterance, ...]:
        """See :meth:`Predictor.predict`."""
        from affectus.threads import torch_threads

        with torch_threads(threads):
            every = [self.run.predict(model, corpus, None, attention=True) for model in self._models]
            mean = average(every)
            fused = _opinions(self.run.tasks, mean)
            alone = self._alone(corpus) if len(self.modalities) > 1 else {self.modalities[0]: fused}
        attention = _attention(every, corpus, mean.rows)
        present = _multi_label(self.run.tasks, mean)
        told: dict[int, Utterance] = {}
        for i, row in enumerate(mean.rows.tolist()):
            line = corpus.table.row(row, named=True)
            there = [name for name in self.modalities if self._has(corpus, name, row)]
            told[row] = Utterance(
                id=line["id"],
                recording=line["video"],
                start=line["start"],
                end=line["end"],
                speaker=line["speaker"],
                text=(line["text"] or "").strip() or None,
                opinion=fused[i] if there else Opinion(),
                alone={name: alone[name][i] for name in there if name in alone},
                present=present[i] if there else {},
                attention=attention[i],
            )
        if progress:
            progress(len(told), len(told))
        return tuple(told[row] for row in sorted(told))

    def notes(self, corpus: Corpus) -> list[str]:
        """Say whether seeds are to be trained yet, and of which epochs the others' weights are.

        Nothing of the language, since a run may have learned any.
        """
        if self.run.unfinished is None:
            return []
        # the page of a server tells no place of its machine
        told = self.run.unfinished.replace(str(self.run.folder), self.run.folder.name)
        epochs = "; ".join(f"seed {seed}: {of}" for seed, of in self.run.chosen_epochs.items())
        return [f"The run is unfinished: {told}" + (f" The weights are of {epochs}." if epochs else "")]

    def _has(self, corpus: Corpus, name: str, row: int) -> bool:
        if name == TEXT and self.run.text is not None:
            return bool((corpus.table["text"][row] or "").strip())
        return bool(corpus.features[name].lengths[row])

    def _alone(self, corpus: Corpus) -> dict[str, list[Opinion]]:
        """Return what each modality says when the others are hidden."""
        found = {}
        for name in self.modalities:
            hidden = _only(corpus, name, self.modalities)
            if hidden is None or (name != TEXT and self.run.text is not None):
                continue  # what a run makes of transcripts cannot be hidden
            every = [self.run.predict(model, hidden, None) for model in self._models]
            found[name] = _opinions(self.run.tasks, average(every))
        return found


def _only(corpus: Corpus, kept: str, modalities: Sequence[str]) -> Corpus | None:
    """Return the corpus with the other modalities missing everywhere; None if nothing is left."""
    if kept in corpus.features and not corpus.features[kept].lengths.any():
        return None
    features = dict(corpus.features)
    for name in modalities:
        if name != kept and name in features:
            features[name] = Ragged(features[name].values[:0], np.zeros(len(corpus) + 1, np.int64))
    return Corpus(corpus.table, features, corpus.card)


def _opinions(tasks: Sequence[Task], said: Predictions) -> list[Opinion]:
    """Turn predictions into opinions, one for each of their rows, as far as the tasks go."""
    found = []
    for i in range(len(said.rows)):
        values: dict[str, Any] = {}
        for task in tasks:
            given = said.probabilities[task.name][i]
            if task.name == "intensity":
                scale = 3 / max(abs(task.high or 3), 1e-6)
                values["intensity"] = float(given[0]) * scale
            elif task.name == "polarity":
                values["polarities"] = dict(zip(task.values, given.tolist(), strict=True))
            elif task.name == "emotion_class" or (task.name == "emotions" and "emotions" not in values):
                values["emotions"] = dict(zip(task.values, given.tolist(), strict=True))
        for one, best in (("polarities", "polarity"), ("emotions", "emotion")):
            if one in values:
                values[best] = max(values[one], key=values[one].__getitem__)
        found.append(Opinion(**values))
    return found


def _multi_label(tasks: Sequence[Task], said: Predictions) -> list[dict[str, float]]:
    """Per row the probability that each emotion is present, of the task ``emotions``; empty without it."""
    for task in tasks:
        if task.name == "emotions" and task.kind is TaskKind.MULTI_LABEL:
            kept = [i for i, value in enumerate(task.values) if value != Emotion.NONE]
            return [{task.values[i]: float(line[i]) for i in kept} for line in said.probabilities[task.name]]
    return [{} for _ in said.rows]


def _attention(every: list[Predictions], corpus: Corpus, rows: npt.NDArray[np.int64]) -> list[dict[str, float]]:
    """Per row the mean weight, over pairs of modalities, of the other utterances of its recording."""
    lists = [series.to_list() for _, series in mean_attention(every)]
    ids, videos = corpus.table["id"].to_list(), corpus.table["video"].to_list()
    order: Mapping[tuple[str, str], list[int]] = _grouped(corpus.table)
    found: list[dict[str, float]] = []
    for i, row in enumerate(rows.tolist()):
        group = order[videos[row], corpus.table["split"][row]]
        lines = [weights[i] for weights in lists if len(weights[i]) == len(group)]
        mean = np.mean(lines, axis=0) if lines else np.zeros(len(group))
        found.append({ids[j]: float(w) for j, w in zip(group, mean, strict=True) if j != row and w > 0.005})
    return found


def _grouped(table: pl.DataFrame) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(table["video"].to_list(), table["split"].to_list(), strict=True)):
        found.setdefault(key, []).append(row)
    return found


__all__ = ["DEFAULT", "Predictor", "RunTeller", "Teller"]
