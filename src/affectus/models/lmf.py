"""LMF: low-rank multimodal fusion, TFN's outer product without ever making it.

Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency 2018: Efficient Low-rank Multimodal Fusion with Modality-Specific
Factors. ACL 2018, https://aclanthology.org/P18-1209

Deviations:
    - As in the released code, the ranks are summed with weights that are learned, and a bias is added. MMSA's trainer
      leaves these two out of its optimiser, so that they stay as they were drawn; here they are trained.
    - The fusion's output is the prediction itself, as in the released code; each task has factors of its own.
    - The networks before the fusion are those of the released code. Means are over real steps and the LSTM ends at the
      last real step; the released code and MMSA's average over padding too and let the LSTM run through it. The text's
      dropout works; both set it to 0 whatever the configuration says. Batch normalisation leaves out the utterances
      that lack the modality.
    - A modality that an utterance lacks is [1, 0, ..., 0]; one, two, four or more modalities have a factor each.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import (
    Model,
    ModelOutput,
    Paper,
    ParameterGroup,
    Stage,
    check_share,
    register_model,
)
from affectus.models.options import check_number, check_size, modality_values
from affectus.models.space import DROPOUT, Whole, one_of
from affectus.nn.subnets import Subnets
from affectus.objectives import Task
from affectus.vocabulary import View


class LowRankFusion(nn.Module):
    """Weighted sum over ranks of the product of what each modality's factor makes of its vector.

    Args:
        widths: width of each modality's vector.
        rank: number of terms.
        out: width of the result.
    """

    def __init__(self, widths: Mapping[str, int], rank: int, out: int) -> None:
        super().__init__()
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(rank, width + 1, out)) for name, width in widths.items()}
        )
        self.weights = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.zeros(1, out))
        for parameter in (*self.factors.values(), self.weights):
            nn.init.xavier_normal_(parameter)

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Map vectors (B, width) to (B, out)."""
        product: Tensor | None = None
        for name, factor in self.factors.items():
            x = vectors[name]
            y = torch.cat([x.new_ones(x.shape[0], 1), x], dim=1) @ factor  # (rank, B, out)
            product = y if product is None else product * y
        assert product is not None
        return torch.einsum("r,rbo->bo", self.weights[0], product) + self.bias


@register_model(
    "lmf",
    paper=Paper(
        "Liu et al.",
        2018,
        "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors",
        "ACL",
        "https://aclanthology.org/P18-1209",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(32, 64, 128, 256),
        "text_out": one_of(32, 64, 128),
        "rank": Whole(2, 8),
        "dropout": DROPOUT,
    },
    training={
        "learning_rate": 1e-3,
        "weight_decay": 5e-3,
        "batch_size": 64,
        "epochs": 200,
        "patience": 8,
        "real_loss": "l1",
    },
    presets={
        "mosi": {
            "options": {
                "hidden": 128,
                "widths": {"audio": 16},
                "text_out": 64,
                "rank": 3,
                "dropout": 0.3,
                "factor_learning_rate": 1e-3,
            },
            "training": {"learning_rate": 1e-3, "weight_decay": 5e-3, "batch_size": 64},
        },
        "mosei": {
            "options": {
                "hidden": 128,
                "widths": {"audio": 16},
                "text_out": 64,
                "rank": 4,
                "dropout": 0.2,
                "factor_learning_rate": 1e-3,
            },
            "training": {"learning_rate": 1e-3, "weight_decay": 1e-3, "batch_size": 32},
        },
        "sims": {
            "options": {
                "hidden": 64,
                "widths": {"audio": 16},
                "text_out": 32,
                "rank": 4,
                "dropout": 0.2,
                "factor_learning_rate": 5e-4,
            },
            "training": {"learning_rate": 2e-3, "weight_decay": 5e-3, "batch_size": 64},
        },
    },
)
class LMF(Model):
    """One vector per modality from a network of its own, fused by a tensor of low rank.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of each modality's network.
        widths: sizes of the modalities that have another than ``hidden``.
        text_out: width of the text's vector.
        rank: of the fusion's tensor.
        dropout: share dropped in each modality's network.
        factor_learning_rate: of the modalities' factors; empty: the run's.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 128,
        widths: Mapping[str, int] | None = None,
        text_out: int = 64,
        rank: int = 3,
        dropout: float = 0.3,
        factor_learning_rate: float | None = None,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        if factor_learning_rate is not None:
            check_number("factor_learning_rate", factor_learning_rate)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        self.subnets = Subnets(self.inputs, sizes, text_out=text_out, dropout=dropout)
        self.fusions = nn.ModuleDict(
            {task.name: LowRankFusion(self.subnets.widths, rank, task.outputs) for task in tasks}
        )
        self.factor_learning_rate = factor_learning_rate

    def stages(self) -> list[Stage]:
        """Return the one stage, whose factors may have a learning rate of their own."""
        named = dict(self.named_parameters())
        factors = [name for name in named if ".factors." in name]
        rest = [parameter for name, parameter in named.items() if name not in factors]
        groups = {
            "factors": ParameterGroup([named[name] for name in factors], learning_rate=self.factor_learning_rate),
            "rest": ParameterGroup(rest),
        }
        return [Stage("main", groups)]

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (B, width), the concatenated vectors."""
        vectors = self.subnets(batch)
        predictions = {name: fusion(vectors) for name, fusion in self.fusions.items()}
        return ModelOutput(predictions, {"fused": torch.cat(list(vectors.values()), dim=-1)})
