"""TFN: tensor fusion network, the outer product of all modalities' vectors.

Zadeh, Chen, Poria, Cambria, Morency 2017: Tensor Fusion Network for Multimodal Sentiment Analysis. EMNLP 2017,
https://aclanthology.org/D17-1115

Deviations:
    - The networks before the fusion are those of the code that others use (MMSA's, after the article's): the article
      gives the layers, not all the sizes. Means are over real steps and the LSTM ends at the last real step; MMSA
      averages over padding too and lets its LSTM run through it. The text's dropout works; MMSA sets it to 0 whatever
      its configuration says. Batch normalisation leaves out the utterances that lack the modality.
    - A real label's range bounds its prediction by a sigmoid, as the article's [-3, 3] does; here it is the label's own
      range (MMSA keeps [-3, 3] for CH-SIMS, whose range is [-1, 1]), and a label without a range is not bounded.
      ``bounded=False`` leaves the sigmoid out.
    - A modality that an utterance lacks is [1, 0, ..., 0] in the product: what is left is the product of the others.
    - One, two, four or more modalities: the product has a factor of width + 1 for each. With many it does not fit; the
      widths must come down.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_share, register_model
from affectus.models.options import check_size, modality_values
from affectus.models.space import DROPOUT, one_of
from affectus.nn.dropping import LargeDropout
from affectus.nn.matmul import Linear
from affectus.nn.product import product_layer
from affectus.nn.subnets import Subnets, subnet_widths
from affectus.objectives import Task, TaskKind
from affectus.vocabulary import View

LARGEST = 200_000_000
"""Weights of the layer after the product, at most: 0.8 GB, four times that in training."""


@register_model(
    "tfn",
    paper=Paper(
        "Zadeh et al.",
        2017,
        "Tensor Fusion Network for Multimodal Sentiment Analysis",
        "EMNLP",
        "https://aclanthology.org/D17-1115",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(16, 32, 64),
        "text_out": one_of(16, 32, 64),
        "post_fusion": one_of(16, 32, 64, 128),
        "dropout": DROPOUT,
        "fusion_dropout": DROPOUT,
    },
    training={"learning_rate": 1e-3, "batch_size": 32, "epochs": 200, "patience": 8, "real_loss": "l1"},
    presets={
        "mosi": {
            "options": {
                "widths": {"text": 128, "audio": 32, "vision": 128},
                "text_out": 32,
                "post_fusion": 64,
                "dropout": 0.3,
                "fusion_dropout": 0.5,
            },
            "training": {"learning_rate": 1e-3, "batch_size": 32},
        },
        "mosei": {
            "options": {
                "widths": {"text": 128, "audio": 16, "vision": 128},
                "text_out": 128,
                "post_fusion": 16,
                "dropout": 0.4,
                "fusion_dropout": 0.4,
            },
            "training": {"learning_rate": 5e-3, "batch_size": 128},
        },
        "sims": {
            "options": {
                "widths": {"text": 128, "audio": 32, "vision": 128},
                "text_out": 256,
                "post_fusion": 32,
                "dropout": 0.4,
                "fusion_dropout": 0.4,
            },
            "training": {"learning_rate": 5e-4, "batch_size": 32},
        },
    },
)
class TFN(Model):
    """One vector per modality from a network of its own, then dense layers upon the outer product of all of them.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of each modality's network.
        widths: sizes of the modalities that have another than ``hidden``.
        text_out: width of the text's vector.
        post_fusion: width of the layers after the product.
        dropout: share dropped in each modality's network.
        fusion_dropout: share of the product dropped.
        bounded: predict real labels within their range, by a sigmoid.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 32,
        widths: Mapping[str, int] | None = None,
        text_out: int = 32,
        post_fusion: int = 32,
        dropout: float = 0.3,
        fusion_dropout: float = 0.5,
        bounded: bool = True,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        check_share("fusion_dropout", fusion_dropout)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        width = check_product(subnet_widths(sizes, text_out), post_fusion, "lmf", "post_fusion")
        self.subnets = Subnets(self.inputs, sizes, text_out=text_out, dropout=dropout)
        self.drop = LargeDropout(fusion_dropout)
        self.layers = nn.ModuleList([Linear(width, post_fusion), Linear(post_fusion, post_fusion)])
        self.heads = Heads(post_fusion, tasks)
        self.bounded = bounded

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (B, width), what the first layer makes of the product."""
        fused = torch.relu(product_layer(self.subnets(batch).values(), self.drop, self.layers[0]))
        predictions = self.heads(torch.relu(self.layers[1](fused)))
        if self.bounded:
            predictions = {task.name: within_range(predictions[task.name], task) for task in self.tasks}
        return ModelOutput(predictions, {"fused": fused})


def check_product(widths: Mapping[str, int], dense: int, instead: str, option: str = "dense") -> int:
    """Return the width of the outer product of vectors of some widths.

    Args:
        widths: by modality.
        dense: width of the layer after it.
        instead: a model that does without it.
        option: that sets ``dense``.

    Raises:
        AffectusError: it is too large.
    """
    width = math.prod(size + 1 for size in widths.values())
    if width * dense > LARGEST:
        raise AffectusError(
            "The product of the modalities is too large",
            got=" * ".join(f"{size + 1} ({name})" for name, size in widths.items()) + f" = {width:,}",
            expected=f"{LARGEST // dense:,} at most, with {option}={dense}",
            remedy=f"Lower hidden, widths or text_out, or use {instead}, whose fusion is of low rank",
        )
    return width


def within_range(y: Tensor, task: Task) -> Tensor:
    """Squash predictions (..., outputs) into a real task's range; what has none stays as it is."""
    if task.kind is not TaskKind.REAL or task.low is None or task.high is None:
        return y
    return task.low + (task.high - task.low) * torch.sigmoid(y)
