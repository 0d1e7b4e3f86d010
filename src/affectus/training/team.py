"""Several workers that train one model: each goes through its part of every batch, and they average their gradients.

The batch size is that of all together, and each worker judges all of valid, so the epochs are those of a training by
one worker; what differs is the order of sums, and the weight of a sample where workers have parts of different size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


def check_together(config: RunConfig, unlabelled: bool = False) -> None:
    """Check that several workers can train a model.

    Raises:
        AffectusError: it is not trained by gradient, or by what needs all of a batch in one place.
    """
    build, reason = MODELS[config.model].build, None
    if not issubclass(build, Model):
        reason = "it is not trained by gradient"
    elif config.training.weighing is Weighing.PCGRAD:
        reason = "gradient surgery needs the whole batch in one place"
    elif unlabelled:
        reason = "what is learned without labels is averaged in one place"
    elif build.on_batch_end is not Model.on_batch_end or build.on_epoch_end is not Model.on_epoch_end:
        reason = "it keeps something of each utterance between batches"
    if reason is not None:
        raise AffectusError(
            f"Several workers cannot train {config.model!r} together", got=reason, remedy="Leave --workers out"
        )
