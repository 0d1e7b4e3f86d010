"""Scaled dot-product attention of several heads over padded sequences (Vaswani et al. 2017).

PyTorch's fused kernel does the work wherever it can. On a CPU it has no dropout of the weights, and what PyTorch falls
back to writes every weight to memory several times; all but the smallest batches are then attended to piece by piece.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.dropping import LEVELS, draw_kept
from affectus.nn.matmul import Linear
from affectus.nn.precision import in_full
from affectus.nn.tracing import is_plain

LONG = 16_384
"""Weights of a batch from which on, on a CPU and with dropout, attention goes piece by piece."""
PIECE = 1 << 17
"""Weights of a piece, unless one sample has more: some such arrays fit into a core's own cache."""
KEPT = 1 << 20
"""Weights of a batch up to which they are kept for the gradient instead of being computed again."""


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
    if dropout and not is_plain() and q.device.type == "cpu" and q.shape[:3].numel() * k.shape[2] >= LONG:
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
        self.query, self.value = Linear(dim, dim), Linear(dim, dim)
        # a bias of the keys would add the same to every score of a row, which the softmax takes away
        self.key = Linear(dim, dim, bias=False)
        self.out = Linear(dim, dim)

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
    """:func:`attend` with dropout, some samples at a time and never further than the last real key among them.

    What was dropped is kept for the gradient (a byte per weight); the weights of a large batch are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, reach: Tensor | None, dropout: float
    ) -> Tensor:
        """See :func:`attend`."""
        batch, heads, queries, width = q.shape
        least = round(dropout * LEVELS)
        keep = 1 - least / LEVELS
        pieces = _pieces(keys, reach, heads * queries)
        scaled, k, v = (q * width**-0.5).contiguous(), k.contiguous(), v.contiguous()
        out = q.new_empty(batch, queries, heads, width).transpose(1, 2)
        ctx.recompute = q.shape[:3].numel() * k.shape[2] > KEPT
        drawn, kept = [], []
        for piece in pieces:
            weights = piece.weights(scaled, k)
            drawn.append(draw_kept(weights.shape, least))
            if ctx.recompute:
                weights.mul_(drawn[-1])
            else:
                kept.append(weights)
                weights = weights * drawn[-1]
            found = torch.bmm(weights, piece.of_keys(v)).view(piece.count, heads, queries, width)
            torch.mul(found, 1 / keep, out=out[piece.rows])
        some = keys.any(dim=1)
        if not bool(some.all()):
            out *= some[:, None, None, None]
        ctx.save_for_backward(scaled, k, v, some, out, *drawn, *kept)
        ctx.pieces, ctx.keep = pieces, keep
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go back, piece by piece."""
        scaled, k, v, some, out, *rest = ctx.saved_tensors
        batch, heads, queries, width = scaled.shape
        of_q = grad.new_empty(batch, queries, heads, width).transpose(1, 2)
        of_k, of_v = (grad.new_zeros(x.transpose(1, 2).shape).transpose(1, 2) for x in (k, v))
        # the softmax's gradient takes from each row its mean under the weights, which is this
        mean = (grad * out).sum(dim=-1).view(batch, -1)  # (B, H T)
        mine = (grad * (some[:, None, None, None] / ctx.keep)).contiguous()
        count = len(ctx.pieces)
        for at, piece in enumerate(ctx.pieces):
            kept = rest[at]
            weights = piece.weights(scaled, k) if ctx.recompute else rest[count + at]
            asked, wanted = scaled[piece.rows].flatten(0, 1), mine[piece.rows].flatten(0, 1)  # (n H, T, d)
            scores = torch.bmm(wanted, piece.of_keys(v).transpose(1, 2))
            scores.mul_(kept).sub_(mean[piece.rows].view(-1, queries, 1)).mul_(weights)
            weights = weights.mul_(kept) if ctx.recompute else weights * kept
            split = (piece.count, heads, -1, width)
            of_v[piece.rows, :, : piece.end] = torch.bmm(weights.transpose(1, 2), wanted).view(split)
            of_k[piece.rows, :, : piece.end] = torch.bmm(scores.transpose(1, 2), asked).view(split)
            found = torch.bmm(scores, piece.of_keys(k)).view(split)
            torch.mul(found, width**-0.5, out=of_q[piece.rows])
        return of_q, of_k, of_v, None, None, None


@dataclass(frozen=True)
class _Piece:
    """Samples of a batch that are attended to together."""

    rows: slice
    end: int
    """One more than the place of the last real key among them."""
    keys: Tensor | None
    """(n, end) bool, which keys are real; None if all are."""
    reach: Tensor | None
    """(n,) as for :func:`attend`; None if it hides nothing."""

    @property
    def count(self) -> int:
        """How many samples."""
        return int(self.rows.stop - self.rows.start)

    def of_keys(self, x: Tensor) -> Tensor:
        """Cut (B, H, S, d) to (n H, end, d)."""
        return x[self.rows, :, : self.end].flatten(0, 1)

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Weights (n H, T, end) by (B, H, T, d), scaled, and (B, H, S, d); of a sample without a key anything."""
        scores = torch.bmm(q[self.rows].flatten(0, 1), self.of_keys(k).transpose(1, 2))
        split = scores.view(self.count, *q.shape[1:3], self.end)  # (n, H, T, end)
        hidden = torch.finfo(scores.dtype).min / 2  # a row of nothing else still has a softmax
        if self.keys is not None:
            # to add is faster than to fill
            split += torch.zeros_like(self.keys, dtype=scores.dtype).masked_fill_(~self.keys, hidden)[:, None, None]
        if self.reach is not None:
            ahead = torch.arange(self.end) - torch.arange(q.shape[2]).unsqueeze(1)
            split.masked_fill_((ahead > self.reach[:, None, None]).unsqueeze(1), hidden)
        return scores.softmax(dim=-1)


def _pieces(keys: Tensor, reach: Tensor | None, rows: int) -> list[_Piece]:
    """Cut a batch of samples with so many rows of weights each into pieces of about :data:`PIECE` weights."""
    ends: list[int] = (keys * torch.arange(1, keys.shape[1] + 1)).amax(dim=1).tolist()
    real: list[int] = keys.sum(dim=1).tolist()
    reaches: list[int] = [keys.shape[1]] * len(ends) if reach is None else reach.tolist()
    found = []
    begin = 0
    while begin < len(ends):
        stop, end = begin + 1, ends[begin]
        while stop < len(ends) and (stop + 1 - begin) * max(end, ends[stop]) * rows <= PIECE:
            end = max(end, ends[stop])
            stop += 1
        at = slice(begin, stop)
        found.append(
            _Piece(
                at,
                end,
                keys=None if min(real[at]) == end else keys[at, :end],
                reach=None if reach is None or min(reaches[at]) + 1 >= end else reach[at],
            )
        )
        begin = stop
    return found
