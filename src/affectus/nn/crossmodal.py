"""Attention of each modality to each other one over their steps, in both directions."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from affectus.nn.masking import masked_mean
from affectus.nn.multihead import MultiHeadAttention
from affectus.nn.tracing import is_plain


def ordered_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return each (query, key) of two modalities; a lone modality is paired with itself.

    >>> ordered_pairs(["text", "audio", "vision"])[:3]
    [('text', 'audio'), ('audio', 'text'), ('text', 'vision')]
    """
    return [pair for a, b in combinations(names, 2) for pair in ((a, b), (b, a))] or [(names[0], names[0])]


class CrossModalAttention(nn.Module):
    """One attention per ordered pair of modalities, with layer normalisation and no residual, averaged over time.

    A pair whose query modality is missing in a sample gives nothing for it. One whose key modality is missing lets the
    query attend to itself, since a sample of one modality would otherwise tell nothing.

    Args:
        names: of the modalities.
        dim: width of their steps.
        heads: of each attention.
        dropout: share of the attention weights dropped.
    """

    def __init__(self, names: Sequence[str], dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.pairs = ordered_pairs(names)
        self.attention = nn.ModuleList(MultiHeadAttention(dim, heads, dropout=dropout) for _ in self.pairs)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.pairs)

    def forward(self, x: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: per modality (B, T_m, dim), finite also where masked.
            masks: per modality (B, T_m) bool.

        Returns:
            (B, pairs, dim), zero for a pair that gives nothing; (B, pairs) bool, which pairs give something.
        """
        there = {name: mask.any(dim=1) for name, mask in masks.items()}
        tokens = []
        for (query, key), attention, norm in zip(self.pairs, self.attention, self.norms, strict=True):
            y = attention(x[query], x[key], masks[key])  # (B, T_query, dim)
            alone = there[query] & ~there[key]
            if is_plain():
                own = attention(x[query], x[query], masks[query])
                y = torch.where(alone[:, None, None], own, y)
            elif bool(alone.any()):
                own = attention(x[query][alone], x[query][alone], masks[query][alone])
                y = y.index_put((alone,), own)
            tokens.append(masked_mean(norm(y), masks[query]))
        return torch.stack(tokens, dim=1), torch.stack([there[query] for query, _ in self.pairs], dim=1)

    def weights(self, x: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return per pair ``<query>.<key>`` the mean of its heads' weights (B, T_query, T_key), zero where masked."""
        found = {}
        for (query, key), attention in zip(self.pairs, self.attention, strict=True):
            assert isinstance(attention, MultiHeadAttention)
            mean = attention.weights(x[query], x[key], masks[key]).mean(dim=1)
            found[f"{query}.{key}"] = mean * masks[query].unsqueeze(-1)
        return found
