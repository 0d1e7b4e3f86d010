"""Bidirectional GRUs and LSTMs over padded sequences, with the dropouts of Keras.

PyTorch's layers have no dropout on the state within a sequence, and the papers' code relies on it. Here all modalities
and both directions advance together, one batched product per step, so that a step costs the same for one layer or six.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.choosing import choose
from affectus.nn.gru import gru_with_dropout
from affectus.nn.kernels import kernels_for
from affectus.nn.lstm import lstm_with_dropout
from affectus.nn.matmul import Linear
from affectus.nn.packing import Packing
from affectus.nn.tracing import State, Stepped, apart, run_steps


def hard_sigmoid(x: Tensor) -> Tensor:
    """Keras 2's piecewise linear sigmoid, ``0.2 x + 0.5`` within [0, 1]; PyTorch's own has another slope."""
    return (0.2 * x + 0.5).clamp(0.0, 1.0)


class _BiRecurrents(nn.Module):
    """One bidirectional recurrent layer per modality, all run together.

    Args:
        inputs: width of each modality's vectors.
        hidden: size of the state per direction.
        dropout: share of the inputs dropped, the same ones at every step of a sequence.
        recurrent_dropout: share of the state dropped on its way into the gates, the same at every step.
        hard_gates: piecewise linear gates, as in Keras 2.
    """

    blocks: ClassVar[int]
    """How many vectors of the state's size one step computes from its input."""
    states: ClassVar[int]
    """How many vectors are carried from step to step; the first is the output."""

    def __init__(
        self,
        inputs: Mapping[str, int],
        hidden: int,
        *,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        hard_gates: bool = False,
    ) -> None:
        super().__init__()
        self.names, self.hidden = tuple(inputs), hidden
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.gate = hard_sigmoid if hard_gates else torch.sigmoid
        width = self.blocks * hidden
        # columns: the blocks of the forward direction, then those of the backward one
        self.input_layers = nn.ModuleDict({name: Linear(dim, 2 * width) for name, dim in inputs.items()})
        self.recurrent = nn.Parameter(torch.empty(2 * len(self.names), hidden, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as Keras does: Glorot for the inputs, orthogonal for the state, zero for the biases."""
        for layer in self.input_layers.values():
            assert isinstance(layer, nn.Linear)
            bound = math.sqrt(6.0 / (layer.in_features + self.blocks * self.hidden))
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
        for matrix in self.recurrent.data:
            nn.init.orthogonal_(matrix)

    @apart
    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run over the steps.

        A masked step leaves the state as it is and repeats the last output, as Keras's masking does; so the result at
        real steps does not depend on padding, and a step whose modality is missing is skipped.

        Args:
            features: per modality (B, U, dim).
            masks: per modality (B, U) bool, True for real steps.

        Returns:
            Per modality (B, U, 2 * hidden): the forward state, then the backward one.
        """
        if self._has_kernels(features):
            return self._packed(features, masks)
        directions, hidden, width = 2 * len(self.names), self.hidden, self.blocks * self.hidden
        batch, steps = masks[self.names[0]].shape
        projected = []
        for name in self.names:
            # a masked place may hold anything, even NaN
            x = torch.where(masks[name].unsqueeze(-1), features[name], 0.0)
            if self.training and self.dropout:
                x = x * F.dropout(x.new_ones(batch, 1, x.shape[-1]), self.dropout)
            projected.append(self.input_layers[name](x).view(batch, steps, 2, width))
        inputs = torch.stack(projected, dim=2).permute(1, 2, 3, 0, 4)  # (U, modality, direction, B, width)
        inputs = torch.stack([inputs[:, :, 0], inputs[:, :, 1].flip(0)], dim=2)
        inputs = inputs.reshape(steps, directions, batch, width)
        keep = torch.stack([masks[name] for name in self.names], dim=1).permute(2, 1, 0)  # (U, modality, B)
        keep = torch.stack([keep, keep.flip(0)], dim=2).reshape(steps, directions, batch, 1)
        state = (inputs.new_zeros(directions, batch, hidden),) * self.states
        drop = None
        if self.training and self.recurrent_dropout:
            drop = F.dropout(state[0].new_ones(directions, batch, hidden), self.recurrent_dropout)

        def step(before: State, now: State) -> Stepped:
            x, real = now
            after = self.step(x, before[0] if drop is None else before[0] * drop, before)
            kept = tuple(torch.where(real, new, old) for new, old in zip(after, before, strict=True))
            return kept, kept[:1]

        out = run_steps(step, state, (inputs, keep))[1][0].view(steps, len(self.names), 2, batch, hidden)
        out = torch.cat([out[:, :, 0], out[:, :, 1].flip(0)], dim=-1)  # (U, modality, B, 2 * hidden)
        return {name: out[:, i].transpose(0, 1) for i, name in enumerate(self.names)}

    def _has_kernels(self, features: Mapping[str, Tensor]) -> bool:
        """True where the kernels know these gates and features."""
        return self.gate is torch.sigmoid and all(kernels_for(features[name]) is not None for name in self.names)

    def _packed(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What :meth:`forward` does, by the kernels: each direction by itself, over real steps alone."""
        width = self.blocks * self.hidden
        batch = len(masks[self.names[0]])
        factors = {}  # of the inputs
        for name in self.names:
            if self.training and self.dropout:
                factors[name] = F.dropout(features[name].new_ones(batch, features[name].shape[-1]), self.dropout)
        drop = None
        if self.training and self.recurrent_dropout:
            like = self.recurrent.new_ones(2 * len(self.names), batch, self.hidden)
            drop = F.dropout(like, self.recurrent_dropout)
        found = {}
        for number, name in enumerate(self.names):
            mask, layer, packing = masks[name], self.input_layers[name], Packing(masks[name])
            assert isinstance(layer, nn.Linear)
            rows = packing.pack(features[name])
            if name in factors:
                rows = rows * factors[name][packing.order[packing.sample]]
            seen = mask.cumsum(dim=1)
            ranks = (seen, seen[:, -1:] - seen + mask)  # of the real step that was read last, by either direction
            parts = []
            for turn, rank in enumerate(ranks):
                direction, columns = 2 * number + turn, slice(turn * width, (turn + 1) * width)
                states = self.packed_states(
                    rows[packing.turned] if turn else rows,
                    layer.weight[columns],
                    layer.bias[columns],
                    direction,
                    None if drop is None else drop[direction][packing.order],
                    packing.sizes,
                )
                parts.append(choose([(states, packing.rows_of(rank).flatten())]))
            found[name] = torch.cat(parts, dim=-1).view(*mask.shape, -1)
        return found

    @abstractmethod
    def packed_states(
        self, rows: Tensor, inner: Tensor, bias: Tensor, direction: int, keep: Tensor | None, sizes: list[int]
    ) -> Tensor:
        """Return the outputs (N, hidden) of one direction over packed rows, by the kernels.

        Args:
            rows: (N, dim).
            inner: (blocks * hidden, dim), of the input.
            bias: (blocks * hidden,).
            direction: which one, of two for each modality.
            keep: (B, hidden), what the state is multiplied with on its way into the gates; None for 1.
            sizes: rows of each step.
        """

    @abstractmethod
    def step(self, x: Tensor, seen: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Advance every direction by one step.

        Args:
            x: (directions, B, blocks * hidden) the projected input.
            seen: (directions, B, hidden) the output before, after its dropout.
            state: what is carried, each (directions, B, hidden).
        """


class BiGRUs(_BiRecurrents):
    """One bidirectional GRU per modality, all run together.

    Args:
        inputs: width of each modality's vectors.
        hidden: size of the state per direction.
        dropout: share of the inputs dropped, the same ones at every step of a sequence.
        recurrent_dropout: share of the state dropped on its way into the gates, the same at every step.
        reset_after: apply the reset gate after the recurrent product (cuDNN and PyTorch) or before it (Keras 2 and
            Cho et al. 2014).
        hard_gates: piecewise linear gates, as in Keras 2.
    """

    blocks = 3  # reset, update, candidate
    states = 1

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
        super().__init__(inputs, hidden, dropout=dropout, recurrent_dropout=recurrent_dropout, hard_gates=hard_gates)
        self.recurrent_bias = nn.Parameter(torch.zeros(2 * len(self.names), 1, 3 * hidden)) if reset_after else None

    def _has_kernels(self, features: Mapping[str, Tensor]) -> bool:
        return self.recurrent_bias is not None and super()._has_kernels(features)

    def packed_states(
        self, rows: Tensor, inner: Tensor, bias: Tensor, direction: int, keep: Tensor | None, sizes: list[int]
    ) -> Tensor:
        """See the base class."""
        assert self.recurrent_bias is not None
        recurrent, recurrent_bias = self.recurrent[direction].T, self.recurrent_bias[direction, 0]
        return gru_with_dropout(rows, inner, bias, recurrent, recurrent_bias, keep, sizes)

    def step(self, x: Tensor, seen: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Advance every direction by one step; see the base class."""
        both = 2 * self.hidden
        if self.recurrent_bias is not None:
            h = torch.baddbmm(self.recurrent_bias, seen, self.recurrent)
            reset, update = self.gate(x[..., :both] + h[..., :both]).chunk(2, dim=-1)
            candidate = torch.tanh(x[..., both:] + reset * h[..., both:])
        else:
            gates = self.gate(x[..., :both] + torch.bmm(seen, self.recurrent[..., :both]))
            reset, update = gates.chunk(2, dim=-1)
            candidate = torch.tanh(x[..., both:] + torch.bmm(reset * seen, self.recurrent[..., both:]))
        return (candidate + update * (state[0] - candidate),)


class BiLSTMs(_BiRecurrents):
    """One bidirectional LSTM per modality, all run together.

    Args:
        inputs: width of each modality's vectors.
        hidden: size of the state per direction.
        dropout: share of the inputs dropped, the same ones at every step of a sequence.
        recurrent_dropout: share of the state dropped on its way into the gates, the same at every step.
        hard_gates: piecewise linear gates, as in Keras 2.
    """

    blocks = 4  # input, forget, candidate, output
    states = 2  # output and cell

    def reset_parameters(self) -> None:
        """Initialise as Keras does: as the base class, and the forget gate's bias at 1."""
        super().reset_parameters()
        for layer in self.input_layers.values():
            assert isinstance(layer, nn.Linear)
            layer.bias.data.view(2, 4, self.hidden)[:, 1] = 1.0

    def packed_states(
        self, rows: Tensor, inner: Tensor, bias: Tensor, direction: int, keep: Tensor | None, sizes: list[int]
    ) -> Tensor:
        """See the base class."""
        return lstm_with_dropout(rows, inner, bias, self.recurrent[direction].T, keep, sizes)

    def step(self, x: Tensor, seen: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Advance every direction by one step; see the base class."""
        enter, forget, candidate, leave = torch.baddbmm(x, seen, self.recurrent).chunk(4, dim=-1)
        cell = self.gate(forget) * state[1] + self.gate(enter) * torch.tanh(candidate)
        return self.gate(leave) * torch.tanh(cell), cell
