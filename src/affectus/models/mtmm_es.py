"""MTMM-ES: multi-task contextual inter-modal attention.

Akhtar, Chauhan, Ghosal, Poria, Ekbal, Bhattacharyya 2019: Multi-task Learning for Multi-modal Emotion Recognition and
Sentiment Analysis. NAACL-HLT 2019, https://aclanthology.org/N19-1034

Deviations:
    - Attention keys are the real utterances that have the modality; the released code also attends to padding, where
      every row is one and the same vector. ``attention="unmasked"`` does as released.
    - An utterance that lacks a modality is skipped by that modality's GRU (as released) and gives zeros to the
      attention and the heads (the released code repeats the last state).
    - The recurrent layer has PyTorch's gates; ``keras_gru=True`` has those of the released code's Keras 2 (hard
      sigmoid, reset gate before the product).
    - The paper is silent on one modality: the representation attends to itself, as the released code's self-attention
      does. Four or more: every pair.
    - Single-task learning is this model with one task.
"""

from collections.abc import Mapping, Sequence

import torch

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_choice, check_share, register_model
from affectus.models.space import DROPOUT, one_of
from affectus.nn.attention import attended_blocks, pairwise_attention
from affectus.nn.contextual import ContextualEncoder
from affectus.objectives import Task
from affectus.vocabulary import View


@register_model(
    "mtmm_es",
    paper=Paper(
        "Akhtar et al.",
        2019,
        "Multi-task Learning for Multi-modal Emotion Recognition and Sentiment Analysis",
        "NAACL-HLT",
        "https://aclanthology.org/N19-1034",
    ),
    views={View.CONTEXTUAL},
    space={
        "hidden": one_of(50, 100, 200, 300),
        "dense": one_of(50, 100, 200),
        "input_dropout": DROPOUT,
        "recurrent_dropout": DROPOUT,
        "dropout": DROPOUT,
    },
    training={"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 16, "epochs": 50},
    presets={
        "as_released": {
            "options": {"attention": "unmasked", "keras_gru": True},
            "training": {"pad_to": 98, "buckets": False, "scale": "none", "patience": None},
            # padding is attended to, so what is beside a video in its batch counts
            "breaks": ("padding", "batch"),
        }
    },
)
class MTMMES(Model):
    """Contextual inter-modal attention over the utterances of a video, all tasks learned together.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of the GRU's state per direction.
        dense: width of the layer after each GRU, in which attention works.
        input_dropout: share of each GRU's inputs dropped.
        recurrent_dropout: share of each GRU's state dropped.
        dropout: share dropped after the GRU and after the dense layer.
        attention: ``masked`` (keys are real utterances), ``unmasked`` (padding too, as released) or ``none``
            (no attention: the dense representations alone).
        context: False replaces the GRU by a dense layer of the same width that sees one utterance alone.
        keras_gru: gates as in the Keras of the released code.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 200,
        dense: int = 100,
        input_dropout: float = 0.3,
        recurrent_dropout: float = 0.3,
        dropout: float = 0.3,
        attention: str = "masked",
        context: bool = True,
        keras_gru: bool = False,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("input_dropout", input_dropout)
        check_share("recurrent_dropout", recurrent_dropout)
        check_share("dropout", dropout)
        check_choice("attention", attention, ("masked", "unmasked", "none"))
        self.attention = attention
        # what Algorithm 1 calls X and Y
        self.encoder = ContextualEncoder(
            self.inputs,
            hidden=hidden,
            dense=dense,
            activation=torch.relu,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            dropout=dropout,
            context=context,
            keras_gru=keras_gru,
            repeat_masked=attention == "unmasked",
        )
        attended = 0 if attention == "none" else attended_blocks(len(self.inputs))
        self.heads = Heads((attended + len(self.inputs)) * dense, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``attention.<x>.<y>`` (B, U, U), where x attends over y, and ``fused``."""
        masks = {name: batch.masks[name] & batch.mask for name in self.inputs}
        dense = self.encoder(batch.features, masks)  # per modality (B, U, d)
        attended: list[torch.Tensor] = []
        weights: dict[str, torch.Tensor] = {}
        if self.attention != "none":
            attended, weights = pairwise_attention(dense, masks if self.attention == "masked" else None)
        fused = torch.cat([*attended, *dense.values()], dim=-1)  # (B, U, 9 * d) with three modalities
        return ModelOutput(self.heads(fused), weights | {"fused": fused})
