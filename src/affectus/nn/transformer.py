"""Blocks of transformers, by where they normalise."""

import math

import torch
from torch import Tensor, nn

from affectus.nn.dropping import Dropout
from affectus.nn.matmul import Linear
from affectus.nn.multihead import MultiHeadAttention


class HalfNormBlock(nn.Module):
    """Attention with a residual and layer normalisation, then a feed-forward part with a residual alone.

    ``n = LN(x + attention(x, memory)); n + FF(n)``, as Cai et al. 2025 write their encoder and their decoder; the usual
    block normalises after the second part too.

    Args:
        dim: width of the tokens.
        heads: of the attention.
        hidden: width inside the feed-forward part.
        attention_dropout: share of the attention weights dropped.
        dropout: share dropped inside the feed-forward part.
    """

    def __init__(self, dim: int, heads: int, hidden: int, *, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads, dropout=attention_dropout)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(Linear(dim, hidden), nn.ReLU(), Dropout(dropout), Linear(hidden, dim))

    def forward(self, x: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """Map (B, T, dim), which attends to ``memory`` (B, S, dim) where ``keys`` (B, S) is True."""
        n = self.norm(x + self.attention(x, memory, keys))  # Eq. (14)
        y: Tensor = n + self.feed_forward(n)  # Eq. (15)
        return y


class PostNormBlock(nn.Module):
    """The usual block: attention, then a feed-forward part, each with a residual and then layer normalisation.

    Its weights are those of ``torch.nn.TransformerEncoderLayer``, but for the keys' bias, which has no effect.

    Args:
        dim: width of the tokens.
        heads: of the attention.
        hidden: width inside the feed-forward part.
        dropout: share dropped of the attention weights, inside the feed-forward part and of what each part adds.
    """

    def __init__(self, dim: int, heads: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads, dropout=dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.feed_forward = nn.Sequential(Linear(dim, hidden), nn.ReLU(), Dropout(dropout), Linear(hidden, dim))
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Map (B, T, dim), of which the tokens that ``keys`` (B, T) admits are attended to."""
        n = self.norms[0](x + self.drop(self.attention(x, x, keys)))
        y: Tensor = self.norms[1](n + self.drop(self.feed_forward(n)))
        return y


class PreNormBlock(nn.Module):
    """Attention, then a feed-forward part, each upon what is normalised, each with a residual.

    What is attended to is normalised by the layer that normalises what asks.

    Args:
        dim: width of the steps.
        heads: of the attention.
        attention_dropout: share of the attention weights dropped.
        relu_dropout: share dropped inside the feed-forward part.
        dropout: share dropped of what each part adds.
    """

    def __init__(self, dim: int, heads: int, *, attention_dropout: float, relu_dropout: float, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads, dropout=attention_dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.feed_forward = nn.Sequential(Linear(dim, 4 * dim), nn.ReLU(), Dropout(relu_dropout), Linear(4 * dim, dim))
        self.drop = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as fairseq does: Glorot, the three projections of the attention as one matrix; no bias."""
        layers = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for layer in (self.attention.query, self.attention.key, self.attention.value):
            bound = math.sqrt(6 / (4 * layer.in_features))
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        keys: Tensor,
        *,
        values: Tensor | None = None,
        reach: Tensor | None = None,
    ) -> Tensor:
        """Map (B, T, dim).

        Args:
            x: (B, T, dim), which asks.
            memory: (B, S, dim), which is asked; None for ``x`` itself.
            keys: (B, S) bool, the real steps of what is asked.
            values: (B, S, dim), what is found there, if not ``memory``.
            reach: (B,) how far ahead a step may look, see :func:`affectus.nn.multihead.attend`.
        """
        n = self.norms[0](x)
        asked = n if memory is None else self.norms[0](memory)
        found = self.attention(n, asked, keys, values=None if values is None else self.norms[0](values), reach=reach)
        # a sample without a key finds nothing, not even the biases
        x = x + self.drop(found * keys.any(dim=1)[:, None, None])
        y: Tensor = x + self.drop(self.feed_forward(self.norms[1](x)))
        return y


def sinusoids(steps: int, dim: int) -> Tensor:
    """Positions 1 to ``steps`` as sines and cosines, (steps, dim), as tensor2tensor has them.

    >>> sinusoids(2, 4).shape
    torch.Size([2, 4])
    """
    half = dim // 2
    rate = torch.exp(torch.arange(half) * (-math.log(10_000) / max(half - 1, 1)))
    angle = torch.arange(1, steps + 1).unsqueeze(1) * rate  # (steps, half)
    return torch.cat([angle.sin(), angle.cos(), torch.zeros(steps, dim % 2)], dim=1)
