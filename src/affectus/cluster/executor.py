"""Ray Data as an executor: items stream through workers that are kept, and replaced when they die or their node leaves.

An item whose worker ended is tried again elsewhere, :data:`ATTEMPTS` times in all; what has its result by then is not
done twice. One that brings every worker down, or hangs, is listed as failed, and the others go on. Attempts are kept as
files, since the worker that could tell of them is gone.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectus.cluster.session import Cluster
from affectus.errors import AffectusError, WriteError
from affectus.parallel import Alive, Ended, Work, attempt

ATTEMPTS = 3
STALL_SECONDS = 300.0
"""A worker that tells of no progress for so long is ended."""
MOST_BLOCKS = 20_000


@dataclass(frozen=True)
class RayExecutor:
    """Does work on the machines of a cluster.

    Attributes:
        cluster: where.
        scratch: a folder that all machines see; what is in it goes.
        stall: seconds without progress after which a worker is ended; None where work tells of none.
    """

    cluster: Cluster
    scratch: Path
    stall: float | None = None

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Ended]:
        """Do all items and yield how each ended, as they end.

        Raises:
            AffectusError: Ray is missing, no cluster answers, it is lost on the way, or a result cannot be written.
        """
        if not items:
            return
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        try:
            with self.cluster.connected() as ray:
                yield from self._stream(ray, work, items)
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _stream(self, ray: Any, work: Work, items: Sequence[Any]) -> Iterator[Ended]:
        import ray.data as data

        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        blocks = min(len(items), MOST_BLOCKS)
        places = min(self.cluster.places(ray), len(items))
        numbers = [{"id": number} for number in range(len(items))]
        stream = data.from_items(numbers, override_num_blocks=blocks).map_batches(
            Worker,
            batch_size=1,
            zero_copy_batch=True,
            num_cpus=self.cluster.threads,
            num_gpus=self.cluster.gpus,
            # one at a time, lest a long item keep a short one waiting while another worker is idle
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=places, initial_size=places, max_tasks_in_flight_per_actor=1
            ),
            fn_constructor_args=(work, list(items), self.scratch, self.stall),
        )
        told: set[int] = set()
        try:
            for row in stream.iter_rows():
                number = int(row["id"])
                if row["unwritten"]:
                    raise WriteError(row["unwritten"].rstrip("."))
                if number not in told:
                    told.add(number)
                    yield Ended(number, row["error"] or None, float(row["seconds"]))
        except ray.exceptions.RayError as error:
            raise AffectusError(
                "The cluster did not go on",
                where=self.cluster.address,
                got=" ".join(str(error).split())[:300],
                remedy="Give the same command again: what is done stays done",
            ) from None


class Worker:
    """In a worker: does the items whose numbers it is given.

    Args:
        work: what is done.
        items: all of them.
        scratch: where attempts are kept.
        stall: seconds without progress after which this process ends itself.
    """

    def __init__(self, work: Work, items: Sequence[Any], scratch: Path, stall: float | None) -> None:
        self.work, self.items, self.scratch, self.stall = work, items, scratch, stall
        self._call: Callable[[Any, Alive], None] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do a batch of items."""
        numbers = [int(number) for number in batch["id"]]
        ended, unwritten = [], []
        for number in numbers:
            try:
                ended.append(self._one(number))
            except WriteError as error:
                ended.append(Ended(number))
                unwritten.append(str(error))
            else:
                unwritten.append("")
        return {
            "id": numbers,
            "error": [one.error or "" for one in ended],
            "seconds": [one.seconds for one in ended],
            "unwritten": unwritten,
        }

    def _one(self, number: int) -> Ended:
        item, record = self.items[number], self.scratch / f"{number:08d}"
        before = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
        if before and self.work.done(item):
            return Ended(number)
        stalled = [line for line in before if line]
        if stalled:
            return Ended(number, stalled[0])
        if len(before) >= ATTEMPTS:
            return Ended(number, f"The worker that had it ended, {len(before)} times.")
        with record.open("a", encoding="utf-8") as stream:
            stream.write("\n")
        watch = Watch(record, self.stall)
        try:
            return attempt(self._opened, number, item, watch.alive)
        finally:
            watch.stop()

    def _opened(self, item: Any, alive: Alive) -> None:
        if self._call is None:
            self._call = self.work.open()
        self._call(item, alive)


class Watch:
    """Ends this process if nothing is heard for long, and writes down why."""

    def __init__(self, record: Path, stall: float | None) -> None:
        self._record, self._stall = record, stall
        self._heard = time.monotonic()
        self._stopped = threading.Event()
        if stall is not None:
            threading.Thread(target=self._look, daemon=True).start()

    def alive(self) -> None:
        """Take note that it goes on."""
        self._heard = time.monotonic()

    def stop(self) -> None:
        """Look no longer."""
        self._stopped.set()

    def _look(self) -> None:
        assert self._stall is not None
        while not self._stopped.wait(min(1.0, self._stall / 4)):
            if time.monotonic() - self._heard > self._stall:
                with self._record.open("a", encoding="utf-8") as stream:
                    stream.write(f"Nothing came of it for {self._stall:g} seconds.\n")
                os._exit(1)
