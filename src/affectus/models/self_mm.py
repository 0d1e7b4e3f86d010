"""Self-MM: labels of single modalities that the model makes itself, learned beside the common one.

Yu, Xu, Yuan, Wu 2021: Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for
Multimodal Sentiment Analysis. AAAI 2021, https://arxiv.org/abs/2102.04830

Deviations:
    - The text comes as vectors of tokens; BERT is the run's text encoder (``text_encoder``, ``text_layers``), as the
      presets have it. ``text="first"`` takes the first vector (BERT's [CLS]) as the paper does; ``mean`` averages them,
      ``recurrent`` reads them with an LSTM as the other modalities.
    - Labels are made as in the released code: distances to the centres divided by that to the positive centre, clamped
      to the label's range, from the second epoch on, batch by batch. The range is that of the task (its middle is where
      the sign changes); released, it is the option H.
    - The method is defined for real labels. Of the other kinds every value (a class, an emotion) counts as a label of
      its own, 1 where it holds and -1 where not; what is made of it is mapped back to a probability, and the unimodal
      heads learn it by a soft cross-entropy. A class task weighs an utterance by the mean difference over its classes.
    - Where a class has no utterance yet, the centre is missing and labels stay as they are (released: not a number). An
      utterance that lacks a modality gets no label for it and has no part in that modality's centres or loss.
    - Valid has no made labels: its losses are those of the predictions alone.
    - What was made is saved with each checkpoint, and left out of the trained model.
    - Any number of modalities: each has a head of its own. Stacked LSTMs are not offered.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import (
    Model,
    ModelOutput,
    Paper,
    ParameterGroup,
    Stage,
    check_choice,
    register_model,
)
from affectus.models.options import check_number, check_positive, check_rate, check_size, modality_values
from affectus.models.signed import SMALLEST, SignedLabels, signed_labels
from affectus.models.space import DROPOUT, one_of
from affectus.models.unimodal import Branch
from affectus.nn.dropping import Dropout
from affectus.nn.lstm import LSTM
from affectus.nn.masking import first_real, masked_mean, zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.table import RowTable
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View

FUSION = "fusion"
"""The head of all modalities together."""


class _Encoder(nn.Module):
    """LSTM and a linear layer upon its last state."""

    def __init__(self, dim: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.recurrent, self.drop, self.layer = LSTM(dim, hidden), Dropout(dropout), Linear(hidden, out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) to (B, out), zero without a real step."""
        return zero_masked(self.layer(self.drop(self.recurrent.last(x, mask))), mask.any(dim=1))


_TRAINING = {"text_layers": -1, "text_learning_rate": 5e-5, "text_weight_decay": 1e-3, "accumulate": 4}


@register_model(
    "self_mm",
    paper=Paper(
        "Yu et al.",
        2021,
        "Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for Multimodal Sentiment "
        "Analysis",
        "AAAI",
        "https://arxiv.org/abs/2102.04830",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(8, 16, 32, 64),
        "encoded": one_of(8, 16, 32),
        "dense": one_of(16, 32, 64, 128),
        "fusion_dense": one_of(64, 128, 256),
        "dropout": DROPOUT,
        "fusion_dropout": DROPOUT,
    },
    training={
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 1e-3,
        "batch_size": 16,
        "epochs": 100,
        "patience": 8,
        "real_loss": "l1",
        "select": "task_loss",
    },
    presets={
        "mosi": {
            "options": {
                **{"hidden": 16, "widths": {"vision": 32}, "encoded": 16, "encoded_widths": {"vision": 32}},
                **{"dense": 32, "dense_widths": {"audio": 16}, "fusion_dense": 128, "fusion_dropout": 0.0},
                **{"dropout": 0.1, "dropouts": {"vision": 0.0}},
                **{"learning_rates": {"audio": 5e-3, "vision": 5e-3}, "weight_decays": {"audio": 1e-3, "vision": 1e-3}},
            },
            "training": {**_TRAINING, "batch_size": 16, "text_encoder": "bert-base-uncased"},
        },
        "mosei": {
            "options": {
                **{"hidden": 16, "widths": {"vision": 32}, "encoded": 16, "encoded_widths": {"vision": 32}},
                **{"dense": 32, "dense_widths": {"audio": 16}, "fusion_dense": 128, "fusion_dropout": 0.1},
                **{"dropout": 0.0, "dropouts": None},
                **{"learning_rates": {"audio": 5e-3, "vision": 1e-4}, "weight_decays": {"audio": 0.0, "vision": 0.0}},
            },
            "training": {**_TRAINING, "batch_size": 32, "weight_decay": 0.01, "text_encoder": "bert-base-uncased"},
        },
        "sims": {
            "options": {
                **{"hidden": 16, "widths": {"vision": 64}, "encoded": 16, "encoded_widths": {"vision": 32}},
                **{"dense": 32, "dense_widths": {"text": 64, "audio": 16}, "fusion_dense": 128, "fusion_dropout": 0.0},
                **{"dropout": 0.1, "dropouts": {"vision": 0.0}},
                **{"learning_rates": {"audio": 5e-3, "vision": 5e-3}, "weight_decays": {"audio": 0.01, "vision": 0.01}},
            },
            "training": {**{**_TRAINING, "batch_size": 32, "text_encoder": "bert-base-chinese", "text_max_tokens": 39}},
        },
    },
)
class SelfMM(Model):
    """A head for all modalities and one for each, which learns labels made from distances between features.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        text: how the text becomes one vector: ``first`` token (BERT's [CLS]), ``mean`` over them or ``recurrent``.
        hidden: size of the LSTMs' state.
        widths: the same for single modalities, for instance {vision: 64}.
        encoded: width of what an LSTM's last state becomes.
        encoded_widths: the same for single modalities.
        dense: width of the dense layers of each modality's branch.
        dense_widths: the same for single modalities.
        fusion_dense: width of the dense layers of all modalities' branch.
        encoder_dropout: share dropped of the LSTMs' last states.
        dropout: share dropped of what enters a modality's branch.
        dropouts: the same for single modalities.
        fusion_dropout: share dropped of what enters the common branch.
        exclude_zero: a label of zero belongs to no centre; else it counts as positive.
        learning_rates: of single modalities' LSTMs; the run's where not named.
        weight_decays: of single modalities' LSTMs; the run's where not named.
    """

    epochs: Tensor

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        text: str = "first",
        hidden: int = 16,
        widths: Mapping[str, int] | None = None,
        encoded: int = 16,
        encoded_widths: Mapping[str, int] | None = None,
        dense: int = 32,
        dense_widths: Mapping[str, int] | None = None,
        fusion_dense: int = 128,
        encoder_dropout: float = 0.0,
        dropout: float = 0.1,
        dropouts: Mapping[str, float] | None = None,
        fusion_dropout: float = 0.0,
        exclude_zero: bool = True,
        learning_rates: Mapping[str, float] | None = None,
        weight_decays: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("text", text, ("first", "mean", "recurrent"))
        for name, share in (
            ("encoder_dropout", encoder_dropout),
            ("dropout", dropout),
            ("fusion_dropout", fusion_dropout),
        ):
            check_rate(name, share)
        if FUSION in self.inputs:
            raise AffectusError("A modality has the name of a head", got=FUSION, remedy="Give it another name")
        self.text, self.exclude_zero = text, exclude_zero
        states = modality_values("widths", inputs, hidden, widths, check_size)
        ends = modality_values("encoded_widths", inputs, encoded, encoded_widths, check_size)
        dense_of = {FUSION: fusion_dense, **modality_values("dense_widths", inputs, dense, dense_widths, check_size)}
        drops = modality_values("dropouts", inputs, dropout, dropouts, check_rate)
        self._rates = modality_values("learning_rates", inputs, 0.0, learning_rates, check_positive)
        self._decays = modality_values("weight_decays", inputs, -1.0, weight_decays, check_number)
        self.encoders = nn.ModuleDict()
        entering = {}
        for name, width in self.inputs.items():
            entering[name] = width
            if name != TEXT or text == "recurrent":
                entering[name] = int(ends[name])
                self.encoders[name] = _Encoder(width, int(states[name]), entering[name], encoder_dropout)
        entering = {FUSION: sum(entering.values()), **entering}
        drops = {FUSION: fusion_dropout, **drops}
        self.branches = nn.ModuleDict(
            {head: Branch(entering[head], int(width), tasks, drops[head]) for head, width in dense_of.items()}
        )
        self._codes = [SignedLabels(task) for task in tasks]
        self._values = sum(code.width for code in self._codes)
        # per head the labels of every value, then the features
        self.memory = nn.ModuleDict({head: RowTable(self._values + int(width)) for head, width in dense_of.items()})
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    @property
    def stage(self) -> str:
        """Name of the stage that is being trained."""
        return self._stage

    @stage.setter
    def stage(self, name: str) -> None:
        self._stage = name
        if name == "done":  # what was made of the training utterances is no part of the trained model
            for head in self.memory:
                self._table(head).clear()
            self.epochs.zero_()

    def stages(self) -> list[Stage]:
        """Return one stage, in which each modality's LSTM is a group of its own."""
        groups = {
            f"encoder.{name}": ParameterGroup(
                list(encoder.parameters()),
                self._rates[name] or None,
                self._decays[name] if self._decays[name] >= 0 else None,
            )
            for name, encoder in self.encoders.items()
        }
        return [Stage("main", {**groups, "branches": ParameterGroup(list(self.branches.parameters()))})]

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task by the common head.

        Extras: ``prediction.<modality>.<task>``, what the modalities' heads say (nothing that means anything where one
        is missing), ``features.<head>`` (B, dense), and ``present`` (B, modalities).
        """
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        encoded = {name: self._encoded(name, batch.features[name], masks[name]) for name in self.inputs}
        extras: dict[str, Tensor] = {}
        predictions: dict[str, Tensor] = {}
        for head, branch in self.branches.items():
            x = torch.cat(list(encoded.values()), dim=-1) if head == FUSION else encoded[head]
            extras[f"features.{head}"], said = branch(x)
            if head == FUSION:
                predictions = said
            else:
                extras |= {f"prediction.{head}.{task}": y for task, y in said.items()}
        extras["present"] = torch.stack([mask.any(dim=1) for mask in masks.values()], dim=1)
        return ModelOutput(predictions, extras)

    def _encoded(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        if name in self.encoders:
            found: Tensor = self.encoders[name](x, mask)
            return found
        return first_real(x, mask) if self.text == "first" else masked_mean(x, mask)

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the tasks' losses and, in training, ``<task>.<modality>`` against the labels made so far."""
        found = super().losses(output, batch)
        if not self.training:
            return found
        joint = self._joint(batch)
        for i, name in enumerate(self.inputs):
            made = self._made(name, batch, joint)
            made = made.masked_fill(~output.extras["present"][:, i : i + 1], torch.nan)
            for code, mine, common in zip(self._codes, self._split(made), self._split(joint), strict=True):
                said = output.extras[f"prediction.{name}.{code.task.name}"]
                found[f"{code.task.name}.{name}"] = code.loss(said, mine, torch.tanh((mine - common).abs()))
        return found

    def on_batch_end(self, output: ModelOutput, batch: Batch) -> None:
        """Make new labels for the utterances of a batch, from the second epoch on, and remember its features."""
        real = batch.mask
        rows, joint = batch.rows[real], self._joint(batch)[real]
        here = {FUSION: torch.ones_like(rows, dtype=torch.bool)}
        here |= {name: output.extras["present"][real, i] for i, name in enumerate(self.inputs)}
        features = {head: output.extras[f"features.{head}"].detach()[real] for head in self.branches}
        made = {head: joint if head == FUSION else self._made(head, batch, joint, real) for head in self.branches}
        epoch = int(self.epochs) + 1
        if epoch > 1:
            common = self._relative_distance(FUSION, features[FUSION])
            limit = self._limits(joint)
            for head in self.inputs:
                own = self._relative_distance(head, features[head])
                shifted = 0.5 * own / (common + SMALLEST) * joint + 0.5 * (joint + own - common)
                shifted = torch.maximum(torch.minimum(shifted, limit), -limit)
                new = (epoch - 1) / (epoch + 1) * made[head] + 2 / (epoch + 1) * shifted
                made[head] = torch.where(torch.isnan(new), made[head], new)
        for head in self.branches:
            entry = torch.cat([made[head], features[head]], dim=1)
            self._table(head).write(rows, entry.masked_fill(~here[head].unsqueeze(1), torch.nan))

    def on_epoch_end(self, epoch: int) -> None:
        """Count."""
        self.epochs.fill_(epoch + 1)

    def _joint(self, batch: Batch) -> Tensor:
        """The common labels (B, values), signed; NaN where missing."""
        return signed_labels(self._codes, batch.labels)

    def _made(self, head: str, batch: Batch, joint: Tensor, real: Tensor | None = None) -> Tensor:
        """The labels made so far for a head; the common ones where there is none yet."""
        rows = batch.rows if real is None else batch.rows[real]
        known = self._table(head).read(rows.clamp(min=0))[:, : self._values]
        return torch.where(torch.isnan(known), joint, known)

    def _table(self, head: str) -> RowTable:
        found = self.memory[head]
        assert isinstance(found, RowTable)
        return found

    def _split(self, values: Tensor) -> list[Tensor]:
        return list(torch.split(values, [code.width for code in self._codes], dim=-1))

    def _limits(self, joint: Tensor) -> Tensor:
        """How large a made label may be, (values,)."""
        known = torch.cat([self._table(FUSION).values[:, : self._values], joint]).abs().nan_to_num(0.0).amax(dim=0)
        parts = zip(self._codes, self._split(known), strict=True)
        return torch.cat([seen if code.limit is None else torch.full_like(seen, code.limit) for code, seen in parts])

    def _relative_distance(self, head: str, features: Tensor) -> Tensor:
        """How much nearer (B, dense) is to the positive centre than to the negative one: (B, values).

        NaN where a centre is missing.
        """
        table = self._table(head).values
        labels, known = table[:, : self._values], table[:, self._values :]
        clean = known.nan_to_num(0.0)
        positive = labels > 0 if self.exclude_zero else labels >= 0
        near, far = (
            torch.linalg.vector_norm(features.unsqueeze(1) - _centres(clean, side & ~torch.isnan(known[:, :1])), dim=-1)
            for side in (positive, labels < 0)
        )
        result: Tensor = (far - near) / (near + SMALLEST)
        return result


def _centres(features: Tensor, members: Tensor) -> Tensor:
    """Mean features (values, dense) of the rows (R, dense) that are members (R, values) of each value; NaN if none."""
    some = members.to(features)
    return some.T @ features / some.sum(dim=0).unsqueeze(1)
