"""MMMU-BA: multi-modal multi-utterance bi-modal attention.

Ghosal, Akhtar, Chauhan, Poria, Ekbal, Bhattacharyya 2018: Contextual Inter-modal Attention for Multi-modal Sentiment
Analysis. EMNLP 2018, https://aclanthology.org/D18-1382

Deviations:
    - Attention keys are the real utterances that have the modality; the released code also attends to padding.
      ``attention="unmasked"`` does as released.
    - An utterance that lacks a modality is skipped by that modality's GRU (as released) and gives zeros to the
      attention and the heads (the released code repeats the last state).
    - The recurrent layer has PyTorch's gates; ``keras_gru=True`` has those of the released code's Keras 2.
    - The paper has one task of two classes and three modalities. Here every task has a head on the same
      representation; one modality attends to itself, four or more attend in every pair.
    - The released code keeps the epoch that is best on the test set; here the choice is made on valid.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_choice, check_share, register_model
from affectus.models.space import DROPOUT, Real, one_of
from affectus.nn.attention import attended_blocks, inter_modal_attention, pairwise_attention
from affectus.nn.contextual import ContextualEncoder
from affectus.objectives import Task
from affectus.vocabulary import View


@register_model(
    "mmmu_ba",
    paper=Paper(
        "Ghosal et al.",
        2018,
        "Contextual Inter-modal Attention for Multi-modal Sentiment Analysis",
        "EMNLP",
        "https://aclanthology.org/D18-1382",
    ),
    views={View.CONTEXTUAL},
    space={
        "hidden": one_of(50, 100, 200, 300),
        "dense": one_of(50, 100, 200),
        "input_dropout": DROPOUT,
        "recurrent_dropout": DROPOUT,
        "dropout": Real(0.2, 0.8),
    },
    # features go in as they are, as in the released code
    training={"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 32, "epochs": 15, "scale": "none"},
    presets={
        "as_released": {
            "options": {"attention": "unmasked", "keras_gru": True},
            "training": {"pad_to": 63, "buckets": False, "scale": "none", "patience": 10},
            # padding is attended to, so what is beside a video in its batch counts
            "breaks": ("padding", "batch"),
        }
    },
)
class MMMUBA(Model):
    """Attention between pairs of modalities over the utterances of a video, for sentiment.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        variant: ``mmmu_ba`` (pairs of modalities, over utterances), ``mmuu_sa`` (self-attention over the modalities of
            one utterance), ``mu_sa`` (self-attention over the utterances of one modality) or ``none``.
        hidden: size of the GRU's state per direction.
        dense: width of the layer after each GRU, in which attention works.
        input_dropout: share of each GRU's inputs dropped.
        recurrent_dropout: share of each GRU's state dropped.
        dropout: share dropped after the GRU and after the dense layer.
        attention: ``masked`` (keys are real utterances) or ``unmasked`` (padding too, as released).
        keras_gru: gates as in the Keras of the released code.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        variant: str = "mmmu_ba",
        hidden: int = 300,
        dense: int = 100,
        input_dropout: float = 0.5,
        recurrent_dropout: float = 0.5,
        dropout: float = 0.7,
        attention: str = "masked",
        keras_gru: bool = False,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("variant", variant, ("mmmu_ba", "mmuu_sa", "mu_sa", "none"))
        check_choice("attention", attention, ("masked", "unmasked"))
        check_share("input_dropout", input_dropout)
        check_share("recurrent_dropout", recurrent_dropout)
        check_share("dropout", dropout)
        self.variant, self.attention = variant, attention
        self.encoder = ContextualEncoder(
            self.inputs,
            hidden=hidden,
            dense=dense,
            activation=torch.tanh,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            dropout=dropout,
            keras_gru=keras_gru,
            repeat_masked=attention == "unmasked",
        )
        count = len(self.inputs)
        attended = {"mmmu_ba": attended_blocks(count), "mmuu_sa": count, "mu_sa": count, "none": 0}[variant]
        self.heads = Heads((attended + count) * dense, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task.

        Extras: ``attention.<x>.<y>`` (B, U, U), where x attends over y; under ``mmuu_sa`` ``modality_attention``
        (B, U, modalities, modalities); ``fused``.
        """
        masks = {name: batch.masks[name] & batch.mask for name in self.inputs}
        dense = self.encoder(batch.features, masks)  # per modality (B, U, d)
        attended, weights = self._attend(dense, masks if self.attention == "masked" else None)
        fused = torch.cat([*attended, *dense.values()], dim=-1)  # (B, U, 9 * d) with three modalities
        return ModelOutput(self.heads(fused), weights | {"fused": fused})

    def _attend(
        self, dense: Mapping[str, Tensor], keys: Mapping[str, Tensor] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        if self.variant == "mmmu_ba":
            return pairwise_attention(dense, keys)
        if self.variant == "mmuu_sa":
            x = torch.stack(list(dense.values()), dim=-2)  # (B, U, modalities, d)
            present = None if keys is None else torch.stack(list(keys.values()), dim=-1)  # (B, U, modalities)
            result, weights = inter_modal_attention(x, x, present)
            return [result.flatten(-2)], {"modality_attention": weights}
        attended, found = [], {}
        if self.variant == "mu_sa":
            for name, x in dense.items():
                result, found[f"attention.{name}.{name}"] = inter_modal_attention(
                    x, x, None if keys is None else keys[name]
                )
                attended.append(result)
        return attended, found
