"""Processes that read files one after another: one that dies, or hangs, costs one file and is replaced.

Damaged media can bring a decoder down, or keep it busy for ever; neither may end the whole extraction.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from affectus.corpus.storage import save_corpus
from affectus.errors import AffectusError, WriteError
from affectus.features.media.cache import cached
from affectus.features.media.recording import Extractor, Source
from affectus.features.media.settings import Extraction
from affectus.parallel import Alive
from affectus.threads import end_with_parent, start_process

STALL_SECONDS = 300.0
"""A process that tells of no progress for so long is ended. Models are loaded, perhaps fetched, within it."""


@dataclass(frozen=True)
class Task:
    """A file to read, and the folder to write its corpus to."""

    source: Source
    folder: Path


@dataclass(frozen=True)
class Event:
    """What a process tells.

    Attributes:
        number: of the task.
        what: what is being done.
        share: how much of it is done, 0 to 1.
        done: it is written.
        error: why it could not be read.
        unwritten: it could be read, but what came of it could not be written.
    """

    number: int
    what: str = ""
    share: float = 0.0
    done: bool = False
    error: str | None = None
    unwritten: bool = False


@dataclass
class _Worker:
    process: Any
    pipe: Any
    number: int | None = None
    heard: float = 0.0


def run_tasks(
    tasks: Sequence[Task], settings: Extraction, *, jobs: int = 1, threads: int = 1, stall: float = STALL_SECONDS,
    target: Callable[[Any, Extraction, int], None] | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Read files in processes and yield what they tell.

    Args:
        tasks: the files.
        settings: what is extracted.
        jobs: processes at once.
        threads: of each model in each process.
        stall: seconds without progress after which a process is ended.
        target: what a process runs; for tests.
    """
    waiting = list(enumerate(tasks))[::-1]
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.number is not None for worker in workers):
            while waiting and len(workers) < min(jobs, len(tasks)):
                workers.append(_start(settings, threads, target or _serve))
            for worker in workers:
                if worker.number is None and waiting:
                    worker.number, task = waiting.pop()
                    worker.heard = time.monotonic()
                    with contextlib.suppress(OSError):  # it has died: told below
                        worker.pipe.send((worker.number, task))
            ready = connection.wait([worker.pipe for worker in workers], timeout=1.0)
            for worker in list(workers):
                if worker.pipe in ready:
                    try:
                        event = worker.pipe.recv()
                    except (EOFError, OSError):
                        yield from _bury(worker, workers, "")
                        continue
                    worker.heard = time.monotonic()
                    if event.done or event.error is not None:
                        worker.number = None
                    yield event
                elif worker.number is not None and time.monotonic() - worker.heard > stall:
                    yield from _bury(worker, workers, f"nothing came of it for {stall:g} seconds")
    finally:
        for worker in workers:
            worker.pipe.close()  # one that waits for a file ends by itself
        for worker in workers:
            worker.process.join(5.0 if worker.number is None else 0.0)
            worker.process.kill()
            worker.process.join()


def _start(settings: Extraction, threads: int, target: Callable[[Any, Extraction, int], None]) -> _Worker:
    # spawn, since a forked process inherits the locks of the models' threads
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, settings, threads), daemon=True)
    start_process(process)
    theirs.close()
    return _Worker(process, ours)


def _bury(worker: _Worker, workers: list[_Worker], why: str) -> Iterator[Event]:
    """End a process and tell what became of its file."""
    workers.remove(worker)
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
    if worker.number is not None:
        reason = why or f"the process that read it ended with code {worker.process.exitcode}"
        yield Event(worker.number, error=f"The file could not be read: {reason}.")


def _serve(pipe: Any, settings: Extraction, threads: int) -> None:
    """In a process: read what is sent until nothing more comes."""
    end_with_parent()
    extractor = Extractor(settings, threads=threads)
    while True:
        try:
            number, task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(read_task(extractor, number, task, pipe.send))
        except KeyboardInterrupt:
            return


def read_task(extractor: Extractor, number: int, task: Task, tell: Callable[[Event], None]) -> Event:
    """Read a file, write its corpus, and return how it ended."""
    told = 0.0

    def report(what: str, share: float) -> None:
        nonlocal told
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            tell(Event(number, what, share))

    try:
        save_corpus(extractor.read(task.source, report), task.folder)
    except AffectusError as error:
        return Event(number, error=str(error), unwritten=isinstance(error, WriteError))
    except MemoryError:
        return Event(number, error=f"There is not enough memory for {task.source.path}.")
    return Event(number, "done", 1.0, done=True)


@dataclass(frozen=True)
class ReadFiles:
    """Work that reads files, for machines that see the same folders.

    Attributes:
        settings: what is extracted.
        threads: of each model in each process.
    """

    settings: Extraction
    threads: int = 1

    def open(self) -> Callable[[Task, Alive], None]:
        """Return what reads a file; it loads its models with the first one."""
        extractor = Extractor(self.settings, threads=self.threads)

        def read(task: Task, alive: Alive) -> None:
            event = read_task(extractor, 0, task, lambda _: alive())
            # a worker that was believed dead may have written it meanwhile
            if event.error is not None and not self.done(task):
                raise (WriteError if event.unwritten else AffectusError)(event.error.rstrip("."))

        return read

    def done(self, item: Task) -> bool:
        """Return whether a file's corpus is there."""
        return cached(item.folder) is not None
