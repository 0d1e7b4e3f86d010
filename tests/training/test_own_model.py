"""Models that others write: what breaks the contract is one sentence, before anything is learned from it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from affectus.batches import Batch
from affectus.errors import AffectusError
from affectus.models import Model, ModelOutput
from affectus.objectives import Task
from affectus.testing import Case, cases
from affectus.training.losses import losses_of

CASE: Case = next(case for case in cases() if case.model == "hazarika_sa")


class Own(Model):
    """Gives what a function makes of the tasks and a batch."""

    def __init__(self, tasks: tuple[Task, ...], give: Callable[[tuple[Task, ...], Batch], object]) -> None:
        super().__init__(inputs={}, tasks=tasks)
        self.give = give

    def forward(self, batch: Batch) -> ModelOutput:
        return self.give(self.tasks, batch)  # type: ignore[return-value]

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        return {"each": torch.zeros(3)}


def _right(tasks: tuple[Task, ...], batch: Batch) -> ModelOutput:
    return ModelOutput({task.name: torch.zeros(*batch.mask.shape, task.outputs) for task in tasks})


def _wide(tasks: tuple[Task, ...], batch: Batch) -> ModelOutput:
    return ModelOutput({task.name: torch.zeros(*batch.mask.shape, 77) for task in tasks})


@pytest.mark.parametrize(
    ("give", "match"),
    [
        (lambda tasks, batch: torch.zeros(2), r"something else than its output in forward\(\) .* Own: got Tensor"),
        (lambda tasks, batch: ModelOutput({}), r"does not predict the task .*: got nothing; expected \(\.\.\., \d"),
        (_wide, r"does not predict the task .*: got a last dimension of 77"),
    ],
)
def test_another_output_is_refused(give: Callable[[tuple[Task, ...], Batch], object], match: str) -> None:
    batch = CASE.batch()
    model = CASE.build()
    assert isinstance(model, Model)
    own = Own(model.tasks, give)
    with pytest.raises(AffectusError, match=match):
        losses_of(own, own(batch), batch)


def test_a_loss_of_several_numbers_is_refused() -> None:
    batch = CASE.batch()
    model = CASE.build()
    assert isinstance(model, Model)
    own = Own(model.tasks, _right)
    with pytest.raises(AffectusError, match=r"The loss 'each' is more than one number .*Own: got the shape \[3\]"):
        losses_of(own, own(batch), batch)
    assert losses_of(model, model(batch), batch)
