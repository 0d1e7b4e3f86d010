"""Batch normalisation that leaves padding and missing modalities out of its statistics.

The running variance is that of the batches themselves, not of what they are drawn from: what was learned from one small
batch is then told of it in evaluation too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.kernels import own_kernels
from affectus.nn.masking import zero_masked
from affectus.nn.precision import single
from affectus.nn.together import is_shared, sum_over
from affectus.nn.tracing import reads_are_dear

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
        norm = self.norm
        if not self.training and reads_are_dear(x):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            return zero_masked((x - norm.running_mean) * scale + norm.bias, mask)
        x = single(x)  # a batch's statistics in bfloat16 would be its own noise
        if self.training and (is_shared() or x.is_cuda):
            return _over_all(norm, x, mask)
        rows = x[mask]
        if self.training and len(rows) > 1:
            with torch.no_grad():
                var, mean = torch.var_mean(rows, dim=0, correction=0)
                _move(norm, mean, var, torch.ones_like(mean, dtype=torch.bool))
            rows = F.batch_norm(rows, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
        else:
            rows = F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
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

    def forward(self, rows: Tensor, step: Tensor, real: Tensor | None) -> Tensor:
        """Normalise.

        Args:
            rows: (N, dim), finite everywhere.
            step: (N,) int64, the step of each row from 0.
            real: (N, dim) bool, which values count; None for all.

        Returns:
            (N, dim), zero where not real.
        """
        rows = single(rows)
        scale, shift = self.affine(rows, step, real)
        found = torch.addcmul(shift.unsqueeze(1), rows, scale.unsqueeze(1))
        return found if real is None else found * real

    def affine(self, rows: Tensor, step: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what each row is multiplied with and what is added to it, each (N,).

        In training the running statistics move. Arguments are those of :meth:`forward`, rows in single precision.
        """
        norm = self.norm
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        step = step.clamp(max=norm.num_features - 1)
        if self.training:
            of_batch, of_batch_var, enough = _moments_by_step(rows, step, real, len(mean))
            before = mean.clone(), var.clone()
            with torch.no_grad():
                _move(norm, of_batch, of_batch_var, enough)
            mean = torch.where(enough, of_batch, before[0])
            var = torch.where(enough, of_batch_var, before[1])
        scale = norm.weight * (var + norm.eps).rsqrt()
        shift = norm.bias - mean * scale
        return scale[step], shift[step]


def _over_all(norm: nn.BatchNorm1d, x: Tensor, mask: Tensor) -> Tensor:
    """Normalise (..., dim) by the statistics of the real rows of all workers, without cutting them out.

    No number is read from the device.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    lead, real = tuple(range(x.dim() - 1)), mask.unsqueeze(-1)
    rows = zero_masked(x, mask)
    count = sum_over(mask.sum().to(x))
    mean = sum_over(rows.sum(dim=lead)) / count.clamp(min=1)
    var = sum_over(((rows - mean) * real).square().sum(dim=lead)) / count.clamp(min=1)
    enough = (count > 1).expand_as(mean)
    before = norm.running_mean.clone(), norm.running_var.clone()
    with torch.no_grad():
        _move(norm, mean, var, enough)
    mean, var = torch.where(enough, mean, before[0]), torch.where(enough, var, before[1])
    return zero_masked((rows - mean) * (var + norm.eps).rsqrt() * norm.weight + norm.bias, mask)


def _moments_by_step(rows: Tensor, step: Tensor, real: Tensor | None, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of each step's real values, and (steps,) bool, which steps have more than one."""
    none = rows.new_zeros(steps)

    def by_step(x: Tensor) -> Tensor:
        return sum_over(none.index_add(0, step, x))

    if real is None and (kernels := own_kernels(rows)) is not None:
        rows, none = rows.contiguous(), none.double()
        sums, squares = rows.new_empty(2, len(rows), dtype=torch.float64)
        kernels.moments(rows.data_ptr(), *rows.shape, sums.data_ptr(), squares.data_ptr())
        count = by_step(torch.full_like(sums, rows.shape[1]))
        some = count.clamp(min=1)
        mean = by_step(sums) / some
        var = (by_step(squares) / some - mean.square()).clamp(min=0)
        return mean.to(rows), var.to(rows), count > 1
    if real is None:
        count = by_step(torch.full_like(step, rows.shape[1]).to(rows))
        mean = by_step(rows.sum(dim=1)) / count.clamp(min=1)
        # torch.var_mean over rows takes ten times as long, and squares and their sum twice as long
        squares = by_step(torch.linalg.vector_norm(rows - mean[step].unsqueeze(1), dim=1).square())
    else:
        count = by_step(real.sum(dim=1).to(rows))
        mean = by_step((rows * real).sum(dim=1)) / count.clamp(min=1)
        squares = by_step(((rows - mean[step].unsqueeze(1)).square() * real).sum(dim=1))
    return mean, squares / count.clamp(min=1), count > 1


def _move(norm: nn.BatchNorm1d, mean: Tensor, var: Tensor, where: Tensor) -> None:
    """Move the running statistics towards a batch's."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # no number is read from the device
    norm.num_batches_tracked.add_(where.any())
    momentum = where * norm.num_batches_tracked.clamp(min=1).to(mean).reciprocal().clamp(min=MOMENTUM)
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(var, momentum)
