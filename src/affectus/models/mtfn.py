"""MTFN (of CH-SIMS): tensor fusion with a head for each modality beside the common one.

Yu, Xu, Meng, Zhu, Ma, Wu, Zou, Yang 2020: CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained
Annotation of Modality. ACL 2020, https://aclanthology.org/2020.acl-main.343

The name is also that of a part of UFEN + MTFN (``ufen_mtfn``), with which this has nothing in common.

Deviations:
    - Those of ``tfn`` and, for the heads, those of ``mlf_dnn``: a real label's range, not [-3, 3], bounds the
      prediction (MMSA keeps [-3, 3] though its CH-SIMS ends at 1). The modalities' heads are not bounded, as in MMSA.
    - The defaults are those of MMSA for CH-SIMS. A head whose loss weighs nothing there (the audio's) does not exist
      here, as it would never learn; the weight decay that MMSA's file names for the fusion is not in the preset, since
      its trainer gives none to the optimiser.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, ParameterGroup, Stage, check_share, register_model
from affectus.models.options import check_size, modality_values
from affectus.models.space import DROPOUT, one_of
from affectus.models.tfn import check_product, within_range
from affectus.models.unimodal import UnimodalHeads, net_groups, others
from affectus.nn.dropping import LargeDropout
from affectus.nn.matmul import Linear
from affectus.nn.product import product_layer
from affectus.nn.subnets import Subnets, subnet_widths
from affectus.objectives import Task
from affectus.vocabulary import View


@register_model(
    "mtfn",
    paper=Paper(
        "Yu et al.",
        2020,
        "CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality",
        "ACL",
        "https://aclanthology.org/2020.acl-main.343",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(16, 32, 64),
        "text_out": one_of(16, 32, 64),
        "dense": one_of(32, 64, 128),
        "dropout": DROPOUT,
        "fusion_dropout": DROPOUT,
        "unimodal_dropout": DROPOUT,
    },
    training={"learning_rate": 5e-3, "batch_size": 64, "epochs": 200, "patience": 8, "real_loss": "l1"},
    presets={
        "sims": {
            "options": {
                **{"widths": {"text": 256, "audio": 32, "vision": 256}, "text_out": 256, "dense": 64, "dropout": 0.2},
                **{"unimodal_widths": {"text": 64, "audio": 4, "vision": 8}, "fusion_dropout": 0.2},
                **{"unimodal_dropout": 0.2, "loss_weights": {"fused": 0.6, "text": 0.4, "audio": 0.0, "vision": 1.0}},
                "weight_decays": {"text": 1e-3, "audio": 1e-4, "vision": 1e-5},
            },
            "training": {"learning_rate": 5e-3, "weight_decay": 0.0, "batch_size": 64},
        }
    },
)
class MTFN(Model):
    """One vector per modality, told by a head of its own, and dense layers upon the outer product of all of them.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of each modality's network.
        widths: sizes of the modalities that have another than ``hidden``.
        text_out: width of the text's vector.
        dense: width of the layers after the product.
        unimodal_dense: width of each modality's own layers.
        unimodal_widths: the same for single modalities.
        dropout: share dropped in each modality's network.
        fusion_dropout: share of the product dropped.
        unimodal_dropout: share of each vector dropped before its own layers.
        loss_weights: factor of each head's loss, by modality or fused; 1 if not named, and 0 leaves the head out.
        unimodal_labels: ``own`` (a modality's label, where the corpus has it) or ``joint``.
        weight_decays: of single modalities' networks; the run's where not named.
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
        dense: int = 64,
        unimodal_dense: int = 16,
        unimodal_widths: Mapping[str, int] | None = None,
        dropout: float = 0.2,
        fusion_dropout: float = 0.2,
        unimodal_dropout: float = 0.2,
        loss_weights: Mapping[str, float] | None = None,
        unimodal_labels: str = "own",
        weight_decays: Mapping[str, float] | None = None,
        bounded: bool = True,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        check_share("fusion_dropout", fusion_dropout)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        width = check_product(subnet_widths(sizes, text_out), dense, "mlmf")
        self.subnets = Subnets(self.inputs, sizes, text_out=text_out, dropout=dropout)
        self.drop = LargeDropout(fusion_dropout)
        self.layers = nn.ModuleList([Linear(width, dense), Linear(dense, dense)])
        self.heads = Heads(dense, tasks)
        self.bounded = bounded
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

    def stages(self) -> list[Stage]:
        """Return the one stage, whose networks may have weight decays of their own."""
        rest = ParameterGroup(others(self, *self._groups.values()))
        return [Stage("main", {**self._groups, "rest": rest})]

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task by the common head.

        Extras: ``prediction.<modality>.<task>``, what the modalities' heads say (nothing that means anything where one
        is missing); ``present`` (B, modalities); ``fused`` (B, width), what the first layer makes of the product.
        """
        vectors = self.subnets(batch)
        fused = torch.relu(product_layer(vectors.values(), self.drop, self.layers[0]))
        predictions = self.heads(torch.relu(self.layers[1](fused)))
        if self.bounded:
            predictions = {task.name: within_range(predictions[task.name], task) for task in self.tasks}
        return ModelOutput(predictions, {**self.unimodal(vectors, batch), "fused": fused})

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return ``<task>`` of the common head and ``<task>.<modality>`` of the others, times their weights."""
        return self.unimodal.losses(output, batch)
