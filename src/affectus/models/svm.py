"""SVM: support vector machines on early fusion and a multimodal dictionary.

Zadeh, Zellers, Pincus, Morency 2016: Multimodal Sentiment Intensity Analysis in Videos: Facial Gestures and Verbal
Messages. IEEE Intelligent Systems 31(6), https://doi.org/10.1109/MIS.2016.94

Deviations:
    - The article's dictionary has an entry for each word and each facial gesture, which is 1 if the word is said while
      the gesture is made. A corpus of feature vectors names neither: here the *words* are clusters (k-means, on train)
      of the text's vectors, the *gestures* clusters of each other modality's, and an entry is 1 if both occur in the
      same step of the utterance. Without text the first modality stands for it; a lone modality has no dictionary.
    - Steps are words in the aligned view; unaligned sequences are brought into step with the text first. In the
      contextual view an utterance is one step.
    - Beside the dictionary stand the features of all modalities, each averaged over an utterance's steps (early
      fusion); a missing modality is zeros. Utterances of a video are seen one by one.
    - Kernel, C, the width of the insensitive tube and the dictionary's size are not known; they are ours. A linear
      machine has squared losses (liblinear), the radial one the usual losses (libsvm).
    - More than two classes have one machine each against the rest; probabilities come by Platt's rule from decision
      values of videos that the machine did not see.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Paper, register_model
from affectus.models.margins import RULE, Rows, calibrate, machines_of, tell_by_margins, weights_of
from affectus.models.space import one_of
from affectus.models.vectors import Array, Part, Problem, VectorEstimator
from affectus.nn.masking import zero_masked
from affectus.nn.stepping import in_step
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View

SAMPLE = 20_000
"""Steps of train, at most, from which the clusters of a modality are made."""
_ROWS = 1024
"""Vectors that are compared with the support vectors at once."""


class _Thinned:
    """Rows that come piece by piece, thinned out evenly to at most a number of them."""

    def __init__(self, most: int) -> None:
        self.most, self.stride, self.seen = most, 1, 0
        self.kept: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        first = -self.seen % self.stride
        self.kept.append(rows[first :: self.stride])
        self.seen += len(rows)
        while sum(map(len, self.kept)) > self.most:
            self.kept = [torch.cat(self.kept)[::2]]
            self.stride *= 2

    def rows(self) -> Tensor:
        return torch.cat(self.kept)


class MultimodalDictionary:
    """Which clusters of the words occur together with which clusters of another modality's steps.

    Args:
        inputs: width of each modality's vectors.
        words: clusters of the text's steps (of the first modality's, without text), at most.
        gestures: clusters of each other modality's steps, at most.
    """

    def __init__(self, inputs: Mapping[str, int], *, words: int, gestures: int) -> None:
        self.names = tuple(inputs)
        self.spoken = TEXT if TEXT in inputs else self.names[0]
        self.sizes = {name: words if name == self.spoken else gestures for name in self.names}
        self.atoms: dict[str, Tensor] = {}

    @property
    def shown(self) -> tuple[str, ...]:
        """The modalities of the gestures."""
        return tuple(name for name in self.names if name != self.spoken)

    @property
    def size(self) -> int:
        """How many entries an utterance has."""
        return len(self.atoms[self.spoken]) * sum(len(self.atoms[name]) for name in self.shown)

    def learn(self, batches: Iterable[Batch], tasks: Sequence[Task]) -> None:
        """Make the clusters from the utterances of train that have a label."""
        import warnings

        from sklearn.cluster import KMeans  # slow to import, and only fitting needs it

        seen = {name: _Thinned(SAMPLE) for name in self.names}
        for batch in batches:
            known = torch.stack([(~task.target(batch.labels).isnan()).any(dim=-1) for task in tasks]).any(dim=0)
            features, masks = steps_of(batch, self.names)
            for name in self.names:
                seen[name].add(features[name][masks[name] & known.flatten().unsqueeze(1)])
        for name in self.names:
            rows = seen[name].rows().double().numpy()
            clusters = min(self.sizes[name], len(np.unique(rows, axis=0)))
            self.atoms[name] = torch.zeros(0, rows.shape[1], dtype=torch.float64)
            if clusters:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # fewer clusters than asked for is no matter
                    fitted = KMeans(clusters, n_init=1, random_state=0).fit(rows)
                self.atoms[name] = torch.from_numpy(fitted.cluster_centers_)

    def entries(self, batch: Batch) -> Tensor:
        """Return the entries (N, size) of N utterances, 0 or 1; the batch's padding counts as one."""
        features, masks = steps_of(batch, self.names)
        found = {name: self._clusters(features[name], masks[name], self.atoms[name]) for name in self.names}
        words = found[self.spoken].transpose(1, 2)  # (N, words, T)
        parts = [(words @ found[name] > 0).flatten(1) for name in self.shown]
        return torch.cat(parts, dim=1).float() if parts else words.new_zeros(len(words), 0)

    @staticmethod
    def _clusters(x: Tensor, mask: Tensor, atoms: Tensor) -> Tensor:
        """(N, T, clusters) 1 for the cluster of each real step."""
        if not len(atoms):
            return x.new_zeros(*mask.shape, 0)
        distance = (atoms * atoms).sum(dim=1) - 2 * x.double() @ atoms.T
        nearest = torch.nn.functional.one_hot(distance.argmin(dim=-1), len(atoms))
        return nearest.to(x) * mask.unsqueeze(-1)


def steps_of(batch: Batch, names: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return each utterance's steps: its words, or, in the contextual view, one for the whole utterance.

    Returns:
        Per modality (N, T, dim), zero where masked, and (N, T) bool; N counts the utterances, padding among them.
    """
    if batch.view is View.CONTEXTUAL:
        masks = {name: (batch.masks[name] & batch.mask).flatten().unsqueeze(1) for name in names}
        steps = {name: batch.features[name].flatten(0, 1).unsqueeze(1) for name in names}
        return {name: zero_masked(x, masks[name]) for name, x in steps.items()}, masks
    masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in names}
    return in_step({name: batch.features[name] for name in names}, masks, batch.view)


@register_model(
    "svm",
    paper=Paper(
        "Zadeh et al.",
        2016,
        "Multimodal Sentiment Intensity Analysis in Videos: Facial Gestures and Verbal Messages",
        "IEEE Intelligent Systems",
        "https://doi.org/10.1109/MIS.2016.94",
    ),
    views=tuple(View),
    space={
        "radial": one_of(False, True),
        "C": one_of(None, 0.001, 0.01, 0.1, 1.0, 10.0),
        "epsilon": one_of(0.01, 0.1, 0.3),
    },
)
class SVM(VectorEstimator):
    """Support vector machines on the features side by side and on a dictionary of words and gestures that co-occur.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        radial: a radial kernel, its width from the data's variance, in place of a linear one.
        C: inverse strength of the penalty; None takes 0.01 for a linear kernel and 1 for a radial one.
        epsilon: half the width of the tube in which an error of a number costs nothing.
        dictionary: put the multimodal dictionary beside the features.
        words: clusters of the text's steps.
        gestures: clusters of each other modality's steps.
        balanced: weigh classes inversely to how often they occur in train.
    """

    name = "svm"

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        radial: bool = False,
        C: float | None = None,
        epsilon: float = 0.1,
        dictionary: bool = True,
        words: int = 50,
        gestures: int = 8,
        balanced: bool = False,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        C = (1.0 if radial else 0.01) if C is None else C
        if not 0 < C < float("inf"):
            raise AffectusError("The option 'C' is out of range", got=C, expected="a positive number")
        if not 0 <= epsilon < float("inf"):
            raise AffectusError("The option 'epsilon' is out of range", got=epsilon, expected="a number from 0")
        for name, size in (("words", words), ("gestures", gestures)):
            if size < 1:
                raise AffectusError(f"The option {name!r} is out of range", got=size, expected="1 or more")
        self.radial, self.C, self.epsilon, self.balanced = radial, C, epsilon, balanced
        self.dictionary: MultimodalDictionary | None = None
        if dictionary and len(self.inputs) > 1:
            self.dictionary = MultimodalDictionary(self.inputs, words=words, gestures=gestures)

    def learn_vectors(self, batches: Iterable[Batch]) -> None:
        """Make the dictionary's clusters."""
        if self.dictionary is not None:
            self.dictionary.learn(batches, self.tasks)

    def vectors(self, batch: Batch) -> Tensor:
        """Return the features side by side and the dictionary's entries (..., dim)."""
        x = super().vectors(batch)
        if self.dictionary is None:
            return x
        return torch.cat([x, self.dictionary.entries(batch).view(*batch.mask.shape, -1)], dim=-1)

    def learn(self, problem: Problem) -> Part:
        """Fit the machines of a problem, and Platt's rule for classes."""
        # vectors are stored in single precision, so they are learned from in it
        x = problem.x.astype(np.float32).astype(np.float64)
        targets, weight = machines_of(problem), weights_of(problem, self.balanced)
        fitted = [self._machine(problem.numbers).fit(x, target, weight) for target in targets]
        part: Part = {"intercept": np.array([np.ravel(machine.intercept_)[0] for machine in fitted])}
        if not self.radial:
            part["weight"] = np.stack([np.ravel(machine.coef_) for machine in fitted])
        else:
            support = sorted({int(i) for machine in fitted for i in machine.support_})
            place = {row: i for i, row in enumerate(support)}
            dual = np.zeros((len(fitted), len(support)))
            for i, machine in enumerate(fitted):
                dual[i, [place[int(row)] for row in machine.support_]] = machine.dual_coef_[0]
            part |= {"support": x[support].astype(np.float32), "dual": dual, "gamma": np.array([_gamma(x)])}
        if problem.numbers:
            return {**part, "mean": np.array([problem.y.mean()])}

        def decide(train: Rows, test: Rows, target: Array, w: Array) -> Array:
            values: Array = self._machine(False).fit(x[train], target, w).decision_function(x[test])
            return values

        return {**part, **calibrate(problem, targets, weight, decide)}

    def _machine(self, numbers: bool) -> Any:
        from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

        if self.radial:
            return SVR(C=self.C, epsilon=self.epsilon) if numbers else SVC(C=self.C)
        settings: dict[str, Any] = {"C": self.C, "dual": "auto", "random_state": 0, "tol": 1e-6, "max_iter": 20_000}
        if numbers:
            return LinearSVR(loss="squared_epsilon_insensitive", epsilon=self.epsilon, **settings)
        return LinearSVC(**settings)

    def part_names(self, numbers: bool) -> set[str]:
        """Return the names of what the machines are."""
        kernel = {"support", "dual", "gamma"} if self.radial else {"weight"}
        return {"intercept", *kernel, *RULE[numbers]}

    @property
    def width(self) -> int:
        """Length of the vectors: the features and the dictionary's entries."""
        return super().width + (0 if self.dictionary is None else self.dictionary.size)

    def tell(self, part: Part, x: Array) -> Array:
        """Return numbers, or the probability of each class."""
        values: Array
        if "weight" in part:
            values = x @ part["weight"].T + part["intercept"]
        else:
            pieces = [_radial(x[i : i + _ROWS], part) for i in range(0, max(len(x), 1), _ROWS)]
            values = np.concatenate(pieces) @ part["dual"].T + part["intercept"]
        return tell_by_margins(part, values)

    def arrays(self) -> dict[str, Tensor]:
        """Return what the machines learned, and ``dictionary.<modality>``, the clusters' centres."""
        atoms = {} if self.dictionary is None else self.dictionary.atoms
        return super().arrays() | {f"dictionary.{name}": centres for name, centres in atoms.items()}

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`arrays` returned."""
        if self.dictionary is not None:
            self.dictionary.atoms = {name: arrays[f"dictionary.{name}"] for name in self.inputs}
        super().load_arrays(arrays)


def _gamma(x: Array) -> float:
    """The width of the radial kernel, as scikit-learn's ``scale`` has it."""
    return float(1.0 / (x.shape[1] * (x.var() or 1.0)))


def _radial(x: Array, part: Part) -> Array:
    """(n, support) radial kernel."""
    support = part["support"].astype(np.float64)
    distance = (x * x).sum(axis=1)[:, None] + (support * support).sum(axis=1) - 2 * x @ support.T
    kernel: Array = np.exp(-part["gamma"] * distance.clip(0))
    return kernel
