"""bc-LSTM: bidirectional contextual LSTM, first per modality, then over all.

Poria, Cambria, Hazarika, Majumder, Zadeh, Morency 2017: Context-Dependent Sentiment Analysis in User-Generated Videos.
ACL 2017, https://aclanthology.org/P17-1081

Deviations:
    - A padded utterance, and one that lacks a modality, is skipped by that modality's LSTM, as released; its
      activation is zero for the fusion. The released code masks padding in the first stage only, and its second LSTM
      runs through what the first repeated there.
    - The recurrent layer has the usual sigmoid gates; ``keras_lstm=True`` has the piecewise linear ones of the
      released code's Keras 2.
    - Each stage goes on from its best epoch on valid; the released code keeps the last one before it stopped.
    - The paper has one task; here each of them has a head per modality and one in the fusion.
    - With one modality there is no second stage: the prediction is that of the contextual LSTM, as the paper's
      unimodal results are. Two, four or more modalities are concatenated as the three are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import (
    Heads,
    Model,
    ModelOutput,
    Paper,
    ParameterGroup,
    Stage,
    check_share,
    register_model,
)
from affectus.models.space import Real, one_of
from affectus.nn.dropping import Dropout
from affectus.nn.masking import zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.recurrent import BiLSTMs
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View


class _ContextualLSTM(nn.Module):
    """BiLSTM over the utterances, dense layer, heads; the paper's Fig. 1, once per modality and once for the fusion."""

    def __init__(
        self,
        dim: int,
        tasks: Sequence[Task],
        *,
        hidden: int,
        dense: int,
        activation: Callable[[Tensor], Tensor],
        input_dropout: float,
        dropout: float,
        keras_lstm: bool,
    ) -> None:
        super().__init__()
        self.recurrent = BiLSTMs({"x": dim}, hidden, dropout=input_dropout, hard_gates=keras_lstm)
        self.dense = Linear(2 * hidden, dense)
        self.activation = activation
        self.drop = Dropout(dropout)
        self.heads = Heads(dense, tasks)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Map (B, U, dim) to the dense activations (B, U, dense), zero where masked, and the heads' outputs."""
        h = self.recurrent({"x": x}, {"x": mask})["x"]  # (B, U, 2 * hidden)
        z = zero_masked(self.activation(self.dense(self.drop(h))), mask)  # (B, U, dense)
        return z, self.heads(self.drop(z))


@register_model(
    "bc_lstm",
    paper=Paper(
        "Poria et al.",
        2017,
        "Context-Dependent Sentiment Analysis in User-Generated Videos",
        "ACL",
        "https://aclanthology.org/P17-1081",
    ),
    views={View.CONTEXTUAL},
    space={
        "hidden": one_of(50, 100, 200, 300),
        "dense": one_of(50, 100, 200),
        "fusion_dense": one_of(100, 300, 500),
        "input_dropout": Real(0.0, 0.7),
        "dropout": Real(0.3, 0.9),
        "learning_rate": Real(0.1, 2.0, log=True),
        "batch_size": one_of(5, 10, 20),
    },
    training={"optimizer": "adadelta", "learning_rate": 1.0, "batch_size": 10, "epochs": 200, "patience": 10},
)
class BCLSTM(Model):
    """Contextual LSTM per modality, then one over their concatenated activations, trained one after the other.

    The stages are ``unimodal.<modality>`` for each modality, then ``fusion``, for which the unimodal parts stand still.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of every LSTM's state per direction.
        dense: width of the dense layer of each modality, whose activations are fused.
        fusion_dense: width of the dense layer of the fusion.
        input_dropout: share of the unimodal LSTMs' inputs dropped.
        fusion_input_dropout: share of the fusion LSTM's inputs dropped.
        dropout: share dropped after each LSTM and each dense layer.
        keras_lstm: gates as in the Keras of the released code.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 300,
        dense: int = 100,
        fusion_dense: int = 500,
        input_dropout: float = 0.6,
        fusion_input_dropout: float = 0.4,
        dropout: float = 0.9,
        keras_lstm: bool = False,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("input_dropout", input_dropout)
        check_share("fusion_input_dropout", fusion_input_dropout)
        check_share("dropout", dropout)
        self.unimodal = nn.ModuleDict(
            {
                name: _ContextualLSTM(
                    dim,
                    tasks,
                    hidden=hidden,
                    dense=dense,
                    activation=torch.tanh,
                    input_dropout=input_dropout,
                    dropout=dropout,
                    keras_lstm=keras_lstm,
                )
                for name, dim in self.inputs.items()
            }
        )
        self.fusion: _ContextualLSTM | None = None
        if len(self.inputs) > 1:
            self.fusion = _ContextualLSTM(
                len(self.inputs) * dense,
                tasks,
                hidden=hidden,
                dense=fusion_dense,
                activation=torch.relu,
                input_dropout=fusion_input_dropout,
                dropout=dropout,
                keras_lstm=keras_lstm,
            )

    def stages(self) -> list[Stage]:
        """Return one stage per modality, then the fusion's."""
        parts = {f"unimodal.{name}": part for name, part in self.unimodal.items()}
        if self.fusion is not None:
            parts["fusion"] = self.fusion
        # a text encoder before the model learns with its modality alone: then the unimodal parts stand still
        return [
            Stage(name, {name: ParameterGroup(list(part.parameters()))}, trains_text=name == f"unimodal.{TEXT}")
            for name, part in parts.items()
        ]

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return one loss per task; an utterance that lacks the modality of a unimodal stage has no part in it."""
        if self._alone is not None:
            there = batch.masks[self._alone].unsqueeze(-1)
            batch = replace(batch, labels={k: v.masked_fill(~there, torch.nan) for k, v in batch.labels.items()})
        return super().losses(output, batch)

    @property
    def _alone(self) -> str | None:
        """The modality that the present stage trains, if it trains one."""
        return self.stage.removeprefix("unimodal.") if self.stage.startswith("unimodal.") else None

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; while a unimodal stage is trained, from that modality alone.

        Extras: ``unimodal.<modality>.<task>``, what the modality's own heads say, and ``fused``, the input of the
        fusion (B, U, modalities * dense).
        """
        masks = {name: batch.masks[name] & batch.mask for name in self.inputs}
        alone = self._alone
        activations, outputs = {}, {}
        # the fusion learns from fixed activations: no dropout, no gradient
        self.unimodal.train(self.training and self.stage != "fusion")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stage != "fusion"):
            for name in self.inputs if alone is None else (alone,):
                activations[name], outputs[name] = self.unimodal[name](batch.features[name], masks[name])
        fused = torch.cat(list(activations.values()), dim=-1)
        extras = {f"unimodal.{name}.{task}": y for name, heads in outputs.items() for task, y in heads.items()}
        extras["fused"] = fused
        if alone is not None or self.fusion is None:
            return ModelOutput(next(iter(outputs.values())), extras)
        present = torch.stack(list(masks.values())).any(dim=0)  # (B, U)
        return ModelOutput(self.fusion(fused, present)[1], extras)
