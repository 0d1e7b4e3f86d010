"""MLF-DNN: late fusion of a network for each modality, with a head for each beside the common one.

Yu, Xu, Meng, Zhu, Ma, Wu, Zou, Yang 2020: CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained
Annotation of Modality. ACL 2020, https://aclanthology.org/2020.acl-main.343

Deviations:
    - The networks, the fusion and the heads are those of MMSA, whose figures later papers quote; its defaults for
      CH-SIMS are the defaults here. Means are over real steps and the LSTM ends at the last real step; MMSA averages
      over padding too and lets its LSTM run through it. The text's dropout works; MMSA sets it to 0 whatever its
      configuration says. Batch normalisation leaves out the utterances that lack the modality.
    - A modality's head learns that modality's label where the corpus has it (CH-SIMS), else the common one;
      ``unimodal_labels="joint"`` always takes the common one. MMSA refuses any corpus but CH-SIMS.
    - An utterance that lacks a modality gives zeros to the fusion and has no part in that modality's loss.
    - One, two, four or more modalities work the same way; those that are not text are treated as audio and vision are.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, ParameterGroup, Stage, check_share, register_model
from affectus.models.options import check_size, modality_values
from affectus.models.space import DROPOUT, one_of
from affectus.models.unimodal import UnimodalHeads, net_groups, others
from affectus.nn.dropping import Dropout
from affectus.nn.matmul import Linear
from affectus.nn.subnets import Subnets
from affectus.objectives import Task
from affectus.vocabulary import View


@register_model(
    "mlf_dnn",
    paper=Paper(
        "Yu et al.",
        2020,
        "CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality",
        "ACL",
        "https://aclanthology.org/2020.acl-main.343",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(16, 32, 64, 128),
        "text_out": one_of(16, 32, 64),
        "dense": one_of(16, 32, 64),
        "dropout": DROPOUT,
        "fusion_dropout": DROPOUT,
        "unimodal_dropout": DROPOUT,
    },
    training={"learning_rate": 2e-3, "batch_size": 32, "epochs": 200, "patience": 8, "real_loss": "l1"},
    presets={
        "sims": {
            "options": {
                **{"widths": {"text": 64, "audio": 32, "vision": 64}, "text_out": 32, "dense": 32, "dropout": 0.3},
                **{"unimodal_widths": {"text": 16, "audio": 4, "vision": 32}, "fusion_dropout": 0.5},
                **{"unimodal_dropout": 0.5, "loss_weights": {"fused": 0.6, "text": 0.2, "audio": 0.8, "vision": 0.8}},
                "weight_decays": {"text": 1e-4, "audio": 1e-3, "vision": 1e-4},
            },
            "training": {"learning_rate": 2e-3, "weight_decay": 0.0, "batch_size": 32},
        }
    },
)
class MLFDNN(Model):
    """One vector per modality, told by a head of its own, and dense layers upon all of them together.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of each modality's network.
        widths: sizes of the modalities that have another than ``hidden``.
        text_out: width of the text's vector.
        dense: width of the layers after the fusion.
        unimodal_dense: width of each modality's own layers.
        unimodal_widths: the same for single modalities.
        dropout: share dropped in each modality's network.
        fusion_dropout: share of the concatenated vectors dropped.
        unimodal_dropout: share of each vector dropped before its own layers.
        loss_weights: factor of each head's loss, by modality or fused; 1 if not named, and 0 leaves the head out.
        unimodal_labels: ``own`` (a modality's label, where the corpus has it) or ``joint``.
        weight_decays: of single modalities' networks; the run's where not named.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 64,
        widths: Mapping[str, int] | None = None,
        text_out: int = 32,
        dense: int = 32,
        unimodal_dense: int = 16,
        unimodal_widths: Mapping[str, int] | None = None,
        dropout: float = 0.3,
        fusion_dropout: float = 0.5,
        unimodal_dropout: float = 0.5,
        loss_weights: Mapping[str, float] | None = None,
        unimodal_labels: str = "own",
        weight_decays: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        check_share("fusion_dropout", fusion_dropout)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        self.subnets = Subnets(self.inputs, sizes, text_out=text_out, dropout=dropout)
        self.drop = Dropout(fusion_dropout)
        self.layers = nn.ModuleList([Linear(sum(self.subnets.widths.values()), dense), Linear(dense, dense)])
        self.heads = Heads(dense, tasks)
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
        is missing); ``present`` (B, modalities); ``fused`` (B, width), the concatenated vectors.
        """
        vectors = self.subnets(batch)
        fused = torch.cat(list(vectors.values()), dim=-1)
        y = self.drop(fused)
        for layer in self.layers:
            y = torch.relu(layer(y))
        return ModelOutput(self.heads(y), {**self.unimodal(vectors, batch), "fused": fused})

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return ``<task>`` of the common head and ``<task>.<modality>`` of the others, times their weights."""
        return self.unimodal.losses(output, batch)
