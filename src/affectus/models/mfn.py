"""MFN: memory fusion network, an LSTM for each modality and a memory that watches their cells.

Zadeh, Liang, Mazumder, Poria, Cambria, Morency 2018: Memory Fusion Network for Multi-view Sequential Learning. AAAI
2018, https://arxiv.org/abs/1802.00927

Deviations:
    - The attention looks at two steps, the one before and the present one, as the released code does.
    - A step that lacks a modality leaves that modality's LSTM as it is; padding leaves the memory too.
    - Unaligned sequences are brought into step first: as many steps as the text has (without text, as the shortest
      modality has), each the mean over that part of the other modality. MMSA gives its MFN the mean of audio and vision
      over the whole padded utterance, the same at every step.
    - One, two, four or more modalities: the attention is over the cells of all of them. It grows with their number
      alone, nothing with their combinations.
    - The LSTMs and the attention do not depend on the memory, so they are computed for all steps at once, and only the
      memory's gates step by step: the same results in a fraction of the time.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_share, register_model
from affectus.models.options import check_size, modality_values
from affectus.models.space import Real, one_of
from affectus.nn.dropping import Dropout
from affectus.nn.matmul import Linear
from affectus.nn.memory import GatedMemory
from affectus.nn.stepping import in_step
from affectus.nn.systems import LSTMSystem
from affectus.nn.weighing import attend
from affectus.objectives import Task
from affectus.vocabulary import View


@register_model(
    "mfn",
    paper=Paper(
        "Zadeh et al.",
        2018,
        "Memory Fusion Network for Multi-view Sequential Learning",
        "AAAI",
        "https://arxiv.org/abs/1802.00927",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(32, 64, 128, 256),
        "memory": one_of(64, 128, 256, 400),
        "attention": one_of(32, 64, 128),
        "dense": one_of(64, 128, 256),
        "retain_dropout": Real(0.0, 0.7),
        "update_dropout": Real(0.0, 0.7),
        "dropout": Real(0.0, 0.7),
    },
    training={"learning_rate": 2e-3, "batch_size": 128, "epochs": 200, "patience": 8, "real_loss": "l1"},
    presets={
        "mosi": {
            "options": {
                "hidden": 256,
                "widths": {"audio": 32},
                "memory": 400,
                "attention": 32,
                "candidate": 64,
                "retain": 256,
                "update": 32,
                "dense": 128,
                "attention_dropout": 0.2,
                "candidate_dropout": 0.0,
                "retain_dropout": 0.7,
                "update_dropout": 0.5,
                "dropout": 0.0,
            },
            "training": {"learning_rate": 2e-3, "weight_decay": 0.0, "batch_size": 128},
        },
        "mosei": {
            "options": {
                "hidden": 128,
                "widths": {"audio": 32},
                "memory": 128,
                "attention": 128,
                "candidate": 128,
                "retain": 256,
                "update": 256,
                "dense": 128,
                "attention_dropout": 0.2,
                "candidate_dropout": 0.5,
                "retain_dropout": 0.7,
                "update_dropout": 0.0,
                "dropout": 0.5,
            },
            "training": {"learning_rate": 5e-4, "weight_decay": 1e-4, "batch_size": 64},
        },
        "sims": {
            "options": {
                "hidden": 64,
                "widths": {"audio": 16},
                "memory": 64,
                "attention": 128,
                "candidate": 128,
                "retain": 64,
                "update": 64,
                "dense": 64,
                "attention_dropout": 0.2,
                "candidate_dropout": 0.0,
                "retain_dropout": 0.2,
                "update_dropout": 0.7,
                "dropout": 0.7,
            },
            "training": {"learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 32},
        },
    },
)
class MFN(Model):
    """One LSTM per modality, attention over the change of all their cells, and a gated memory of what it attends to.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of each modality's LSTM.
        widths: sizes of the modalities that have another than ``hidden``.
        memory: size of the memory.
        attention: width inside the attention's network.
        candidate: width inside the network that says what could be written to the memory.
        retain: width inside the network of the gate that keeps the memory.
        update: width inside the network of the gate that writes to it.
        dense: width of the layer before the heads.
        attention_dropout: share dropped inside the attention's network.
        candidate_dropout: inside that of what could be written.
        retain_dropout: inside that of the gate that keeps.
        update_dropout: inside that of the gate that writes.
        dropout: before the heads.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 256,
        widths: Mapping[str, int] | None = None,
        memory: int = 400,
        attention: int = 32,
        candidate: int = 64,
        retain: int = 256,
        update: int = 32,
        dense: int = 128,
        attention_dropout: float = 0.2,
        candidate_dropout: float = 0.0,
        retain_dropout: float = 0.7,
        update_dropout: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        for name, share in (
            ("attention_dropout", attention_dropout),
            ("candidate_dropout", candidate_dropout),
            ("retain_dropout", retain_dropout),
            ("update_dropout", update_dropout),
            ("dropout", dropout),
        ):
            check_share(name, share)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        total = sum(sizes.values())
        self.system = LSTMSystem(self.inputs, sizes, cells=True)
        self.attention = nn.Sequential(
            Linear(2 * total, attention),
            nn.ReLU(),
            Dropout(attention_dropout),
            Linear(attention, 2 * total),
        )
        self.memory = GatedMemory(
            2 * total,
            memory,
            candidate=candidate,
            retain=retain,
            update=update,
            candidate_dropout=candidate_dropout,
            retain_dropout=retain_dropout,
            update_dropout=update_dropout,
        )
        self.dense = Linear(total + memory, dense)
        self.drop = Dropout(dropout)
        self.heads = Heads(dense, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (B, width), the last states and the last memory."""
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        seen = self.system(*in_step({name: batch.features[name] for name in masks}, masks, batch.view, zeros=False))
        cells = seen.both()  # (N, 2 * total)
        attended = attend(self.attention(cells), cells)
        fused = torch.cat([seen.last, seen.packing.last(self.memory(attended, seen.packing))], dim=1)
        return ModelOutput(self.heads(self.drop(torch.relu(self.dense(fused)))), {"fused": fused})
