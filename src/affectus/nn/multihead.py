"""Scaled dot-product attention of several heads over padded sequences (Vaswani et al. 2017).

PyTorch's fused kernel does the work wherever it can. On a CPU it has no dropout of the weights, and what PyTorch falls
back to writes every weight to memory several times; long sequences are then attended to piece by piece instead.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.dropping import LEVELS, draw_kept
from affectus.nn.precision import in_full

LONG = 16_384
"""Weights of one sequence from which on, on a CPU and with dropout, attention goes piece by piece."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, *, reach: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention over the keys that are real.

    Args:
        q: (B, H, T, d).
        k: (B, H, S, d).
        v: (B, H, S, d).
        keys: (B, S) bool.
        reach: (B,) int64 from 0, if the future is hidden: step t sees the steps up to t + reach. The real keys come
            first then.
        dropout: share of the weights dropped.

    Returns:
        (B, H, T, d); zero for a sample without a key.
    """
    if dropout and q.device.type == "cpu" and q.shape[1] * q.shape[2] * k.shape[2] >= LONG:
        found: Tensor = in_full(_Pieces.apply, q, k, v, keys, reach, dropout)
        return found
    admitted, some = _some_key(keys)
    admitted = admitted[:, None, None]  # (B, 1, 1, S)
    if reach is not None:
        later = torch.arange(k.shape[2], device=q.device) - torch.arange(q.shape[2], device=q.device).unsqueeze(1)
        admitted = admitted & (later <= reach[:, None, None]).unsqueeze(1)  # (B, 1, T, S)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=admitted, dropout_p=dropout)
    result: Tensor = y * some[:, None, None, None]
    return result


def attention_weights(q: Tensor, k: Tensor, keys: Tensor) -> Tensor:
    """Return the weights of :func:`attend` (B, H, T, S), which the fused kernel does not give; for looking at."""
    admitted, some = _some_key(keys)
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    weights: Tensor = scores.masked_fill(~admitted[:, None, None], -torch.inf).softmax(dim=-1)
    return weights * some[:, None, None, None]


def _some_key(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The keys, all of them where a sample has none (a softmax over nothing is no number); which samples have one."""
    some = keys.any(dim=1)
    return keys | ~some.unsqueeze(1), some


class MultiHeadAttention(nn.Module):
    """Attention of several heads, each over a part of the width, and a linear layer over what they find.

    Args:
        dim: width of what asks, of what is asked and of the result.
        heads: how many; they divide ``dim``.
        dropout: share of the weights dropped.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        # a bias of the keys would add the same to every score of a row, which the softmax takes away
        self.key = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, y: Tensor, keys: Tensor, *, values: Tensor | None = None, reach: Tensor | None = None
    ) -> Tensor:
        """Let ``x`` attend to ``y``.

        Args:
            x: (B, T, dim).
            y: (B, S, dim), finite also where masked.
            keys: (B, S) bool, the steps of ``y`` that are real.
            values: (B, S, dim) what is found there, if not ``y``.
            reach: (B,) as for :func:`attend`.

        Returns:
            (B, T, dim); for a sample without a key what the last layer makes of zeros.
        """
        q, k = self._split(self.query(x)), self._split(self.key(y))
        v = self._split(self.value(y if values is None else values))
        found = attend(q, k, v, keys, reach=reach, dropout=self.dropout if self.training else 0.0)
        joined: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return joined

    def weights(self, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Return the weights (B, heads, T, S), without dropout; arguments as for :meth:`forward`."""
        return attention_weights(self._split(self.query(x)), self._split(self.key(y)), keys)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, T, d)


class _Pieces(torch.autograd.Function):
    """:func:`attend` with dropout, sample by sample and never further than the last real key.

    Nothing but what was dropped is kept for the gradient (a byte per weight); the weights are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, reach: Tensor | None, dropout: float
    ) -> Tensor:
        """See :func:`attend`."""
        batch, heads, queries, width = q.shape
        least = round(dropout * LEVELS)
        keep = 1 - least / LEVELS
        out = q.new_zeros(batch, queries, heads, width).transpose(1, 2)
        ends = _ends(keys)
        reaches = [None] * batch if reach is None else reach.tolist()
        kept = []
        for i, end in enumerate(ends):
            weights = _softmax(q[i], k[i, :, :end], keys[i, :end], reaches[i])
            kept.append(draw_kept(weights.shape, least))
            torch.mul(torch.bmm(weights.mul_(kept[-1]), v[i, :, :end]), 1 / keep, out=out[i])
        ctx.save_for_backward(q, k, v, keys, out, *kept)
        ctx.ends, ctx.reaches, ctx.keep = ends, reaches, keep
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go back, sample by sample."""
        q, k, v, keys, out, *kept = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        grads = tuple(x.new_zeros(x.transpose(1, 2).shape).transpose(1, 2) for x in (q, k, v))
        # the softmax's gradient takes from each row its mean under the weights, which is this
        mean = (grad * out).sum(dim=-1, keepdim=True)  # (B, H, T, 1)
        for i, (end, drawn) in enumerate(zip(ctx.ends, kept, strict=True)):
            of_q, of_k, of_v = grads[0][i], grads[1][i, :, :end], grads[2][i, :, :end]
            mine = grad[i] * (1 / ctx.keep)
            weights = _softmax(q[i], k[i, :, :end], keys[i, :end], ctx.reaches[i])
            scores = torch.bmm(mine, v[i, :, :end].transpose(1, 2)).mul_(drawn).sub_(mean[i]).mul_(weights)
            of_v.copy_(torch.bmm(weights.mul_(drawn).transpose(1, 2), mine))
            torch.mul(torch.bmm(scores, k[i, :, :end]), scale, out=of_q)
            torch.mul(torch.bmm(scores.transpose(1, 2), q[i]), scale, out=of_k)
        return (*grads, None, None, None)


def _ends(keys: Tensor) -> list[int]:
    """Per sample one more than the place of the last real key, 0 without one."""
    ends: list[int] = (keys * torch.arange(1, keys.shape[1] + 1)).amax(dim=1).tolist()
    return ends


def _softmax(q: Tensor, k: Tensor, keys: Tensor, reach: int | None) -> Tensor:
    """Weights (H, T, S) of one sample from (H, T, d) and (H, S, d)."""
    scores = torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2))
    if not bool(keys.all()):
        scores.masked_fill_(~keys, -torch.inf)
    if reach is not None and reach + 1 < scores.shape[2]:
        scores.masked_fill_(keys.new_ones(scores.shape[1:]).triu(1 + reach), -torch.inf)
    return scores.softmax(dim=-1)
