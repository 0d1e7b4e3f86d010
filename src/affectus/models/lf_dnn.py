"""LF-DNN: late fusion of a network for each modality.

Williams, Comanescu, Radu, Tian 2018: DNN Multimodal Fusion Techniques for Predicting Video Sentiment. Challenge-HML at
ACL 2018, https://aclanthology.org/W18-3309

The name is used for two things. ``variant="mmsa"`` is the form of the MMSA framework, whose figures later papers quote:
a vector per modality, concatenated before three dense layers. ``variant="original"`` is the article's late fusion: each
modality has outputs of its own, and one layer weighs them.

Deviations:
    - mmsa: means are over real steps and the LSTM ends at the last real step; MMSA averages over padding too and lets
      its LSTM run through it. The text's dropout works; MMSA sets it to 0 whatever its configuration says. Batch
      normalisation leaves out the utterances that lack the modality.
    - original: the released code makes every sequence equally long by zeros before it or by leaving out steps at
      random; here ``steps`` means over equal parts of the real steps do that. Each modality's outputs enter the last
      layer as they are, for classes too (the released code squashes them). PCA beforehand is left out.
    - Both: a modality that an utterance lacks gives zeros. One, two, four or more modalities work the same way; those
      that are not text are treated as audio and vision are.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import (
    Heads,
    Model,
    ModelOutput,
    Paper,
    check_choice,
    check_share,
    register_model,
)
from affectus.models.options import check_size, modality_values
from affectus.models.space import DROPOUT, one_of
from affectus.nn.dropping import Dropout
from affectus.nn.lstm import LSTM
from affectus.nn.masking import zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.stepping import equal_parts
from affectus.nn.subnets import Subnets
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View

KERNEL, POOL = 3, 2
"""Of the released code's convolution and of its max pooling."""


class _ConvolutionNet(nn.Module):
    """Convolution, max pooling, dropout and a dense layer, upon a fixed number of steps."""

    def __init__(self, dim: int, filters: int, dense: int, *, steps: int, dropout: float) -> None:
        super().__init__()
        self.steps = steps
        self.convolution = nn.Conv1d(dim, filters, KERNEL)
        self.pool = nn.MaxPool1d(POOL)
        self.drop = Dropout(dropout)
        self.dense = Linear(filters * ((steps - KERNEL + 1) // POOL), dense)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) and its mask (B, T) to (B, dense)."""
        parts = equal_parts(x, mask, self.steps)  # (B, steps, dim)
        y = self.pool(torch.relu(self.convolution(parts.transpose(1, 2)))).flatten(1)
        return torch.relu(self.dense(self.drop(y)))


class _RecurrentNet(nn.Module):
    """A bidirectional LSTM's last states, dropout and a dense layer."""

    def __init__(self, dim: int, hidden: int, dense: int, *, dropout: float) -> None:
        super().__init__()
        self.recurrent = LSTM(dim, hidden, bidirectional=True)
        self.drop = Dropout(dropout)
        self.dense = Linear(self.recurrent.width, dense)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) and its mask (B, T) to (B, dense)."""
        return torch.relu(self.dense(self.drop(self.recurrent.last(x, mask))))


@register_model(
    "lf_dnn",
    paper=Paper(
        "Williams et al.",
        2018,
        "DNN Multimodal Fusion Techniques for Predicting Video Sentiment",
        "Challenge-HML",
        "https://aclanthology.org/W18-3309",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(32, 64, 128, 256),
        "text_out": one_of(64, 128, 256),
        "dense": one_of(32, 64, 128),
        "dropout": DROPOUT,
        "fusion_dropout": DROPOUT,
    },
    training={
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "batch_size": 128,
        "epochs": 200,
        "patience": 8,
        "real_loss": "l1",
    },
    presets={
        "mosi": {
            "options": {
                "widths": {"audio": 16},
                "text_out": 256,
                "dense": 128,
                "dropout": 0.2,
                "fusion_dropout": 0.2,
            },
            "training": {"learning_rate": 1e-3, "weight_decay": 0.01, "batch_size": 128},
        },
        "mosei": {
            "options": {
                "widths": {"audio": 32},
                "text_out": 128,
                "dense": 128,
                "dropout": 0.2,
                "fusion_dropout": 0.2,
            },
            "training": {"learning_rate": 2e-3, "weight_decay": 1e-3, "batch_size": 64},
        },
        "sims": {
            "options": {
                "widths": {"audio": 32},
                "text_out": 256,
                "dense": 32,
                "dropout": 0.3,
                "fusion_dropout": 0.5,
            },
            "training": {"learning_rate": 5e-3, "weight_decay": 5e-3, "batch_size": 128},
        },
        "original": {
            "options": {"variant": "original", "hidden": 64, "dense": 100, "dropout": 0.2},
            "training": {"weight_decay": 0.0, "batch_size": 64, "patience": 10, "scale": "max"},
        },
    },
)
class LFDNN(Model):
    """One vector per modality from a network of its own, then fused by dense layers.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        variant: ``mmsa`` or ``original``; see above.
        hidden: size of each modality's network: its LSTM, or its dense layers (mmsa) or filters (original).
        widths: sizes of the modalities that have another than ``hidden``.
        text_out: width of the text's vector (mmsa).
        dense: width of the layers after the fusion (mmsa), or of each modality's dense layer (original).
        steps: to which sequences are brought before the convolution (original).
        dropout: share dropped in each modality's network.
        fusion_dropout: share of the concatenated vectors dropped (mmsa).
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        variant: str = "mmsa",
        hidden: int = 128,
        widths: Mapping[str, int] | None = None,
        text_out: int = 256,
        dense: int = 128,
        steps: int = 20,
        dropout: float = 0.2,
        fusion_dropout: float = 0.2,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("variant", variant, ("mmsa", "original"))
        check_share("dropout", dropout)
        check_share("fusion_dropout", fusion_dropout)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        self.variant = variant
        if variant == "mmsa":
            self.subnets = Subnets(self.inputs, sizes, text_out=text_out, dropout=dropout)
            self.drop = Dropout(fusion_dropout)
            width = sum(self.subnets.widths.values())
            self.layers = nn.ModuleList([Linear(width, dense), Linear(dense, dense)])
            self.heads = Heads(dense, tasks)
            return
        least = KERNEL + POOL - 1
        if steps < least:
            raise AffectusError("The option 'steps' leaves nothing to pool", got=steps, expected=f"{least} or more")
        self.nets = nn.ModuleDict(
            {
                name: _RecurrentNet(dim, sizes[name], dense, dropout=dropout)
                if name == TEXT
                else _ConvolutionNet(dim, sizes[name], dense, steps=steps, dropout=dropout)
                for name, dim in self.inputs.items()
            }
        )
        self.unimodal_heads = nn.ModuleDict({name: Heads(dense, tasks) for name in self.inputs})
        self.weighing = nn.ModuleDict(
            {task.name: Linear(len(self.inputs) * task.outputs, task.outputs) for task in tasks}
        )

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (B, width), the concatenated vectors.

        In the original variant also ``prediction.<modality>.<task>``, what each modality says by itself.
        """
        if self.variant == "mmsa":
            fused = torch.cat(list(self.subnets(batch).values()), dim=-1)
            y = self.drop(fused)
            for layer in self.layers:
                y = torch.relu(layer(y))
            return ModelOutput(self.heads(y), {"fused": fused})
        extras: dict[str, Tensor] = {}
        said: dict[str, list[Tensor]] = {task.name: [] for task in self.tasks}
        vectors: list[Tensor] = []
        for name, net in self.nets.items():
            mask = batch.masks[name] & batch.mask.unsqueeze(1)
            present = mask.any(dim=1)
            vectors.append(zero_masked(net(zero_masked(batch.features[name], mask), mask), present))
            for task, y in self.unimodal_heads[name](vectors[-1]).items():
                extras[f"prediction.{name}.{task}"] = zero_masked(y, present)
                said[task].append(extras[f"prediction.{name}.{task}"])
        extras["fused"] = torch.cat(vectors, dim=-1)
        return ModelOutput({task: self.weighing[task](torch.cat(said[task], dim=-1)) for task in said}, extras)
