"""MFN's system of LSTMs: one for each modality over the same steps, each keeping its state where it sees nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from affectus.nn.choosing import Choice, choose
from affectus.nn.lstm import LSTM
from affectus.nn.packing import Packing


@dataclass(frozen=True, eq=False)
class SystemStates:
    """What a system of LSTMs went through.

    Attributes:
        packing: of the steps at which any modality is there.
        before: per modality, where its cell (or state) before each packed step is found.
        now: and that after it.
        last: (B, sum of the sizes) all modalities' states at the end; zero for a modality that was never there.
    """

    packing: Packing
    before: dict[str, Choice]
    now: dict[str, Choice]
    last: Tensor

    def both(self) -> Tensor:
        """Return all modalities' cells (or states) before each step, then after it: (N, 2 * sum of the sizes)."""
        return choose([*self.before.values(), *self.now.values()])


class LSTMSystem(nn.Module):
    """One LSTM per modality.

    Args:
        inputs: width of each modality's vectors.
        sizes: of each modality's state.
        cells: give the cells step by step rather than the states.
    """

    def __init__(self, inputs: Mapping[str, int], sizes: Mapping[str, int], *, cells: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: LSTM(dim, sizes[name]) for name, dim in inputs.items()})
        self.cells = cells

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> SystemStates:
        """Run over the steps.

        Args:
            features: per modality (B, T, dim).
            masks: per modality (B, T) bool.
        """
        union = torch.stack([masks[name] for name in self.layers]).any(dim=0)
        packing = Packing(union)
        before: dict[str, Choice] = {}
        now: dict[str, Choice] = {}
        last = []
        for name, layer in self.layers.items():
            assert isinstance(layer, LSTM)
            if packing.padded:
                own = Packing(masks[name])
                rows = own.pack(features[name])
                states, shown = layer.cells(rows, own) if self.cells else (layer.rows(rows, own),) * 2
                last.append(own.last(states))
                now[name] = shown, None  # which stays at a masked step
                first = shown.new_zeros(union.shape[0], shown.shape[1])
                before[name] = torch.cat([first, shown]).narrow(0, 0, union.shape[0] * union.shape[1]), None
                continue
            alike = torch.equal(masks[name], union)
            own = packing if alike else Packing(masks[name])
            rows = own.pack(features[name])
            states, shown = layer.cells(rows, own) if self.cells else (layer.rows(rows, own),) * 2
            last.append(own.last(states))
            # where a modality is missing, what was there before it stays
            rank = masks[name].cumsum(dim=1)
            before[name] = shown, own.rows_of(rank - masks[name].long()).flatten()[packing.index]
            now[name] = shown, None if alike else own.rows_of(rank).flatten()[packing.index]
        return SystemStates(packing, before, now, torch.cat(last, dim=1))
