"""Ray Train: one run by several workers, who find each other through Ray and train through Lightning."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectus.cluster.executor import ATTEMPTS
from affectus.cluster.session import Cluster
from affectus.corpus import load_corpus
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError
from affectus.evaluation import Scorer
from affectus.files import claim, lock_folder, write_text
from affectus.training import Run, build_config, load_run, train_run
from affectus.training.config import RunConfig
from affectus.training.team import Team, check_together, own_folder

PATIENCE = 30.0
"""Seconds to wait for a worker of a driver that is gone, which ends within some."""


@dataclass(frozen=True)
class Order:
    """What the workers train; all of them see its folders.

    Attributes:
        config: of the run.
        corpus: its folder.
        out: the run folder.
        threads: of torch, for each worker.
        device: ``auto``, ``cpu`` or ``cuda``.
        failure: a file that says why it cannot be trained at all.
    """

    config: RunConfig
    corpus: Path
    out: Path
    threads: int
    device: str
    failure: Path


def train_together(
    cluster: Cluster, model: str, corpus: str | Path, *, out: str | Path, workers: int, device: str = "auto",
    **settings: Any,
) -> Run:  # fmt: skip
    """Train a model by several workers of a cluster; one that dies, or a driver that restarts, costs an epoch at most.

    Args:
        cluster: where.
        model: a registered model.
        corpus: its folder.
        out: the run folder; one that holds the same run is resumed.
        workers: how many train each seed together.
        device: ``auto``, ``cpu`` or ``cuda``.
        **settings: as of :func:`affectus.training.build_config`.

    Raises:
        AffectusError: it cannot be trained, the cluster has no room, or it did not go on.
    """
    folder, out = Path(corpus).resolve(), Path(out).resolve()
    config = build_config(model, load_corpus(folder), **settings)
    check_together(config, workers)
    scratch = out.parent / f".{out.name}.ray"
    order = Order(config, folder, out, cluster.threads, device, scratch / "failure")
    with claim(out):  # the workers hold the folder while they train, the driver for all the time
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir()
            with cluster.connected() as ray:
                room = cluster.places(ray)
                if room < workers:
                    raise AffectusError(
                        "The cluster has no room for so many workers",
                        where=cluster.address,
                        got=workers,
                        expected=f"at most {room}",
                    )
                _run(ray, cluster, order, workers, scratch)
            _raise_failure(order)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return load_run(out)


def _raise_failure(order: Order) -> None:
    if order.failure.is_file():
        raise AffectusError(order.failure.read_text(encoding="utf-8").rstrip("."))


def _run(ray: Any, cluster: Cluster, order: Order, workers: int, scratch: Path) -> None:
    from ray import train
    from ray.train.torch import TorchTrainer

    resources = {"CPU": cluster.threads, **({"GPU": cluster.gpus} if cluster.gpus else {})}
    trainer = TorchTrainer(
        work_together,
        train_loop_config={"order": order},
        scaling_config=train.ScalingConfig(
            num_workers=workers, use_gpu=cluster.gpus > 0, resources_per_worker=resources
        ),
        run_config=train.RunConfig(
            name="train", storage_path=str(scratch), failure_config=train.FailureConfig(max_failures=ATTEMPTS - 1)
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # what Ray raises has no common class
        _raise_failure(order)
        raise AffectusError(
            "The workers did not come to an end",
            where=cluster.address,
            got=" ".join(str(error).split())[-300:],
            remedy="Give the same command again: the run goes on from its last epoch",
        ) from None


def work_together(config: Mapping[str, Any]) -> None:
    """In a worker: train each seed with the others. The first writes the run; the others have a copy of their own."""
    import torch.distributed
    from ray import train

    order: Order = config["order"]
    context = train.get_context()
    number, workers = context.get_world_rank(), context.get_world_size()
    if order.failure.is_file():
        return
    try:
        if not number:
            with lock_folder(order.out, wait=PATIENCE):
                pass  # nobody whose driver or group is gone writes there any more
        torch.distributed.barrier()
        with own_folder(number, order.out) as mine:
            torch.distributed.barrier()  # all have seen how far the run is
            train_run(
                order.config,
                load_corpus(order.corpus),
                mine,
                identity=corpus_hash(order.corpus),
                scorer=Scorer(),
                threads=order.threads,
                device=order.device,
                team=Team(number, workers, trainer_options),
            )
            torch.distributed.barrier()
    except AffectusError as error:
        with contextlib.suppress(AffectusError):  # on a full disk there may be no room for it either
            write_text(order.failure, str(error))
        raise  # so that Ray ends the others, who may wait for this one


def trainer_options() -> dict[str, Any]:
    """Return what Lightning's Trainer needs within Ray Train."""
    import ray.train.lightning

    there: Any = ray.train.lightning  # its classes are not typed
    return {
        # stages of a model train some of its weights alone
        "strategy": there.RayDDPStrategy(find_unused_parameters=True),
        "plugins": [there.RayLightningEnvironment()],
        "devices": "auto",
        "use_distributed_sampler": False,
    }
