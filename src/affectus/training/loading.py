"""Opening a run folder: its configuration and its trained models."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy.typing as npt

from affectus.batches import Loader, Scaler
from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.files import read_json, sha256
from affectus.labels import LabelKind
from affectus.models.base import MODELS, AnyModel, Model
from affectus.models.storage import load_weights, read_arrays
from affectus.objectives import Task, available_tasks
from affectus.training.config import PER_TASK, RunConfig
from affectus.training.inference import PerTask, Predictions, predict_batches
from affectus.training.run import (
    EPOCHS,
    FILES,
    HISTORY,
    KEPT,
    RESULT,
    VALID,
    RunFile,
    build_model,
    make_loader,
    read_run_file,
)
from affectus.training.text import RunText, reopen_text
from affectus.training.transfer import InitScaling, Source
from affectus.vocabulary import TEXT

_ENCODED: WeakKeyDictionary[Corpus, dict[tuple[object, ...], Corpus]] = WeakKeyDictionary()
"""What text encoders made of the text of corpora that are still in use."""


@dataclass(frozen=True)
class Run:
    """A run folder that was trained, or is being trained.

    Attributes:
        folder: where it lies.
        file: its ``run.json``.
    """

    folder: Path
    file: RunFile

    @property
    def config(self) -> RunConfig:
        """What was trained."""
        return self.file.config

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, as resolved from the training corpus."""
        return tuple(self.file.tasks)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds whose training has ended.

        Raises:
            AffectusError: there is none yet.
        """
        done = [seed for seed in self.config.seeds if (self.seed_folder(seed) / RESULT).is_file()]
        if not done:
            raise AffectusError(
                "No seed of the run is trained to its end",
                where=self.folder,
                remedy="Run the same `affectus train` again; it goes on where it stopped",
            )
        return tuple(done)

    @cached_property
    def chosen_epochs(self) -> dict[int, str]:
        """Per seed whose training has ended, of which epoch its weights are, from 1; none of a model without epochs."""
        found = {}
        for seed in self.seeds:
            known = read_json(self.seed_folder(seed) / RESULT)
            if not isinstance(known, dict):
                continue
            if isinstance(known.get("best_epoch"), int):
                found[seed] = f"epoch {known['best_epoch'] + 1}"
            elif isinstance(of_tasks := known.get("best_epochs"), dict):
                found[seed] = ", ".join(f"epoch {epoch + 1} for {task}" for task, epoch in of_tasks.items())
        return found

    @property
    def unfinished(self) -> str | None:
        """What a reader of the run's predictions and figures must know if not every seed is trained; None if all are.

        Raises:
            AffectusError: no seed is trained yet.
        """
        done, asked = self.seeds, self.config.seeds
        if len(done) == len(asked):
            return None
        return (
            f"{len(done)} of {len(asked)} seeds of the run {self.folder} {'is' if len(done) == 1 else 'are'} trained: "
            f"{', '.join(map(str, done))}. The same `affectus train` goes on with the rest."
        )

    @cached_property
    def scaler(self) -> Scaler:
        """The feature scaling fitted on the training corpus.

        Raises:
            AffectusError: the file is damaged, or belongs to another run.
        """
        path = self.folder / "scaling.safetensors"
        arrays = read_arrays(path)
        for name, dim in self.file.inputs.items():
            for key in (f"{name}.shift", f"{name}.factor"):
                if key not in arrays or arrays[key].shape != (dim,):
                    raise AffectusError(
                        "The scaling does not fit the run's modalities",
                        where=path,
                        got=f"{key} {list(arrays[key].shape)}" if key in arrays else f"no {key}",
                        expected=f"{key} [{dim}]",
                        remedy="Put the run's own file back, or train the run again",
                    )
        return Scaler.from_arrays(arrays)

    @cached_property
    def text(self) -> RunText | None:
        """The text encoder, as it was before training; None if the text comes as vectors.

        Raises:
            AffectusError: the encoder is not to be found under its name, or is another one by now.
        """
        if self.file.text is None:
            return None
        return reopen_text(self.config.training, self.file.text, self.folder)

    def seed_folder(self, seed: int) -> Path:
        """Return the folder of a seed."""
        return self.folder / f"seed-{seed}"

    def model(self, seed: int, *, epoch: Path | None = None) -> AnyModel:
        """Return a seed's selected model, or that of a kept epoch (one of :meth:`epochs`).

        Raises:
            AffectusError: the weights are absent, damaged, or not those that the seed's training wrote.
        """
        path = epoch or self.seed_folder(seed) / "model.safetensors"
        if self.config.training.select != PER_TASK or path.is_file():
            return self._loaded(seed, path)
        files = {task.name: path.with_name(f"model.{task.name}.safetensors") for task in self.tasks}
        models = {name: self._loaded(seed, file) for name, file in files.items()}
        return PerTask({name: model for name, model in models.items() if isinstance(model, Model)})

    def _loaded(self, seed: int, path: Path) -> AnyModel:
        model = build_model(self.file, self.text)
        load_weights(model, path)
        self.check_own(seed, path)
        return model

    def check_own(self, seed: int, path: Path) -> None:
        """Check that a file is the one that a seed's training wrote, by the hash in its result, if that tells.

        Raises:
            AffectusError: it is another one, for instance of another run.
        """
        result = self.seed_folder(seed) / RESULT
        known = read_json(result) if result.is_file() else None
        hashes = known.get(FILES) if isinstance(known, dict) else None
        if not isinstance(hashes, dict):
            return  # of a run that was trained before hashes were kept
        name = f"{KEPT}/{path.name}" if path.parent.name == KEPT else path.name
        expected, got = hashes.get(name), sha256(path)
        if got != expected:
            raise AffectusError(
                "The file is not the one that the training of this seed wrote",
                where=path,
                got=f"SHA-256 {got[:16]}...",
                expected=f"{str(expected)[:16]}..., as {RESULT} says" if expected else f"none, as {RESULT} says",
                remedy="Put the run's own file back, or delete the seed's folder and train it again",
            )

    def majority(self) -> AnyModel:
        """Return the majority baseline, fitted on the training corpus."""
        model = MODELS["majority"].create(self.file.inputs, self.tasks)
        load_weights(model, self.folder / "majority.safetensors")
        return model

    def epochs(self, seed: int) -> list[Path]:
        """Return the weights of every epoch of a seed, if they were kept."""
        return sorted((self.seed_folder(seed) / KEPT).glob("*.safetensors"))

    def recorded(self, seed: int, split: str) -> list[Predictions]:
        """Return what each epoch of a seed said of a split of the training corpus; empty if that was not recorded.

        Raises:
            AffectusError: the file is damaged, or belongs to another run.
        """
        path = self.seed_folder(seed) / EPOCHS
        arrays = read_arrays(path) if path.is_file() else {}
        mine = {name.removeprefix(f"{split}."): v for name, v in arrays.items() if name.startswith(f"{split}.")}
        shared = {name: values for name, values in mine.items() if not name[0].isdigit()}
        epochs = sorted({name.split(".")[0] for name in mine if name[0].isdigit()})
        said = [
            self._rebuilt(shared | {n.partition(".")[2]: v for n, v in mine.items() if n.startswith(f"{epoch}.")}, path)
            for epoch in epochs
        ]
        if arrays:
            self.check_own(seed, path)
        return said

    def valid_predictions(self, seed: int) -> Predictions | None:
        """Return what the seed's model said of the training corpus's valid split; None if there was none.

        Raises:
            AffectusError: there was one, but the file is gone; it is damaged, or belongs to another run.
        """
        path = self.seed_folder(seed) / VALID
        if path.is_file():
            said = self._rebuilt(read_arrays(path), path)
            self.check_own(seed, path)
            return said
        if self._judged_valid(seed):
            raise AffectusError(
                "The run is damaged: it has lost its predictions on valid",
                where=path,
                remedy=f"Thresholds are chosen on them; delete {path.parent} and run the same `affectus train` again",
            )
        return None

    def _judged_valid(self, seed: int) -> bool:
        """Whether a seed was judged on valid in its training: its result says so, or its history."""
        result, history = self.seed_folder(seed) / RESULT, self.seed_folder(seed) / HISTORY
        if result.is_file():
            known = read_json(result)
            if isinstance(known, dict) and "valid" in known:
                return True
        return history.is_file() and '"valid.loss"' in history.read_text(encoding="utf-8")

    def _rebuilt(self, arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> Predictions:
        """Rebuild predictions of the run's tasks from the arrays of a file."""
        count = arrays["rows"].shape[0] if "rows" in arrays and arrays["rows"].ndim == 1 else 0
        expected: dict[str, tuple[int, ...]] = {"rows": (count,)}
        for task in self.tasks:
            wide = task.kind in (LabelKind.REAL, LabelKind.MULTI_LABEL)
            expected[f"probabilities.{task.name}"] = (count, task.outputs)
            expected[f"targets.{task.name}"] = (count, task.outputs if wide else 1)
        got = {name: values.shape for name, values in arrays.items()}
        if got != expected:
            names = sorted(name for name in {*got, *expected} if got.get(name) != expected.get(name))
            raise AffectusError(
                "The predictions do not fit the run's tasks",
                where=path,
                got=", ".join(f"{name} {list(got[name])}" if name in got else f"no {name}" for name in names),
                expected=", ".join(f"{name} {list(expected[name])}" for name in names if name in expected) or None,
                remedy="Put the run's own file back, or train the run again",
            )
        return Predictions.from_arrays(arrays)

    def predict(self, model: AnyModel, corpus: Corpus, split: str | None, *, attention: bool = False) -> Predictions:
        """Run one of the run's models over a corpus.

        It needs no labels: the targets are what the corpus has, and :meth:`check_labels` says whether they fit.

        Raises:
            AffectusError: the corpus lacks a modality, or has another width than in training.
        """
        return predict_batches(model, self.tasks, self.batches(corpus, split), attention=attention)

    def batches(self, corpus: Corpus, split: str | None) -> Loader:
        """Return a split of a corpus as the run's models see it.

        Raises:
            AffectusError: the corpus lacks a modality, or has another width than in training.
        """
        self.check_corpus(corpus)
        if self.text is not None:
            corpus = self._encoded(corpus, split)
        return make_loader(self.config, corpus, split, self.scaler)

    def _encoded(self, corpus: Corpus, split: str | None) -> Corpus:
        """Return the corpus with its text as the models read it; several models read the same."""
        assert self.text is not None
        identity, training = self.text.identity, self.config.training
        key = (
            *(identity.weights, identity.vocabulary, split, self.config.view, self.config.modalities),
            *(training.text_layers, training.text_max_tokens),
        )
        known = _ENCODED.setdefault(corpus, {})
        if key not in known:
            known.clear()  # one split at a time: what is kept must not grow with what is asked
            known[key] = self.text.encode(corpus, self.config, corpus.rows(split))
        return known[key]

    def as_source(self, scaling: InitScaling = InitScaling.SOURCE) -> Source:
        """Return the run as one from which another starts.

        Args:
            scaling: whose statistics scale the features that both have.

        Raises:
            AffectusError: no seed is trained to its end, the model is not trained by gradient, or weights are not those
                that the run's training wrote.
        """
        if not issubclass(MODELS[self.config.model].build, Model):
            raise AffectusError(
                f"The run's model {self.config.model!r} is not trained by gradient, so it has no weights to start from",
                where=self.folder,
            )
        for seed in self.seeds:
            for path in sorted(self.seed_folder(seed).glob("model*.safetensors")):
                self.check_own(seed, path)
        return Source(
            folder=self.folder,
            model=self.config.model,
            corpus=self.file.corpus.name,
            corpus_sha256=self.file.corpus.sha256,
            seeds=self.seeds,
            tasks=tuple(task.name for task in self.tasks),
            per_task=self.config.training.select == PER_TASK,
            scaler=self.scaler,
            text=None if self.file.text is None else self.file.text.weights,
            scaling=scaling,
        )

    def check_corpus(self, corpus: Corpus) -> None:
        """Check that a corpus has what the run's models read.

        Raises:
            AffectusError: names what does not fit.
        """
        for name, dim in self.file.inputs.items():
            if name == TEXT and self.file.text is not None:
                continue  # made from transcripts; whether there are any is seen then
            if name not in corpus.modalities:
                raise AffectusError(
                    f"The corpus {corpus.name!r} lacks the modality {name!r}, on which the run was trained",
                    got=", ".join(corpus.modalities) or "no features",
                    expected=", ".join(self.file.inputs),
                    remedy="Train with --modalities that both corpora have",
                )
            if corpus.dims[name] != dim:
                raise AffectusError(
                    f"The modality {name!r} of the corpus {corpus.name!r} has another width than in training",
                    got=corpus.dims[name],
                    expected=str(dim),
                    remedy="Extract its features as for the training corpus",
                )

    def check_labels(self, corpus: Corpus) -> None:
        """Check that a corpus has the labels that the run learned, so that the run can be judged by them.

        Raises:
            AffectusError: names the label scheme that the corpus lacks, or has with other columns or classes, or in
                another range.
        """
        for task in self.tasks:
            scheme = corpus.schemes.get(task.scheme)
            if scheme is None:
                raise AffectusError(
                    f"The corpus {corpus.name!r} has no labels for the run's task {task.name!r}",
                    expected=f"the label scheme {task.scheme!r}",
                )
            there = available_tasks({scheme.name: scheme}).get(task.name)
            if there is None or (there.kind, there.values) != (task.kind, task.values):
                raise AffectusError(
                    f"The labels {scheme.name!r} of the corpus {corpus.name!r} are not those that the run learned",
                    got=_listed(scheme.kind, scheme.columns) if there is None else _listed(there.kind, there.values),
                    expected=_listed(task.kind, task.values),
                    remedy="Import the same columns or classes in the same order, or train on this corpus",
                )
            if (there.low, there.high) != (task.low, task.high):
                raise AffectusError(
                    f"The labels {scheme.name!r} of the corpus {corpus.name!r} have another range than those that the "
                    "run learned, and affectus does not carry labels across ranges",
                    got=_range(there),
                    expected=_range(task),
                    remedy="Judge the run on a corpus with its own range, or train on this corpus",
                )


def _listed(kind: LabelKind, values: tuple[str, ...]) -> str:
    return f"{', '.join(values)} ({kind.replace('_', ' ')})"


def _range(task: Task) -> str:
    return "unknown" if task.low is None or task.high is None else f"{task.low:g} to {task.high:g}"


def load_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        AffectusError: it is no run folder, or its ``run.json`` is damaged.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        raise AffectusError(
            "The folder holds no run (no run.json)" if folder.is_dir() else "There is no run folder",
            where=folder,
            remedy="Make one with: affectus train MODEL CORPUS --out RUN",
        )
    return Run(folder, read_run_file(path))
