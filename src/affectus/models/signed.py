"""Labels of any kind as signed numbers, for methods that part utterances by the sign of their label."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from affectus.objectives import RealLoss, Task, TaskKind

SMALLEST = 1e-8


class SignedLabels:
    """A task's labels, every value by itself: real ones about their middle, all others 1 where they hold and else -1.

    Args:
        task: whose labels.

    Attributes:
        task: the same.
        width: values of a label.
        middle: of a real range that does not change its sign, else 0.
        limit: the largest absolute value; None if the range is unknown.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.width = task, task.outputs
        self.middle, self.limit = 0.0, None if task.kind is TaskKind.REAL else 1.0
        if task.kind is TaskKind.REAL and task.low is not None and task.high is not None:
            self.middle = 0.0 if task.low < 0 < task.high else (task.low + task.high) / 2
            self.limit = max(self.middle - task.low, task.high - self.middle)

    def of(self, labels: Mapping[str, Tensor]) -> Tensor:
        """Return (..., width) from a batch's labels; NaN where missing."""
        return self.of_target(self.task.target(labels))

    def of_target(self, target: Tensor) -> Tensor:
        """Return (..., width) from the task's target; NaN where missing."""
        if self.task.kind is TaskKind.REAL:
            return target - self.middle
        if self.task.kind is TaskKind.MULTI_LABEL:
            return 2 * target - 1
        missing = torch.isnan(target)
        index = torch.where(missing, 0, target).long().squeeze(-1)
        return (2.0 * F.one_hot(index, self.width).to(target) - 1).masked_fill(missing, torch.nan)

    def loss(self, output: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean loss of a prediction against signed labels that need not be whole.

        A class task weighs an utterance by the mean weight over its classes, and learns the labels as shares.

        Args:
            output: (B, width), as of a head.
            label: (B, width), NaN where missing.
            weight: (B, width).

        Returns:
            A number, the mean over the known labels; 0 if none is known.
        """
        known = ~torch.isnan(label)
        label, weight = torch.where(known, label, 0.0), torch.where(known, weight, 0.0)
        task = self.task
        factors = output.new_tensor(task.positive_weights) if task.positive_weights else None
        if task.kind is TaskKind.MULTI_LABEL:
            each = F.binary_cross_entropy_with_logits(output, (label + 1) / 2, pos_weight=factors, reduction="none")
        elif task.kind is not TaskKind.REAL:
            share = ((label + 1) / 2).clamp(min=0.0) + SMALLEST
            share = share / share.sum(dim=-1, keepdim=True)
            each = F.cross_entropy(output, share, weight=factors, reduction="none").unsqueeze(-1)
            weight, known = weight.mean(dim=-1, keepdim=True), known.all(dim=-1, keepdim=True)
        elif task.loss is RealLoss.MSE:
            each = (output - self.middle - label).square()
        elif task.loss is RealLoss.L1:
            each = (output - self.middle - label).abs()
        else:
            each = F.smooth_l1_loss(output - self.middle, label, reduction="none")
        mean: Tensor = (weight * each * known).sum() / known.sum().clamp(min=1)
        return mean


def signed_labels(codes: Sequence[SignedLabels], labels: Mapping[str, Tensor]) -> Tensor:
    """Return the signed labels of several tasks side by side, (..., values)."""
    return torch.cat([code.of(labels) for code in codes], dim=-1)
