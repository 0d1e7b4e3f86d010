"""From a trained model and batches to predictions per utterance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from affectus.batches import Batch
from affectus.models import Model
from affectus.models.base import AnyModel, ModelOutput
from affectus.objectives import Task, TaskKind

FloatArray = npt.NDArray[np.float32]
Arrays = Mapping[str, FloatArray]


class EpochScorer(Protocol):
    """Scores the predictions of an epoch; given to the training from outside, so that it need not know metrics."""

    def __call__(self, tasks: Sequence[Task], probabilities: Arrays, targets: Arrays) -> dict[str, float]:
        """Return metrics by name.

        Args:
            tasks: what was predicted.
            probabilities: per task (n, outputs), numbers themselves for real tasks.
            targets: per task (n, values), NaN where missing.
        """
        ...

    def higher_is_better(self, name: str) -> bool:
        """True if a larger value of the metric is better."""
        ...


class Collector:
    """Gathers what is predicted for real utterances, and their targets, over the batches of a split."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self._rows: list[Tensor] = []
        self._predictions: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
        self._targets: dict[str, list[Tensor]] = {task.name: [] for task in tasks}

    def add(self, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        """Add one batch's outputs."""
        self._rows.append(batch.rows[batch.mask])
        for task in self.tasks:
            self._predictions[task.name].append(task.probabilities(predictions[task.name].detach().float())[batch.mask])
            self._targets[task.name].append(_target(task, batch)[batch.mask])

    def result(self) -> tuple[npt.NDArray[np.int64], dict[str, Any], dict[str, Any]]:
        """Return rows (n,) in rising order, and per task probabilities (n, outputs) and targets (n, values)."""
        rows = torch.cat(self._rows)
        order = rows.argsort()
        probabilities = {name: torch.cat(parts)[order].cpu().numpy() for name, parts in self._predictions.items()}
        targets = {name: torch.cat(parts)[order].cpu().numpy() for name, parts in self._targets.items()}
        return rows[order].cpu().numpy(), probabilities, targets


def _target(task: Task, batch: Batch) -> Tensor:
    if task.scheme in batch.labels:
        return task.target(batch.labels)
    width = task.outputs if task.kind in (TaskKind.REAL, TaskKind.MULTI_LABEL) else 1
    return torch.full((*batch.mask.shape, width), torch.nan, device=batch.mask.device)


class PerTask(Model):
    """One model as it was in several epochs: each task is predicted with the weights of its own best epoch.

    Args:
        models: per task, the model with those weights.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        first = next(iter(models.values()))
        super().__init__(inputs=first.inputs, tasks=first.tasks)
        self.models = nn.ModuleDict(models)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; the extras are those of the first task's weights."""
        outputs: dict[str, ModelOutput] = {name: model(batch) for name, model in self.models.items()}
        first = next(iter(outputs.values()))
        return ModelOutput({name: output.predictions[name] for name, output in outputs.items()}, first.extras)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of n utterances, in the order of the corpus's table.

    Attributes:
        rows: (n,) rows of the table.
        probabilities: per task (n, outputs): probabilities, or the numbers themselves for real tasks.
        targets: per task (n, values), NaN where the label is missing.
        attention: per pair of modalities, per recording, its rows and (U, U) weights; filled on request.
    """

    rows: npt.NDArray[np.int64]
    probabilities: dict[str, FloatArray]
    targets: dict[str, FloatArray]
    attention: dict[str, list[tuple[npt.NDArray[np.int64], FloatArray]]] = field(default_factory=dict)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return everything but the attention as named arrays."""
        named: dict[str, npt.NDArray[np.generic]] = {"rows": self.rows}
        for task, values in self.probabilities.items():
            named[f"probabilities.{task}"] = np.ascontiguousarray(values)
            named[f"targets.{task}"] = np.ascontiguousarray(self.targets[task])
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> "Predictions":
        """Rebuild from :meth:`arrays`."""
        rows = np.asarray(arrays["rows"], np.int64)
        parts: dict[str, dict[str, FloatArray]] = {"probabilities": {}, "targets": {}}
        for name, values in arrays.items():
            kind, _, task = name.partition(".")
            if kind in parts:
                parts[kind][task] = np.asarray(values, np.float32)
        return cls(rows, parts["probabilities"], parts["targets"])


def predict_batches(
    model: AnyModel, tasks: Sequence[Task], batches: Iterable[Batch], *, attention: bool = False
) -> Predictions:
    """Run a model over batches, on the device where it is.

    Args:
        model: trained.
        tasks: its tasks.
        batches: of one split.
        attention: keep the attention weights of contextual models.
    """
    collector = Collector(tasks)
    kept: dict[str, list[tuple[npt.NDArray[np.int64], FloatArray]]] = {}
    device = torch.device("cpu")
    if isinstance(model, Model):
        model.eval()
        device = next((parameter.device for parameter in model.parameters()), device)
    with torch.inference_mode():
        for batch in batches:
            moved = batch.to(device)
            output = model(moved)
            collector.add(moved, output.predictions)
            if attention:
                _keep_attention(kept, batch, output.extras)
    rows, probabilities, targets = collector.result()
    return Predictions(rows, probabilities, targets, kept)


def _keep_attention(
    kept: dict[str, list[tuple[npt.NDArray[np.int64], FloatArray]]], batch: Batch, extras: Mapping[str, torch.Tensor]
) -> None:
    for name, weights in extras.items():
        if name.startswith("attention."):
            parts = kept.setdefault(name.removeprefix("attention."), [])
            for rows, mask, matrix in zip(batch.rows, batch.mask, weights.cpu(), strict=True):
                parts.append((rows[mask].numpy(), matrix[mask][:, mask].float().numpy()))
