"""Dropout of large tensors on a CPU: PyTorch's draws one number per value and keeps the mask as floats.

Here four decisions come from one random number, and the mask is kept as bytes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 1 << 16
"""Dropout decides by 16 random bits."""


def draw_kept(shape: torch.Size, least: int) -> Tensor:
    """Bool on the CPU, False with a probability of ``least`` in :data:`LEVELS`; four decisions to a random number."""
    count = shape.numel()
    numbers = torch.empty(-(-count // 4), dtype=torch.int64)
    numbers.random_(torch.iinfo(torch.int64).min, None)
    return (numbers.view(torch.int16)[:count] >= least - LEVELS // 2).view(shape)


class LargeDropout(nn.Dropout):
    """Dropout for what is large, of the same distribution as ``torch.nn.Dropout``.

    Args:
        p: share dropped, in [0, 1); rounded to a multiple of 1/65536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop and scale what is left, in training."""
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        y: Tensor = _Drop.apply(x, round(self.p * LEVELS))  # type: ignore[no-untyped-call]
        return y


class _Drop(torch.autograd.Function):
    """Multiplication with a mask of bytes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, least: int) -> Tensor:
        """Drop."""
        kept = draw_kept(x.shape, least)
        ctx.save_for_backward(kept)
        ctx.factor = LEVELS / (LEVELS - least)
        return torch.mul(x, kept).mul_(ctx.factor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Drop the same of the gradient."""
        (kept,) = ctx.saved_tensors
        return torch.mul(grad, kept).mul_(ctx.factor), None
