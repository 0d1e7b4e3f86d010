"""Several devices of one machine that train a run together, each with a process of its own.

Lightning's data-parallel training does the work: NCCL between GPUs, Gloo between processes on a CPU. The first process
writes the run; the others have a copy of their own, which goes when they end.
"""

import contextlib
import multiprocessing
import os
import queue
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from affectus.corpus import load_corpus
from affectus.errors import AffectusError
from affectus.threads import end_with_parent, start_process
from affectus.training.config import RunConfig
from affectus.training.device import choose_device
from affectus.training.inference import EpochScorer
from affectus.training.run import Reporter, SeedEvent, train_run
from affectus.training.team import Team, check_together, own_folder
from affectus.training.transfer import Source

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment


@dataclass(frozen=True)
class Order:
    """What the processes train.

    Attributes:
        config: of the run.
        corpus: its folder.
        out: the run folder.
        identity: the corpus's hash.
        scorer: scores valid after each epoch.
        threads: of torch, for each process.
        device: ``cpu`` or ``cuda``.
        workers: how many processes.
        meeting: a file by which they find each other.
        source: a run whose weights and scaling this one starts from.
    """

    config: RunConfig
    corpus: Path
    out: Path
    identity: str | None
    scorer: EpochScorer | None
    threads: int
    device: str
    workers: int
    meeting: Path
    source: Source | None


def train_on_devices(
    config: RunConfig, corpus: str | Path, out: str | Path, devices: int, *, identity: str | None = None,
    scorer: EpochScorer | None = None, report: Reporter | None = None, tell: Callable[[str], None] | None = None,
    threads: int = 1, device: str = "auto", source: Source | None = None,
) -> Path:  # fmt: skip
    """Train every seed that is not yet trained in ``out``, by several devices together, and return the run folder.

    Args:
        config: of the run.
        corpus: its folder.
        out: the run folder; one that holds the same run is resumed.
        devices: GPUs, or processes on a CPU.
        identity: the corpus's hash.
        scorer: scores valid after each epoch.
        report: told of each epoch.
        tell: told in lines what was taken from the source.
        threads: of torch, for each process.
        device: ``auto``, ``cpu`` or ``cuda``.
        source: a run whose weights and scaling this one starts from.

    Raises:
        AffectusError: workers cannot train this together, there are too few GPUs, or what :func:`train_run` says.
    """
    check_together(config, devices)
    kind = choose_device(device).type
    if kind == "cuda" and torch.cuda.device_count() < devices:
        raise AffectusError(
            "There are too few GPUs",
            where=f"--devices {devices}",
            got=torch.cuda.device_count(),
            remedy="Ask for fewer, or train on the processor with --device cpu",
        )
    context = multiprocessing.get_context("spawn")  # a forked process inherits the threads' locks of torch
    events: multiprocessing.Queue[SeedEvent | str | AffectusError] = context.Queue()
    with tempfile.TemporaryDirectory(prefix="affectus-") as scratch:
        meeting = Path(scratch) / "meeting"
        order = Order(
            config, Path(corpus), Path(out), identity, scorer, threads, kind, devices, meeting, source
        )  # fmt: skip
        processes = [context.Process(target=_work, args=(n, order, events), daemon=True) for n in range(devices)]
        try:
            with _said_less():
                for process in processes:
                    start_process(process)
            while any(process.is_alive() for process in processes) or not events.empty():
                with contextlib.suppress(queue.Empty):
                    event = events.get(timeout=0.1)
                    if isinstance(event, AffectusError):
                        raise event
                    if isinstance(event, SeedEvent) and report is not None:
                        report(event)
                    elif isinstance(event, str) and tell is not None:
                        tell(event)
                if any(process.exitcode for process in processes) and events.empty():
                    code = next(process.exitcode for process in processes if process.exitcode)
                    raise AffectusError(
                        "A process that trained with others has died",
                        got=f"exit code {code}",
                        remedy="Give the same command again: the run goes on from its last epoch",
                    )
        finally:
            # one that died leaves the others waiting for it
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
    return Path(out)


def _work(number: int, order: Order, events: Any) -> None:
    """In a process: train each seed with the others."""
    end_with_parent()
    # all are on this machine, whatever its name resolves to
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if Path("/sys/class/net/lo").exists() else "lo0")
    if order.device == "cuda":
        torch.cuda.set_device(number)
    torch.distributed.init_process_group(
        _backend(order.device), init_method=order.meeting.as_uri(), rank=number, world_size=order.workers
    )
    try:
        with own_folder(number, order.out) as mine:
            torch.distributed.barrier()  # all have seen how far the run is
            train_run(
                order.config,
                load_corpus(order.corpus),
                mine,
                identity=order.identity,
                scorer=order.scorer,
                report=None if number else events.put,
                tell=None if number else events.put,
                threads=order.threads,
                device=order.device,
                source=order.source,
                team=Team(number, order.workers, lambda: _trainer_options(number, order)),
            )
            torch.distributed.barrier()
    except AffectusError as error:
        events.put(error)
    finally:
        events.close()
        events.join_thread()
    torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _said_less() -> Iterator[None]:
    """Let processes that are started keep torch's advice on how to train faster to themselves."""
    name = "TORCH_CPP_LOG_LEVEL"
    given = os.environ.get(name)
    os.environ[name] = given or "ERROR"
    try:
        yield
    finally:
        if given is None:
            del os.environ[name]


def _backend(device: str) -> str:
    return "nccl" if device == "cuda" else "gloo"


def _trainer_options(number: int, order: Order) -> dict[str, Any]:
    """Return what Lightning's Trainer needs in a process that others have started."""
    from lightning.pytorch.strategies import DDPStrategy

    return {
        # stages of a model train some of its weights alone
        "strategy": DDPStrategy(process_group_backend=_backend(order.device), find_unused_parameters=True),
        "plugins": [_environment(number, order.workers)],
        "devices": order.workers,
        "use_distributed_sampler": False,
    }


def _environment(number: int, workers: int) -> "ClusterEnvironment":
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    class Here(LightningEnvironment):
        """Processes on this machine, which have found each other already."""

        @property
        def creates_processes_externally(self) -> bool:
            return True

        def local_rank(self) -> int:
            return number

        def global_rank(self) -> int:
            return number

        def world_size(self) -> int:
            return workers

    return Here()
