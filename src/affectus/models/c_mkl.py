"""C-MKL: convolutional features, and a support vector machine whose kernel is learned from many.

Poria, Chaturvedi, Cambria, Hussain 2016: Convolutional MKL Based Multimodal Emotion Recognition and Sentiment Analysis.
ICDM 2016, https://doi.org/10.1109/ICDM.2016.0055

Deviations:
    - The article's text features come from a CNN with two convolutions, max pooling and a dense layer, its visual ones
      from a deep network over frames, its audio ones from openSMILE. Here, in the sequence views, text and vision each
      have such a CNN over the steps that the corpus brings (no recurrent layer), trained before the kernels with the
      labels of four fifths of train, as long as the last fifth gains by it; any other modality is averaged over its
      steps. In the contextual view, and with ``cnn=False``, every modality is what the corpus has of the utterance:
      published utterance-level text features often come from such a CNN.
    - The article selects features by correlation (CFS) and PCA; here by PCA alone, for tasks of every kind.
    - Kernels, for each modality: two radial ones, half and twice as wide as the median squared distance on train, and a
      polynomial one of degree 2. Each gives an utterance the similarity 1 to itself, and 0 to any other if either lacks
      the modality.
    - The article's solver is SPG-GMKL. Here the weights of the kernels and the machine are found in turn (Kloft,
      Brefeld, Sonnenburg, Zien 2011: lp-Norm Multiple Kernel Learning, JMLR 12), with weights of l2-norm 1; ``norm=1``
      is the sparse case, as of Xu et al. 2010.
    - More than two classes have one machine each against the rest; probabilities come by Platt's rule from decision
      values of videos that the machine did not see, with the kernel's weights as found on all of train.
    - Of more than ``most`` training utterances that many are used, evenly chosen within each class: memory grows with
      their square. Sizes, C and the CNN's training are ours.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Heads, Paper, check_shapes, register_model
from affectus.models.margins import RULE, Rows, calibrate, machines_of, tell_by_margins, weights_of
from affectus.models.space import Real, one_of
from affectus.models.vectors import Array, Part, Problem, VectorEstimator, videos_of
from affectus.nn.convolution import MaskedConv1d
from affectus.nn.dropping import dropout
from affectus.nn.matmul import Linear
from affectus.nn.pooling import masked_max, utterance_means
from affectus.objectives import Task
from affectus.vocabulary import TEXT, VISION, View

CONVOLVED = (TEXT, VISION)
"""The modalities with a CNN in the sequence views."""
HELD_OUT = 5
"""One video in so many is held out while a CNN is trained."""
WIDTHS = (0.5, 2.0)
"""Widths of the radial kernels, in median squared distances."""
KERNELS = len(WIDTHS) + 1
"""Of each modality: the radial ones and the polynomial one."""
_SAMPLE = 1000
"""Utterances, at most, whose distances make the median."""
_ROWS = 512
"""Utterances that are compared with the support vectors at once."""


class _CNN(nn.Module):
    """Two convolutions over the steps, the largest of each filter over time, a dense layer; and heads to learn by."""

    def __init__(self, dim: int, tasks: Sequence[Task], filters: int, features: int) -> None:
        super().__init__()
        self.first, self.second = MaskedConv1d(dim, filters, 3), MaskedConv1d(filters, filters, 3)
        self.dense = Linear(filters, features)
        self.heads = Heads(features, tasks)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) and its mask to the features (B, features)."""
        y = torch.relu(self.first(x, mask)[0])
        y = torch.relu(self.second(y, mask)[0])
        return torch.relu(self.dense(masked_max(y, mask)))


@register_model(
    "c_mkl",
    paper=Paper(
        "Poria et al.",
        2016,
        "Convolutional MKL Based Multimodal Emotion Recognition and Sentiment Analysis",
        "ICDM",
        "https://doi.org/10.1109/ICDM.2016.0055",
    ),
    views=tuple(View),
    space={
        "C": Real(0.01, 100.0, log=True),
        "norm": Real(1.1, 4.0),
        "variance": Real(0.8, 0.99),
        "cnn": one_of(True, False),
    },
)
class CMKL(VectorEstimator):
    """CNNs make features of text and vision, PCA shortens them, and a support vector machine weighs several kernels.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        C: inverse strength of the penalty.
        epsilon: half the width of the tube in which an error of a number costs nothing.
        norm: of the kernels' weights, which is 1; the nearer to 1, the fewer kernels are left.
        iterations: at most so many turns between the machine and the weights.
        variance: share of each modality's variance that PCA keeps.
        most: training utterances of a machine, at most.
        balanced: weigh classes inversely to how often they occur in train.
        cnn: train CNNs over the steps of text and vision, in the sequence views.
        cnn_filters: of each convolution.
        cnn_features: that a CNN makes.
        cnn_epochs: of its training, at most.
        random_state: seed of the CNN's weights and dropout.
    """

    name = "c_mkl"

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        C: float = 1.0,
        epsilon: float = 0.1,
        norm: float = 2.0,
        iterations: int = 10,
        variance: float = 0.95,
        most: int = 3000,
        balanced: bool = False,
        cnn: bool = True,
        cnn_filters: int = 50,
        cnn_features: int = 100,
        cnn_epochs: int = 20,
        random_state: int = 0,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        for name, value, least, expected in (
            ("C", C, np.nextafter(0, 1), "a positive number"),
            ("epsilon", epsilon, 0, "a number from 0"),
            ("norm", norm, 1, "a number from 1"),
            ("iterations", iterations, 1, "1 or more"),
            ("most", most, 2, "2 or more"),
            ("cnn_filters", cnn_filters, 1, "1 or more"),
            ("cnn_features", cnn_features, 1, "1 or more"),
            ("cnn_epochs", cnn_epochs, 1, "1 or more"),
        ):
            if not least <= value < float("inf"):
                raise AffectusError(f"The option {name!r} is out of range", got=value, expected=expected)
        if not 0 < variance <= 1:
            raise AffectusError("The option 'variance' is out of range", got=variance, expected="a share in (0, 1]")
        self.C, self.epsilon, self.norm, self.iterations = C, epsilon, norm, iterations
        self.variance, self.most, self.balanced, self.random_state = variance, most, balanced, random_state
        self.convolved = tuple(name for name in CONVOLVED if name in self.inputs) if cnn else ()
        self.cnn_filters, self.cnn_features, self.cnn_epochs = cnn_filters, cnn_features, cnn_epochs
        self._cnns: dict[str, _CNN] = {}
        self._learned: dict[str, dict[str, Tensor]] = {}

    def learn_vectors(self, batches: Iterable[Batch]) -> None:
        """Train the CNNs, then find each modality's principal components and its median distance."""
        self._cnns = {}
        batches = list(batches) if iter(batches) is batches else batches
        if any(batch.view is not View.CONTEXTUAL for batch in batches):
            for name in self.convolved:
                self._cnns[name] = self._trained_cnn(name, batches)
        self._learned = {}
        rows: dict[str, list[Tensor]] = {name: [] for name in self.inputs}
        for batch in batches:
            known = _labelled(self.tasks, batch)
            vectors, present = self._raw(batch)
            for name, x in vectors.items():
                rows[name].append(x[present[name] & known])
        for name, parts in rows.items():
            self._learned[name] = _components(torch.cat(parts).double().numpy() if parts else None, self.variance)

    def _trained_cnn(self, name: str, batches: Iterable[Batch]) -> _CNN:
        """Train one modality's CNN to tell every task, on the utterances that have it and a label.

        A part of the videos is held out, and the epoch that tells them best is kept.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            cnn = _CNN(self.inputs[name], self.tasks, self.cnn_filters, self.cnn_features)
            optimizer = torch.optim.Adam(cnn.parameters(), lr=1e-3)
            best, kept = float("inf"), cnn.state_dict()
            for _ in range(self.cnn_epochs):
                for batch, chosen in self._utterances(name, batches, held_out=False):
                    optimizer.zero_grad()
                    self._cnn_loss(cnn.train(), name, batch, chosen).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                total, count = 0.0, 0
                with torch.no_grad():
                    for batch, chosen in self._utterances(name, batches, held_out=True):
                        loss = self._cnn_loss(cnn.eval(), name, batch, chosen).item()
                        total, count = total + loss * int(chosen.sum()), count + int(chosen.sum())
                if not count or total / count < best:  # with nothing held out the last epoch is kept
                    best = total / max(count, 1)
                    kept = {what: value.clone() for what, value in cnn.state_dict().items()}
        cnn.load_state_dict(kept)
        return cnn.eval()

    def _utterances(self, name: str, batches: Iterable[Batch], *, held_out: bool) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch and which of its utterances (B,) a modality's CNN learns from, or is judged by."""
        for batch in batches:
            apart = videos_of(batch) % HELD_OUT == HELD_OUT - 1
            chosen = batch.masks[name].any(dim=1) & batch.mask & _labelled(self.tasks, batch) & (apart == held_out)
            if bool(chosen.any()):
                yield batch, chosen

    def _cnn_loss(self, cnn: _CNN, name: str, batch: Batch, chosen: Tensor) -> Tensor:
        features = cnn(batch.features[name][chosen], batch.masks[name][chosen])
        said = cnn.heads(dropout(features, 0.5, cnn.training))
        losses = [task.weight * task.loss_of(said[task.name], task.target(batch.labels)[chosen]) for task in self.tasks]
        return torch.stack(losses).sum()

    def _raw(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each modality's vectors (..., width) before PCA, and which are there (...)."""
        vectors, present = utterance_means(batch, self.inputs)
        if batch.view is not View.CONTEXTUAL:
            for name, cnn in self._cnns.items():
                with torch.no_grad():
                    vectors[name] = cnn(batch.features[name], batch.masks[name] & batch.mask.unsqueeze(1))
        return vectors, present

    def vectors(self, batch: Batch) -> Tensor:
        """Return all modalities' components side by side, then for each modality whether it is there, 0 or 1."""
        vectors, present = self._raw(batch)
        parts = []
        for name, x in vectors.items():
            learned = self._learned[name]
            shortened = (x.double() - learned["mean"]) @ learned["components"]
            parts.append(torch.where(present[name].unsqueeze(-1), shortened, 0.0))
        flags = torch.stack(list(present.values()), dim=-1)
        return torch.cat([*parts, flags.double()], dim=-1)

    def kernels(self, x: Array, y: Array) -> Array:
        """Return every kernel between vectors, (kernels, n, m) for (n, dim) and (m, dim)."""
        found = []
        start, flags = 0, len(self.inputs)
        for i, name in enumerate(self.inputs):
            learned = self._learned[name]
            end = start + learned["components"].shape[1]
            both = x[:, [i - flags]] * y[:, i - flags]
            found += [both * kernel for kernel in _kernels(x[:, start:end], y[:, start:end], float(learned["median"]))]
            start = end
        return np.stack(found).astype(np.float32)

    def learn(self, problem: Problem) -> Part:
        """Find the kernels' weights and the machines, and Platt's rule for classes."""
        problem = _thinned(problem, self.most)
        # support vectors are stored in single precision, so they are learned from in it
        x = problem.x.astype(np.float32).astype(np.float64)
        kernels = self.kernels(x, x)
        targets, weight = machines_of(problem), weights_of(problem, self.balanced)
        machines, calibrations = [], []
        for target in targets:
            mixture, machine = self._solve(problem.numbers, kernels, target, weight)
            machines.append((mixture, machine))
            if not problem.numbers:
                kernel = _mixed(kernels, mixture)

                def decide(train: Rows, test: Rows, y: Array, w: Array, kernel: Array = kernel) -> Array:
                    fitted = self._machine(False).fit(kernel[np.ix_(train, train)], y, w)
                    values: Array = fitted.decision_function(kernel[np.ix_(test, train)])
                    return values

                calibrations.append(calibrate(problem, target[None], weight, decide))
        support = sorted({int(i) for _, machine in machines for i in machine.support_})
        dual = np.zeros((len(machines), len(x)))
        for i, (_, machine) in enumerate(machines):
            dual[i, machine.support_] = machine.dual_coef_[0]
        part: Part = {
            "support": x[support].astype(np.float32),
            "dual": dual[:, support],
            "intercept": np.array([machine.intercept_[0] for _, machine in machines]),
            "kernel_weights": np.stack([mixture for mixture, _ in machines]),
        }
        if problem.numbers:
            return {**part, "mean": np.array([problem.y.mean()])}
        return part | {name: np.concatenate([c[name] for c in calibrations]) for name in ("slope", "offset")}

    def _machine(self, numbers: bool) -> Any:
        from sklearn.svm import SVC, SVR  # slow to import, and only fitting needs it

        # the mixture follows the dual: where a looser fit stops would show there
        settings: dict[str, Any] = {"kernel": "precomputed", "C": self.C, "tol": 1e-6}
        return SVR(epsilon=self.epsilon, **settings) if numbers else SVC(**settings)

    def _solve(self, numbers: bool, kernels: Array, target: Array, weight: Array) -> tuple[Array, Any]:
        """Find the kernels' weights and the machine in turn; see :func:`learn_mixture`."""

        def fit(kernel: Array) -> Any:
            return self._machine(numbers).fit(kernel, target, weight)

        return learn_mixture(kernels, fit, norm=self.norm, iterations=self.iterations)

    def part_names(self, numbers: bool) -> set[str]:
        """Return the names of what the machines are."""
        return {"support", "dual", "intercept", "kernel_weights", *RULE[numbers]}

    @property
    def width(self) -> int:
        """Length of the vectors: the components, and whether each modality is there."""
        return sum(learned["components"].shape[1] + 1 for learned in self._learned.values())

    def tell(self, part: Part, x: Array) -> Array:
        """Return numbers, or the probability of each class."""
        support = part["support"].astype(np.float64)
        pieces = []
        for i in range(0, max(len(x), 1), _ROWS):
            kernels = self.kernels(x[i : i + _ROWS].astype(np.float32).astype(np.float64), support)
            columns = [
                _mixed(kernels, mixture) @ dual
                for mixture, dual in zip(part["kernel_weights"], part["dual"], strict=True)
            ]
            pieces.append(np.stack(columns, axis=1))
        return tell_by_margins(part, np.concatenate(pieces) + part["intercept"])

    def arrays(self) -> dict[str, Tensor]:
        """Return what the machines, the components (``features.<modality>``) and the CNNs (``cnn.<modality>``) are."""
        arrays = super().arrays()
        for name, learned in self._learned.items():
            arrays |= {f"features.{name}.{what}": value for what, value in learned.items()}
        for name, cnn in self._cnns.items():
            arrays |= {f"cnn.{name}.{what}": value.detach() for what, value in cnn.state_dict().items()}
        return arrays

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`arrays` returned."""
        self._learned = {name: _under(arrays, f"features.{name}.") for name in self.inputs}
        self._cnns = {}
        for name in self.convolved:
            weights = _under(arrays, f"cnn.{name}.")
            if weights:
                cnn = _CNN(self.inputs[name], self.tasks, self.cnn_filters, self.cnn_features)
                cnn.load_state_dict(weights)
                self._cnns[name] = cnn.eval()
        for name, learned in self._learned.items():
            raw = self.cnn_features if name in self._cnns else self.inputs[name]
            expected = {"mean": (raw,), "components": (raw, learned["components"].shape[-1]), "median": (1,)}
            check_shapes(learned, expected)
        super().load_arrays(arrays)


def learn_mixture(kernels: Array, fit: Any, *, norm: float, iterations: int) -> tuple[Array, Any]:
    """Learn the weights of several kernels and a machine on their weighted sum, in turn.

    With the machine's dual coefficients b, the part of kernel m in it has the length |w_m| = d_m sqrt(b K_m b), and the
    best weights for it are d_m = |w_m|^(2 / (p + 1)) / (sum_k |w_k|^(2 p / (p + 1)))^(1 / p) (Kloft et al. 2011).

    Args:
        kernels: (kernels, n, n).
        fit: fits a machine of scikit-learn on a kernel (n, n).
        norm: p.
        iterations: at most so many turns.

    Returns:
        The weights (kernels,), whose p-norm is 1, and the machine on the sum that they weigh.
    """
    count = len(kernels)
    mixture = np.full(count, count ** (-1 / norm))
    machine = fit(_mixed(kernels, mixture))
    for _ in range(iterations):
        rows, dual = machine.support_, machine.dual_coef_[0]
        squares = np.array([dual @ kernel[np.ix_(rows, rows)].astype(np.float64) @ dual for kernel in kernels])
        lengths = mixture * np.sqrt(squares.clip(0))
        if not lengths.any():  # the machine is a constant: no kernel is better than another
            break
        raw = lengths ** (2 / (norm + 1))
        after = raw / (raw**norm).sum() ** (1 / norm)
        settled = np.abs(after - mixture).max() < 1e-3
        mixture = after
        machine = fit(_mixed(kernels, mixture))
        if settled:
            break
    return mixture, machine


def _mixed(kernels: Array, mixture: Array) -> Array:
    """The weighted sum of kernels (kernels, n, m)."""
    total = np.zeros(kernels.shape[1:])
    for kernel, share in zip(kernels, mixture, strict=True):
        total += share * kernel
    return total


def _kernels(x: Array, y: Array, median: float) -> list[Array]:
    """The kernels of one modality, each 1 between a vector and itself."""
    product = x @ y.T
    x_square, y_square = (x * x).sum(axis=1)[:, None], (y * y).sum(axis=1)
    distance = (x_square + y_square - 2 * product).clip(0)
    radial = [np.exp(-distance / (width * median)) for width in WIDTHS]
    dim = x.shape[1]
    polynomial = (1 + product / dim) ** 2 / ((1 + x_square / dim) * (1 + y_square / dim))
    return [*radial, polynomial]


def _components(x: Array | None, variance: float) -> dict[str, Tensor]:
    """PCA of one modality's vectors (n, dim), each column scaled to a deviation of 1; the median squared distance.

    Returns:
        ``mean`` (dim,), ``components`` (dim, kept) by which a vector less the mean is multiplied, ``median`` (1,).
    """
    if x is None or len(x) < 2:
        dim = 0 if x is None else x.shape[1]
        found = {"mean": np.zeros(dim), "components": np.zeros((dim, 1)), "median": np.ones(1)}
        return {name: torch.from_numpy(value) for name, value in found.items()}
    from sklearn.decomposition import PCA  # slow to import, and only fitting needs it

    mean, deviation = x.mean(axis=0), x.std(axis=0)
    useful = deviation > 1e-8
    scale = np.where(useful, 1 / np.where(useful, deviation, 1.0), 0.0)
    standard = (x - mean) * scale
    components = np.zeros((x.shape[1], 1))
    if useful.any():
        pca = PCA(variance if variance < 1 else None, svd_solver="full").fit(standard)
        components = scale[:, None] * pca.components_.T
    some = (x - mean)[:: -(-len(x) // _SAMPLE)] @ components
    squares = (some * some).sum(axis=1)
    distance = squares[:, None] + squares - 2 * some @ some.T
    median = float(np.median(distance[np.triu_indices(len(some), 1)]))
    found = {"mean": mean, "components": components, "median": np.array([median if median > 0 else 1.0])}
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}


def _labelled(tasks: Sequence[Task], batch: Batch) -> Tensor:
    """Which utterances have a label of some task (...)."""
    return torch.stack([(~task.target(batch.labels).isnan()).any(dim=-1) for task in tasks]).any(dim=0)


def _thinned(problem: Problem, most: int) -> Problem:
    """At most so many utterances of a problem, evenly chosen, classes by their shares."""
    if len(problem.y) <= most:
        return problem
    order = np.arange(len(problem.y)) if problem.numbers else np.argsort(problem.y, kind="stable")
    chosen = np.sort(order[np.linspace(0, len(order) - 1, most).round().astype(int)])
    return replace(problem, x=problem.x[chosen], y=problem.y[chosen], groups=problem.groups[chosen])


def _under(arrays: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
