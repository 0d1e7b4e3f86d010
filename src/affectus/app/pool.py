"""The queue of analyses and the workers that take them from it."""

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from affectus.app.settings import Settings
from affectus.app.store import RESULT, Job, JobKind, State, Store
from affectus.app.workers import Event, Order, serve
from affectus.threads import start_process

_LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 900.0
"""A worker without work is let go after so long; it holds the models in memory."""
_EARLY = 0.03
"""No time left is told before so much is done."""


@dataclass(frozen=True)
class Progress:
    """How far an analysis is.

    Attributes:
        stage: what is being done.
        share: how much is done, 0 to 1.
        seconds_left: None as long as nothing can be said.
    """

    stage: str
    share: float
    seconds_left: float | None


@dataclass
class _Worker:
    process: Any
    pipe: Any
    job: Job | None = None
    order: Order | None = None
    begun: float = 0.0
    heard: float = 0.0
    stage: str = "starting"
    share: float = 0.0
    first: tuple[float, float] | None = None
    """When the first share above 0 was told, and which: what went before was the loading of models."""

    def seconds_left(self) -> float | None:
        """Return how long it will take yet, if it goes on as it went since models were loaded."""
        if self.first is None or self.share - self.first[1] < _EARLY:
            return None
        return (time.monotonic() - self.first[0]) * (1 - self.share) / (self.share - self.first[1])


class Pool:
    """Runs the analyses that wait, the oldest first.

    Args:
        store: the list.
        settings: of the server.
        catalog: finds the folder of a run or corpus by its id; None if it is not there any more.
        target: what a worker runs; for tests.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        catalog: Callable[[str], Path | None],
        target: Callable[..., None] = serve,
    ) -> None:
        self.store, self.settings, self._catalog, self._target = store, settings, catalog, target
        self._workers: list[_Worker] = []
        self._lock = threading.RLock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="affectus-queue", daemon=True)
        self._bell, self._rung = multiprocessing.Pipe(duplex=False)

    def start(self) -> None:
        """Put right what an ended server left, and begin."""
        self.store.recover(self.settings.limits.attempts)
        self._thread.start()

    def stop(self) -> None:
        """End the workers; what they did is begun again at the next start."""
        self._ended = True
        self.ring()
        self._thread.join(10.0)
        with self._lock:
            for worker in list(self._workers):
                if worker.job is not None:
                    # an orderly end is no failed attempt
                    self.store.tidy(worker.job.id)
                    self.store.change(
                        worker.job.id, only=[State.RUNNING], state=State.QUEUED, started=None,
                        attempts=max(worker.job.attempts - 1, 0),
                    )  # fmt: skip
                    worker.job = None
                self._bury(worker)

    def ring(self) -> None:
        """Say that there is something to do."""
        with contextlib.suppress(OSError):
            self._rung.send_bytes(b"1")

    def progress(self, job: str) -> Progress | None:
        """Return how far an analysis that runs is."""
        with self._lock:
            for worker in self._workers:
                if worker.job is not None and worker.job.id == job:
                    return Progress(worker.stage, worker.share, worker.seconds_left())
        return None

    def running(self) -> int:
        """Return how many analyses run."""
        with self._lock:
            return sum(worker.job is not None for worker in self._workers)

    def cancel(self, job: str, state: State = State.CANCELLED) -> bool:
        """End an analysis that waits or runs; return whether it did."""
        with self._lock:
            changed = self.store.change(job, only=[State.QUEUED, State.RUNNING], state=state, ended=time.time())
            for worker in list(self._workers):
                if worker.job is not None and worker.job.id == job:
                    worker.job = None
                    self._bury(worker)
                    self.store.tidy(job)
        self.ring()
        return changed

    def _run(self) -> None:
        while not self._ended:
            try:
                self._turn()
            except Exception:
                # a full disk, say: the queue must outlive it
                _LOG.exception("The queue stumbled")
                time.sleep(1.0)

    def _turn(self) -> None:
        with self._lock:
            self._hand_out()
            pipes: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        ready = connection.wait([self._bell, *pipes], timeout=0.5)
        if self._bell in ready:
            while self._bell.poll():
                self._bell.recv_bytes()
        with self._lock:
            for pipe in ready:
                worker = pipes.get(pipe)
                if worker is not None and worker in self._workers:
                    self._hear(worker)
            for worker in list(self._workers):
                self._watch(worker)

    def _hand_out(self) -> None:
        free = [worker for worker in self._workers if worker.job is None]
        room = self.settings.workers - len(self._workers) + len(free)
        if room <= 0:
            return
        for job in self.store.of_state(State.QUEUED)[:room]:
            order = self._order(job)
            if order is None:
                self.store.change(
                    job.id, state=State.FAILED, ended=time.time(), error="What it was to read is not there any more."
                )
                continue
            worker = free.pop() if free else self._start()
            now = time.time()
            attempts = job.attempts + 1
            if not self.store.change(
                job.id, only=[State.QUEUED], state=State.RUNNING, started=now, ended=None, error=None, attempts=attempts
            ):
                free.append(worker)
                continue
            worker.job, worker.order = self.store.get(job.id), order
            worker.begun = worker.heard = time.monotonic()
            worker.stage, worker.share, worker.first = "starting", 0.0, None
            with contextlib.suppress(OSError):  # it has died: seen when it is heard
                worker.pipe.send(order)

    def _order(self, job: Job) -> Order | None:
        out = self.store.job_folder(job.id) / RESULT
        values: dict[str, Any] = {"name": job.name, "out": out, "threads": self.settings.threads}
        if job.kind is JobKind.REVIEW:
            run, corpus = job.options.get("run"), self._catalog(str(job.options["corpus"]))
            folder = None if run is None else self._catalog(str(run))
            if corpus is None or (run is not None and folder is None):
                return None
            return Order(
                job.id, job.kind, values | {"run": folder, "corpus": corpus, "split": job.options.get("split")}
            )
        path = self.store.job_folder(job.id) / str(job.file)
        values |= {
            "path": path,
            "options": dict(job.options),
            "longest": self.settings.limits.media_seconds,
        }
        return Order(job.id, job.kind, values) if path.is_file() else None

    def _start(self) -> _Worker:
        # spawn, since a forked process would hold the server's sockets and locks
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=self._target, args=(theirs, self.settings.model, self.settings.threads), daemon=True
        )
        start_process(process)
        theirs.close()
        worker = _Worker(process, ours, heard=time.monotonic())
        self._workers.append(worker)
        return worker

    def _hear(self, worker: _Worker) -> None:
        try:
            event: Event = worker.pipe.recv()
        except (EOFError, OSError):
            self._died(worker)
            return
        worker.heard = time.monotonic()
        job = worker.job
        if job is None or event.job != job.id:
            return
        worker.stage, worker.share = event.stage or worker.stage, max(event.share, worker.share)
        if worker.first is None and worker.share > 0:
            worker.first = (worker.heard, worker.share if worker.share < 0.1 else 0.0)
        if event.summary is None and event.error is None:
            return
        worker.job = None
        if event.error is not None:
            self.store.tidy(job.id)
            self.store.change(job.id, only=[State.RUNNING], state=State.FAILED, ended=time.time(), error=event.error)
        else:
            self.store.change(
                job.id, only=[State.RUNNING], state=State.DONE, ended=time.time(), summary=event.summary, error=None
            )

    def _died(self, worker: _Worker) -> None:
        job, worker.job = worker.job, None
        self._bury(worker)
        if job is not None:
            self.store.give_back(job, self.settings.limits.attempts)

    def _watch(self, worker: _Worker) -> None:
        """End a worker that takes too much, or does nothing."""
        limits, now = self.settings.limits, time.monotonic()
        if worker.job is None:
            if now - worker.heard > _IDLE_SECONDS:
                self._bury(worker)
            return
        why = None
        if now - worker.heard > limits.silent_seconds:
            why = f"Nothing came of it for {limits.silent_seconds:g} seconds."
        elif now - worker.begun > limits.job_seconds:
            why = f"It took longer than {limits.job_seconds:g} seconds."
        elif (taken := resident_bytes(worker.process.pid)) is not None and taken > limits.worker_bytes:
            why = f"It took more than {limits.worker_bytes // 1024**2} MB of memory."
        if why is not None:
            job, worker.job = worker.job, None
            self._bury(worker)
            self.store.tidy(job.id)
            self.store.change(job.id, only=[State.RUNNING], state=State.FAILED, ended=time.time(), error=why)

    def _bury(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        worker.pipe.close()
        worker.process.kill()
        worker.process.join(5.0)


def resident_bytes(process: int | None) -> int | None:
    """Return how much memory a process takes; None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
