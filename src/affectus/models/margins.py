"""What support vector machines share: one machine per class, and probabilities from their decision values.

Two classes have one machine, more have one each against the rest. A decision value f becomes a probability by Platt's
rule, 1 / (1 + exp(-(a f + b))), whose a and b are fitted on decision values for training utterances that the machine
did not see: train is cut into folds of whole videos. With more than two classes the machines' probabilities are divided
by their sum.

Platt 1999: Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from affectus.models.vectors import FOLDS, Array, Part, Problem

Rows = npt.NDArray[np.int64]
Decide = Callable[[Rows, Rows, Array, Array], Array]
"""Fits a machine on rows whose targets are -1 and 1, with their weights, and returns its values (n,) for other rows."""

RULE = {True: ("mean",), False: ("slope", "offset")}
"""What :func:`tell_by_margins` needs beside decision values, for numbers or not."""


def machines_of(problem: Problem) -> Array:
    """Return what each machine is to learn, (machines, n): numbers less their mean, or -1 and 1."""
    if problem.numbers:
        centred: Array = (problem.y - problem.y.mean())[None]
        return centred
    classes = [1] if problem.classes == 2 else range(problem.classes)
    return np.stack([np.where(problem.y == k, 1.0, -1.0) for k in classes])


def weights_of(problem: Problem, balanced: bool) -> Array:
    """Return the weight of each training utterance (n,), that of its class."""
    weight = np.ones(len(problem.y))
    for k in range(problem.classes):
        here = problem.y == k
        weight[here] = len(here) / (problem.classes * here.sum()) if balanced else problem.weights.get(k, 1.0)
    return weight


def calibrate(problem: Problem, targets: Array, weight: Array, decide: Decide) -> Part:
    """Fit Platt's rule for each machine on decision values of utterances that it did not see.

    A fold whose training part lacks a class keeps the values of a machine that saw all.

    Args:
        problem: of classes.
        targets: (machines, n) -1 and 1.
        weight: (n,) of each utterance.
        decide: fits and applies a machine.

    Returns:
        ``slope`` and ``offset`` (machines,).
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and only fitting needs it

    every = np.arange(len(problem.y))
    slopes, offsets = [], []
    for target in targets:
        folds = min(FOLDS, len(np.unique(problem.groups)), int((target > 0).sum()), int((target < 0).sum()))
        parts = []
        if folds > 1:
            parts = list(StratifiedGroupKFold(folds).split(every, target, problem.groups))
        values = np.full(len(every), np.nan)
        for train, test in parts:
            if len(np.unique(target[train])) == 2:
                values[test] = decide(train, test, target[train], weight[train])
        unseen = np.isnan(values)
        if unseen.any():
            values[unseen] = decide(every, every[unseen], target, weight)
        slope, offset = platt(values, target > 0)
        slopes.append(slope)
        offsets.append(offset)
    return {"slope": np.array(slopes), "offset": np.array(offsets)}


def platt(values: Array, positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Fit a and b of Platt's rule by maximum likelihood, with his softened targets.

    A positive example counts as one to (n + 1) / (n + 2), n their number, a negative one as one to 1 / (m + 2).

    Args:
        values: (n,) decision values.
        positive: (n,) which examples are.
    """
    from sklearn.linear_model import LogisticRegression

    n, m = int(positive.sum()), int((~positive).sum())
    soft = np.where(positive, (n + 1) / (n + 2), 1 / (m + 2))
    # decision values of a machine that separates all can be far from 1, where the fit would stop early
    scale = np.abs(values).max() or 1.0
    x = np.concatenate([values, values])[:, None] / scale
    y = np.repeat([1, 0], len(values))
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, np.concatenate([soft, 1 - soft]))
    return float(fitted.coef_[0, 0] / scale), float(fitted.intercept_[0])


def tell_by_margins(part: Part, values: Array) -> Array:
    """Turn decision values (n, machines) into numbers (n, 1), or into probabilities of the classes.

    Args:
        part: ``slope`` and ``offset`` for classes; ``mean`` for numbers.
        values: of each machine.
    """
    if "mean" in part:
        return values + part["mean"]
    p = 1 / (1 + np.exp(-(values * part["slope"] + part["offset"]).clip(-500, 500)))
    if p.shape[1] == 1:
        return np.concatenate([1 - p, p], axis=1)
    told: Array = p / p.sum(axis=1, keepdims=True).clip(1e-300)
    return told
