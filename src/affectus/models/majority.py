"""Majority: what a model reaches that never looks at the utterance.

A baseline without a paper; every evaluation prints its row.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Estimator, ModelOutput, check_inputs, check_shapes, register_model
from affectus.objectives import Task, TaskKind
from affectus.vocabulary import View

RAREST = 1e-6
"""The probability, at least, of what never occurred in training (and 1 minus it, of what always did)."""


def constant_outputs(task: Task, target: Tensor) -> Tensor:
    """Return the outputs (outputs,) that fit the training targets best without a look at any input.

    The logarithms of the classes' shares (one of k, binary), the log-odds of each value (multi-label), the mean
    (real); 0 for a value without any label.

    Args:
        task: what is predicted.
        target: (n, values) with NaN where missing.
    """
    known = ~torch.isnan(target)
    if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
        counts = torch.bincount(target[known].long(), minlength=task.outputs).double()
        shares = counts / counts.sum() if counts.sum() > 0 else torch.full_like(counts, 1 / len(counts))
        return shares.clamp(min=RAREST).log()
    means = torch.nan_to_num(torch.nanmean(target.double(), dim=0))
    if task.kind is TaskKind.REAL:
        return means
    rates = torch.where(known.any(dim=0), means.clamp(RAREST, 1 - RAREST), 0.5)
    return torch.logit(rates)


@register_model("majority", paper=None, views=tuple(View), breaks=("modality_matters",))
class Majority(Estimator):
    """The most frequent class, the mean, the share of positives: the same for every utterance.

    Args:
        inputs: width of each modality's vectors; not looked at.
        tasks: what to predict.
    """

    _outputs: dict[str, Tensor] | None = None

    def fit(self, batches: Iterable[Batch]) -> None:
        """Count the training labels."""
        targets: dict[str, list[Tensor]] = {task.name: [] for task in self.tasks}
        for batch in batches:
            for task in self.tasks:
                targets[task.name].append(task.target(batch.labels)[batch.mask])
        self._outputs = {task.name: constant_outputs(task, torch.cat(targets[task.name])) for task in self.tasks}

    def __call__(self, batch: Batch) -> ModelOutput:
        """Predict every task for a batch.

        Raises:
            AffectusError: the batch does not fit the model, or the model is not fitted.
        """
        check_inputs(self.inputs, batch)
        if self._outputs is None:
            raise AffectusError("The model 'majority' is not fitted", remedy="Call fit first")
        return ModelOutput({name: y.float().expand(*batch.mask.shape, -1) for name, y in self._outputs.items()})

    def arrays(self) -> dict[str, Tensor]:
        """Return the outputs (outputs,) of each task."""
        return dict(self._outputs or {})

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`arrays` returned."""
        check_shapes(arrays, {task.name: (task.outputs,) for task in self.tasks})
        self._outputs = dict(arrays)
