"""Many runs with one question: the cells of a study, trained into one folder, resumable.

A cell is one configuration; it is trained for every seed into ``OUT/runs/<name>``. A study that was killed goes on: no
cell is trained twice, a seed that was stopped resumes. A cell that fails is written down with its reason, and the
others go on.
"""

import contextlib
import json
import multiprocessing
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from affectus.api import train
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError, WriteError
from affectus.files import json_text, read_json, write_json
from affectus.parallel import Alive, Executor
from affectus.threads import end_with_parent, start_process
from affectus.training import Run, SeedEvent, load_run
from affectus.vocabulary import View

CELLS_FILE, STUDY_FILE, RUNS = "cells.json", "study.json", "runs"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Cell:
    """One configuration of a study.

    Attributes:
        name: of its folder: small letters, digits, ``.``, ``_`` and ``-``.
        model: a registered model.
        tasks: what it predicts.
        modalities: which it reads; None for all of the corpus.
        options: of the model.
        training: settings.
        preset: a named set of options.
        view: None for the model's own.
        seeds: the seeds, or how many.
    """

    name: str
    model: str
    tasks: tuple[str, ...]
    modalities: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    view: View | None = None
    seeds: int | tuple[int, ...] = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise AffectusError(
                "The name of a cell cannot be a folder's",
                got=repr(self.name),
                expected="small letters, digits, '.', '_' and '-'",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        plain: dict[str, Any] = json.loads(
            json_text(vars(self) | {"options": dict(self.options)} | {"training": dict(self.training)})
        )
        return plain


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its run, or the reason why there is none."""

    cell: Cell
    run: Run | None
    failure: str | None = None


@dataclass(frozen=True)
class StudyEvent:
    """Progress of a study.

    Attributes:
        kind: ``epoch``, ``done`` or ``failed``.
        cell: its name.
        share: of the cell that is trained, from 0 to 1.
        finished: cells that are done or failed.
        total: cells of the study.
        text: the reason of a failure, or the epoch's figures in short.
    """

    kind: str
    cell: str
    share: float
    finished: int
    total: int
    text: str = ""


StudyReporter = Callable[[StudyEvent], None]


def open_study(out: Path, facts: Mapping[str, Any]) -> None:
    """Write what a study is to its folder, or check that the folder holds this very study.

    Args:
        out: its folder.
        facts: plain data; what may differ between two calls that are one study does not belong here.

    Raises:
        AffectusError: the folder holds another study, or something else.
    """
    path = out / STUDY_FILE
    new = json.loads(json_text(dict(facts)))
    if not path.is_file():
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise AffectusError(
                "The output folder holds something else than a study",
                where=out,
                remedy="Choose another --out folder, or delete this one",
            )
        write_json(path, new)
        return
    old = read_json(path)
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            raise AffectusError(
                f"The folder holds another study, which differs in {key!r}",
                where=out,
                got=json.dumps(new.get(key)),
                expected=json.dumps(old.get(key)),
                remedy="Choose another --out folder, or delete this one",
            )


def run_cells(
    cells: Sequence[Cell],
    corpus: Path,
    out: Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    device: str = "auto",
    report: StudyReporter | None = None,
    executor: Executor | None = None,
) -> dict[str, Outcome]:
    """Train every cell that is not yet trained, and return what became of each, by name.

    Args:
        cells: with different names.
        corpus: its folder.
        out: the study's folder.
        jobs: processes at once. Cells are trained side by side; where there are fewer cells than jobs, the seeds of
            each are too.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: told of each epoch and of each cell that ends.
        executor: trains the cells, in place of processes of this machine; of epochs nothing is told then.

    Raises:
        AffectusError: two cells have one name.
        WriteError: there is no room, or no permission to write; what is trained by then stays.
    """
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise AffectusError("Two cells of the study have one name", got=next(n for n in names if names.count(n) > 1))
    states = _States(out, cells, corpus_hash(corpus), report)
    if executor is not None:
        work = TrainCells(corpus.resolve(), out.resolve(), threads, device)
        for ended in executor.run(work, states.pending):
            cell = states.pending[ended.number]
            states.ended(cell, ended.error, ended.seconds)
        return {cell.name: states.outcome(cell) for cell in cells}
    jobs = max(1, min(jobs, sum(len(_seeds(cell)) for cell in states.pending)))
    states.inner = max(1, jobs // max(1, len(states.pending)))
    if jobs == 1:
        for cell in states.pending:
            states.started(cell)
            states.ended(cell, _train(cell, corpus, out, 1, threads, device, partial(states.epoch, cell)))
    else:
        _run_in_processes(states, corpus, out, jobs, threads, device)
    return {cell.name: states.outcome(cell) for cell in cells}


def _seeds(cell: Cell) -> tuple[int, ...]:
    return tuple(range(cell.seeds)) if isinstance(cell.seeds, int) else cell.seeds


def _train(
    cell: Cell,
    corpus: Path,
    out: Path,
    jobs: int,
    threads: int,
    device: str,
    report: Callable[[SeedEvent], None],
) -> str | None:
    """Train a cell; return the reason of its failure, or None.

    Raises:
        WriteError: there is no room, or no permission to write; the cell has not failed.
    """
    try:
        train(
            cell.model,
            corpus,
            tasks=cell.tasks,
            out=out / RUNS / cell.name,
            modalities=cell.modalities,
            seeds=cell.seeds,
            preset=cell.preset,
            view=cell.view,
            options=cell.options,
            training=cell.training,
            jobs=jobs,
            threads=threads,
            device=device,
            report=report,
        )
    except WriteError:
        raise
    except AffectusError as error:
        return str(error)
    except Exception as error:
        # a model of a third party may fail in any way; the study's other cells do not depend on it
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return None


@dataclass(frozen=True)
class TrainCells:
    """Work that trains cells, for machines that see the same folders.

    Attributes:
        corpus: its folder.
        out: the study's folder.
        threads: of torch.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    corpus: Path
    out: Path
    threads: int
    device: str

    def open(self) -> Callable[[Cell, Alive], None]:
        """Return what trains a cell; one that was begun goes on."""

        def run(cell: Cell, alive: Alive) -> None:
            failure = _train(cell, self.corpus, self.out, 1, self.threads, self.device, lambda _: alive())
            if failure is not None:
                raise AffectusError(failure.rstrip("."))

        return run

    def done(self, item: Cell) -> bool:
        """Return False: the training itself sees what is done."""
        return False


class _States:
    """What is known of each cell: told to the reporter, and kept in ``cells.json``."""

    def __init__(self, out: Path, cells: Sequence[Cell], corpus: str, report: StudyReporter | None) -> None:
        self.out, self.cells, self.corpus, self.report = out, cells, corpus, report
        self.known: dict[str, dict[str, Any]] = read_json(out / CELLS_FILE) if (out / CELLS_FILE).is_file() else {}
        self.inner = 1
        self._started: dict[str, float] = {}
        self._shares: dict[str, dict[int, float]] = {cell.name: {} for cell in cells}
        self.pending = [cell for cell in cells if not self._complete(cell)]
        self.finished = len(cells) - len(self.pending)

    def _complete(self, cell: Cell) -> bool:
        known = self.known.get(cell.name, {})
        if known.get("state") != "done" or known.get("cell") != cell.to_json() or known.get("corpus") != self.corpus:
            return False
        try:
            run = load_run(self.out / RUNS / cell.name)
            return run.seeds == run.config.seeds
        except AffectusError:
            return False

    def started(self, cell: Cell) -> None:
        self._started[cell.name] = time.monotonic()

    def epoch(self, cell: Cell, event: SeedEvent) -> None:
        shares = self._shares[cell.name]
        # a model with several stages begins to count again in each
        shares[event.seed] = max(shares.get(event.seed, 0.0), (event.epoch + 1) / event.epochs)
        if self.inner == 1:
            # one after the other: those before this one have ended, perhaps early
            shares.update(dict.fromkeys([seed for seed in _seeds(cell) if seed in shares and seed != event.seed], 1.0))
        text = f"seed {event.seed}, {event.stage}, epoch {event.epoch + 1} of {event.epochs}"
        self._tell("epoch", cell, sum(shares.values()) / len(_seeds(cell)), text)

    def ended(self, cell: Cell, failure: str | None, seconds: float | None = None) -> None:
        seconds = time.monotonic() - self._started[cell.name] if seconds is None else seconds
        self.known[cell.name] = {
            "state": "failed" if failure else "done",
            "reason": failure,
            "seconds": round(seconds, 1),
            "corpus": self.corpus,
            "cell": cell.to_json(),
        }
        write_json(self.out / CELLS_FILE, self.known)
        self.finished += 1
        self._tell("failed" if failure else "done", cell, 1.0, failure or "")

    def _tell(self, kind: str, cell: Cell, share: float, text: str) -> None:
        if self.report:
            self.report(StudyEvent(kind, cell.name, share, self.finished, len(self.cells), text))

    def outcome(self, cell: Cell) -> Outcome:
        failure = self.known[cell.name]["reason"]
        return Outcome(cell, None if failure else load_run(self.out / RUNS / cell.name), failure)


@dataclass
class _Worker:
    """A process that trains one cell after another.

    Attributes:
        process: that was started.
        pipe: to it and from it.
        cell: that it trains; None while it waits.
    """

    process: SpawnProcess
    pipe: Connection
    cell: Cell | None = None


def _run_in_processes(states: _States, corpus: Path, out: Path, jobs: int, threads: int, device: str) -> None:
    # to start a process costs seconds, so each is kept; one that is killed takes only the cell that it trained with it
    context = multiprocessing.get_context("spawn")
    waiting, workers = list(states.pending), list[_Worker]()
    try:
        while waiting or any(worker.cell is not None for worker in workers):
            while len(workers) < max(1, jobs // states.inner) and len(waiting) > len(_idle(workers)):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, corpus, out, states.inner, threads, device))
                start_process(process)
                theirs.close()  # so that the end of the process is the end of the pipe
                workers.append(_Worker(process, ours))
            for worker in _idle(workers)[: len(waiting)]:
                worker.cell = waiting.pop(0)
                worker.process.name = worker.cell.name
                states.started(worker.cell)
                with contextlib.suppress(OSError):  # it has died: seen below
                    worker.pipe.send(worker.cell)
            for ready in wait([worker.pipe for worker in workers]):
                worker = next(one for one in workers if one.pipe is ready)
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    worker.pipe.close()
                    workers.remove(worker)
                    if worker.cell is not None:
                        states.ended(worker.cell, _said_nothing(worker.process.exitcode))
                    continue
                assert worker.cell is not None
                if isinstance(message, SeedEvent):
                    states.epoch(worker.cell, message)
                elif isinstance(message, WriteError):
                    raise message
                else:
                    states.ended(worker.cell, message[0])
                    worker.cell = None
    finally:
        for worker in workers:
            worker.pipe.close()  # one that waits for a cell ends by itself
            if worker.cell is not None:
                worker.process.terminate()


def _idle(workers: Sequence[_Worker]) -> list[_Worker]:
    return [worker for worker in workers if worker.cell is None]


def _said_nothing(code: int | None) -> str:
    if code is not None and code < 0:
        return f"Its process was ended by the signal {signal.Signals(-code).name}"
    return f"Its process ended with the code {code} and said nothing"


def _serve(pipe: Connection, corpus: Path, out: Path, jobs: int, threads: int, device: str) -> None:
    """In a process: train the cells that are sent until no more come."""
    end_with_parent()
    while True:
        try:
            cell = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((_train(cell, corpus, out, jobs, threads, device, pipe.send),))
        except WriteError as error:
            pipe.send(error)
