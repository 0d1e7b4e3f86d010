"""Low-rank adapters: what tuning adds to linear layers of a frozen network, in few numbers (Hu et al. 2022, LoRA)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from affectus.errors import AffectusError
from affectus.nn.dropping import Dropout

DOWN, UP = "down", "up"


class LowRankLinear(nn.Module):
    """A frozen linear layer and a trained change of it of low rank: W x + b + (scale / rank) U D x.

    Args:
        layer: the layer; its own weights are frozen.
        rank: of the change.
        scale: the change's learning rate grows with it.
        dropout: of the change's input.
    """

    def __init__(self, layer: nn.Linear, rank: int, *, scale: float = 32.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.factor = scale / rank
        self.dropout = Dropout(dropout)
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        # the change starts at nothing, so that the first step begins at what the network knows
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        change = self.dropout(x) @ self.down.T @ self.up.T
        out: Tensor = self.layer(x) + change * self.factor
        return out


def add_low_rank(module: nn.Module, rank: int, *, scale: float = 32.0, dropout: float = 0.0) -> list[str]:
    """Freeze a network and give each of its linear layers a change of low rank, in place.

    Returns:
        The names of the layers.
    """
    module.requires_grad_(False)
    names = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]
    for name in names:
        parent, _, last = name.rpartition(".")
        owner = module.get_submodule(parent)
        setattr(owner, last, LowRankLinear(module.get_submodule(name), rank, scale=scale, dropout=dropout))  # type: ignore[arg-type]
    return names


def low_rank_parts(module: nn.Module) -> dict[str, Tensor]:
    """Return the changes by layer: ``<layer>.down`` (rank, in) and ``<layer>.up`` (out, rank), the factor worked in."""
    found: dict[str, Tensor] = {}
    for name, child in module.named_modules():
        if isinstance(child, LowRankLinear):
            found[f"{name}.{DOWN}"] = child.down.detach().clone()
            found[f"{name}.{UP}"] = child.up.detach().clone() * child.factor
    return found


def merge_low_rank(module: nn.Module, parts: Mapping[str, Tensor]) -> None:
    """Add changes (:func:`low_rank_parts`) to the linear layers of a network that has none, in place.

    Raises:
        AffectusError: the network has no such layer, or the shapes differ.
    """
    layers = dict(module.named_modules())
    for name in sorted({key.rpartition(".")[0] for key in parts}):
        layer = layers.get(name)
        down, up = parts.get(f"{name}.{DOWN}"), parts.get(f"{name}.{UP}")
        fits = (
            isinstance(layer, nn.Linear)
            and down is not None
            and up is not None
            and (up.shape[0], down.shape[1]) == tuple(layer.weight.shape)
            and up.shape[1] == down.shape[0]
        )
        if not fits:
            raise AffectusError(
                f"The low-rank change of the layer {name!r} does not fit the network",
                got=[tuple(x.shape) for x in (up, down) if x is not None],
                expected="the encoder with which it was trained",
            )
        assert isinstance(layer, nn.Linear)
        assert up is not None
        assert down is not None
        with torch.no_grad():
            layer.weight += up.to(layer.weight.dtype) @ down.to(layer.weight.dtype)
