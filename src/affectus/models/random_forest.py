"""Random forest: many trees on resampled utterances, which vote.

Breiman 2001: Random Forests. Machine Learning 45, https://doi.org/10.1023/A:1010933404324

Deviations:
    - As a baseline of later work its settings were never published; scikit-learn's forest is used, with 500 trees,
      classes weighed inversely to how often they occur, and the square root of the features tried at each split, for
      numbers too.
    - The features of all modalities stand side by side (early fusion); a missing modality is zeros, which is its mean
      on train under the usual scaling. Sequences are averaged over their steps; utterances of a video are seen one by
      one.
    - One forest per task of classes, per label, and per number.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from affectus.errors import AffectusError
from affectus.models.base import Paper, register_model
from affectus.models.space import one_of
from affectus.models.vectors import Array, Part, Problem, VectorEstimator
from affectus.objectives import Task
from affectus.vocabulary import View

_ROWS = 4096
"""Utterances that go down the trees at once."""


@register_model(
    "random_forest",
    paper=Paper("Breiman", 2001, "Random Forests", "Machine Learning", "https://doi.org/10.1023/A:1010933404324"),
    views=tuple(View),
    space={"max_depth": one_of(0, 5, 10, 20), "min_leaf": one_of(1, 2, 5, 10), "balanced": one_of(True, False)},
)
class RandomForest(VectorEstimator):
    """A forest of decision trees on the utterances' vectors, stored as arrays of nodes.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        trees: in each forest.
        max_depth: of a tree; 0 for no limit.
        min_leaf: training utterances in a leaf, at least.
        balanced: weigh classes inversely to how often they occur in train; if not, as the task weighs them.
        random_state: seed of the resampling and of the features tried.
    """

    name = "random_forest"

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        trees: int = 500,
        max_depth: int = 0,
        min_leaf: int = 1,
        balanced: bool = True,
        random_state: int = 0,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        for name, value, least in (("trees", trees, 1), ("max_depth", max_depth, 0), ("min_leaf", min_leaf, 1)):
            if value < least:
                raise AffectusError(f"The option {name!r} is out of range", got=value, expected=f"{least} or more")
        self.trees, self.max_depth, self.min_leaf = trees, max_depth, min_leaf
        self.balanced, self.random_state = balanced, random_state

    def learn(self, problem: Problem) -> Part:
        """Grow a forest."""
        # slow to import, and only fitting needs it
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        settings = {
            "n_estimators": self.trees,
            "max_depth": self.max_depth or None,
            "min_samples_leaf": self.min_leaf,
            "max_features": "sqrt",
            "random_state": self.random_state,
            # the trees are the same however many grow at a time
            "n_jobs": torch.get_num_threads(),
        }
        if problem.numbers:
            forest = RandomForestRegressor(**settings)
        else:
            forest = RandomForestClassifier(class_weight=problem.class_weight(self.balanced), **settings)
        return nodes_of(forest.fit(problem.x, problem.y))

    def part_names(self, numbers: bool) -> set[str]:
        """Return the names of what a forest's nodes are."""
        return {"feature", "threshold", "left", "right", "value", "root", "depth"}

    def tell(self, part: Part, x: Array) -> Array:
        """Return the mean of the trees' leaves."""
        return np.concatenate([_walk(part, x[i : i + _ROWS]) for i in range(0, max(len(x), 1), _ROWS)])


def nodes_of(forest: object) -> Part:
    """Return the nodes of a fitted forest of scikit-learn, all trees one after the other.

    Returns:
        ``feature`` and ``threshold`` (nodes,): a vector whose feature is at most the threshold goes to ``left``
        (nodes,), any other to ``right``; a leaf leads to itself. ``value`` (nodes, values): numbers, or the share of
        each class. ``root`` (trees,) and ``depth`` (1,) of the deepest tree.
    """
    parts: dict[str, list[npt.NDArray[np.generic]]] = {}
    start = 0
    roots, depth = [], 0
    for estimator in forest.estimators_:  # type: ignore[attr-defined]
        tree = estimator.tree_
        leaf = tree.children_left < 0
        here = np.arange(tree.node_count)
        value = tree.value[:, 0, :]
        if hasattr(estimator, "classes_"):
            value = value / value.sum(axis=1, keepdims=True)
        found = {
            "feature": np.where(leaf, 0, tree.feature).astype(np.int32),
            "threshold": np.where(leaf, 0.0, tree.threshold),
            "left": (start + np.where(leaf, here, tree.children_left)).astype(np.int32),
            "right": (start + np.where(leaf, here, tree.children_right)).astype(np.int32),
            "value": value.astype(np.float32),
        }
        for name, array in found.items():
            parts.setdefault(name, []).append(array)
        roots.append(start)
        start += tree.node_count
        depth = max(depth, int(tree.max_depth))
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return {**joined, "root": np.array(roots, np.int32), "depth": np.array([depth])}


def _walk(part: Part, x: Array) -> Array:
    """Send (n, dim) vectors down every tree, all at once, and average the leaves: (n, values)."""
    x = x.astype(np.float32)  # as scikit-learn compares
    row = np.arange(len(x))[:, None]
    node = np.broadcast_to(part["root"], (len(x), len(part["root"])))
    for _ in range(int(part["depth"][0])):
        low = x[row, part["feature"][node]] <= part["threshold"][node]
        node = np.where(low, part["left"][node], part["right"][node])
    mean: Array = part["value"][node].astype(np.float64).mean(axis=1)
    return mean
