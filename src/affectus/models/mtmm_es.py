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
from itertools import combinations

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import (
    Heads,
    Model,
    ModelOutput,
    Paper,
    check_choice,
    check_share,
    register_model,
    zero_masked,
)
from affectus.nn.attention import inter_modal_attention
from affectus.nn.recurrent import BiGRUs
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
    training={"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 16, "epochs": 50},
    presets={
        "as_released": {
            "options": {"attention": "unmasked", "keras_gru": True},
            "training": {"pad_to": 98, "buckets": False, "scale": "none", "patience": None},
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
        names = tuple(self.inputs)
        self.pairs = tuple(combinations(names, 2)) or ((names[0], names[0]),)
        self.recurrent: BiGRUs | None = None
        self.alone: nn.ModuleDict | None = None
        if context:
            self.recurrent = BiGRUs(
                self.inputs,
                hidden,
                dropout=input_dropout,
                recurrent_dropout=recurrent_dropout,
                reset_after=not keras_gru,
                hard_gates=keras_gru,
            )
        else:
            self.alone = nn.ModuleDict(
                {
                    name: nn.Sequential(nn.Dropout(input_dropout), nn.Linear(dim, 2 * hidden), nn.Tanh())
                    for name, dim in self.inputs.items()
                }
            )
        self.dense = nn.ModuleDict({name: nn.Linear(2 * hidden, dense) for name in names})
        self.drop = nn.Dropout(dropout)
        attended = 0 if attention == "none" else (1 if len(names) == 1 else 2 * len(self.pairs))
        self.heads = Heads((attended + len(names)) * dense, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``attention.<x>.<y>`` (B, U, U), where x attends over y, and ``fused``."""
        masks = {name: batch.masks[name] & batch.mask for name in self.inputs}
        if self.recurrent is not None:
            hidden = self.recurrent(batch.features, masks)
        else:
            assert self.alone is not None
            hidden = {name: self.alone[name](zero_masked(batch.features[name], masks[name])) for name in self.inputs}
        dense = {}
        for name, states in hidden.items():
            x = self.drop(torch.relu(self.dense[name](self.drop(states))))  # (B, U, d)
            dense[name] = x if self.attention == "unmasked" else zero_masked(x, masks[name])
        attended, extras = self._attend(dense, masks)
        fused = torch.cat([*attended, *dense.values()], dim=-1)
        extras["fused"] = fused
        return ModelOutput(self.heads(fused), extras)

    def _attend(
        self, dense: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        attended: list[Tensor] = []
        weights: dict[str, Tensor] = {}
        if self.attention == "none":
            return attended, weights
        keys: Mapping[str, Tensor | None] = masks if self.attention == "masked" else dict.fromkeys(masks)
        for x, y in self.pairs:
            for query, key in ((x, y),) if x == y else ((x, y), (y, x)):
                result, weights[f"attention.{query}.{key}"] = inter_modal_attention(dense[query], dense[key], keys[key])
                attended.append(result)
        return attended, weights
