"""Searching a model's settings on valid (Optuna), by one process or several that share a study.

A study is a folder: ``study.json`` says what it is, ``study.db`` (SQLite) holds its trials, ``trials/<number>`` the run
of a trial while it is trained, and ``best.yaml`` the best settings so far, for ``affectus train --config``. The corpus
that trials see has no test split. A process that is killed leaves its trial behind; the next one goes on with it.
"""

import contextlib
import datetime
import errno
import math
import multiprocessing
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from affectus.api import train
from affectus.corpus import Corpus, load_corpus
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError, WriteError, unknown_name
from affectus.files import explain_os_error, lock_folder, read_json, sweep, write_text
from affectus.models import MODELS, ModelEntry
from affectus.models.space import Axis, Choice, Real, Whole, widened
from affectus.objectives import choose_tasks
from affectus.studies.benchmarking.judging import valid_figures
from affectus.studies.benchmarking.plan import choose_figure, main_task, usual_protocol
from affectus.studies.cells import STUDY_FILE, open_study
from affectus.threads import end_with_parent, start_process
from affectus.training import SeedEvent
from affectus.training.config import TrainingSettings, check_of_networks, is_gradient_model, resolve_settings
from affectus.training.run import build_config, labelled_tasks
from affectus.vocabulary import Split, View

if TYPE_CHECKING:
    import optuna

DATABASE, TRIALS, BEST, NAME = "study.db", "trials", "best.yaml", "affectus"
FINAL_SEEDS = 5
"""Of the configuration that is written: one seed says too little of a setting."""
PATIENCE = 120.0
"""Seconds that a process waits for the others to ask for a trial."""
WARM_UP, STARTUP = 5, 5
"""Epochs of a trial, and trials, before one is given up for being worse than the others' median."""
TEXT_RATE = Real(5e-6, 1e-4, log=True)
"""Searched besides where the layers of a text encoder are trained along."""


@dataclass(frozen=True)
class TrialEvent:
    """A trial that ended.

    Attributes:
        number: of the trial, from 0.
        finished: trials that have ended, by all processes.
        total: wanted in all.
        state: ``complete``, ``pruned`` or ``failed``.
        value: the figure on valid, if it is complete.
        best: the best so far.
        settings: what was tried.
        reason: of a failure.
    """

    number: int
    finished: int
    total: int
    state: str
    value: float | None
    best: float | None
    settings: dict[str, Any]
    reason: str = ""


TrialReporter = Callable[[TrialEvent], None]


@dataclass(frozen=True)
class Tuned:
    """What a search has found.

    Attributes:
        out: the study's folder.
        metric: the figure on valid.
        lower: less of it is better.
        trials: number, state, value and settings of each, in their order.
        best: of them; None if none is complete.
        published: the value of trial 0, which has the published settings; None if it failed, or where the search leaves
            out a published value.
        left_out: published values that lie outside what was searched, by key.
        config: the file of the best settings.
    """

    out: Path
    metric: str
    lower: bool
    trials: tuple[dict[str, Any], ...]
    best: dict[str, Any] | None
    published: float | None
    left_out: Mapping[str, Any]
    config: Path

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "metric": self.metric,
            "chosen_on": "valid",
            "lower_is_better": self.lower,
            "best": self.best,
            "published": self.published,
            "published_left_out": dict(self.left_out),
            "config": self.config.name,
            "trials": list(self.trials),
        }


def tune(
    model: str,
    corpus: str | Path,
    *,
    trials: int,
    out: str | Path,
    tasks: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 1,
    view: View | None = None,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    space: Mapping[str, Axis] | None = None,
    only: Sequence[str] | None = None,
    metric: str | None = None,
    prune: bool = True,
    study_seed: int = 0,
    jobs: int = 1,
    threads: int = 1,
    device: str = "auto",
    report: TrialReporter | None = None,
    search: "Search | None" = None,
) -> Tuned:
    """Search a model's settings: train trials, compare them on valid, write the best as a configuration.

    The first trial has the published settings, as far as the search holds them. Further ones are drawn by a
    tree-structured Parzen estimator, which sees the trials of all processes. The same call in several processes shares
    the work.

    Args:
        model: a registered model.
        corpus: its folder, with a valid split; its test split is not looked at.
        trials: of the study in all, failed ones included.
        out: the study's folder; a study in it goes on.
        tasks: what to predict; None for the corpus's main task.
        modalities: which to use; None for all.
        seeds: of each trial, whose mean counts.
        view: None for the model's own.
        preset: of the model, from which the search starts.
        options: of the model that stay fixed.
        training: settings that stay fixed.
        space: axes besides the model's own, or in their place.
        only: search these alone.
        metric: such as ``intensity.mae``; None for that of the first task.
        prune: give trials up that are worse than the median of the others after as many epochs.
        study_seed: of the search.
        jobs: processes.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: told of each trial that ends in this process.
        search: trains the trials, in place of processes of this machine.

    Raises:
        AffectusError: Optuna is missing, there is nothing to search, the corpus has no valid split with labels or does
            not fit, the folder holds another study, or no trial could be trained.
    """
    _optuna()
    folder, out, entry = Path(corpus), Path(out), MODELS[model]
    if trials < 1:
        raise AffectusError("A search needs a trial at least", got=trials)
    opened = load_corpus(folder)
    learning = without_test(opened)
    names = list(tasks) if tasks else [main_task(learning)]
    config = build_config(
        model,
        learning,
        tasks=names,
        modalities=modalities,
        seeds=seeds,
        preset=preset,
        view=view,
        options=options,
        training=training,
    )
    chosen = choose_tasks(names, learning.schemes)
    if not labelled_tasks(learning, Split.VALID, chosen):
        raise AffectusError(
            f"No utterance of the valid split of {learning.name!r}, on which settings are chosen, has a label",
            got="tasks " + ", ".join(task.name for task in chosen),
            remedy="Search for another task, or import the corpus with --valid-fraction",
        )
    figure = choose_figure(chosen, metric)
    fixed = {**(options or {}), **(training or {})}
    axes = search_axes(entry, fixed=fixed, space=space, only=only, preset=preset)
    facts = {
        "study": "tune",
        "model": model,
        "corpus": corpus_hash(folder),
        "tasks": names,
        "modalities": list(config.modalities),
        "view": str(config.view),
        "seeds": list(config.seeds),
        "preset": preset,
        "options": dict(options or {}),
        "training": dict(training or {}),
        "metric": figure,
        "protocol": usual_protocol(chosen),
        "space": {name: str(axis) for name, axis in axes.items()},
        "study_seed": study_seed,
        "prune": prune,
    }
    with lock_folder(out, wait=PATIENCE), _explained(out):
        open_study(out, facts)
        open_study_database(out, figure)
    job = Job(folder.resolve(), out.resolve(), facts, axes, trials, threads, device)
    if search is not None:
        search(job, report)
        with lock_folder(out, wait=PATIENCE), _explained(out):
            _finish(job)
        return read_tuned(out)
    context = multiprocessing.get_context("spawn")
    helpers = [context.Process(target=_help, args=(job,), daemon=False) for _ in range(min(jobs, trials) - 1)]
    try:
        for helper in helpers:
            start_process(helper)
        with _explained(out):
            _work(job, learning, report)
            for helper in helpers:
                helper.join()
            _work(job, learning, report)  # what a helper that was killed has left
    finally:
        for helper in helpers:
            if helper.is_alive():
                helper.terminate()
    with lock_folder(out, wait=PATIENCE), _explained(out):
        _finish(job)
    return read_tuned(out)


_DATABASE_ERRORS = {
    "disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "readonly database": errno.EROFS,
    "unable to open database": errno.EACCES,
}
"""What SQLite says, and the system's error that it means."""


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Turn what hinders the database into one sentence."""
    try:
        yield
    except AffectusError:
        raise
    except Exception as error:
        # the storage wraps SQLAlchemy's error, which wraps SQLite's
        said = f"{error} {error.__cause__ or ''}"
        number = next((number for text, number in _DATABASE_ERRORS.items() if text in said), None)
        if number is None:
            raise
        raise explain_os_error(OSError(number, os.strerror(number)), out / DATABASE) from error


def _finish(job: "Job") -> None:
    """Do what a process that was killed after its trial had ended has left undone."""
    sweep(job.out)
    study = open_study_database(job.out, job.facts["metric"])
    for trial in study.get_trials(deepcopy=False):
        run = _folder(job.out, trial.number) / "run"
        if trial.state.is_finished() and run.is_dir():
            shutil.rmtree(run)
    _write_best(job, study)


def without_test(corpus: Corpus) -> Corpus:
    """Return the train and valid rows of a corpus: what a search may see.

    Raises:
        AffectusError: it has no valid split.
    """
    corpus.rows(Split.TRAIN)
    if not (corpus.splits == Split.VALID).any():
        raise AffectusError(
            f"The corpus {corpus.name!r} has no valid split, on which settings are chosen",
            remedy="Import it with --valid-fraction, or name its splits with --splits or --rename-splits",
        )
    if not (corpus.splits == Split.TEST).any():
        return corpus
    return corpus.select(np.flatnonzero(corpus.splits != Split.TEST))


def search_axes(
    entry: ModelEntry,
    *,
    fixed: Mapping[str, Any] | None = None,
    space: Mapping[str, Axis] | None = None,
    only: Sequence[str] | None = None,
    preset: str | None = None,
) -> dict[str, Axis]:
    """Return what is searched, with the published value in each axis.

    Args:
        entry: the model.
        fixed: settings that are not searched.
        space: axes besides the model's own, or in their place.
        only: search these alone.
        preset: of the model.

    Raises:
        AffectusError: a key is neither an option nor a setting, or nothing is left to search.
    """
    fixed = fixed or {}
    known = [*entry.options, *TrainingSettings.model_fields]
    for name in {**(space or {})}:
        if name not in known:
            raise unknown_name("setting", name, known, where=f"the search space of {entry.name!r}")
        if name in fixed:
            raise AffectusError(
                f"The setting {name!r} is both fixed and searched",
                got=f"--set {name}={fixed[name]} and a --search of it",
                remedy="Leave one of them out",
            )
    check_of_networks(entry, [name for name in space or () if name not in entry.options])
    axes: dict[str, Axis] = {**entry.search_space, **(space or {})}
    if is_gradient_model(entry.name) and fixed.get("text_layers"):
        axes.setdefault("text_learning_rate", TEXT_RATE)
    for name in only or ():
        if name not in axes:
            raise unknown_name("axis", name, axes, where=f"the search space of {entry.name!r}")
    axes = {name: axis for name, axis in axes.items() if name not in fixed and (not only or name in only)}
    if not axes:
        raise AffectusError(
            f"There is nothing to search for the model {entry.name!r}",
            remedy="Name something, for instance with --search learning_rate=log:1e-4..1e-2",
        )
    start = published_settings(entry, preset)
    return {name: axis if name in (space or {}) else widened(axis, start[name]) for name, axis in axes.items()}


def published_settings(entry: ModelEntry, preset: str | None = None) -> dict[str, Any]:
    """Return all options and training settings of a model as they are published."""
    options, training = resolve_settings(entry, preset=preset)
    return {**training.model_dump(mode="json"), **options}


def parse_axis(text: str) -> tuple[str, Axis]:
    """Read ``key=low..high``, ``key=log:low..high`` or ``key=a,b,c``; values as in YAML.

    Raises:
        AffectusError: it is of no such form.

    >>> key, axis = parse_axis("hidden=16..128")
    >>> key, str(axis), str(parse_axis("C=log:1e-3..10")[1]), str(parse_axis("fusion=sum,concat")[1])
    ('hidden', '16..128', 'log:0.001..10', 'sum,concat')
    """
    key, _, value = text.partition("=")
    key, log = key.strip(), value.startswith("log:")
    low, dots, high = value.removeprefix("log:").partition("..")
    wrong = AffectusError(
        "The axis is not right",
        got=repr(text),
        expected="KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=A,B,C, LOW below HIGH, both finite, and above 0 for log",
    )
    if not key or not value:
        raise wrong
    if not dots:
        values = tuple(_value(part.strip()) for part in value.split(","))
        if log or any(part == "" or (isinstance(part, float) and not math.isfinite(part)) for part in values):
            raise wrong
        return key, Choice(values)
    ends = _value(low), _value(high)
    if any(isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end) for end in ends):
        raise wrong
    if not ends[0] < ends[1]:
        raise wrong
    if log and ends[0] <= 0:
        raise wrong
    if all(isinstance(end, int) for end in ends):
        return key, Whole(ends[0], ends[1], log)
    return key, Real(float(ends[0]), float(ends[1]), log)


def _value(text: str) -> Any:
    if text == "none":
        return None
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False}.get(text, text)


@dataclass(frozen=True)
class Job:
    """What a process needs to know of a study.

    Attributes:
        corpus: its folder.
        out: the study's folder.
        facts: of ``study.json``.
        axes: what is searched.
        trials: wanted in all.
        threads: of torch.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    corpus: Path
    out: Path
    facts: dict[str, Any]
    axes: Mapping[str, Axis]
    trials: int
    threads: int
    device: str


Search = Callable[[Job, TrialReporter | None], None]
"""Trains trials until the study has as many as are wanted."""


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise AffectusError(
            "Tuning needs the package optuna", remedy="Install it with: pip install 'affectus[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_study_database(out: Path, metric: str) -> "optuna.Study":
    """Return the study of a folder; it is made if it is not there."""
    library = _optuna()
    # SQLite lets one process write at a time; the others wait
    storage = library.storages.RDBStorage(
        f"sqlite:///{(out / DATABASE).resolve()}", engine_kwargs={"connect_args": {"timeout": PATIENCE}}
    )
    study: optuna.Study = library.create_study(
        study_name=NAME,
        storage=storage,
        direction="minimize" if metric.endswith(".mae") else "maximize",
        pruner=library.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARM_UP),
        load_if_exists=True,
    )
    return study


def _help(job: Job) -> None:
    end_with_parent()
    # where nothing can be written, the process that this one helps says so
    with contextlib.suppress(WriteError), _explained(job.out):
        _work(job, without_test(load_corpus(job.corpus)), None)


def _work(job: Job, corpus: Corpus, report: TrialReporter | None) -> None:
    """Train trials until the study has as many as are wanted."""
    study = open_study_database(job.out, job.facts["metric"])
    while True:
        with ExitStack() as held:
            trial, settings = next_trial(job, study, held)
            if trial is None:
                return
            judge = Pruning(job, study, trial)
            state, value, reason = train_trial(job, trial.number, settings, corpus, judge.hopeless)
            end_trial(job, study, trial, (state, value, reason), report)


def _folder(out: Path, number: int) -> Path:
    return out / TRIALS / f"{number:04d}"


def _next(job: Job, study: "optuna.Study", held: ExitStack) -> "optuna.trial.Trial | None":
    """Return a trial to train, whose folder is held: one that a killed process left, or a new one; None if done."""
    library = _optuna()
    known = study.get_trials(deepcopy=False)
    for old in known:
        if old.state is not library.trial.TrialState.RUNNING:
            continue
        try:
            held.enter_context(lock_folder(_folder(job.out, old.number)))
        except AffectusError:
            continue  # its process lives
        study.sampler = _sampler(job, old.number)
        left: optuna.trial.Trial = library.trial.Trial(study, old._trial_id)
        return left
    begun = [old for old in known if old.state is not library.trial.TrialState.WAITING]
    if len(begun) >= job.trials:
        return None
    if not known:
        entry = MODELS[job.facts["model"]]
        start = published_settings(entry, job.facts["preset"])
        first = {name: start[name] for name, axis in job.axes.items() if axis.holds(start[name])}
        if first:
            study.enqueue_trial(first)
    study.sampler = _sampler(job, len(begun))
    trial = study.ask()
    held.enter_context(lock_folder(_folder(job.out, trial.number)))
    return trial


def _sampler(job: Job, number: int, axis: int | None = None) -> Any:
    """Return what draws a trial's settings.

    Each trial has random numbers of its own, lest processes draw the same; and so has each axis that is drawn by
    itself, so that a trial whose process was killed meanwhile gets what it would have got.
    """
    library = _optuna()
    seed = job.facts["study_seed"] * 100_003 + number
    if axis is not None:
        seed = int(np.random.SeedSequence([seed, axis]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
        return library.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _draw(job: Job, study: "optuna.Study", trial: "optuna.trial.Trial") -> dict[str, Any]:
    settings = {}
    for number, (name, axis) in enumerate(job.axes.items()):
        study.sampler = _sampler(job, trial.number, number)
        settings[name] = _suggest(trial, name, axis)
    return settings


def _suggest(trial: "optuna.trial.Trial", name: str, axis: Axis) -> Any:
    with warnings.catch_warnings():
        # a fixed value of a choice may be of any type; the database keeps the choice's number
        warnings.simplefilter("ignore", UserWarning)
        if isinstance(axis, Whole):
            return trial.suggest_int(name, axis.low, axis.high, log=axis.log)
        if isinstance(axis, Real):
            return trial.suggest_float(name, axis.low, axis.high, log=axis.log)
        return trial.suggest_categorical(name, axis.values)


def next_trial(job: Job, study: "optuna.Study", held: ExitStack) -> "tuple[optuna.trial.Trial | None, dict[str, Any]]":
    """Return a trial to train and its settings, None if there are enough; its folder is held until ``held`` closes."""
    with lock_folder(job.out, wait=PATIENCE):
        trial = _next(job, study, held)
        return trial, {} if trial is None else _draw(job, study, trial)


class Pruning:
    """Tells whether a trial is worse than the median of the others.

    Args:
        job: the search.
        study: that the trial is of.
        trial: which.
    """

    def __init__(self, job: Job, study: "optuna.Study", trial: "optuna.trial.Trial") -> None:
        self._trial, self._lower = trial, job.facts["metric"].endswith(".mae")
        self._known = dict(study.trials[trial.number].intermediate_values)

    def hopeless(self, epoch: int, value: float) -> bool:
        """Take note of a figure on valid; return whether the trial is to be given up."""
        if epoch not in self._known:
            so_far = [*self._known.values(), value]
            self._known[epoch] = min(so_far) if self._lower else max(so_far)
            self._trial.report(self._known[epoch], epoch)
        return self._trial.should_prune()


class Pruned(Exception):  # noqa: N818 -- no error: a trial that is given up
    """A trial is given up."""


Ending = tuple[str, float | None, str]
"""State of a trial that ended, its figure on valid, and the reason of a failure."""


def train_trial(
    job: Job,
    number: int,
    settings: Mapping[str, Any],
    corpus: Corpus,
    hopeless: Callable[[int, float], bool],
) -> Ending:
    """Train a trial; one that was begun goes on.

    Args:
        job: the search.
        number: of the trial.
        settings: that are tried.
        corpus: without its test split.
        hopeless: told the figure after each epoch of the first seed; True gives the trial up.

    Raises:
        WriteError: there is no room, or no permission to write; the trial has not ended.
    """
    facts, metric = job.facts, job.facts["metric"]
    options, training = _sorted(MODELS[facts["model"]], settings)
    first = facts["seeds"][0]

    def watch(event: SeedEvent) -> None:
        value = event.figures.get(f"valid.{metric}")
        if not facts["prune"] or event.seed != first or value is None or math.isnan(value):
            return
        if hopeless(event.epoch, value):
            raise Pruned

    try:
        run = train(
            facts["model"],
            corpus,
            tasks=facts["tasks"],
            out=_folder(job.out, number) / "run",
            modalities=facts["modalities"],
            seeds=facts["seeds"],
            preset=facts["preset"],
            view=View(facts["view"]),
            options={**facts["options"], **options},
            training={"record_epochs": False, **facts["training"], **training},
            threads=job.threads,
            device=job.device,
            report=watch,
        )
        values = valid_figures(run, facts["protocol"])[metric]
    except Pruned:
        return "pruned", None, ""
    except WriteError:
        raise  # no fault of the settings: the trial is trained when there is room again
    except AffectusError as error:
        return "failed", None, str(error)
    except Exception as error:
        # settings that do not go together may fail in any way; other trials do not depend on it
        return "failed", None, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    value = sum(values) / len(values)
    if math.isnan(value):
        return "failed", None, f"{metric} on valid is not a number"
    return "complete", value, ""


def _sorted(entry: ModelEntry, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which settings are options of the model, and which are of the training."""
    options = {name: value for name, value in settings.items() if name in entry.options}
    return options, {name: value for name, value in settings.items() if name not in entry.options}


def end_trial(
    job: Job, study: "optuna.Study", trial: "optuna.trial.Trial", ending: Ending, report: TrialReporter | None
) -> None:
    """Write down how a trial ended, and the best settings so far; tell of it."""
    state, value, reason = ending
    states = _optuna().trial.TrialState
    with lock_folder(job.out, wait=PATIENCE):
        if reason:
            trial.set_user_attr("reason", reason)
        told = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
        study.tell(trial, value, state=told)
        run = _folder(job.out, trial.number) / "run"
        if run.is_dir():
            shutil.rmtree(run)  # the settings are kept; what they give is trained anew, with more seeds
        _write_best(job, study)
    if report:
        done = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
        best = _best(study)
        found = best.value if best else None
        report(TrialEvent(trial.number, len(done), job.trials, state, value, found, dict(trial.params), reason))


def _best(study: "optuna.Study") -> "optuna.trial.FrozenTrial | None":
    return study.best_trial if any(t.state.name == "COMPLETE" for t in study.get_trials(deepcopy=False)) else None


def _write_best(job: Job, study: "optuna.Study") -> None:
    best = _best(study)
    if best is None:
        return
    facts = job.facts
    options, training = _sorted(MODELS[facts["model"]], best.params)
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    config: dict[str, Any] = {
        "model": facts["model"],
        **({"preset": facts["preset"]} if facts["preset"] else {}),
        "view": facts["view"],
        "tasks": facts["tasks"],
        "modalities": facts["modalities"],
        "seeds": FINAL_SEEDS if is_gradient_model(facts["model"]) else 1,
        "options": {**facts["options"], **options},
        "training": {**facts["training"], **training},
        "notes": [
            f"Tuned on valid alone, on the corpus {facts['corpus'][:16]}: {facts['metric']} {best.value:.4f} in trial "
            f"{best.number} of {len(done)}, seeds {', '.join(map(str, facts['seeds']))}, {datetime.date.today()}. It "
            "is the best of many on that split; only a test split can say what it is worth."
        ],
    }
    head = (
        f"# Settings of {facts['model']} that affectus tune found; use them with: affectus train CORPUS --config FILE\n"
    )
    text = head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    if not (job.out / BEST).is_file() or _undated((job.out / BEST).read_text(encoding="utf-8")) != _undated(text):
        write_text(job.out / BEST, text)


def _undated(text: str) -> str:
    return re.sub(r"\d{4}-\d{2}-\d{2}", "", text)


def read_tuned(out: str | Path) -> Tuned:
    """Return what a study has found so far.

    Raises:
        AffectusError: the folder holds no search, or none of its trials could be trained.
    """
    out = Path(out)
    if not (out / DATABASE).is_file() or not (out / STUDY_FILE).is_file():
        raise AffectusError(
            "The folder holds no search", where=out, remedy="Make one with: affectus tune MODEL CORPUS --out FOLDER"
        )
    facts = read_json(out / STUDY_FILE)
    metric = facts["metric"]
    study = open_study_database(out, metric)
    shown: list[dict[str, Any]] = [
        {
            "number": trial.number,
            "state": {"COMPLETE": "complete", "FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
            "value": trial.value if trial.state.name == "COMPLETE" else None,
            "settings": trial.params,
            "reason": trial.user_attrs.get("reason", ""),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    failed = [trial for trial in shown if trial["state"] == "failed"]
    if shown and len(failed) == len(shown):
        raise AffectusError("No trial could be trained", where=out, got=failed[0]["reason"].rstrip("."))
    best = _best(study)
    start = published_settings(MODELS[facts["model"]], facts["preset"])
    first = shown[0]["settings"] if shown else {}
    left_out = {name: start[name] for name, value in first.items() if value != start[name]}
    return Tuned(
        out,
        metric,
        metric.endswith(".mae"),
        tuple(shown),
        shown[best.number] if best else None,
        shown[0]["value"] if shown and not left_out else None,
        left_out,
        out / BEST,
    )
