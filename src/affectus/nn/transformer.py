"""A block of a transformer over a few tokens."""

from torch import Tensor, nn

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
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )

    def forward(self, x: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """Map (B, T, dim), which attends to ``memory`` (B, S, dim) where ``keys`` (B, S) is True."""
        n = self.norm(x + self.attention(x, memory, keys))  # Eq. (14)
        y: Tensor = n + self.feed_forward(n)  # Eq. (15)
        return y
