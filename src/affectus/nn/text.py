"""The trained part of a text encoder: from tokens to vectors, in any view."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.masking import masked_mean, zero_masked
from affectus.nn.precision import single

SUB_BATCH = 64
"""Utterances that go through the transformer at once."""


class TextLayers(nn.Module):
    """Layers of a transformer that learn with the model.

    Utterances of similar length go through together, so that little is computed for padding. The vectors are shifted
    and scaled as the frozen encoder's would be, so that training starts where that stands.

    Args:
        layers: called with ``inputs_embeds`` (n, L, dim) or ``input_ids`` (n, L), and ``attention_mask`` (n, L);
            ``last_hidden_state`` of what it returns is (n, L, dim).
        dim: width of the vectors.
        ids: it reads ids.
        shift: (dim,) subtracted from the vectors; None for zeros.
        factor: (dim,) by which they are multiplied then; None for ones.
    """

    shift: Tensor
    factor: Tensor

    def __init__(
        self,
        layers: nn.Module,
        dim: int,
        *,
        ids: bool = False,
        shift: Tensor | None = None,
        factor: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.dim, self.ids = layers, dim, ids
        self.register_buffer("shift", torch.zeros(dim) if shift is None else shift.clone())
        self.register_buffer("factor", torch.ones(dim) if factor is None else factor.clone())

    def forward(self, states: Tensor, mask: Tensor, *, pool: bool) -> Tensor:
        """Encode utterances; those without a token give zeros.

        Args:
            states: (..., L, dim) what lies below the layers, or (..., L) ids.
            mask: (..., L) bool, real tokens.
            pool: average each utterance over its tokens.

        Returns:
            (..., dim) if pooled, else (..., L, dim), zero where masked.
        """
        *lead, length = mask.shape
        flat, real = states.reshape(-1, length, *states.shape[mask.dim() :]), mask.reshape(-1, length)
        ends = (real * torch.arange(1, length + 1, device=real.device)).amax(dim=1)  # (N,)
        rows = ends.nonzero().squeeze(1)
        rows = rows[ends[rows].argsort(stable=True)]
        parts = []
        for chunk in torch.split(rows, SUB_BATCH) if len(rows) else ():
            width = int(ends[chunk[-1]])
            x, here = flat[chunk, :width], real[chunk, :width]
            y = single(self._encode(x, here))  # (n, width, dim)
            parts.append(masked_mean(y, here) if pool else F.pad(zero_masked(y, here), (0, 0, 0, length - width)))
        shape = (len(real), self.dim) if pool else (len(real), length, self.dim)
        result = self.shift.new_zeros(shape)
        if parts:
            result = result.index_copy(0, rows, torch.cat(parts))
        there = real.any(dim=1) if pool else real
        return self.scaled(result, there).reshape(*lead, *shape[1:])

    def _encode(self, x: Tensor, mask: Tensor) -> Tensor:
        # what lies under the mask may be anything, and 0 * NaN is NaN
        given = {"input_ids": torch.where(mask, x, 0)} if self.ids else {"inputs_embeds": zero_masked(x, mask)}
        found: Tensor = self.layers(**given, attention_mask=mask.long()).last_hidden_state
        return found

    def scaled(self, x: Tensor, mask: Tensor) -> Tensor:
        """Shift and scale (..., dim) where ``mask`` (...) is True; zero elsewhere."""
        return zero_masked((x - self.shift) * self.factor, mask)


def word_means(x: Tensor, words: Tensor, count: int) -> Tensor:
    """Average the vectors of each word's tokens.

    Args:
        x: (B, L, d).
        words: (B, L) int64, the word of each token, -1 for none.
        count: words W.

    Returns:
        (B, W, d), zero for a word without tokens.
    """
    # a column before the first takes the tokens without a word, and goes
    shape = (x.shape[0], count + 1)
    index = words + 1
    sums = x.new_zeros(*shape, x.shape[2]).scatter_add(1, index.unsqueeze(-1).expand_as(x), x)
    counts = x.new_zeros(shape).scatter_add(1, index, torch.ones_like(index, dtype=x.dtype))
    return (sums / counts.clamp(min=1).unsqueeze(-1))[:, 1:]
