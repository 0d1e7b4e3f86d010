"""Ways to combine the losses of several tasks in one step.

``fixed``: the sum, each loss times its task's weight.

``uncertainty`` (Kendall, Gal and Cipolla 2018, https://arxiv.org/abs/1705.07115): each loss L_i is scaled by a learned
log-variance s_i: sum_i exp(-s_i) L_i + s_i / 2; for real tasks trained by squared error the first term is halved, as
the Gaussian's likelihood has it. Starts at s_i = 0.

``pcgrad`` (Yu et al. 2020, https://arxiv.org/abs/2001.06782): where the gradients of two tasks point against each
other, the part of the one that does so is removed, in random order of the others; then they are added.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn

from affectus.objectives.tasks import RealLoss, Task, TaskKind


class Weighing(StrEnum):
    """How the losses of several tasks are combined."""

    FIXED = "fixed"
    UNCERTAINTY = "uncertainty"
    PCGRAD = "pcgrad"


def loss_weights(tasks: Sequence[Task], losses: Iterable[str]) -> dict[str, float]:
    """Return the weight of each named loss: that of the task whose name it bears, alone or before a dot, else 1.

    So every head of a task weighs as the task does: ``intensity`` and ``intensity.text``.
    """
    weights = {task.name: task.weight for task in tasks}
    return {name: weights.get(name.partition(".")[0], 1.0) for name in losses}


class UncertaintyWeights(nn.Module):
    """The learned log-variances of the tasks' losses.

    Args:
        tasks: whose losses are weighed; other losses of a model are added as they are.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict({task.name: nn.Parameter(torch.zeros(())) for task in tasks})
        self.halved = {task.name for task in tasks if task.kind is TaskKind.REAL and task.loss is RealLoss.MSE}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the combined loss; each loss already bears its task's fixed weight."""
        terms = []
        for name, loss in losses.items():
            if name in self.log_variances:
                s = self.log_variances[name]
                loss = torch.exp(-s) * loss * (0.5 if name in self.halved else 1.0) + 0.5 * s
            terms.append(loss)
        return torch.stack(terms).sum()


def project_conflicts(gradients: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return the sum of the tasks' gradients after gradient surgery (Yu et al. 2020, Algorithm 1).

    Args:
        gradients: (tasks, parameters), one flat gradient per task.
        generator: of the random order of the others.

    Returns:
        (parameters,)

    >>> project_conflicts(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])).tolist()
    [0.5, 1.5]
    """
    projected = gradients.clone()
    norms = (gradients * gradients).sum(dim=1)
    for i in range(len(gradients)):
        others = torch.randperm(len(gradients), generator=generator).tolist()
        for j in others:
            if j == i:
                continue
            overlap = projected[i] @ gradients[j]
            # a product of 0 where they agree: no branch on a device's value
            projected[i] -= (overlap.clamp(max=0.0) / norms[j].clamp(min=1e-12)) * gradients[j]
    return projected.sum(dim=0)


def surgery(losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
    """Set the parameters' ``grad`` to the losses' gradients after gradient surgery.

    Args:
        losses: one scalar per task.
        parameters: those that are trained.
    """
    rows = []
    for i, loss in enumerate(losses):
        found = torch.autograd.grad(loss, parameters, retain_graph=i < len(losses) - 1, allow_unused=True)
        rows.append(
            torch.cat(
                [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
            )
        )
    combined = project_conflicts(torch.stack(rows))
    for parameter, part in zip(parameters, torch.split(combined, [p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter).clone()
