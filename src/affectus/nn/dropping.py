"""Dropout on a CPU: PyTorch's draws one number per value, and keeps the mask as floats.

Here a decision takes one random bit where the share is a half and 16 at most, which takes a quarter to an eighth of the
time; for what is large the masks are kept as bits or bytes.
"""

import struct
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.precision import in_full
from affectus.nn.tracing import is_plain

BITS = 16
LEVELS = 1 << BITS
"""Dropout decides by 16 random bits."""
WORD = 32
"""Decisions in a word."""
FEW = 1 << 13
"""Below so many values PyTorch's own dropout is as fast."""


def draw_kept(shape: torch.Size, least: int) -> Tensor:
    """Bool on the CPU, False with a probability of ``least`` in :data:`LEVELS`; four decisions to a random number."""
    count = shape.numel()
    numbers = torch.empty(-(-count // 4), dtype=torch.int64)
    numbers.random_(torch.iinfo(torch.int64).min, None)
    return (numbers.view(torch.int16)[:count] >= least - LEVELS // 2).view(shape)


def draw_words(count: int, least: int) -> Tensor:
    """Return so many int32 words on the CPU; each bit is 0 with a probability of ``least`` in :data:`LEVELS`.

    A random bit before others halves the probability of theirs, and adds a half if it is joined by "or". So as many
    random bits go into a decision as the share has binary places.
    """
    kept = LEVELS - least
    words = torch.zeros(count, dtype=torch.int32)
    if kept >= LEVELS:
        return words.fill_(-1)
    numbers = torch.empty(-(-count // 2), dtype=torch.int64)
    for place in range((kept & -kept).bit_length() - 1, BITS):
        drawn = numbers.random_(torch.iinfo(torch.int64).min, None).view(torch.int32)[:count]
        words = words.bitwise_or_(drawn) if kept >> place & 1 else words.bitwise_and_(drawn)
    return words


def _by_bits(x: Tensor) -> bool:
    """True where factors for a tensor can be made of random bits."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not is_plain()


def draw_factors(like: Tensor, share: float) -> Tensor:
    """Return what dropout multiplies a tensor with: zero with a probability of ``share``, else 1 / (1 - share).

    Args:
        like: of the shape, kind and place that are wanted.
        share: in [0, 1); on a CPU rounded to a multiple of 1/65536.
    """
    least = min(round(share * LEVELS), LEVELS - 1)
    if not _by_bits(like):
        return F.dropout(torch.ones_like(like), share)
    count = like.numel()
    words = draw_words(-(-count // WORD), least)
    # a bit moved to the sign and back fills its word, which then lets the factor's bits through or not
    spread = words.unsqueeze(0) << torch.arange(WORD, dtype=torch.int32).unsqueeze(1)
    spread >>= WORD - 1
    spread &= struct.unpack("<i", struct.pack("<f", LEVELS / (LEVELS - least)))[0]
    return spread.view(torch.float32).flatten()[:count].view(like.shape)


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Return ``torch.nn.functional.dropout(x, share, training)``, but for which values are drawn."""
    if not training or not share:
        return x
    if x.numel() < FEW or torch.compiler.is_compiling() or not _by_bits(x):
        return F.dropout(x, share)
    return x * draw_factors(x, share)


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``, in less time.

    Args:
        p: share dropped, in [0, 1); on a CPU rounded to a multiple of 1/65536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop and scale what is left, in training."""
        return dropout(x, self.p, self.training)


class LargeDropout(nn.Dropout):
    """Dropout for what is large, of the same distribution as ``torch.nn.Dropout``.

    Args:
        p: share dropped, in [0, 1); rounded to a multiple of 1/65536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop and scale what is left, in training."""
        if not self.training or not self.p:
            return x
        if is_plain() or x.device.type != "cpu":
            return F.dropout(x, self.p)
        y: Tensor = in_full(_Drop.apply, x, round(self.p * LEVELS))
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
