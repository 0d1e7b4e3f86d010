"""Training a run: every seed, resumable, into a run folder.

A run folder holds ``run.json`` (configuration, versions, data hash: enough to repeat it), ``scaling.safetensors``,
``majority.safetensors`` and one folder per seed with ``model.safetensors`` (``model.<task>.safetensors`` for each task
where each has its own epoch), ``history.jsonl``, ``valid.safetensors``
(predictions on valid, from which thresholds are chosen), ``epochs.safetensors`` (each epoch's predictions for valid and
test, for oracle protocols alone) and ``result.json`` (with the hashes of the seed's other files). With a text encoder
there is ``text``, its form without weights.
"""

import contextlib
import importlib.metadata
import json
import logging
import multiprocessing
import operator
import platform
import queue
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays

import affectus
from affectus.allocation import keeping_freed_memory
from affectus.batches import Batch, Loader, Scaler, choose_modalities, fit_scaler
from affectus.corpus import Corpus, load_corpus
from affectus.errors import AffectusError, unknown_name
from affectus.features.tokens import Progress
from affectus.files import atomic_path, lock_folder, read_json, sha256, sweep, write_json, write_text
from affectus.models import MODELS, Estimator, Model, ModelEntry
from affectus.models.base import AnyModel
from affectus.models.storage import load_weights, save_weights
from affectus.nn import kernels
from affectus.objectives import Task, TaskKind, choose_tasks
from affectus.threads import end_with_parent, start_process, torch_threads
from affectus.training.ahead import ahead
from affectus.training.compiling import check_compile, compiled
from affectus.training.config import (
    LOSSES,
    PER_TASK,
    Compile,
    Precision,
    RunConfig,
    TrainingSettings,
    check_of_networks,
    choose_view,
    resolve_settings,
)
from affectus.training.device import choose_device
from affectus.training.inference import EpochScorer, PerTask, predict_batches
from affectus.training.mixed import check_precision
from affectus.training.optional import without_unused
from affectus.training.seen import write_seen
from affectus.training.team import Team, check_together
from affectus.training.text import STATES, RunText, TextIdentity, open_text
from affectus.training.transfer import (
    InitRecord,
    Source,
    describe,
    far_apart,
    join_scaling,
    record_start,
    transfer_weights,
    whose_scaling,
)
from affectus.training.unlabelled import Unlabelled, check_unlabelled, unlabelled_split
from affectus.vocabulary import TEXT, Split, View

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

BEST = "best"
"""The weights of the best epoch so far; those of a task by itself bear its name behind it."""
RESULT, CHECKPOINT = "result.json", "resume.ckpt"
"""The first says that a seed is trained to its end; the second is there until then."""
VALID, HISTORY = "valid.safetensors", "history.jsonl"
"""What a seed said of valid, if there was such a split, and the figures of its epochs."""
RECORDED, EPOCHS = "recorded", "epochs.safetensors"
"""Each epoch's predictions while a seed is trained, and all of them when it has ended."""
KEPT = "epochs"
"""Each epoch's weights, if they are kept."""
FILES = "files"
"""The key of a seed's result under which the hashes of its other files stand."""
PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "polars", "safetensors")


class CorpusIdentity(BaseModel):
    """Which corpus a run was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str | None
    """Hash of the card, which holds those of all files, or of the content of a corpus in memory; None if not told."""


class RunFile(BaseModel):
    """``run.json``."""

    model_config = ConfigDict(extra="forbid")

    affectus: str
    config: RunConfig
    inputs: dict[str, int]
    tasks: list[Task] = Field(min_length=1)
    """The tasks as resolved from the corpus's label schemes."""
    corpus: CorpusIdentity
    text: TextIdentity | None = None
    """The text encoder, if there is one."""
    init: InitRecord | None = None
    """What the weights started from, if not from chance."""
    unlabelled: CorpusIdentity | None = None
    """The corpus whose utterances were learned from without labels."""
    versions: dict[str, str]


@dataclass(frozen=True)
class SeedEvent:
    """Progress of one seed: an epoch that ended.

    Attributes:
        seed: which seed.
        stage: of the model's training.
        epoch: from 0.
        epochs: at most so many in this stage.
        figures: losses on train and valid, metrics on valid.
    """

    seed: int
    stage: str
    epoch: int
    epochs: int
    figures: dict[str, float]


Reporter = Callable[[SeedEvent], None]


def build_config(
    model: str,
    corpus: Corpus,
    *,
    tasks: Sequence[str],
    modalities: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 1,
    preset: str | None = None,
    view: View | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Resolve and check everything that a run needs, before anything is written.

    Args:
        model: a registered model.
        corpus: to train on.
        tasks: names, each perhaps with ``:weight``.
        modalities: which to use; None for all that the corpus has.
        seeds: the seeds, or how many (0, 1, ...).
        preset: one of the model's presets.
        view: None for the model's first.
        options: of the model.
        training: settings (:class:`TrainingSettings`).

    Raises:
        AffectusError: anything that does not fit.
    """
    tasks = _listed(tasks)
    entry = MODELS[model]
    all_options, settings = resolve_settings(entry, preset=preset, options=options, training=training)
    check_of_networks(entry, training or ())
    choose_tasks(tasks, corpus.schemes)
    listed = listed_seeds(seeds)
    if issubclass(entry.build, Estimator):
        listed = listed[:1]  # a closed-form fit: further seeds would repeat it
    _check_text(entry, settings)
    return RunConfig(
        model=model,
        preset=preset,
        view=choose_view(entry, view),
        tasks=tasks,
        modalities=choose_modalities(
            corpus, None if modalities is None else _listed(modalities), encoded=settings.text_encoder is not None
        ),
        seeds=listed,
        options=all_options,
        training=settings,
    )


def _listed(names: Iterable[str]) -> tuple[str, ...]:
    """Return names; those of one text stand between commas, as on the command line."""
    return tuple(part.strip() for part in names.split(",") if part.strip()) if isinstance(names, str) else tuple(names)


def listed_seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """Return the seeds, of which the number may be given.

    Raises:
        AffectusError: there is none, one is negative or no whole number, or two are the same.
    """
    listed: tuple[int, ...] = ()
    with contextlib.suppress(TypeError):  # texts, and numbers that are not whole
        try:
            listed = tuple(range(operator.index(seeds)))  # type: ignore[arg-type]
        except TypeError:
            listed = tuple(operator.index(seed) for seed in seeds)  # type: ignore[union-attr]
    if not listed or len(set(listed)) != len(listed) or min(listed) < 0:
        raise AffectusError(
            "The seeds are not right", got=repr(seeds), expected="different whole numbers from 0, at least one"
        )
    return listed


def _check_learning_without_labels(config: RunConfig, model: AnyModel) -> None:
    if not isinstance(model, Model):
        raise AffectusError(
            f"The model {config.model!r} is not trained by gradient, so it cannot learn from utterances without labels",
            remedy="Leave --unlabelled out, or choose another model",
        )


def _check_mixed(config: RunConfig, model: AnyModel) -> None:
    if not isinstance(model, Model):
        raise AffectusError(
            f"The model {config.model!r} is not trained by gradient, so no product of it can be in bfloat16",
            remedy="Leave precision out, or choose another model",
        )


def _check_compiled(config: RunConfig, model: AnyModel, device: torch.device, workers: int, stacked: bool) -> None:
    if not isinstance(model, Model):
        raise AffectusError(
            f"The model {config.model!r} is not trained by gradient, so there is no network to compile",
            remedy="Leave compile out, or choose another model",
        )
    check_compile(config, device, workers=workers, stacked=stacked)


def _check_stacked(config: RunConfig, model: AnyModel, source: Source | None, unlabelled: Corpus | None) -> None:
    from affectus.training.stacking import why_apart

    reason = "it is not trained by gradient"
    if source is not None or unlabelled is not None:
        reason = "it starts from another run" if source is not None else "it learns from utterances without labels"
    elif isinstance(model, Model):
        found = why_apart(model, config.training)
        if found is None:
            return
        reason = found
    raise AffectusError(
        f"The seeds of the model {config.model!r} cannot be trained as one",
        got=reason,
        remedy="Leave --stacked out; --jobs trains seeds side by side",
    )


def _check_text(entry: ModelEntry, settings: TrainingSettings) -> None:
    if settings.text_layers and settings.text_encoder is None:
        raise AffectusError(
            "The setting 'text_layers' needs a text encoder", remedy="Give one, for instance --text-encoder minilm"
        )
    if settings.text_layers and issubclass(entry.build, Estimator):
        raise AffectusError(
            f"The model {entry.name!r} is not trained by gradient, so no text encoder can be trained with it",
            got=f"text_layers={settings.text_layers}",
            remedy="Set text_layers=0, or choose another model",
        )


def train_run(
    config: RunConfig,
    corpus: Corpus,
    out: str | Path,
    *,
    identity: str | None = None,
    scorer: EpochScorer | None = None,
    report: Reporter | None = None,
    jobs: int = 1,
    corpus_folder: str | Path | None = None,
    threads: int = 1,
    device: str = "auto",
    encoding: Progress | None = None,
    source: Source | None = None,
    unlabelled: Corpus | None = None,
    unlabelled_identity: str | None = None,
    tell: Callable[[str], None] | None = None,
    stacked: bool = False,
    team: Team | None = None,
) -> Path:
    """Train every seed that is not yet trained in ``out`` and return the run folder.

    Args:
        config: from :func:`build_config`.
        corpus: to train on.
        out: the run folder; one that holds the same run is resumed.
        identity: the corpus's hash; without it only its name tells the corpus of an earlier run from this one.
        scorer: scores valid after each epoch; needed to select by a metric.
        report: told of each epoch.
        jobs: train so many seeds at once, in as many processes, of which this is one; needs ``corpus_folder``.
        corpus_folder: where processes find the corpus.
        threads: of torch, for each process. The models' products are small: on two busy cores, two threads were many
            times slower than one, waiting for each other.
        device: ``auto``, ``cpu`` or ``cuda``.
        encoding: told how many texts the frozen layers of a text encoder have read, and how many there are.
        source: a run whose weights and scaling this one starts from.
        unlabelled: learned from without its labels; with it the seeds are trained one after another.
        unlabelled_identity: its hash.
        tell: told in lines what was taken from the source.
        stacked: train the seeds as one model whose weights have an axis more, see :mod:`affectus.training.stacking`.
        team: the workers that train each seed together, of which this process is one.

    Raises:
        AffectusError: the folder holds another run, or is in use; the training diverged; the source or the unlabelled
            corpus does not fit; there is no GPU, or it has no bfloat16.
    """
    out = Path(out)
    corpus.rows(Split.TRAIN)
    check_precision(config.training.precision, choose_device(device))
    tasks = choose_tasks(config.tasks, corpus.schemes)
    tasks = _with_losses(tasks, corpus, config.training)
    _check_select(config.training.select, tasks, corpus, scorer)
    text = open_text(config.training, device) if config.training.text_encoder is not None else None
    dims = dict(corpus.dims)
    if text is not None:
        text.tokenize(corpus, config)  # a corpus without transcripts is found before anything is written
        dims[TEXT] = text.encoder.dim
    inputs = {name: dims[name] for name in config.modalities}
    # built once and thrown away: an option that a model refuses is found before anything is written
    built = MODELS[config.model].create(inputs, tasks, config.options)
    if team is not None:
        check_together(config, team.workers, unlabelled=unlabelled is not None)
    if unlabelled is not None:
        _check_learning_without_labels(config, built)
        check_unlabelled(unlabelled, inputs, encoded=text is not None)
        if text is not None:
            text.tokenize(unlabelled, config)
    if config.training.precision is not Precision.FP32:
        _check_mixed(config, built)
    if config.training.compile is not Compile.OFF:
        _check_compiled(config, built, choose_device(device), 1 if team is None else team.workers, stacked)
    if stacked:
        _check_stacked(config, built if text is None else text.before(built), source, unlabelled)
    init = None
    if source is not None:
        whose = whose_scaling(source, inputs, None if text is None else text.identity.weights)
        init = record_start(source, config.model, built if text is None else text.before(built), config.seeds, whose)
        if tell is not None:
            for line in describe(init):
                tell(line)
    file = RunFile(
        affectus=affectus.__version__,
        config=config,
        inputs=inputs,
        tasks=list(tasks),
        corpus=CorpusIdentity(name=corpus.name, sha256=identity),
        text=None if text is None else text.identity,
        init=init,
        unlabelled=None if unlabelled is None else CorpusIdentity(name=unlabelled.name, sha256=unlabelled_identity),
        versions=_versions(text),
    )
    with torch_threads(threads), lock_folder(out), keeping_freed_memory():
        _open_run(out, file)
        pending = []
        for seed in config.seeds:
            if (out / f"seed-{seed}" / RESULT).is_file():
                _tidy(out / f"seed-{seed}")  # in case it was killed just then
            else:
                pending.append(seed)
        if not pending and (out / "majority.safetensors").is_file():
            (out / STATES).unlink(missing_ok=True)
            return out
        jobs = min(jobs, len(pending)) or 1
        apart = jobs > 1 and corpus_folder is not None and unlabelled is None
        if text is not None:
            text.save(out)
            (out / STATES).unlink(missing_ok=True)
            rows = _rows_to_encode(corpus, config.training)
            corpus = text.encode(corpus, config, rows, store=out / STATES, share=apart, progress=encoding)
            scaler = text.fit_scaler(corpus, config)
        else:
            scaler = fit_scaler(corpus, config.view, config.modalities, config.training.scale)
        if source is not None and init is not None:
            for name, distance in far_apart(scaler, source.scaler, init.scaling).items():
                if tell is None:
                    break
                tell(
                    f"The features of {name} look otherwise than in the source ({distance:.0f} deviations away in the "
                    "median); if another extractor made them, --init-scaling own scales them by themselves"
                )
            scaler = join_scaling(scaler, source.scaler, init.scaling)
        if unlabelled is not None and text is not None:
            rows = unlabelled.rows(unlabelled_split(unlabelled))
            unlabelled = text.encode(unlabelled, config, rows, progress=encoding)
        with atomic_path(out / "scaling.safetensors") as temporary:
            save_arrays(scaler.arrays(), temporary)
        fit_majority(corpus, config, tasks, out / "majority.safetensors")
        write_seen(out, corpus, None if source is None else source.folder)
        order = _Order(file, scaler, out, scorer, device, threads, source)
        if stacked and len(pending) > 1:
            _fit_stacked(order, corpus, pending, report)
        elif apart:
            assert corpus_folder is not None
            _fit_in_processes(order, corpus, text, pending, report, corpus_folder, jobs)
        else:
            for seed in pending:
                _fit_seed(order, corpus, text, seed, report, unlabelled, team)
        (out / STATES).unlink(missing_ok=True)
    return out


def _versions(text: RunText | None) -> dict[str, str]:
    packages = (*PACKAGES, "transformers") if text is not None else PACKAGES
    found = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    return found | {"kernels": kernels.in_use()}


def _rows_to_encode(corpus: Corpus, settings: TrainingSettings) -> npt.NDArray[np.int64]:
    """Return the rows whose text training reads: test's only where its predictions are recorded."""
    unread = (corpus.splits == Split.TEST) & (not settings.record_epochs)
    return np.flatnonzero(~unread)


def _check_select(select: str, tasks: Sequence[Task], corpus: Corpus, scorer: EpochScorer | None) -> None:
    """Check the name of the quantity to select by before anything is written, by scoring a constant prediction."""
    labelled = labelled_tasks(corpus, Split.VALID, tasks)
    if select in LOSSES or not labelled:
        return
    labels = {name: torch.from_numpy(corpus.label(name)[corpus.rows(Split.VALID)]) for name in corpus.schemes}
    targets = {task.name: task.target(labels).numpy() for task in tasks}
    constant = {task.name: np.zeros((len(targets[task.name]), task.outputs), np.float32) for task in tasks}
    known = [*LOSSES, *(scorer(tasks, constant, targets) if scorer else ())]
    if select not in known:
        raise unknown_name("quantity to select by", select, known)
    if scorer is not None and select not in scorer(labelled, constant, targets):
        raise AffectusError(
            f"The valid split has no label for the quantity to select by, {select!r}",
            where=f"the corpus {corpus.name!r}",
            remedy="Select by the loss, or by a metric of: " + ", ".join(task.name for task in labelled),
        )


def labelled_tasks(corpus: Corpus, split: str, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks that an utterance of a split has a label of; none where the corpus has no such utterance."""
    rows = np.flatnonzero(corpus.splits == split)
    return tuple(
        task
        for task in tasks
        if not task.target({task.scheme: torch.from_numpy(corpus.label(task.scheme)[rows])}).isnan().all()
    )


@dataclass(frozen=True)
class _Order:
    """What every seed of a run is trained by; another process can be given it.

    Attributes:
        file: what the run is.
        scaler: of its features.
        out: its folder.
        scorer: judges predictions on valid.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of torch.
        source: where weights come from, if not from a seed.
    """

    file: RunFile
    scaler: Scaler
    out: Path
    scorer: EpochScorer | None
    device: str
    threads: int
    source: Source | None

    @property
    def config(self) -> RunConfig:
        return self.file.config

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(self.file.tasks)

    def folder(self, seed: int) -> Path:
        return self.out / f"seed-{seed}"

    def loader(self, corpus: Corpus, split: Split) -> Loader | None:
        """Return the loader of a split as it stands; None where no utterance of it has a label of a task."""
        told = labelled_tasks(corpus, split, self.tasks)
        return make_loader(self.config, corpus, split, self.scaler) if told else None


def _fit_in_processes(
    order: _Order,
    corpus: Corpus,
    text: RunText | None,
    seeds: Sequence[int],
    report: Reporter | None,
    corpus_folder: str | Path,
    jobs: int,
) -> None:
    """Train seeds side by side: in this process, which has all it needs, and in others as they are ready."""
    # spawn, since a forked process inherits the threads' locks of torch
    context = multiprocessing.get_context("spawn")
    events: multiprocessing.Queue[SeedEvent | _SeedEnd] = context.Queue()
    turn = context.Value("i", 0)
    ended: list[_SeedEnd] = []

    def hear(seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                event = events.get(timeout=seconds) if seconds else events.get_nowait()
                if isinstance(event, _SeedEnd):
                    ended.append(event)
                elif report:
                    report(event)

    def tell(event: SeedEvent) -> None:
        if report:
            report(event)
        hear(0.0)

    given = (events, turn, tuple(seeds), order, corpus_folder)
    helpers = [context.Process(target=_help_fit, args=given, daemon=True) for _ in range(jobs - 1)]
    try:
        for helper in helpers:
            start_process(helper)
        _in_turn(turn, seeds, lambda seed: _fit_seed(order, corpus, text, seed, tell), ended.append)
        while len(ended) < len(seeds):
            codes = [helper.exitcode for helper in helpers if helper.exitcode]
            hear(0.1)
            if codes and len(ended) < len(seeds):
                raise AffectusError(
                    "A process that trained seeds has died",
                    got=f"exit code {codes[0]}",
                    remedy="Give the same command again: the run goes on from its last epoch",
                )
    finally:
        for helper in helpers:
            if helper.pid is not None:
                helper.kill()  # it has nothing to do any more, or only begins to
                helper.join()
    for end in sorted(ended, key=lambda end: end.seed):
        if end.error is not None:
            raise end.error


@dataclass(frozen=True)
class _SeedEnd:
    """A seed has been trained, or cannot be."""

    seed: int
    error: Exception | None = None


def _in_turn(
    turn: "Synchronized[int]", seeds: Sequence[int], fit: Callable[[int], None], tell: Callable[[_SeedEnd], None]
) -> None:
    """Train the seeds that no other process has taken; one that cannot be trained keeps no other back."""
    while True:
        with turn.get_lock():
            number = turn.value
            turn.value += 1
        if number >= len(seeds):
            return
        try:
            fit(seeds[number])
        except Exception as error:
            tell(_SeedEnd(seeds[number], error))
        else:
            tell(_SeedEnd(seeds[number]))


def _help_fit(
    events: Any,
    turn: "Synchronized[int]",
    seeds: Sequence[int],
    order: _Order,
    corpus_folder: str | Path,
) -> None:
    """In a process: train seeds as long as there are some."""
    end_with_parent()
    corpus = load_corpus(corpus_folder)
    config = order.config

    def tell(end: _SeedEnd) -> None:
        if end.error is not None and not isinstance(end.error, AffectusError):
            # what a third party raises need not bear the way to another process
            end = _SeedEnd(end.seed, RuntimeError("".join(traceback.format_exception(end.error))))
        events.put(end)

    with torch_threads(order.threads), keeping_freed_memory():
        text = None
        if order.file.text is not None:
            text = open_text(config.training, order.device, expected=order.file.text)
            rows = _rows_to_encode(corpus, config.training)
            corpus = text.encode(corpus, config, rows, store=order.out / STATES)
        _in_turn(turn, seeds, lambda seed: _fit_seed(order, corpus, text, seed, events.put), tell)


def _fit_seed(
    order: _Order,
    corpus: Corpus,
    text: RunText | None,
    seed: int,
    report: Reporter | None,
    unlabelled: Corpus | None = None,
    team: Team | None = None,
) -> None:
    started = time.monotonic()
    config, tasks, scaler, folder = order.config, order.tasks, order.scaler, order.folder(seed)
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.training
    train = make_loader(config, corpus, Split.TRAIN, scaler, shuffle=True, seed=seed)
    if team is not None:
        train.share = (team.number, team.workers)
    valid = order.loader(corpus, Split.VALID)
    inputs = {name: corpus.dims[name] for name in config.modalities}
    torch.manual_seed(seed)
    model = _create(config, inputs, tasks, text, scaler)
    if order.source is not None and isinstance(model, Model):
        transfer_weights(model, order.source.weights(seed, [task.name for task in tasks]))
    unread = None
    if unlabelled is not None:
        unread = make_loader(config, unlabelled, unlabelled_split(unlabelled), scaler, shuffle=True, seed=seed)
    result: dict[str, Any] = {"seed": seed}
    history: list[dict[str, Any]] = []
    if isinstance(model, Estimator):
        model.fit(make_loader(config, corpus, Split.TRAIN, scaler))
    else:
        records = settings.record_epochs and (team is None or team.number == 0)
        record = _recorder(config, corpus, scaler, model, folder / RECORDED) if records else None
        history, best = _fit_stages(
            *(model, settings, train, valid, seed, folder, order.scorer, report, record, order.device, unread),
            told={task.name for task in labelled_tasks(corpus, Split.VALID, tasks)},
            team=team,
        )
        result |= {"parameters": model.parameter_count()}
        result |= {"best_epoch": best[BEST]} if BEST in best else {"best_epochs": best}
    if "best_epochs" in result:
        model = _best_of_each_task(config, inputs, tasks, folder, text)
    else:
        save_weights(model, folder / "model.safetensors")
    _finish_seed(model, tasks, valid, folder, order.scorer, result, history, started)


def _finish_seed(
    model: AnyModel,
    tasks: Sequence[Task],
    valid: Loader | None,
    folder: Path,
    scorer: EpochScorer | None,
    result: dict[str, Any],
    history: Sequence[dict[str, Any]],
    started: float,
) -> None:
    """Write what a trained seed leaves beside its weights, and clear what training left."""
    if valid is not None:
        predictions = predict_batches(model, tasks, valid)
        with atomic_path(folder / VALID) as temporary:
            save_arrays(predictions.arrays(), temporary)
        # written without figures too: it tells a reader that there was a valid split
        result["valid"] = {} if scorer is None else scorer(tasks, predictions.probabilities, predictions.targets)
    _join_records(folder)
    write_text(folder / HISTORY, history_text(history))
    result["seconds"] = round(sum(row["seconds"] for row in history) or time.monotonic() - started, 3)
    result[FILES] = {path.relative_to(folder).as_posix(): sha256(path) for path in _written(folder)}
    write_json(folder / RESULT, result)
    _tidy(folder)


def _written(folder: Path) -> list[Path]:
    """Return what the training of a seed leaves beside its result."""
    single = (path for path in (folder / VALID, folder / HISTORY, folder / EPOCHS) if path.is_file())
    return [*sorted(folder.glob("model*.safetensors")), *single, *sorted((folder / KEPT).glob("*.safetensors"))]


def _tidy(folder: Path) -> None:
    """Remove what only an unfinished seed needs."""
    sweep(folder)
    for path in (folder / CHECKPOINT, *folder.glob(f"{BEST}*.safetensors"), folder / "stages", folder / RECORDED):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _fit_stacked(order: _Order, corpus: Corpus, seeds: Sequence[int], report: Reporter | None) -> None:
    """Train several seeds as one model; each leaves what :func:`_fit_seed` leaves."""
    from affectus.training.callbacks import EpochEnd
    from affectus.training.stacking import StackedFit, recorder

    started, config, tasks, scorer = time.monotonic(), order.config, order.tasks, order.scorer
    settings = config.training
    inputs = {name: corpus.dims[name] for name in config.modalities}
    models, trains, ends = [], [], []
    valid = order.loader(corpus, Split.VALID)
    splits = [split for split in (Split.VALID, Split.TEST) if (corpus.splits == split).any()]
    epochs = settings.epochs
    for seed in seeds:
        folder = order.folder(seed)
        folder.mkdir(parents=True, exist_ok=True)
        # what a killed training by itself left, with which this one does not go on
        (folder / CHECKPOINT).unlink(missing_ok=True)
        shutil.rmtree(folder / RECORDED, ignore_errors=True)
        trains.append(make_loader(config, corpus, Split.TRAIN, order.scaler, shuffle=True, seed=seed))
        torch.manual_seed(seed)
        model = _create(config, inputs, tasks)
        assert isinstance(model, Model)
        models.append(model)
        epochs = model.stages()[0].epochs or settings.epochs
        end = EpochEnd(
            folder,
            folder / CHECKPOINT,
            select={BEST: f"valid.{settings.select}" if valid is not None and model.stages()[0].select else None},
            higher=settings.select not in LOSSES and scorer is not None and scorer.higher_is_better(settings.select),
            patience=settings.patience,
            keep_epochs=settings.keep_epochs,
            record=None,
            report=_reporter(report, seed, epochs),
        )
        ends.append(end)
    fit = StackedFit(models, settings, seeds, trains, valid, scorer, ends, choose_device(order.device))
    recorded: dict[str, Loader] = {}
    if settings.record_epochs:
        recorded = {split: make_loader(config, corpus, split, order.scaler) for split in splits}
        for i, seed in enumerate(seeds):
            ends[i].record = recorder(fit, i, splits, order.folder(seed) / RECORDED)
    fit.run(epochs, recorded)
    for seed, model, end in zip(seeds, models, ends, strict=True):
        folder = order.folder(seed)
        end.check_chosen()
        load_weights(model, folder / f"{BEST}.safetensors")
        model.to("cpu").stage = "done"
        save_weights(model, folder / "model.safetensors")
        result = {"seed": seed, "parameters": model.parameter_count(), "best_epoch": end.best_epochs[BEST]}
        _finish_seed(model, tasks, valid, folder, scorer, result, end.history, started)


def _of_tasks(tasks: Sequence[Task]) -> dict[str, str]:
    """Return the files of the tasks' own best weights so far, by the file and the task."""
    return {f"{BEST}.{task.name}": task.name for task in tasks}


def _create(
    config: RunConfig,
    inputs: Mapping[str, int],
    tasks: Sequence[Task],
    text: RunText | None = None,
    scaler: Scaler | None = None,
) -> AnyModel:
    """Build the run's model, untrained, with its text encoder before it if that is trained."""
    model = MODELS[config.model].create(inputs, tasks, config.options)
    return model if text is None else text.before(model, scaler)


def _best_of_each_task(
    config: RunConfig, inputs: Mapping[str, int], tasks: Sequence[Task], folder: Path, text: RunText | None
) -> PerTask:
    """Write each task's own best weights to their place, and return the model that has them all."""
    models: dict[str, Model] = {}
    for file, task in _of_tasks(tasks).items():
        model = _create(config, inputs, tasks, text)
        assert isinstance(model, Model)
        load_weights(model, folder / f"{file}.safetensors")
        model.stage = "done"
        save_weights(model, folder / f"model.{task}.safetensors")
        models[task] = model
    return PerTask(models)


def _fit_stages(
    model: Model,
    settings: TrainingSettings,
    train: Loader,
    valid: Loader | None,
    seed: int,
    folder: Path,
    scorer: EpochScorer | None,
    report: Reporter | None,
    record: Callable[[int], None] | None,
    device: str,
    unlabelled: Loader | None = None,
    *,
    told: Collection[str],
    team: Team | None = None,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    # Lightning takes seconds to import, and only training needs it
    with without_unused():
        from lightning.pytorch import Callback, Trainer

    from affectus.training.averaging import AverageWeights
    from affectus.training.callbacks import CHECKPOINT_SECONDS, EpochEnd, WholeCheckpoints
    from affectus.training.module import FitModule
    from affectus.training.passes import Passes

    history: list[dict[str, Any]] = []
    stages = model.stages()
    best: dict[str, int] = {}
    for number, stage in enumerate(stages):
        model.stage = stage.name
        done, past = folder / "stages" / f"{number}.safetensors", folder / "stages" / f"{number}.json"
        if past.is_file():
            load_weights(model, done)
            history, best = read_json(past)
            continue
        epochs = stage.epochs or settings.epochs
        last = number == len(stages) - 1
        # each stage has its own, so that none goes on from what another has left
        checkpoint = folder / CHECKPOINT if last else done.with_suffix(".ckpt")
        select: dict[str, str | None] = {BEST: None}
        if valid is not None and stage.select:
            # a part that is trained before the rest has no metric of its own yet
            select = {BEST: f"valid.{settings.select if last else 'loss'}"}
            if last and settings.select == PER_TASK:
                # a task that valid has no label of goes by the others
                own = {file: f".{task}" if task in told else "" for file, task in _of_tasks(model.tasks).items()}
                select = {file: f"valid.loss{part}" for file, part in own.items()}
        by_loss = settings.select in LOSSES or not last
        higher = not by_loss and scorer is not None and scorer.higher_is_better(settings.select)
        end = EpochEnd(
            folder,
            checkpoint,
            select=select,
            higher=higher,
            patience=settings.patience,
            keep_epochs=settings.keep_epochs and last,
            record=record if last else None,
            report=_reporter(report, seed, epochs),
            # together, workers write a checkpoint or none does
            every=CHECKPOINT_SECONDS if team is None else 0.0,
        )
        callbacks: list[Callback] = [end]
        if settings.average_weights is not None:
            callbacks.append(AverageWeights(settings.average_weights))
        passes = Passes(train, [part.share for part in stage.passes])
        extra = Unlabelled(model, unlabelled, settings) if unlabelled is not None and last else None
        module = FitModule(model, stage, number, settings, seed, scorer if last else None, passes, extra, team)
        place: dict[str, Any] = {"devices": 1, "plugins": []} if team is None else team.trainer_options()
        place["plugins"] = [WholeCheckpoints(), *place["plugins"]]
        with _quiet():
            trainer = Trainer(
                accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
                **place,
                max_epochs=epochs,
                # the Trainer refuses to clip where the module steps by itself; that does it then
                gradient_clip_val=settings.clip if module.automatic_optimization else None,
                gradient_clip_algorithm=settings.clip_by,
                accumulate_grad_batches=settings.accumulate if module.automatic_optimization else 1,
                callbacks=callbacks,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                default_root_dir=folder,
            )
            resume = str(checkpoint) if checkpoint.is_file() else None
            where = choose_device(device)
            with (
                compiled(model, settings.compile, where) as module.network,
                ahead(passes, where.type) as given,
                ahead(valid, where.type) as judged,
            ):
                trainer.fit(module, given, judged, ckpt_path=resume, weights_only=True)
        # what only training needs is gone before weights are read again
        for optimizer in trainer.optimizers:
            optimizer.state.clear()
        model.zero_grad()
        best = {name.removeprefix(f"{BEST}."): epoch for name, epoch in end.best_epochs.items()}
        end.check_chosen()
        load_weights(model, folder / f"{next(iter(select))}.safetensors")
        history = [*history, *end.history]
        if not last:
            save_weights(model, done)
            write_json(past, [history, best])
            checkpoint.unlink(missing_ok=True)
    model.stage = "done"
    return history, best


def _recorder(config: RunConfig, corpus: Corpus, scaler: Scaler, model: Model, folder: Path) -> Callable[[int], None]:
    """Return what writes down an epoch's predictions for valid and test; nothing is chosen by them."""
    splits = [split for split in (Split.VALID, Split.TEST) if (corpus.splits == split).any()]
    loaders = {split: make_loader(config, corpus, split, scaler) for split in splits}

    def record(epoch: int) -> None:
        training = model.training
        arrays: dict[str, Any] = {}
        for split, loader in loaders.items():
            said = predict_batches(model, model.tasks, loader)
            arrays |= {f"{split}.{name}": values for name, values in said.arrays().items()}
        model.train(training)
        with atomic_path(folder / f"{epoch:04d}.safetensors") as temporary:
            save_arrays(arrays, temporary)

    return record


def _join_records(folder: Path) -> None:
    """Put the epochs' predictions into one file, targets and rows once."""
    parts = sorted((folder / RECORDED).glob("*.safetensors"))
    joined: dict[str, Any] = {}
    for part in parts:
        for name, values in load_arrays(part).items():
            split, _, rest = name.partition(".")
            shared = not rest.startswith("probabilities.")
            joined[f"{split}.{rest}" if shared else f"{split}.{part.stem}.{rest}"] = values
    if joined:
        with atomic_path(folder / EPOCHS) as temporary:
            save_arrays(joined, temporary)


def _reporter(report: Reporter | None, seed: int, epochs: int) -> Callable[[str, int, dict[str, float]], None] | None:
    if report is None:
        return None
    return lambda stage, epoch, figures: report(SeedEvent(seed, stage, epoch, epochs, figures))


def make_loader(
    config: RunConfig,
    corpus: Corpus,
    split: str | None,
    scaler: Scaler,
    *,
    shuffle: bool = False,
    seed: int = 0,
) -> Loader:
    """Return the batches of a split as the run's configuration wants them."""
    return Loader(
        corpus,
        split,
        config.view,
        config.modalities,
        scaler,
        batch_size=config.training.batch_size,
        shuffle=shuffle,
        seed=seed,
        buckets=config.training.buckets,
        pad_to=config.training.pad_to,
    )


def fit_majority(corpus: Corpus, config: RunConfig, tasks: Sequence[Task], path: Path) -> None:
    """Fit the majority baseline on train and store it beside the run, so that every evaluation can print its row."""
    majority = MODELS["majority"].create({name: corpus.dims[name] for name in config.modalities}, tasks)
    assert isinstance(majority, Estimator)
    rows = corpus.rows(Split.TRAIN)
    labels = {name: torch.from_numpy(corpus.label(name)[rows]) for name in corpus.schemes}
    # without features, which it does not look at
    everything = torch.ones(len(rows), dtype=torch.bool)
    majority.fit([Batch(config.view, {}, {}, everything, labels, torch.from_numpy(rows))])
    save_weights(majority, path)


def _with_losses(tasks: Sequence[Task], corpus: Corpus, settings: TrainingSettings) -> tuple[Task, ...]:
    rows = corpus.rows(Split.TRAIN)
    labels = {name: torch.from_numpy(corpus.label(name)[rows]) for name in corpus.schemes}
    chosen = [replace(task, loss=settings.real_loss) if task.kind is TaskKind.REAL else task for task in tasks]
    return tuple(task.balanced(task.target(labels)) if settings.balanced else task for task in chosen)


def read_run_file(path: Path) -> RunFile:
    """Read ``run.json``.

    Raises:
        AffectusError: it is absent or damaged.
    """
    try:
        return RunFile.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise AffectusError("run.json is not valid", where=f"{path}, key {key!r}", got=first["msg"]) from None


def _open_run(out: Path, file: RunFile) -> None:
    """Write run.json, or check that the folder holds this very run; only the seeds may be others."""
    path = out / "run.json"
    if not path.is_file():
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise AffectusError("The output folder holds something else than a run", where=out)
        write_json(path, file.model_dump(mode="json"))
        return
    old, new = _as_now(read_run_file(path)), json.loads(json.dumps(file.model_dump(mode="json")))
    seeds = sorted({*old["config"]["seeds"], *new["config"]["seeds"]})
    for key in ("config", "corpus", "text", "inputs", "tasks", "init", "unlabelled"):
        before, after = old[key], new[key]
        if key == "config":
            before, after = {**before, "seeds": []}, {**after, "seeds": []}
        if key == "init" and before and after:
            # other seeds may start from other weights, but the same seeds from the same
            weights = {**before["weights"], **after["weights"]}
            before = {**before, "weights": {**weights, **before["weights"]}}
            after = {**after, "weights": weights}
        if before != after:
            raise _another_run(out, key, before, after)
    old["config"]["seeds"] = seeds
    if old["init"]:
        old["init"]["weights"] = {**old["init"]["weights"], **new["init"]["weights"]}
    write_json(path, old)


def _another_run(out: Path, key: str, before: Any, after: Any) -> AffectusError:
    """Build the error for a run that differs from the folder's in a part of run.json."""
    how = "was trained on another corpus" if key == "corpus" else f"differs in {key!r}"
    if key in ("corpus", "unlabelled"):
        got, expected = _name_corpora(after, before)
    elif key == "init":
        got, expected = _name_start(after), _name_start(before)
    else:
        parts = isinstance(before, dict) and isinstance(after, dict)
        new, old = _differing(after, before, deep=key == "config") if parts else ({key: after}, {key: before})
        if "model" in new:
            new, old = {"model": new["model"]}, {"model": old["model"]}  # other models have other settings
        how = "differs in " + ", ".join(map(repr, new))
        got, expected = (", ".join(f"{name}={_shown(v)}" for name, v in each.items()) for each in (new, old))
    return AffectusError(
        f"The folder holds another run, which {how}",
        where=out,
        got=got,
        expected=expected,
        remedy="Choose another --out folder, or delete this one",
    )


def _differing(new: Mapping[str, Any], old: Mapping[str, Any], *, deep: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what differs, as it is in each; with ``deep`` the settings in a group by themselves."""
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for name in new:
        one, other = new[name], old.get(name)
        if one == other:
            continue
        if deep and isinstance(one, dict) and isinstance(other, dict):
            inner = _differing(one, other, deep=deep)
            ours |= inner[0]
            theirs |= inner[1]
        else:
            ours[name], theirs[name] = one, other
    return ours, theirs


def _shown(value: Any) -> str:
    """Return a value of run.json as the command line takes it, cut if it is long."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = ",".join(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _name_start(init: Mapping[str, Any] | None) -> str:
    """Return what a run's weights started from."""
    if init is None:
        return "chance"
    scaling = ", ".join(f"{name}={whose}" for name, whose in init["scaling"].items())
    return f"{', '.join(dict.fromkeys(init['weights'].values()))} (scaling {scaling})"


def _name_corpora(*identities: Mapping[str, Any] | None) -> list[str]:
    """Return the names of two corpora, with what tells them apart if they have one name."""
    names = [repr(one["name"]) if one else "none" for one in identities]
    if names[0] == names[1]:
        hashes = [one["sha256"] if one else None for one in identities]
        names = [f"{name}, {f'hash {of[:12]}' if of else 'in memory'}" for name, of in zip(names, hashes, strict=True)]
    return names


def _as_now(file: RunFile) -> dict[str, Any]:
    """Give the settings and options that came up after a run was begun the defaults that it had in effect."""
    dumped: dict[str, Any] = json.loads(json.dumps(file.model_dump(mode="json")))
    config = dumped["config"]
    known = {name: option.default for name, option in MODELS[config["model"]].options.items()}
    config["options"] = json.loads(json.dumps({**known, **config["options"]}))
    return dumped


def history_text(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the history as JSON lines, one per epoch."""
    return "".join(json.dumps(row) + "\n" for row in history)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about hardware and workers; our own progress speaks instead."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def build_model(file: RunFile, text: RunText | None = None) -> AnyModel:
    """Build the run's model, untrained; ``text`` is the run's text encoder, if it has one."""
    return _create(file.config, file.inputs, file.tasks, text)
