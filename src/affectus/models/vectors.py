"""What the estimators share that learn every class, label or number by itself, from one vector per utterance."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Estimator, ModelOutput, check_inputs, check_shapes
from affectus.models.majority import RAREST, constant_outputs
from affectus.nn.pooling import utterance_means
from affectus.objectives import Task, TaskKind
from affectus.vocabulary import View

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
FOLDS = 5
"""Parts of train for cross-validation, at most."""
_NEIGHBOURHOOD = 10
"""Utterances that stand together count as one video where a batch does not tell videos."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A class, label or number to be learned.

    Attributes:
        numbers: the target is a number; else a class.
        outputs: which outputs of the task it tells: one of each class, or that of the label or number.
        x: (n, dim) vectors of the training utterances that have the label.
        y: (n,) numbers, or classes from 0 on, each of which occurs.
        groups: (n,) the video of each utterance.
        weights: of each class; none for numbers.
    """

    numbers: bool
    outputs: tuple[int, ...]
    x: Array
    y: Array
    groups: IntArray
    weights: Mapping[int, float] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes; 0 for numbers."""
        return 0 if self.numbers else int(self.y.max()) + 1

    def class_weight(self, balanced: bool) -> dict[int, float] | str | None:
        """Return the classes' weights as scikit-learn takes them."""
        return "balanced" if balanced else dict(self.weights) or None


Part = dict[str, npt.NDArray[Any]]
"""What was learned for a problem, as named arrays."""


class VectorEstimator(Estimator):
    """An estimator with one vector per utterance and one problem per class, label or number.

    What is learned is kept as arrays alone, so that prediction needs no object of another library.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
    """

    name: str

    def __init__(self, *, inputs: Mapping[str, int], tasks: Sequence[Task]) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        self._constants: dict[str, Tensor] = {}
        self._parts: dict[str, list[Part]] = {}

    def learn_vectors(self, batches: Iterable[Batch]) -> None:
        """Learn whatever :meth:`vectors` needs; nothing, unless an estimator has something to learn."""

    def vectors(self, batch: Batch) -> Tensor:
        """Return one vector per utterance (..., dim): all modalities side by side, zeros for a missing one."""
        return torch.cat(list(utterance_means(batch, self.inputs)[0].values()), dim=-1)

    @abstractmethod
    def learn(self, problem: Problem) -> Part:
        """Learn one problem."""

    @abstractmethod
    def part_names(self, numbers: bool) -> set[str]:
        """Return the names of what :meth:`learn` gives for a problem of numbers, or of classes."""

    @property
    def width(self) -> int:
        """Length of the vectors, once what :meth:`vectors` needs was learned or loaded."""
        return sum(self.inputs.values())

    @abstractmethod
    def tell(self, part: Part, x: Array) -> Array:
        """Return (n, outputs) numbers, or the probability of each class, for (n, dim) vectors."""

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn every task from the utterances whose label is there.

        Raises:
            AffectusError: a batch does not fit the model, or there is no batch.
        """
        if iter(batches) is batches:
            batches = list(batches)  # it is read twice
        for batch in batches:
            check_inputs(self.inputs, batch)
        self.learn_vectors(batches)
        vectors, videos, seen = [], [], 0
        targets: dict[str, list[Tensor]] = {task.name: [] for task in self.tasks}
        for batch in batches:
            vectors.append(self.vectors(batch)[batch.mask])
            for task in self.tasks:
                targets[task.name].append(task.target(batch.labels)[batch.mask])
            videos.append(videos_of(batch)[batch.mask] + (seen if batch.view is View.CONTEXTUAL else 0))
            seen += batch.size
        if not vectors:
            raise AffectusError(f"There is nothing to fit the model {self.name!r} on", expected="a batch at least")
        x, groups = torch.cat(vectors).double().numpy(), torch.cat(videos).numpy()
        for task in self.tasks:
            target = torch.cat(targets[task.name])
            self._constants[task.name] = constant_outputs(task, target).double()
            problems = problems_of(task, x, target.double().numpy(), groups)
            self._parts[task.name] = [
                {"outputs": np.array(problem.outputs), **self.learn(problem)} for problem in problems
            ]

    def __call__(self, batch: Batch) -> ModelOutput:
        """Predict every task for a batch.

        Raises:
            AffectusError: the batch does not fit the model, or the model is not fitted.
        """
        check_inputs(self.inputs, batch)
        if not self._constants:
            raise AffectusError(f"The model {self.name!r} is not fitted", remedy="Call fit first")
        x = self.vectors(batch)[batch.mask].double().numpy()
        predictions = {}
        for task in self.tasks:
            said = self._constants[task.name].expand(len(x), -1).clone()
            for part in self._parts[task.name]:
                told = self.tell(part, x)
                if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
                    told = np.log(told.clip(RAREST))
                elif task.kind is TaskKind.MULTI_LABEL:
                    p = told[:, 1:].clip(RAREST, 1 - RAREST)
                    told = np.log(p) - np.log1p(-p)
                said[:, part["outputs"].tolist()] = torch.from_numpy(told)
            whole = torch.zeros(*batch.mask.shape, task.outputs)
            whole[batch.mask] = said.float()
            predictions[task.name] = whole
        return ModelOutput(predictions)

    def arrays(self) -> dict[str, Tensor]:
        """Return ``<task>.constant``, and for each problem of a task ``<task>.<i>.<what>``."""
        arrays = {f"{task}.constant": constant for task, constant in self._constants.items()}
        for task, parts in self._parts.items():
            for i, part in enumerate(parts):
                arrays |= {
                    f"{task}.{i}.{name}": torch.from_numpy(np.ascontiguousarray(value)) for name, value in part.items()
                }
        return arrays

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`arrays` returned; :attr:`width` must be known."""
        self._constants, self._parts = {}, {}
        for task in self.tasks:
            name = f"{task.name}.constant"
            check_shapes({name: arrays[name]}, {name: (task.outputs,)})
            self._constants[task.name] = arrays[name]
            parts: dict[int, Part] = {}
            for key, value in arrays.items():
                owner, _, rest = key.partition(".")
                number, _, name = rest.partition(".")
                if owner == task.name and name:
                    parts.setdefault(int(number), {})[name] = value.numpy()
            expected = {"outputs", *self.part_names(task.kind is TaskKind.REAL)}
            for i, part in parts.items():
                if set(part) != expected:
                    names = ", ".join(sorted(set(part) ^ expected))
                    raise ValueError(f"arrays of {task.name}.{i} that differ in {names}")
                for name in {"weight", "support"} & expected:
                    if part[name].shape[-1] != self.width:
                        shape = list(part[name].shape)
                        raise ValueError(f"the array '{task.name}.{i}.{name}' of shape {shape}, not {self.width} wide")
            self._parts[task.name] = [parts[i] for i in sorted(parts)]


def videos_of(batch: Batch) -> Tensor:
    """Return the number of each utterance's video: in the batch (contextual), or as its row in the corpus suggests."""
    if batch.view is View.CONTEXTUAL:
        return torch.arange(batch.size).unsqueeze(1).expand_as(batch.mask)
    return batch.rows // _NEIGHBOURHOOD


def problems_of(task: Task, x: Array, target: Array, groups: IntArray) -> Iterator[Problem]:
    """Yield what is to be learned of a task; what has no two classes, or no number at all, is left out.

    Args:
        task: the task.
        x: (n, dim) vectors.
        target: (n, values), as :meth:`Task.target` returns it, NaN where missing.
        groups: (n,) the video of each.
    """
    known = ~np.isnan(target)
    if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
        rows = known[:, 0]
        present, y = np.unique(target[rows, 0].astype(int), return_inverse=True)
        if len(present) > 1:
            weights = {i: task.positive_weights[k] for i, k in enumerate(present) if task.positive_weights}
            yield Problem(False, tuple(present.tolist()), x[rows], y.astype(float), groups[rows], weights)
        return
    for column in range(task.outputs):
        rows = known[:, column]
        y = target[rows, column]
        if task.kind is TaskKind.REAL and len(y):
            yield Problem(True, (column,), x[rows], y, groups[rows])
        elif task.kind is TaskKind.MULTI_LABEL and len(np.unique(y)) > 1:
            weights = {0: 1.0, 1: task.positive_weights[column]} if task.positive_weights else {}
            yield Problem(False, (column,), x[rows], y, groups[rows], weights)
