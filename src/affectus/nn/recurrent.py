"""Bidirectional GRUs over padded sequences, with the dropouts of Keras.

PyTorch's GRU has no dropout on the state within a sequence, and the papers' code relies on it. Here all modalities and
both directions advance together, one batched product per step, so that a step costs the same for one GRU or for six.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _hard_sigmoid(x: Tensor) -> Tensor:
    # Keras 2's; PyTorch's own has another slope
    return (0.2 * x + 0.5).clamp(0.0, 1.0)


class BiGRUs(nn.Module):
    """One bidirectional GRU per modality, all run together.

    A masked step leaves the state as it is and repeats the last output, as Keras's masking does; so the result at real
    steps does not depend on padding, and a step whose modality is missing is skipped.

    Args:
        inputs: width of each modality's vectors.
        hidden: size of the state per direction.
        dropout: share of the inputs dropped, the same ones at every step of a sequence.
        recurrent_dropout: share of the state dropped on its way into the gates, the same at every step.
        reset_after: apply the reset gate after the recurrent product (cuDNN and PyTorch) or before it (Keras 2 and
            Cho et al. 2014).
        hard_gates: piecewise linear gates, as in Keras 2.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        hidden: int,
        *,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        hard_gates: bool = False,
    ) -> None:
        super().__init__()
        self.names, self.hidden = tuple(inputs), hidden
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.reset_after = reset_after
        self.gate = _hard_sigmoid if hard_gates else torch.sigmoid
        directions = 2 * len(self.names)
        # columns: reset, update, candidate, for the forward then the backward direction
        self.input_layers = nn.ModuleDict({name: nn.Linear(dim, 6 * hidden) for name, dim in inputs.items()})
        self.recurrent = nn.Parameter(torch.empty(directions, hidden, 3 * hidden))
        self.recurrent_bias = nn.Parameter(torch.zeros(directions, 1, 3 * hidden)) if reset_after else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as Keras does: Glorot for the inputs, orthogonal for the state, zero for the biases."""
        for layer in self.input_layers.values():
            assert isinstance(layer, nn.Linear)
            bound = math.sqrt(6.0 / (layer.in_features + 3 * self.hidden))
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
        for matrix in self.recurrent.data:
            nn.init.orthogonal_(matrix)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run over the steps.

        Args:
            features: per modality (B, U, dim).
            masks: per modality (B, U) bool, True for real steps.

        Returns:
            Per modality (B, U, 2 * hidden): the forward state, then the backward one.
        """
        directions, hidden = 2 * len(self.names), self.hidden
        batch, steps = masks[self.names[0]].shape
        projected = []
        for name in self.names:
            # a masked place may hold anything, even NaN
            x = torch.where(masks[name].unsqueeze(-1), features[name], 0.0)
            if self.training and self.dropout:
                x = x * F.dropout(x.new_ones(batch, 1, x.shape[-1]), self.dropout)
            projected.append(self.input_layers[name](x).view(batch, steps, 2, 3 * hidden))
        gates_in = torch.stack(projected, dim=2).permute(1, 2, 3, 0, 4)  # (U, modality, direction, B, 3 * hidden)
        gates_in = torch.stack([gates_in[:, :, 0], gates_in[:, :, 1].flip(0)], dim=2)
        gates_in = gates_in.reshape(steps, directions, batch, 3 * hidden)
        keep = torch.stack([masks[name] for name in self.names], dim=1).permute(2, 1, 0)  # (U, modality, B)
        keep = torch.stack([keep, keep.flip(0)], dim=2).reshape(steps, directions, batch, 1)
        state = gates_in.new_zeros(directions, batch, hidden)
        drop = None
        if self.training and self.recurrent_dropout:
            drop = F.dropout(state.new_ones(directions, batch, hidden), self.recurrent_dropout)
        outputs = []
        for x, real in zip(gates_in.unbind(0), keep.unbind(0), strict=True):
            state = torch.where(real, self._step(x, state, drop), state)
            outputs.append(state)
        out = torch.stack(outputs).view(steps, len(self.names), 2, batch, hidden)
        out = torch.cat([out[:, :, 0], out[:, :, 1].flip(0)], dim=-1)  # (U, modality, B, 2 * hidden)
        return {name: out[:, i].transpose(0, 1) for i, name in enumerate(self.names)}

    def _step(self, x: Tensor, state: Tensor, drop: Tensor | None) -> Tensor:
        hidden = self.hidden
        seen = state if drop is None else state * drop
        if self.recurrent_bias is not None:
            h = torch.baddbmm(self.recurrent_bias, seen, self.recurrent)
            gates = self.gate(x[..., : 2 * hidden] + h[..., : 2 * hidden])
            reset, update = gates.chunk(2, dim=-1)
            candidate = torch.tanh(x[..., 2 * hidden :] + reset * h[..., 2 * hidden :])
        else:
            gates = self.gate(x[..., : 2 * hidden] + torch.bmm(seen, self.recurrent[..., : 2 * hidden]))
            reset, update = gates.chunk(2, dim=-1)
            candidate = torch.tanh(x[..., 2 * hidden :] + torch.bmm(reset * seen, self.recurrent[..., 2 * hidden :]))
        return candidate + update * (state - candidate)
