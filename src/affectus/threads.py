"""How many threads torch uses, set on purpose; and processes that end with the one that started them."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from affectus.errors import AffectusError


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads within the block, and as many as before after it.

    Within it numbers below 1e-38 are zero. A gradient that goes back through a hundred steps and more comes down to
    them, and processors take many times as long for them: 200 steps of an LSTM took ten times as long as 100.

    Raises:
        AffectusError: there is no such number of threads.
    """
    import torch

    if count < 1:
        raise AffectusError("The number of threads is not right", got=count, expected="1 or more")
    before, smallest = torch.get_num_threads(), torch.tensor(1e-39)
    flushed = float(smallest * 1.0) == 0.0
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)


def sleep_soon() -> None:
    """Let threads of torch and of the kernels that wait for each other sleep soon; before torch is imported.

    GNU's OpenMP lets a thread look 300,000 times before it sleeps. It does not know of other programs, beside which two
    threads so take up to several times as long, while 3,000 times cost 2 to 3 % on an idle machine
    (``benchmarks/spinning.py``). What the environment says already has precedence; worker processes inherit it.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "3000"


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_process(process: BaseProcess) -> None:
    """Start a worker that hears no Ctrl-C: the terminal sends it to all, and this process ends its workers."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        process.start()
        return
    # what is blocked here stays so there; the tracker, once it is started, lets all signals through again
    resource_tracker.ensure_running()
    with _signals_later():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Let what tells this process to end wait: a worker that is told half of its task would say so in a traceback."""
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def end_with_parent() -> None:
    """In a worker: end when the process that started it has gone, lest it write into a folder that is being resumed."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
