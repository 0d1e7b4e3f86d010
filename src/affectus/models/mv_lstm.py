"""MV-LSTM: multi-view LSTM, a memory in partitions, one for each modality.

Rajagopalan, Morency, Baltrušaitis, Goecke 2016: Extending Long Short-Term Memory for Multi-View Structured Learning.
ECCV 2016, https://doi.org/10.1007/978-3-319-46478-7_21

Deviations:
    - No code was released. *MV-sigmoid* and *MV-tanh* are read as the usual functions of a sum of three parts: the
      view's own input, the first ``alpha`` share of the view's own hidden units, and the first ``beta`` share of the
      hidden units of every other view.
    - The paper's four corner cases are presets (``view_specific``, ``coupled``, ``fully_connected``,
      ``input_oriented``); anything between them is its *hybrid*. The hybrid's default shares are ours.
    - Every view's partition has the same size; the sizes and the dropout are ours.
    - The hidden states of all views after an utterance's last step are concatenated for the heads.
    - A step that lacks a modality leaves that modality's partition as it is; its hidden units are still read by the
      others. Unaligned sequences are brought into step first: as many steps as the text has (without text, as the
      shortest modality has), each the mean over that part of the other modality.
    - With one modality no other view is there to be read: it is an LSTM whose gates see the first ``alpha`` share of
      its hidden units.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_share, register_model
from affectus.models.space import DROPOUT, Real, one_of
from affectus.nn.dropping import dropout
from affectus.nn.stepping import StackedInputs, in_step
from affectus.nn.tracing import State, run_steps
from affectus.objectives import Task
from affectus.vocabulary import View


class MVLSTMLayer(nn.Module):
    """LSTM with a partition for each view.

    Args:
        inputs: width of each view's vectors.
        hidden: units of each view.
        alpha: share of its own units that a view reads.
        beta: share of each other view's units that a view reads.
    """

    others: Tensor

    def __init__(self, inputs: Mapping[str, int], hidden: int, *, alpha: float, beta: float) -> None:
        super().__init__()
        views = len(inputs)
        self.hidden, self.views = hidden, views
        self.own_units, self.other_units = round(alpha * hidden), round(beta * hidden) if views > 1 else 0
        self.inputs = StackedInputs(inputs, 4 * hidden)
        bound = 1 / math.sqrt(hidden)
        self.own, self.other = (
            nn.Parameter(torch.empty(views, units, 4 * hidden).uniform_(-bound, bound)) if units else None
            for units in (self.own_units, (views - 1) * self.other_units)
        )
        for bias in self.inputs.biases():
            bias.data[hidden : 2 * hidden] = 1.0  # the forget gate
        others = torch.tensor([[j for j in range(views) if j != k] for k in range(views)], dtype=torch.long)
        self.register_buffer("others", others, persistent=False)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Run over the steps.

        Args:
            features: per view (B, T, dim), finite also where masked.
            masks: per view (B, T) bool.

        Returns:
            (B, views * hidden) the hidden units of all views after the last real step.
        """
        x, real = self.inputs(features, masks)  # (T, views, B, 4 * hidden), (T, views, B, 1)
        h = c = x.new_zeros(self.views, x.shape[2], self.hidden)

        def step(before: State, now: State) -> tuple[State, State]:
            total, there = now
            h, c = before
            if self.own is not None:
                total = torch.baddbmm(total, h[..., : self.own_units], self.own)
            if self.other is not None:
                total = torch.baddbmm(total, self._read_others(h), self.other)
            enter, forget, candidate, leave = total.chunk(4, dim=-1)
            cell = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(candidate)
            h = torch.where(there, torch.sigmoid(leave) * torch.tanh(cell), h)
            c = torch.where(there, cell, c)
            return (h, c), ()

        h, c = run_steps(step, (h, c), (x, real))[0]
        last: Tensor = h.transpose(0, 1).flatten(1)
        return last

    def _read_others(self, h: Tensor) -> Tensor:
        """(views, B, hidden) to (views, B, (views - 1) * other_units)."""
        shared = h[..., : self.other_units][self.others]  # (views, views - 1, B, other_units)
        return shared.transpose(1, 2).flatten(2)


@register_model(
    "mv_lstm",
    paper=Paper(
        "Rajagopalan et al.",
        2016,
        "Extending Long Short-Term Memory for Multi-View Structured Learning",
        "ECCV",
        "https://doi.org/10.1007/978-3-319-46478-7_21",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={"hidden": one_of(16, 32, 64, 128), "alpha": Real(0.0, 1.0), "beta": Real(0.0, 1.0), "dropout": DROPOUT},
    presets={
        "view_specific": {"options": {"alpha": 1.0, "beta": 0.0}},
        "coupled": {"options": {"alpha": 0.0, "beta": 1.0}},
        "fully_connected": {"options": {"alpha": 1.0, "beta": 1.0}},
        "input_oriented": {"options": {"alpha": 0.0, "beta": 0.0}},
    },
)
class MVLSTM(Model):
    """LSTM over words whose memory is partitioned by modality, each partition reading a share of its own and of others.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: hidden units of each modality.
        alpha: share, 0 to 1, of a modality's own hidden units that its gates see.
        beta: share, 0 to 1, of each other modality's hidden units that its gates see.
        dropout: share dropped before the heads.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 64,
        alpha: float = 0.5,
        beta: float = 0.5,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        for name, share in (("alpha", alpha), ("beta", beta)):
            if not 0.0 <= share <= 1.0:
                raise AffectusError(f"The option {name!r} is out of range", got=share, expected="a number in [0, 1]")
        self.dropout = dropout
        self.recurrent = MVLSTMLayer(self.inputs, hidden, alpha=alpha, beta=beta)
        self.heads = Heads(len(self.inputs) * hidden, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (B, modalities * hidden), the last hidden units of all modalities."""
        features, masks = in_step(
            {name: batch.features[name] for name in self.inputs},
            {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs},
            batch.view,
        )
        fused = self.recurrent(features, masks)
        return ModelOutput(self.heads(dropout(fused, self.dropout, self.training)), {"fused": fused})
