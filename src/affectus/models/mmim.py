"""MMIM: fusion that keeps as much information of the modalities, and between them, as bounds can tell.

Han, Chen, Poria 2021: Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for Multimodal
Sentiment Analysis. EMNLP 2021, https://aclanthology.org/2021.emnlp-main.723

Each epoch has two passes over train, with an optimiser each: the first fits the Gaussians q(y|x) of the bound
(``bound``), the second everything else.

Deviations:
    - The text comes as vectors of tokens; BERT is the run's text encoder (``text_encoder``, ``text_layers``), as the
      presets have it. ``text="first"`` takes the first vector (BERT's [CLS]) as the paper does; ``mean`` averages them,
      ``recurrent`` reads them with an LSTM as the other modalities.
    - The likelihood is the Gaussian's with its log-variance, without which that of the released code (and of MMSA)
      grows with the variance for nothing. The entropy is that of features under a projection, which the released code
      gives to the optimiser of the first pass, where it has no gradient; here the second pass trains it. What is
      remembered of the batches before is kept from one epoch to the next, and counts as soon as there is enough.
      ``variant="released"`` does as released: no log-variance, a fixed projection, and a memory that is forgotten after
      each epoch and counts one batch later.
    - Covariances are those of as many features as there are, and a group with no more members than dimensions has no
      part; eigenvalues are held above 1e-7. As released, a small group makes the loss no number.
    - Groups are the utterances whose label is positive or negative, for each value of each task; classes and emotions
      count as 1 and -1 (``affectus.models.signed``).
    - The first modality (the text, if there is one) tells each other one; ``all_pairs`` adds the others among
      themselves, a later one telling an earlier one, as MMSA's ``add_va`` does. A lone modality has no bound between
      modalities and one pass.
    - An utterance that lacks a modality has no part in what concerns it; one without any label in none of the bounds.
    - MMSA lowers the learning rate after 20 epochs without a better one, which never comes: training ends after 8.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import (
    Heads,
    Model,
    ModelOutput,
    Paper,
    ParameterGroup,
    Stage,
    check_choice,
    register_model,
)
from affectus.models.options import check_number, check_rate, check_size, modality_values
from affectus.models.signed import SignedLabels, signed_labels
from affectus.models.space import DROPOUT, one_of
from affectus.nn.dropping import Dropout
from affectus.nn.lstm import LSTM
from affectus.nn.masking import first_real, masked_mean, zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.table import RecentRows
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View

BOUND = "bound"
"""The pass that fits the Gaussians."""
LEAST_VARIANCE = 1e-7


class _Encoder(nn.Module):
    """Bidirectional LSTM and a linear layer upon its last states."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.recurrent = LSTM(dim, hidden, bidirectional=True)
        self.layer = Linear(2 * hidden, out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) to (B, out), zero without a real step."""
        return zero_masked(self.layer(self.recurrent.last(x, mask)), mask.any(dim=1))


class _Gaussian(nn.Module):
    """q(y|x): a mean and a log-variance, each a net of two layers upon x."""

    def __init__(self, x: int, y: int) -> None:
        super().__init__()
        self.mean, self.logvar = (nn.Sequential(Linear(x, y), nn.ReLU(), Linear(y, y)) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor, *, normalised: bool) -> Tensor:
        """Log-likelihood (B,) of y (B, d), without its constant; without the log-variance too if not ``normalised``."""
        logvar = self.logvar(x)
        each = -((self.mean(x) - y) ** 2) / 2 / logvar.exp()
        total: Tensor = (each - logvar / 2 if normalised else each).sum(dim=-1)
        return total


class _Projection(nn.Module):
    """tanh(W y + b); fixed, or learned."""

    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, out: int, *, fixed: bool) -> None:
        super().__init__()
        layer = Linear(dim, out)
        nn.init.xavier_normal_(layer.weight)
        if fixed:
            self.register_buffer("weight", layer.weight.detach())
            self.register_buffer("bias", layer.bias.detach())
        else:
            self.weight, self.bias = layer.weight, layer.bias

    def forward(self, y: Tensor) -> Tensor:
        """Map (B, dim) to (B, out)."""
        return torch.tanh(F.linear(y, self.weight, self.bias))


def contrast(x: Tensor, predicted: Tensor) -> Tensor:
    """Noise-contrastive loss of predicting each row of ``x`` (n, d) among all n, both on the unit sphere."""
    x, predicted = F.normalize(x, dim=-1), F.normalize(predicted, dim=-1)
    told = (x * predicted).sum(dim=-1) - (x @ predicted.T).logsumexp(dim=-1)
    return -told.mean()


def half_log_determinant(features: Tensor) -> Tensor:
    """Half the logarithm of the determinant of the covariance of (n, d): a Gaussian's entropy but for a constant."""
    centred = features - features.mean(dim=0)
    covariance = centred.T @ centred / len(features)
    half: Tensor = 0.5 * torch.linalg.eigvalsh(covariance).clamp(min=LEAST_VARIANCE).log().sum()
    return half


_TRAINING = {"text_layers": -1, "text_learning_rate": 5e-5, "text_weight_decay": 1e-4}


@register_model(
    "mmim",
    paper=Paper(
        "Han et al.",
        2021,
        "Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for Multimodal Sentiment "
        "Analysis",
        "EMNLP",
        "https://aclanthology.org/2021.emnlp-main.723",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(8, 16, 32, 64),
        "encoded": one_of(8, 16, 32),
        "dense": one_of(64, 128, 256),
        "dropout": DROPOUT,
        "contrast_weight": one_of(0.05, 0.1, 0.3),
        "information_weight": one_of(0.05, 0.1, 0.3),
    },
    training={
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "batch_size": 32,
        "clip": 1.0,
        "epochs": 100,
        "patience": 8,
        "real_loss": "l1",
        "select": "task_loss",
    },
    presets={
        "mosi": {"training": {**_TRAINING, "text_encoder": "bert-base-uncased"}},
        "mosei": {
            "options": {"bound_share": 0.5},
            "training": {**_TRAINING, "text_encoder": "bert-base-uncased"},
        },
        "sims": {"training": {**_TRAINING, "text_encoder": "bert-base-chinese", "text_max_tokens": 39}},
        "released": {"options": {"variant": "released"}},
    },
)
class MMIM(Model):
    """LSTMs and a fusion net, held to keep information by a bound between modalities and a contrastive one.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        text: how the text becomes one vector: ``first`` token (BERT's [CLS]), ``mean`` over them or ``recurrent``.
        hidden: size of the LSTMs' state per direction.
        widths: the same for single modalities, for instance {vision: 32}.
        encoded: width of what an LSTM's last states become.
        encoded_widths: the same for single modalities.
        dense: width of the fused representation.
        dropout: share dropped of what is fused.
        contrast_weight: of the contrastive loss (alpha).
        information_weight: of the bound between modalities (beta).
        memory_batches: batches whose features the entropy counts besides the present one's.
        all_pairs: bound every pair of modalities, not only the first with each other one.
        bound_share: of the batches that the first pass sees.
        variant: ``paper`` or ``released``, which differ in the bound between modalities.
    """

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
        dense: int = 128,
        dropout: float = 0.1,
        contrast_weight: float = 0.1,
        information_weight: float = 0.1,
        memory_batches: int = 1,
        all_pairs: bool = False,
        bound_share: float = 1.0,
        variant: str = "paper",
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("text", text, ("first", "mean", "recurrent"))
        check_choice("variant", variant, ("paper", "released"))
        check_rate("dropout", dropout)
        check_number("contrast_weight", contrast_weight)
        check_number("information_weight", information_weight)
        check_size("memory_batches", memory_batches)
        if not 0 < bound_share <= 1:
            raise AffectusError(
                "The option 'bound_share' is out of range", got=bound_share, expected="above 0, at most 1"
            )
        self.text, self.released, self.bound_share = text, variant == "released", bound_share
        self.contrast_weight, self.information_weight = contrast_weight, information_weight
        states = modality_values("widths", inputs, hidden, widths, check_size)
        ends = modality_values("encoded_widths", inputs, encoded, encoded_widths, check_size)
        self.encoders = nn.ModuleDict()
        self._dims = dict(self.inputs)
        for name, width in self.inputs.items():
            if name != TEXT or text == "recurrent":
                self._dims[name] = int(ends[name])
                self.encoders[name] = _Encoder(width, int(states[name]), self._dims[name])
        dims, total = self._dims, sum(self._dims.values())
        self.fusion = nn.Sequential(Dropout(dropout), Linear(total, dense), nn.Tanh(), Linear(dense, dense), nn.Tanh())
        self.heads = Heads(dense, tasks)
        # what has no loss is not trained, so it is not there
        told = self.inputs if contrast_weight else ()
        self.predict = nn.ModuleDict({name: Linear(dense, dims[name]) for name in told})
        pairs = _pairs(tuple(self.inputs), all_pairs) if information_weight else []
        self.gaussians = nn.ModuleDict({f"{x}_{y}": _Gaussian(dims[x], dims[y]) for x, y in pairs})
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)
        self.projections = nn.ModuleDict(
            {f"{x}_{y}": _Projection(dims[y], max(dims[y] // 4, 1), fixed=self.released) for x, y in pairs}
        )
        self._pairs = dict(zip(self.gaussians, pairs, strict=True))
        self._codes = [SignedLabels(task) for task in tasks]
        self._values = sum(code.width for code in self._codes)
        # of each utterance its labels, then what each pair projects
        self._parts = [self._values, *(max(dims[y] // 4, 1) for _, y in pairs)]
        self.memory = RecentRows(sum(self._parts), memory_batches)
        self._seen = 0

    @property
    def stage(self) -> str:
        """Name of the stage or of the pass that is being trained."""
        return self._stage

    @stage.setter
    def stage(self, name: str) -> None:
        self._stage = name
        if name == "done":  # features of training utterances are no part of the trained model
            self.memory.clear()

    def stages(self) -> list[Stage]:
        """Return one stage; before its own pass, each epoch has one that fits the Gaussians."""
        bound = list(self.gaussians.parameters())
        inside = {id(parameter) for parameter in bound}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in inside]
        first = Stage(BOUND, {BOUND: ParameterGroup(bound)}, trains_text=False, share=self.bound_share)
        return [Stage("main", {"main": ParameterGroup(rest)}, before=(first,) if bound else ())]

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task.

        Extras: ``encoded.<modality>`` (B, width), zero where it is missing; ``fused`` (B, dense); ``present``
        (B, modalities).
        """
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        # the first pass learns nothing but the Gaussians
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stage != BOUND):
            encoded = {name: self._encoded(name, batch.features[name], masks[name]) for name in self.inputs}
            fused = self.fusion(torch.cat(list(encoded.values()), dim=-1))
            predictions = self.heads(fused)
        extras = {f"encoded.{name}": x for name, x in encoded.items()}
        extras["present"] = torch.stack([mask.any(dim=1) for mask in masks.values()], dim=1)
        return ModelOutput(predictions, extras | {"fused": fused})

    def _encoded(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        if name in self.encoders:
            found: Tensor = self.encoders[name](x, mask)
            return found
        return first_real(x, mask) if self.text == "first" else masked_mean(x, mask)

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the pass: ``likelihood`` alone in the first.

        In the second the tasks' losses, and with their weights ``contrast``, ``likelihood`` and, once the memory is
        full, ``entropy``.
        """
        labels = signed_labels(self._codes, batch.labels)
        known = (~torch.isnan(labels)).any(dim=-1)
        if self.stage == BOUND:
            return {"likelihood": -self._likelihood(output, known)}
        found = super().losses(output, batch)
        if len(self.predict):
            found["contrast"] = self.contrast_weight * self._contrast(output, known)
        if self._pairs:
            found["likelihood"] = -self.information_weight * self._likelihood(output, known)
            if self.training and self._remembers_enough():
                found["entropy"] = -self.information_weight * self._entropy(output, labels, known)
        return found

    def on_batch_end(self, output: ModelOutput, batch: Batch) -> None:
        """Remember the features of a batch of the second pass."""
        if self.stage == BOUND or not self._pairs:
            return
        labels = signed_labels(self._codes, batch.labels)
        known = (~torch.isnan(labels)).any(dim=-1)
        self.memory.push(torch.cat([labels, *self._projected(output, known).values()], dim=1)[known])
        self._seen += 1

    def on_epoch_end(self, epoch: int) -> None:
        """Forget, as released."""
        if self.released:
            self.memory.clear()
            self._seen = 0

    def _remembers_enough(self) -> bool:
        # the released code waits for one batch more
        return self.memory.full and (not self.released or self._seen > self.memory.batches)

    def _here(self, output: ModelOutput, known: Tensor, *names: str) -> Tensor:
        """(B,) the utterances that have a label and the modalities."""
        order = list(self.inputs)
        return known & torch.stack([output.extras["present"][:, order.index(name)] for name in names]).all(dim=0)

    def _likelihood(self, output: ModelOutput, known: Tensor) -> Tensor:
        """Sum over the pairs of the mean log-likelihood of y given x."""
        total = torch.zeros((), device=known.device)
        for pair, (x, y) in self._pairs.items():
            given, wanted = output.extras[f"encoded.{x}"], output.extras[f"encoded.{y}"]
            each = self.gaussians[pair](given, wanted, normalised=not self.released)  # (B,)
            here = self._here(output, known, x, y)
            total = total + (each * here).sum() / here.sum().clamp(min=1)
        return total

    def _contrast(self, output: ModelOutput, known: Tensor) -> Tensor:
        """Sum over the modalities of the loss of predicting them from the fused representation."""
        fused = output.extras["fused"]
        total = fused.sum() * 0.0
        for name, predict in self.predict.items():
            here = self._here(output, known, name)
            if bool(here.any()):
                total = total + contrast(output.extras[f"encoded.{name}"][here], predict(fused[here]))
        return total

    def _projected(self, output: ModelOutput, known: Tensor) -> dict[str, Tensor]:
        """Per pair (B, d) features of y; NaN where the utterance lacks a modality of the pair."""
        found = {}
        for pair, (x, y) in self._pairs.items():
            features = self.projections[pair](output.extras[f"encoded.{y}"])
            found[pair] = features.masked_fill(~self._here(output, known, x, y).unsqueeze(1), torch.nan)
        return found

    def _entropy(self, output: ModelOutput, labels: Tensor, known: Tensor) -> Tensor:
        """Sum over the pairs of the mean, over the values, of half the entropy of both groups' features."""
        past = torch.split(self.memory.values, self._parts, dim=1)
        signs = torch.cat([past[0], labels])
        total = torch.zeros((), device=labels.device)
        for before, now in zip(past[1:], self._projected(output, known).values(), strict=True):
            features = torch.cat([before, now])
            there = ~torch.isnan(features[:, 0])
            groups = [side[:, v] & there for v in range(self._values) for side in (signs > 0, signs < 0)]
            parts = [half_log_determinant(features[g]) for g in groups if int(g.sum()) > features.shape[1]]
            if parts:
                # two groups of half the weight each for every value
                total = total + torch.stack(parts).sum() / (2 * self._values)
        return total


def _pairs(names: Sequence[str], every: bool) -> list[tuple[str, str]]:
    """Which modality tells which."""
    first, others = names[0], names[1:]
    found = [(first, other) for other in others]
    if every:
        found += [(others[j], others[i]) for i in range(len(others)) for j in range(i + 1, len(others))]
    return found
