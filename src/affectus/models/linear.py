"""Linear: logistic and ridge regression on utterance vectors.

A baseline without a paper. Any method that claims to use context or to fuse modalities should be better than this.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Estimator, ModelOutput, check_inputs, check_shapes, register_model
from affectus.models.majority import constant_outputs
from affectus.models.space import Real, one_of
from affectus.nn.masking import masked_mean, zero_masked
from affectus.objectives import Task, TaskKind
from affectus.vocabulary import View

Array = npt.NDArray[np.float64]
ALPHAS = tuple(10.0**k for k in range(-1, 6))
"""Strengths of the ridge among which cross-validation chooses."""
FOLDS = 5
_NEIGHBOURHOOD = 10
"""Utterances that stand together count as one video where a batch does not tell videos."""


def utterance_vectors(batch: Batch, modalities: Sequence[str]) -> Tensor:
    """Return one vector per utterance: the modalities side by side, each averaged over its real steps.

    A missing modality gives zeros.

    Args:
        batch: of any view.
        modalities: which, in order.

    Returns:
        (B, U, dim) contextual, (B, dim) otherwise.
    """
    parts = []
    for name in modalities:
        x, mask = batch.features[name], batch.masks[name]
        parts.append(zero_masked(x, mask & batch.mask) if batch.view is View.CONTEXTUAL else masked_mean(x, mask))
    return torch.cat(parts, dim=-1)


def neighbour_means(x: Tensor, mask: Tensor, count: int) -> Tensor:
    """Average the vectors of up to ``count`` utterances before and ``count`` after, the utterance itself left out.

    Args:
        x: (B, U, dim).
        mask: (B, U) bool.
        count: how many on each side.

    Returns:
        (B, U, dim); zero for an utterance without neighbours.
    """
    steps = torch.arange(x.shape[1])
    distance = (steps.unsqueeze(0) - steps.unsqueeze(1)).abs()
    near = ((distance > 0) & (distance <= count)).unsqueeze(0) & mask.unsqueeze(1)  # (B, U, U)
    weights = near.to(x) / near.sum(dim=-1, keepdim=True).clamp(min=1)
    return weights @ zero_masked(x, mask)


@register_model(
    "linear",
    paper=None,
    views=tuple(View),
    space={"C": Real(1e-4, 10.0, log=True), "alpha": one_of(None, 0.1, 1.0, 10.0, 100.0, 1000.0, 1e4, 1e5)},
)
class Linear(Estimator):
    """Logistic regression (classes, emotions) and ridge regression (numbers) on utterance vectors.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        C: inverse strength of the logistic regression's L2 penalty.
        alpha: strength of the ridge's penalty; None chooses it by cross-validation on train, videos kept whole.
        neighbours: put the mean of so many neighbours on each side within the video beside each vector (contextual
            view only); 0 for none.
        balanced: weigh classes inversely to how often they occur in train.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        C: float = 0.01,
        alpha: float | None = 1000.0,
        neighbours: int = 0,
        balanced: bool = False,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        for name, value in (("C", C), ("alpha", alpha)):
            if value is not None and not 0 < value < float("inf"):
                raise AffectusError(f"The option {name!r} is out of range", got=value, expected="a positive number")
        if neighbours < 0:
            raise AffectusError("The option 'neighbours' is out of range", got=neighbours, expected="0 or more")
        self.C, self.alpha, self.neighbours, self.balanced = C, alpha, neighbours, balanced
        self._weights: dict[str, Tensor] = {}
        self._biases: dict[str, Tensor] = {}

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit one regression per class or number on the utterances whose label is there.

        Raises:
            AffectusError: a batch does not fit the model, or there is no batch.
        """
        vectors, videos = [], []
        targets: dict[str, list[Tensor]] = {task.name: [] for task in self.tasks}
        seen = 0
        for batch in batches:
            vectors.append(self._vectors(batch)[batch.mask])
            for task in self.tasks:
                targets[task.name].append(task.target(batch.labels)[batch.mask])
            if batch.view is View.CONTEXTUAL:
                owner = torch.arange(batch.size).unsqueeze(1).expand_as(batch.mask)[batch.mask] + seen
            else:
                owner = batch.rows[batch.mask] // _NEIGHBOURHOOD
            videos.append(owner)
            seen += batch.size
        if not vectors:
            raise AffectusError("There is nothing to fit the model 'linear' on", expected="a batch at least")
        x, groups = torch.cat(vectors).double().numpy(), torch.cat(videos).numpy()
        for task in self.tasks:
            target = torch.cat(targets[task.name])
            bias = constant_outputs(task, target)
            weight = torch.zeros(x.shape[1], task.outputs, dtype=torch.float64)
            for columns, w, b in self._fit_task(task, x, target.double().numpy(), groups):
                weight[:, columns], bias[columns] = torch.from_numpy(w.T), torch.from_numpy(b)
            self._weights[task.name], self._biases[task.name] = weight, bias

    def _fit_task(
        self, task: Task, x: Array, target: Array, groups: npt.NDArray[np.int64]
    ) -> Iterator[tuple[list[int], Array, Array]]:
        """Yield which outputs were fitted, their weights (outputs, dim) and biases; the others stay constant."""
        from sklearn.linear_model import Ridge  # slow to import, and only fitting needs it

        known = ~np.isnan(target)
        if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
            rows = known[:, 0]
            classes = target[rows, 0].astype(int)
            present = np.unique(classes)
            if len(present) > 1:
                w, b = self._logistic(x[rows], classes, dict(enumerate(task.positive_weights)))
                if len(present) == 2:  # scikit-learn gives the second's log-odds alone
                    w, b = np.concatenate([0 * w, w]), np.concatenate([0 * b, b])
                yield present.tolist(), w, b
            return
        for column in range(task.outputs):
            rows, y = known[:, column], target[known[:, column], column]
            if task.kind is TaskKind.REAL and len(y):
                ridge = Ridge(alpha=self._strength(x[rows], y, groups[rows])).fit(x[rows], y)
                yield [column], ridge.coef_[None], np.array([ridge.intercept_])
            elif task.kind is TaskKind.MULTI_LABEL and len(np.unique(y)) > 1:
                weights = {0: 1.0, 1: task.positive_weights[column]} if task.positive_weights else {}
                yield [column], *self._logistic(x[rows], y.astype(int), weights)

    def _logistic(self, x: Array, y: npt.NDArray[np.int64], weights: Mapping[int, float]) -> tuple[Array, Array]:
        from sklearn.linear_model import LogisticRegression

        chosen = "balanced" if self.balanced else {k: w for k, w in weights.items() if (y == k).any()} or None
        fitted = LogisticRegression(C=self.C, class_weight=chosen, max_iter=2000).fit(x, y)
        return fitted.coef_, fitted.intercept_

    def _strength(self, x: Array, y: Array, groups: npt.NDArray[np.int64]) -> float:
        """Return the ridge's strength with the least squared error over folds of whole videos."""
        if self.alpha is not None:
            return self.alpha
        folds = min(FOLDS, len(np.unique(groups)))
        if folds < 2:
            return ALPHAS[-1]
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import GroupKFold

        errors = np.zeros(len(ALPHAS))
        for train, test in GroupKFold(folds).split(x, y, groups):
            for i, alpha in enumerate(ALPHAS):
                errors[i] += ((Ridge(alpha=alpha).fit(x[train], y[train]).predict(x[test]) - y[test]) ** 2).sum()
        return ALPHAS[int(errors.argmin())]

    def _vectors(self, batch: Batch) -> Tensor:
        check_inputs(self.inputs, batch)
        x = utterance_vectors(batch, tuple(self.inputs))
        if self.neighbours:
            if batch.view is not View.CONTEXTUAL:
                raise AffectusError(
                    "The option 'neighbours' needs the contextual view",
                    got=f"the {batch.view} view",
                    remedy="Train with the contextual view, or set neighbours to 0",
                )
            x = torch.cat([x, neighbour_means(x, batch.mask, self.neighbours)], dim=-1)
        return x

    def __call__(self, batch: Batch) -> ModelOutput:
        """Predict every task for a batch.

        Raises:
            AffectusError: the batch does not fit the model, or the model is not fitted.
        """
        x = self._vectors(batch).double()
        if not self._weights:
            raise AffectusError("The model 'linear' is not fitted", remedy="Call fit first")
        return ModelOutput({name: (x @ w + self._biases[name]).float() for name, w in self._weights.items()})

    def arrays(self) -> dict[str, Tensor]:
        """Return ``<task>.weight`` (dim, outputs) and ``<task>.bias`` (outputs,)."""
        weights = {f"{name}.weight": w for name, w in self._weights.items()}
        return weights | {f"{name}.bias": b for name, b in self._biases.items()}

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`arrays` returned."""
        width = sum(self.inputs.values()) * (2 if self.neighbours else 1)
        expected: dict[str, tuple[int, ...]] = {f"{task.name}.weight": (width, task.outputs) for task in self.tasks}
        check_shapes(arrays, expected | {f"{task.name}.bias": (task.outputs,) for task in self.tasks})
        self._weights = {k.removesuffix(".weight"): v for k, v in arrays.items() if k.endswith(".weight")}
        self._biases = {k.removesuffix(".bias"): v for k, v in arrays.items() if k.endswith(".bias")}
