"""Batches made ahead by a thread, while the device works on those before.

What is trained on is the same, in the same order: a loader's order depends on its seed and epoch alone, and it draws
nothing from PyTorch's random numbers.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace, TracebackType
from typing import Any, Protocol

import torch

from affectus.batches import Batch

AHEAD = {"cuda": 2, "cpu": 0}
"""Batches made ahead, by the device that trains. Where that is a CPU it made no epoch surely shorter."""


class Batches(Protocol):
    """What a loader is here."""

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where the Trainer looks for ``sampler.set_epoch``."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class Ahead:
    """A loader whose next batches are made by a thread; a context manager, at whose end no thread is left.

    Args:
        loader: what makes the batches.
        count: how many are made ahead, at least one.
        pin: put them into page-locked memory, from which a GPU takes them without the processor.
    """

    def __init__(self, loader: Batches, count: int, *, pin: bool) -> None:
        self.loader, self.count, self.pin = loader, count, pin
        self._lines: list[_Line] = []

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where the Trainer looks for ``sampler.set_epoch``."""
        return self.loader.batch_sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        line = _Line(iter(self.loader), self.count, self.pin)
        self._lines.append(line)
        try:
            yield from line
        finally:
            line.stop()
            if line in self._lines:
                self._lines.remove(line)

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._lines:
            self._lines.pop().stop()


@contextmanager
def ahead(loader: Batches | None, device: str) -> Iterator[Batches | None]:
    """Let a loader's batches be made ahead within the block, where the device that trains gains by it.

    Args:
        loader: what makes the batches.
        device: ``cpu`` or ``cuda``.
    """
    if loader is None or not AHEAD[device]:
        yield loader
        return
    with Ahead(loader, AHEAD[device], pin=device == "cuda") as found:
        yield found


class _Line:
    """What one thread makes, in order; an error that it meets is raised where its batch would have been."""

    def __init__(self, batches: Iterator[Batch], count: int, pin: bool) -> None:
        self._made: deque[Batch | BaseException | None] = deque()  # None is the end
        self._room, self._stopped = count, False
        self._changed = threading.Condition()
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._make, args=(batches, pin), name="batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._made)
                made = self._made.popleft()
                self._changed.notify_all()
            if made is None:
                return
            if isinstance(made, BaseException):
                raise made
            yield made

    def stop(self) -> None:
        """End the thread after the batch that it is making."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _make(self, batches: Iterator[Batch], pin: bool) -> None:
        torch.set_num_threads(self._threads)  # a new thread would take all cores
        try:
            for batch in batches:
                if not self._put(batch.pin_memory() if pin else batch):
                    return
            self._put(None)
        except BaseException as error:  # whatever it is, it belongs to who takes the batches
            self._put(error)

    def _put(self, made: Any) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._made) < self._room)
            if self._stopped:
                return False
            self._made.append(made)
            self._changed.notify_all()
            return True
