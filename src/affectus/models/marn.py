"""MARN: multi-attention recurrent network, an LSTM with a hybrid memory for each modality and attention between them.

Zadeh, Liang, Poria, Vij, Cambria, Morency 2018: Multi-attention Recurrent Network for Human Communication
Comprehension. AAAI 2018, https://arxiv.org/abs/1802.00923

Deviations:
    - The repository that the article names is empty; the authors' toolkit has the LSTHM and the attention, and their
      form is followed here. No sizes were published: ``hidden``, ``attentions``, ``reduced`` and ``code`` are ours.
    - Each of the K attentions is a softmax over the hidden units of all modalities; ``softmax="joint"`` is the
      toolkit's one softmax over all K copies together.
    - The reduction C_m of a modality is a linear layer with ReLU, G a linear layer with tanh; neither is spelled out.
    - Every LSTHM has as many hidden units as the others, and its forget gate starts open.
    - The heads see the last hidden units of all modalities and the last code z, with dropout before them.
    - A step that lacks a modality leaves that modality's LSTHM as it is. Unaligned sequences are brought into step
      first: as many steps as the text has (without text, as the shortest modality has), each the mean over that part of
      the other modality.
    - Any number of modalities; with one, the attentions run over its own hidden units.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_choice, check_share, register_model
from affectus.models.space import DROPOUT, Whole, one_of
from affectus.nn.dropping import dropout
from affectus.nn.matmul import Linear
from affectus.nn.stepping import StackedInputs, in_step
from affectus.nn.tracing import State, run_steps
from affectus.objectives import Task
from affectus.vocabulary import View


class MultiAttentionBlock(nn.Module):
    """K attentions over the hidden units of all modalities, reduced to one code.

    Args:
        modalities: how many.
        hidden: units of each.
        attentions: K.
        reduced: width of what each modality's attended copies are reduced to.
        code: width of the result.
        joint: one softmax over the K copies together, else one for each.
    """

    def __init__(self, modalities: int, hidden: int, *, attentions: int, reduced: int, code: int, joint: bool) -> None:
        super().__init__()
        self.modalities, self.attentions, self.joint = modalities, attentions, joint
        self.attend = Linear(modalities * hidden, attentions * modalities * hidden)
        bound = 1 / math.sqrt(attentions * hidden)
        self.reduce = nn.Parameter(torch.empty(modalities, attentions * hidden, reduced).uniform_(-bound, bound))
        self.reduce_bias = nn.Parameter(torch.zeros(modalities, 1, reduced))
        self.code = Linear(modalities * reduced, code)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            h: (modalities, B, hidden).

        Returns:
            (B, code) and the attention weights (B, K, modalities, hidden).
        """
        together = h.transpose(0, 1).flatten(1)  # (B, modalities * hidden)
        scores = self.attend(together)
        if not self.joint:
            scores = scores.unflatten(1, (self.attentions, -1))
        weights = scores.softmax(dim=-1).view(together.shape[0], self.attentions, self.modalities, -1)
        attended = weights * h.transpose(0, 1).unsqueeze(1)  # (B, K, modalities, hidden)
        copies = attended.permute(2, 0, 1, 3).flatten(2)  # (modalities, B, K * hidden)
        reduced = torch.relu(torch.baddbmm(self.reduce_bias, copies, self.reduce))  # C_m
        code: Tensor = torch.tanh(self.code(reduced.transpose(0, 1).flatten(1)))  # G
        return code, weights


@register_model(
    "marn",
    paper=Paper(
        "Zadeh et al.",
        2018,
        "Multi-attention Recurrent Network for Human Communication Comprehension",
        "AAAI",
        "https://arxiv.org/abs/1802.00923",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(32, 64, 128),
        "attentions": Whole(1, 6),
        "reduced": one_of(16, 32, 64),
        "code": one_of(32, 64, 128),
        "dropout": DROPOUT,
    },
)
class MARN(Model):
    """LSTMs with a hybrid memory, one per modality, that read at each word what several attentions found in them all.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: hidden units of each modality's LSTHM.
        attentions: how many attentions, K.
        reduced: width of what each modality's attended copies are reduced to.
        code: width of the code z that every LSTHM reads.
        softmax: ``each`` (every attention sums to 1) or ``joint`` (all together do, as in the authors' toolkit).
        dropout: share dropped before the heads.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 64,
        attentions: int = 4,
        reduced: int = 32,
        code: int = 64,
        softmax: str = "each",
        dropout: float = 0.2,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        check_choice("softmax", softmax, ("each", "joint"))
        self.hidden, self.code, self.dropout = hidden, code, dropout
        views = len(self.inputs)
        self.entering = StackedInputs(self.inputs, 4 * hidden)  # W and b
        for bias in self.entering.biases():
            bias.data[hidden : 2 * hidden] = 1.0  # the forget gate
        bound = 1 / math.sqrt(hidden)
        self.recurrent = nn.Parameter(torch.empty(views, hidden, 4 * hidden).uniform_(-bound, bound))  # U
        self.hybrid = Linear(code, views * 4 * hidden, bias=False)  # V of all modalities
        self.attention = MultiAttentionBlock(
            views, hidden, attentions=attentions, reduced=reduced, code=code, joint=softmax == "joint"
        )
        self.heads = Heads(views * hidden + code, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task.

        Extras: ``fused`` (B, modalities * hidden + code), the last hidden units and the last code; ``attention``
        (B, K, modalities, hidden), the attention weights at the last step.
        """
        features, masks = in_step(
            {name: batch.features[name] for name in self.inputs},
            {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs},
            batch.view,
        )
        x, real = self.entering(features, masks)  # (T, modalities, B, 4 * hidden), (T, modalities, B, 1)
        size, views = x.shape[2], len(self.inputs)
        h = c = x.new_zeros(views, size, self.hidden)
        z = x.new_zeros(size, self.code)
        weights = x.new_zeros(size, self.attention.attentions, views, self.hidden)

        def step(before: State, now: State) -> tuple[State, State]:
            entering, there = now
            h, c, z, weights = before
            hybrid = self.hybrid(z).view(size, views, -1).transpose(0, 1)
            total = torch.baddbmm(entering + hybrid, h, self.recurrent)  # W x + U h + V z + b
            enter, forget, leave, candidate = total.chunk(4, dim=-1)
            cell = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(candidate)
            h = torch.where(there, torch.sigmoid(leave) * torch.tanh(cell), h)
            c = torch.where(there, cell, c)
            found, attended = self.attention(h)
            spoken = there.any(dim=0)  # (B, 1)
            z = torch.where(spoken, found, z)
            weights = torch.where(spoken[:, :, None, None], attended, weights)
            return (h, c, z, weights), ()

        h, c, z, weights = run_steps(step, (h, c, z, weights), (x, real))[0]
        fused = torch.cat([h.transpose(0, 1).flatten(1), z], dim=1)
        predictions = self.heads(dropout(fused, self.dropout, self.training))
        return ModelOutput(predictions, {"fused": fused, "attention": weights})
