"""Batch normalisation that leaves padding and missing modalities out of its statistics."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTUM = 0.1
"""How much a batch moves the running statistics; until ten batches were seen, they are plain means over the batches."""


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the real rows alone. Its weights are those of ``torch.nn.BatchNorm1d``.

    A batch with less than two real rows is normalised by the running statistics, in training too.

    Args:
        dim: width of the rows.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (..., dim) to the same; zero where ``mask`` (...) is False."""
        rows, norm = x[mask], self.norm
        by_batch, momentum = self.training and len(rows) > 1, 0.0
        if by_batch:
            momentum = _next_momentum(norm)
        rows = F.batch_norm(
            rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, by_batch, momentum, norm.eps
        )
        return torch.zeros_like(x).masked_scatter(mask.unsqueeze(-1), rows)


class StepBatchNorm(nn.Module):
    """Batch normalisation of each step by itself, over the batch and over all of a row's columns.

    That is what ``torch.nn.BatchNorm1d(steps)`` does to (B, T, dim), whose weights it has; here only real values count,
    and a step at which a batch has less than two of them is normalised by the running statistics.

    Args:
        steps: that have statistics of their own; those that come later share the last one's.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(steps)

    def forward(self, rows: Tensor, step: Tensor, real: Tensor) -> Tensor:
        """Normalise.

        Args:
            rows: (N, dim), finite everywhere.
            step: (N,) int64, the step of each row from 0.
            real: (N, dim) bool, which values count.

        Returns:
            (N, dim), zero where not real.
        """
        norm = self.norm
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        step = step.clamp(max=norm.num_features - 1)
        if self.training:
            none = torch.zeros_like(mean)
            count = none.index_add(0, step, real.sum(dim=1).to(rows))
            of_batch = none.index_add(0, step, (rows * real).sum(dim=1)) / count.clamp(min=1)
            squares = none.index_add(0, step, ((rows - of_batch[step].unsqueeze(1)).square() * real).sum(dim=1))
            enough = count > 1
            with torch.no_grad():
                momentum = torch.where(enough, _next_momentum(norm), 0.0)
                kept_mean, kept_var = mean.clone(), var.clone()
                mean.lerp_(of_batch, momentum)
                var.lerp_(squares / (count - 1).clamp(min=1), momentum)
            mean = torch.where(enough, of_batch, kept_mean)
            var = torch.where(enough, squares / count.clamp(min=1), kept_var)
        scale = norm.weight * (var + norm.eps).rsqrt()
        shift = norm.bias - mean * scale
        return (rows * scale[step].unsqueeze(1) + shift[step].unsqueeze(1)) * real


def _next_momentum(norm: nn.BatchNorm1d) -> float:
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    return max(MOMENTUM, 1 / int(norm.num_batches_tracked))
