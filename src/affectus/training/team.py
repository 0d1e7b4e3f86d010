"""Several workers that train one model: each goes through its part of every batch, and they average their gradients.

The batch size is that of all together. A loss divides by what all of them have of labels, batch normalisation takes the
statistics of all (:mod:`affectus.nn.together`), and each worker judges all of valid: without dropout the epochs are
those of a training by one worker, but for the order of sums. Dropout draws for each worker by itself.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch.distributed
from torch import Tensor

from affectus.errors import AffectusError
from affectus.models import MODELS, Model
from affectus.objectives import Weighing
from affectus.training.config import RunConfig


@dataclass(frozen=True)
class Team:
    """A worker's place among those that train together.

    Attributes:
        number: of this worker, from 0.
        workers: how many there are.
        trainer_options: returns what Lightning's Trainer needs to find the others.
    """

    number: int
    workers: int
    trainer_options: Callable[[], dict[str, Any]]

    @cached_property
    def others(self) -> "Group":
        """What adds over all workers; all have to ask for it."""
        return Group(self.workers)


class Group:
    """Workers that are processes which ``torch.distributed`` has brought together.

    Args:
        workers: how many there are.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        # of its own, lest sums and the averages of gradients meet in another order elsewhere
        self._group = torch.distributed.new_group()

    def add(self, x: Tensor) -> Tensor:
        """Return the sum over all workers."""
        total = x.detach().clone()
        torch.distributed.all_reduce(total, group=self._group)
        return total


@contextmanager
def own_folder(number: int, out: Path) -> Iterator[Path]:
    """Yield a worker's run folder: the run itself for the first, for the others a copy that goes.

    All have to enter before the first one trains.
    """
    if not number:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="affectus-") as own:
        mine = Path(own) / "run"
        if out.is_dir():
            shutil.copytree(out, mine, ignore=shutil.ignore_patterns(".*"))
        yield mine


def why_apart(build: type[Any]) -> str | None:
    """Return why workers cannot train a model together, if they cannot."""
    if not issubclass(build, Model):
        return "it is not trained by gradient"
    if build.on_batch_end is not Model.on_batch_end or build.on_epoch_end is not Model.on_epoch_end:
        return "it keeps something of each utterance between batches"
    return build.whole_batch


def check_together(config: RunConfig, workers: int, *, unlabelled: bool = False) -> None:
    """Check that several workers can train a model.

    Args:
        config: of the run.
        workers: how many.
        unlabelled: utterances without labels are learned from, too.

    Raises:
        AffectusError: it is not trained by gradient, or by what needs all of a batch in one place.
    """
    reason = why_apart(MODELS[config.model].build)
    if config.training.weighing is Weighing.PCGRAD:
        reason = reason or "gradient surgery needs the whole batch in one place"
    elif unlabelled:
        reason = reason or "what is learned without labels is averaged in one place"
    elif config.training.batch_size < workers:
        reason = reason or f"a batch of {config.training.batch_size} is too small for {workers} workers"
    if reason is not None:
        raise AffectusError(
            f"Several workers cannot train {config.model!r} together",
            got=reason,
            remedy="Leave --devices or --workers out",
        )
