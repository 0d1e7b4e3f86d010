"""The fused representation in two dimensions."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from affectus.objectives import Task, TaskKind
from affectus.report.data import FusedMap, MapGroup
from affectus.report.judging import Judged
from affectus.vocabulary import Emotion

FloatArray = npt.NDArray[np.floating]

MOST_POINTS = 2000
"""Drawn; more would be neither legible nor quick."""
FEWEST_POINTS = 10
MOST_LABELS = 8
"""As many as there are colours."""
PERPLEXITY = 30.0
STEPS = 500
"""Of gradient descent: 1000 take twice the time, and lower the divergence by a twentieth on 2,000 points."""
FIRST_DIMENSIONS = 50
"""Wider representations are projected on so many principal components first, as the authors of t-SNE do."""
NEAREST = 10
SIGNS, THIRDS = ("negative", "neutral", "positive"), ("lowest third", "middle third", "highest third")
NO_LABEL, SEVERAL, OTHERS = "no label", "several", "others"


def fused_map(one: Judged, fused: FloatArray | None) -> FusedMap | None:
    """Return the map of the first seed's representation; None if there is none, or next to no utterance.

    Args:
        one: the run.
        fused: (n, width), in the order of its predictions.
    """
    if fused is None or len(fused) < FEWEST_POINTS or not np.isfinite(fused).all() or not np.ptp(fused, axis=0).any():
        return None
    task = _coloured(one.tasks)
    labels = np.array(_labels(task, one.mean.targets[task.name]), dtype=object)
    shown = np.arange(len(fused))
    if len(shown) > MOST_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(len(shown), MOST_POINTS, replace=False))
    values, labels = fused[shown].astype(np.float64), labels[shown]
    places = project(values)
    nearest = min(NEAREST, len(values) - 1)
    same = neighbour_shares(values, labels, nearest)
    groups = []
    for label in _order(task, labels):
        own = labels == label
        chance = (own.sum() - 1) / (len(labels) - 1)
        points = tuple((float(x), float(y)) for x, y in places[own])
        groups.append(MapGroup(label, points, float(same[own].mean()), float(chance)))
    return FusedMap(one.run.seeds[0], fused.shape[1], task.name, len(fused), nearest, tuple(groups))


def project(values: FloatArray) -> FloatArray:
    """Return (n, 2) by t-SNE from (n, width); the same values give the same map.

    Source: van der Maaten and Hinton 2008, JMLR 9.
    """
    width = min(FIRST_DIMENSIONS, *values.shape)
    if values.shape[1] > width:
        values = PCA(width, svd_solver="full").fit_transform(values)
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    found: FloatArray = TSNE(2, perplexity=perplexity, init="pca", max_iter=STEPS, random_state=0).fit_transform(values)
    return found


def neighbour_shares(values: FloatArray, labels: npt.NDArray[np.object_], nearest: int) -> FloatArray:
    """Return (n,): of each utterance's nearest ones, the share with its label.

    Args:
        values: (n, width), compared by Euclidean distance.
        labels: (n,).
        nearest: how many neighbours are asked, fewer than n.

    >>> neighbour_shares(np.array([[0.0], [1.0], [9.0]]), np.array(["a", "a", "b"], object), 1).tolist()
    [1.0, 1.0, 0.0]
    """
    found = NearestNeighbors(n_neighbors=nearest).fit(values).kneighbors(return_distance=False)
    shares: FloatArray = (labels[found] == labels[:, None]).mean(axis=1)
    return shares


def _coloured(tasks: tuple[Task, ...]) -> Task:
    """The task whose labels tell most in few colours."""
    ranks = {TaskKind.BINARY: 1, TaskKind.ONE_OF_K: 2, TaskKind.MULTI_LABEL: 3, TaskKind.REAL: 4}
    return min(tasks, key=lambda task: 0 if _is_sentiment(task) else ranks[task.kind])


def _is_sentiment(task: Task) -> bool:
    return task.kind is TaskKind.REAL and task.scheme.startswith("sentiment")


def _labels(task: Task, targets: FloatArray) -> list[str]:
    """Return a label in words for each of the targets (n, values)."""
    known = np.logical_not(np.isnan(targets).any(axis=1)).tolist()
    tell = _teller(task, targets[known])
    return _few([tell(row) if there else NO_LABEL for row, there in zip(targets, known, strict=True)])


def _teller(task: Task, known: FloatArray) -> Callable[[FloatArray], str]:
    """Return what puts the labels of one utterance, (values,), into a word."""
    if _is_sentiment(task):
        return lambda row: SIGNS[int(np.sign(row[0])) + 1]
    if task.scheme == "emotions":
        return lambda row: _only([value for value, label in zip(task.values, row, strict=True) if label > 0])
    if task.kind is TaskKind.REAL:
        cuts = np.quantile(known[:, 0], (1 / 3, 2 / 3)) if len(known) else np.zeros(2)
        return lambda row: THIRDS[int(np.searchsorted(cuts, row[0]))]
    return lambda row: task.values[int(row[0])]


def _only(names: list[str]) -> str:
    return SEVERAL if len(names) > 1 else names[0] if names else str(Emotion.NONE)


def _few(labels: list[str]) -> list[str]:
    """Join the rarest labels if there are more than colours."""
    counts = Counter(labels)
    if len(counts) <= MOST_LABELS:
        return labels
    kept = {label for label, _ in counts.most_common(MOST_LABELS - 1)}
    return [label if label in kept else OTHERS for label in labels]


def _order(task: Task, labels: npt.NDArray[np.object_]) -> list[str]:
    """The labels that occur, in the task's order; what is no value of it comes last."""
    words = [*SIGNS, *THIRDS, *task.values, str(Emotion.NONE), SEVERAL, OTHERS, NO_LABEL]
    there = set(labels.tolist())
    return [label for label in dict.fromkeys(words) if label in there]
