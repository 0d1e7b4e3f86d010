"""Plain feed-forward networks."""

from collections.abc import Sequence

from torch import Tensor, nn

from affectus.nn.dropping import Dropout
from affectus.nn.matmul import Linear


class FeedForward(nn.Module):
    """Linear layers, each followed by ReLU and dropout.

    Args:
        dim: width of the input.
        widths: of each layer's output, one at least.
        dropout: share dropped after each layer.
    """

    def __init__(self, dim: int, widths: Sequence[int], *, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for entering, leaving in zip((dim, *widths), widths, strict=False):
            layers += [Linear(entering, leaving), nn.ReLU(), Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.width = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., width)."""
        y: Tensor = self.layers(x)
        return y
