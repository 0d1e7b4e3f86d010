"""What a model is asked to tell: tasks, made from a corpus's label schemes.

| task | from the scheme | kind | target |
|---|---|---|---|
| ``polarity`` | ``sentiment`` | binary | 1 if sentiment >= 0 (neutral counts as positive, as in Akhtar et al. 2019) |
| ``intensity`` | ``sentiment`` | real | the sentiment itself |
| ``emotions`` | ``emotions`` | multi-label | the six emotions, each 1 if above 0, then *none*: 1 if all six are 0 |
| ``emotions6`` | ``emotions`` | multi-label | the same without *none* |
| ``emotion_intensity`` | ``emotions`` | real | the emotions' own values |
| ``emotion_class`` | ``emotion_class`` | one of k | the class |
| ``ratings`` | ``ratings`` | real | the ratings |
| ``sentiment_<modality>`` | the same | real | the sentiment of one modality (CH-SIMS) |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from pydantic import ConfigDict, with_config
from torch import Tensor
from torch.nn import functional as F

from affectus.errors import AffectusError, unknown_name
from affectus.labels import LabelKind, LabelScheme
from affectus.nn.together import mean_over
from affectus.vocabulary import SIX_EMOTIONS, Emotion

TaskKind = LabelKind


class RealLoss(StrEnum):
    """The loss of a real task."""

    MSE = "mse"
    L1 = "l1"
    SMOOTH_L1 = "smooth_l1"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Task:
    """One thing that a model predicts.

    Attributes:
        name: as in the table of this module.
        scheme: the label scheme that its target comes from.
        kind: real, binary, one_of_k or multi_label.
        values: names of what is predicted: columns, emotions or classes; ``("negative", "positive")`` for polarity.
        low: smallest value of a real target, if known.
        high: largest value of a real target, if known.
        weight: factor of its loss.
        loss: the loss of a real task; the others use cross-entropy.
        positive_weights: per value, the weight of its positive examples (multi-label) or of the class (binary, one of
            k); empty for none. ``balanced`` makes them from training counts.
    """

    name: str
    scheme: str
    kind: TaskKind
    values: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    weight: float = 1.0
    loss: RealLoss = RealLoss.MSE
    positive_weights: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of outputs that a model's head has for this task: logits, or the numbers themselves if real."""
        return len(self.values)

    def target(self, labels: Mapping[str, Tensor]) -> Tensor:
        """Return the target from a batch's labels.

        Args:
            labels: per scheme (..., size) with NaN where missing.

        Returns:
            (..., values) float for real and multi-label tasks, (..., 1) for binary and one of k (the class index);
            NaN where missing.
        """
        return _TARGETS.get(self.name, _as_it_is)(labels[self.scheme])

    def loss_of(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the labels that are there; 0, with a gradient of 0, if none is.

        Where workers share a batch (:mod:`affectus.nn.together`), their mean is that over all labels.

        Args:
            output: (..., outputs).
            target: as :meth:`target` returns it.
        """
        known = ~torch.isnan(target)
        clean = torch.where(known, target, torch.zeros_like(target))
        if self.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
            index = clean.squeeze(-1).long()
            weights = output.new_tensor(self.positive_weights) if self.positive_weights else None
            each = F.cross_entropy(output.flatten(0, -2), index.flatten(), weight=weights, reduction="none")
            each, known = each.view_as(index), known.squeeze(-1)
        elif self.kind is TaskKind.MULTI_LABEL:
            weights = output.new_tensor(self.positive_weights) if self.positive_weights else None
            each = F.binary_cross_entropy_with_logits(output, clean, pos_weight=weights, reduction="none")
        elif self.loss is RealLoss.MSE:
            each = (output - clean) ** 2
        elif self.loss is RealLoss.L1:
            each = (output - clean).abs()
        else:
            each = F.smooth_l1_loss(output, clean, reduction="none")
        return mean_over((each * known).sum(), known.sum())

    def probabilities(self, output: Tensor) -> Tensor:
        """Turn a head's output into probabilities (real tasks: the numbers themselves), same shape."""
        if self.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
            return output.softmax(dim=-1)
        return output.sigmoid() if self.kind is TaskKind.MULTI_LABEL else output

    def balanced(self, target: Tensor) -> "Task":
        """Return the task with weights inverse to how often each value occurs in the training targets (n, ...)."""
        if self.kind is TaskKind.REAL:
            return self
        if self.kind is TaskKind.MULTI_LABEL:
            positives = torch.nansum(target, dim=0)
            negatives = (~torch.isnan(target)).sum(dim=0) - positives
            weights = negatives / positives.clamp(min=1)
        else:
            index = target[~torch.isnan(target)].long()
            counts = torch.bincount(index, minlength=self.outputs).clamp(min=1)
            weights = len(index) / (self.outputs * counts)
        return replace(self, positive_weights=tuple(float(w) for w in weights))


def _as_it_is(labels: Tensor) -> Tensor:
    return labels


def _polarity(labels: Tensor) -> Tensor:
    return torch.where(torch.isnan(labels), labels, (labels >= 0).to(labels))


def _presence(labels: Tensor) -> Tensor:
    return torch.where(torch.isnan(labels), labels, (labels > 0).to(labels))


def _presence_or_none(labels: Tensor) -> Tensor:
    six = _presence(labels)
    # any emotion that is there rules *none* out, even if another label is missing
    none = torch.where((six == 1).any(dim=-1), 0.0, torch.where(torch.isnan(six).any(dim=-1), torch.nan, 1.0))
    return torch.cat([six, none.to(six).unsqueeze(-1)], dim=-1)


_TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "polarity": _polarity,
    "emotions": _presence_or_none,
    "emotions6": _presence,
}


def available_tasks(schemes: Mapping[str, LabelScheme]) -> dict[str, Task]:
    """Return the tasks that a corpus's label schemes allow, by name."""
    tasks: dict[str, Task] = {}

    def add(name: str, scheme: LabelScheme, kind: TaskKind, values: Sequence[str], ranged: bool = False) -> None:
        low, high = (scheme.low, scheme.high) if ranged else (None, None)
        tasks[name] = Task(name, scheme.name, kind, tuple(values), low, high)

    for scheme in schemes.values():
        if scheme.name == "sentiment":
            add("polarity", scheme, TaskKind.BINARY, ("negative", "positive"))
            add("intensity", scheme, TaskKind.REAL, ("intensity",), ranged=True)
        elif scheme.name == "emotions":
            columns = [c for c in SIX_EMOTIONS if c in scheme.columns]
            if columns != list(scheme.columns):
                raise AffectusError(
                    "The scheme 'emotions' must name emotions in affectus's order",
                    got=", ".join(scheme.columns),
                    expected="some of: " + ", ".join(SIX_EMOTIONS),
                )
            add("emotions", scheme, TaskKind.MULTI_LABEL, (*columns, str(Emotion.NONE)))
            add("emotions6", scheme, TaskKind.MULTI_LABEL, columns)
            if scheme.kind is LabelKind.REAL:
                add("emotion_intensity", scheme, TaskKind.REAL, columns, ranged=True)
        else:
            values = scheme.classes if scheme.kind is TaskKind.ONE_OF_K else scheme.columns
            add(scheme.name, scheme, scheme.kind, values, ranged=True)
    return tasks


def choose_tasks(names: Sequence[str], schemes: Mapping[str, LabelScheme]) -> tuple[Task, ...]:
    """Return the named tasks in the given order; ``name:weight`` sets the weight of its loss.

    Raises:
        AffectusError: a name is unknown or the corpus has no labels for it, a weight is no positive number, or a name
            is given twice.
    """
    available = available_tasks(schemes)
    tasks: list[Task] = []
    for spec in names:
        name, _, weight = spec.partition(":")
        if name not in available:
            raise unknown_name("task", name, available, where="this corpus's labels")
        if any(task.name == name for task in tasks):
            raise AffectusError(f"The task {name!r} is given twice", remedy="Name each task once")
        try:
            factor = float(weight) if weight else 1.0
        except ValueError:
            factor = -1.0
        if not factor > 0 or factor == float("inf"):
            raise AffectusError(f"The weight of the task {name!r} must be a positive number", got=repr(weight))
        tasks.append(replace(available[name], weight=factor))
    if not tasks:
        raise AffectusError("No task is given", expected="one or more of: " + ", ".join(sorted(available)))
    return tuple(tasks)
