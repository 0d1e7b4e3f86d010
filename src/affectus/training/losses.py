"""The mean losses of a split, whatever batches it comes in."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from affectus.batches import Batch
from affectus.errors import AffectusError
from affectus.models import Model, ModelOutput
from affectus.objectives import Task


def losses_of(model: Model, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
    """Return a model's losses of a batch, each a single number.

    Raises:
        AffectusError: one is not, or the output is not what the tasks ask for.
    """
    _check_output(model, output)
    losses = model.losses(output, batch)
    for name, loss in losses.items():
        if loss.ndim:
            raise AffectusError(
                f"The loss {name!r} is more than one number",
                where=f"losses() of the model class {type(model).__name__}",
                got=f"the shape {list(loss.shape)}",
                expected="a single number for a batch",
                remedy="Take the mean over its utterances",
            )
    return losses


def _check_output(model: Model, output: object) -> None:
    where = f"forward() of the model class {type(model).__name__}"
    if not isinstance(output, ModelOutput):
        raise AffectusError(
            "A model returned something else than its output",
            where=where,
            got=type(output).__name__,
            expected="a ModelOutput",
        )
    for task in model.tasks:
        found = output.predictions.get(task.name)
        if found is None or found.shape[-1] != task.outputs:
            raise AffectusError(
                f"A model does not predict the task {task.name!r}",
                where=where,
                got="nothing" if found is None else f"a last dimension of {found.shape[-1]}",
                expected=f"(..., {task.outputs}), one logit or number for each output of the task",
                remedy="affectus.models.Heads makes them",
            )


class LossMeans:
    """Gathers losses over the batches of a split.

    Those of a task and of its heads are means over the task's labels, others over utterances.

    Args:
        tasks: of the model.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = {task.name: task for task in tasks}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(
        self, batch: Batch, total: Tensor, losses: Mapping[str, Tensor], beside: Mapping[str, Tensor] | None = None
    ) -> None:
        """Add a batch's mean losses; each is () or (models,), where models are judged together.

        Args:
            batch: what they are of.
            total: the weighed sum of the losses.
            losses: by name.
            beside: further ones, which have no part in the total.
        """
        utterances = batch.mask.sum()
        counts = {name: self._labels(task, batch) for name, task in self.tasks.items()}
        self._add("loss", total, utterances)
        for name, loss in {**losses, **(beside or {})}.items():
            self._add(f"loss.{name}", loss, counts.get(name.partition(".")[0], utterances))

    @staticmethod
    def _labels(task: Task, batch: Batch) -> Tensor:
        """Count utterances by their labels: one that has all of the task's values is 1."""
        known = ~torch.isnan(task.target(batch.labels))
        return known.sum() / known.shape[-1]

    def _add(self, name: str, value: Tensor, count: Tensor) -> None:
        # stays on the device: reading it for each batch would wait for it
        term = value * count
        self._sums[name] = self._sums[name] + term if name in self._sums else term
        self._counts[name] = self._counts[name] + count if name in self._counts else count

    def result(self, weights: Mapping[str, float], model: int | None = None) -> dict[str, float]:
        """Return ``loss`` and ``loss.<name>``; one of a task without any label has no part in it and is left out.

        Args:
            weights: by name, of the losses that make up the total.
            model: which, where several were judged together.
        """
        counts = {name: float(count) for name, count in self._counts.items()}
        sums = {name: float(x if model is None else x[model]) for name, x in self._sums.items()}
        means = {name: x / counts[name] for name, x in sums.items() if counts[name]}
        if any(counts[f"loss.{name}"] != counts["loss"] for name in weights):
            # the batches' totals weigh utterances; each task's labels have to
            found = {name: weight for name, weight in weights.items() if f"loss.{name}" in means}
            means["loss"] = sum(weight * means[f"loss.{name}"] for name, weight in found.items())
        return means


def task_loss(tasks: Sequence[Task], means: Mapping[str, float]) -> float:
    """Return the weighed sum of the tasks' own losses, of those that have labels."""
    return sum(task.weight * means[f"loss.{task.name}"] for task in tasks if f"loss.{task.name}" in means)
