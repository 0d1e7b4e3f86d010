"""MLMF: low-rank multimodal fusion with a head for each modality beside the common one.

Yu, Xu, Meng, Zhu, Ma, Wu, Zou, Yang 2020: CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained
Annotation of Modality. ACL 2020, https://aclanthology.org/2020.acl-main.343

Deviations:
    - Those of ``lmf`` and, for the heads, those of ``mlf_dnn``. MMSA gives the weights of the ranks and the bias a
      learning rate of 0, so that they stay as they were drawn; here they are trained.
    - The defaults are those of MMSA for CH-SIMS.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import Model, ModelOutput, Paper, ParameterGroup, Stage, check_share, register_model
from affectus.models.lmf import LowRankFusion
from affectus.models.options import check_positive, check_size, modality_values
from affectus.models.space import DROPOUT, Whole, one_of
from affectus.models.unimodal import UnimodalHeads, net_groups, others
from affectus.nn.subnets import Subnets
from affectus.objectives import Task
from affectus.vocabulary import View


@register_model(
    "mlmf",
    paper=Paper(
        "Yu et al.",
        2020,
        "CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality",
        "ACL",
        "https://aclanthology.org/2020.acl-main.343",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(32, 64, 128, 256),
        "text_out": one_of(32, 64, 128),
        "rank": Whole(2, 8),
        "dropout": DROPOUT,
        "unimodal_dropout": DROPOUT,
    },
    training={
        "learning_rate": 1e-3,
        "weight_decay": 5e-3,
        "batch_size": 128,
        "epochs": 200,
        "patience": 8,
        "real_loss": "l1",
    },
    presets={
        "sims": {
            "options": {
                **{"widths": {"text": 256, "audio": 32, "vision": 256}, "text_out": 128, "rank": 3, "dropout": 0.3},
                **{"unimodal_widths": {"text": 8, "audio": 4, "vision": 32}, "factor_learning_rate": 1e-3},
                **{"unimodal_dropout": 0.4, "loss_weights": {"fused": 0.2, "text": 1.0, "audio": 0.4, "vision": 0.8}},
                "weight_decays": {"text": 1e-4, "audio": 0.0, "vision": 1e-4},
            },
            "training": {"learning_rate": 1e-3, "weight_decay": 5e-3, "batch_size": 128},
        }
    },
)
class MLMF(Model):
    """One vector per modality, told by a head of its own, and all of them fused by a tensor of low rank.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of each modality's network.
        widths: sizes of the modalities that have another than ``hidden``.
        text_out: width of the text's vector.
        rank: of the fusion's tensor.
        unimodal_dense: width of each modality's own layers.
        unimodal_widths: the same for single modalities.
        dropout: share dropped in each modality's network.
        unimodal_dropout: share of each vector dropped before its own layers.
        loss_weights: factor of each head's loss, by modality or fused; 1 if not named, and 0 leaves the head out.
        unimodal_labels: ``own`` (a modality's label, where the corpus has it) or ``joint``.
        weight_decays: of single modalities' networks; the run's where not named.
        factor_learning_rate: of the modalities' factors; empty: the run's.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 256,
        widths: Mapping[str, int] | None = None,
        text_out: int = 128,
        rank: int = 3,
        unimodal_dense: int = 16,
        unimodal_widths: Mapping[str, int] | None = None,
        dropout: float = 0.3,
        unimodal_dropout: float = 0.4,
        loss_weights: Mapping[str, float] | None = None,
        unimodal_labels: str = "own",
        weight_decays: Mapping[str, float] | None = None,
        factor_learning_rate: float | None = None,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        if factor_learning_rate is not None:
            check_positive("factor_learning_rate", factor_learning_rate)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        self.subnets = Subnets(self.inputs, sizes, text_out=text_out, dropout=dropout)
        self.fusions = nn.ModuleDict(
            {task.name: LowRankFusion(self.subnets.widths, rank, task.outputs) for task in tasks}
        )
        self.unimodal = UnimodalHeads(
            self.subnets.widths,
            tasks,
            dense=unimodal_dense,
            widths=unimodal_widths,
            dropout=unimodal_dropout,
            weights=loss_weights,
            labels=unimodal_labels,
        )
        self._groups = net_groups(self.subnets.nets, weight_decays)
        factors = [parameter for name, parameter in self.fusions.named_parameters() if ".factors." in name]
        self._groups["factors"] = ParameterGroup(factors, learning_rate=factor_learning_rate)

    def stages(self) -> list[Stage]:
        """Return the one stage: networks with weight decays, factors with a learning rate of their own."""
        rest = ParameterGroup(others(self, *self._groups.values()))
        return [Stage("main", {**self._groups, "rest": rest})]

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task by the common fusion.

        Extras: ``prediction.<modality>.<task>``, what the modalities' heads say (nothing that means anything where one
        is missing); ``present`` (B, modalities); ``fused`` (B, width), the concatenated vectors.
        """
        vectors = self.subnets(batch)
        predictions = {name: fusion(vectors) for name, fusion in self.fusions.items()}
        fused = torch.cat(list(vectors.values()), dim=-1)
        return ModelOutput(predictions, {**self.unimodal(vectors, batch), "fused": fused})

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return ``<task>`` of the fusion and ``<task>.<modality>`` of the others, times their weights."""
        return self.unimodal.losses(output, batch)
