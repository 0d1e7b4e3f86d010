"""Is one run better than another? Paired bootstrap over videos, t-test over seeds, effect size, several comparisons.

Utterances of one video are alike, so whole videos are drawn. Every metric here is a function of sums over utterances
(counts of a confusion matrix, sums of errors, moments); the sums are made once per video, and a draw is a weighting of
videos, so that ten thousand draws are a few matrix products.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus
from affectus.errors import AffectusError, unknown_name
from affectus.evaluation.evaluate import choose_for
from affectus.evaluation.latex import latex_comments, latex_text
from affectus.evaluation.protocols import PROTOCOLS
from affectus.evaluation.scoring import MMSA_INTENSITY, Metric, Scorer, Thresholds
from affectus.metrics import mae, pearson, sims_mae, sims_pearson
from affectus.objectives import Task, TaskKind
from affectus.training.inference import Predictions
from affectus.training.loading import Run
from affectus.vocabulary import Emotion

FloatArray = npt.NDArray[np.float64]
Finish = Callable[[FloatArray], FloatArray]
"""From sums (..., statistics) to a metric (...)."""


def _matrix(truth: npt.NDArray[np.int64], said: npt.NDArray[np.int64], classes: int) -> FloatArray:
    """(n, classes * classes) one-hot cells of the confusion matrix, truth first."""
    cells: FloatArray = np.eye(classes * classes)[truth * classes + said]
    return cells


def _cells(sums: FloatArray) -> FloatArray:
    classes = round(sums.shape[-1] ** 0.5)
    return sums.reshape(*sums.shape[:-1], classes, classes)


def accuracy_of(sums: FloatArray) -> FloatArray:
    """Return accuracy from confusion counts (..., classes * classes)."""
    cells = _cells(sums)
    return np.asarray(np.trace(cells, axis1=-2, axis2=-1) / cells.sum(axis=(-2, -1)))


def weighted_f1_of(sums: FloatArray) -> FloatArray:
    """Return weighted F1 from confusion counts (..., classes * classes)."""
    cells = _cells(sums)
    hits = np.diagonal(cells, axis1=-2, axis2=-1)
    truths, said = cells.sum(axis=-1), cells.sum(axis=-2)
    each = 2 * hits / np.maximum(truths + said, 1e-12)
    return np.asarray((each * truths).sum(axis=-1) / truths.sum(axis=-1))


def weighted_accuracy_of(sums: FloatArray) -> FloatArray:
    """Return weighted accuracy from binary confusion counts (..., 4); NaN where a draw has one class only."""
    cells = _cells(sums)
    truths = cells.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((np.diagonal(cells, axis1=-2, axis2=-1) / truths).mean(axis=-1))


def mae_of(sums: FloatArray) -> FloatArray:
    """Return the mean absolute error from (..., [sum of errors, count]); NaN for no label."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


SPREAD = 1e-10
"""A side of a draw whose variance is no more than this share of its mean square does not vary but for rounding."""


def pearson_of(sums: FloatArray) -> FloatArray:
    """Return Pearson's correlation from (..., [n, x, y, xx, yy, xy]); NaN where x or y is constant.

    Exact where x and y are centred over all utterances, as the bootstrap has them: without, a variance may be the small
    difference of large sums.
    """
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    own, other = n * xx - x**2, n * yy - y**2
    varies = (own > SPREAD * n * xx) & (other > SPREAD * n * yy)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (n * xy - x * y) / (np.sqrt(own) * np.sqrt(other))
    return np.where(varies, found.clip(-1.0, 1.0), np.nan)


def _moments(x: FloatArray, y: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """Return (..., [1, x, y, xx, yy, xy]) of what is known, else 0."""
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1) * known[..., None]


def _centred_moments(raw: FloatArray) -> FloatArray:
    """Return the same of x and y less their means over all utterances."""
    known = raw[..., 0] > 0
    return _moments(_centred(raw[..., 1], known), _centred(raw[..., 2], known), known)


def _centred(values: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """Return columns less their means over what is known, in [-1, 1], 0 elsewhere; exactly 0 for a constant column."""
    found = np.zeros_like(values)
    for i, of in enumerate(known.T):
        column = values[of, i]
        if len(column) and np.any(column != column[0]):
            rest = column - column.mean()
            found[of, i] = rest / np.abs(rest).max()
    return found


def _as_it_is(values: FloatArray) -> FloatArray:
    return values


def _to_one(values: FloatArray) -> FloatArray:
    # in single precision, as the metrics have it
    return values.astype(np.float32).clip(-1.0, 1.0).astype(np.float64)


PREPARED: Mapping[Metric, Callable[[FloatArray], FloatArray]] = {
    mae: _as_it_is,
    pearson: _as_it_is,
    sims_mae: _to_one,
    sims_pearson: _to_one,
}
"""What the rules of a protocol do to values before the error or the correlation is taken."""


@dataclass(frozen=True)
class Statistic:
    """A metric as sums and what to do with them.

    Attributes:
        per_utterance: (n, columns, statistics) what each utterance adds; 0 where its label is missing.
        finish: from sums (..., columns, statistics) to (..., columns); the metric is the mean over columns.
        higher: a larger value is better.
    """

    per_utterance: FloatArray
    finish: Finish
    higher: bool


def statistics_of(
    tasks: Sequence[Task],
    said: Predictions,
    cuts: dict[str, Thresholds],
    rules: Mapping[str, Metric] = MMSA_INTENSITY,
) -> dict[str, Statistic]:
    """Return the metrics that can be compared, by their names in the evaluation.

    Args:
        tasks: what was predicted.
        said: the predictions.
        cuts: thresholds of the multi-label tasks.
        rules: a protocol's for sentiment intensity; one that is not known here is left out.
    """
    scorer = Scorer(rules)
    found: dict[str, Statistic] = {}
    for task in tasks:
        given, target = said.probabilities[task.name], said.targets[task.name]
        if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
            known = ~np.isnan(target[:, 0])
            truth = np.where(known, target[:, 0], 0).astype(np.int64)
            cells = _matrix(truth, given.argmax(axis=1), task.outputs) * known[:, None]
            found[f"{task.name}.accuracy"] = Statistic(cells[:, None], accuracy_of, True)
            found[f"{task.name}.weighted_f1"] = Statistic(cells[:, None], weighted_f1_of, True)
        elif task.kind is TaskKind.REAL:
            known = ~np.isnan(target)
            own = {name: PREPARED[rule] for name, rule in scorer.real_rules(task).items() if rule in PREPARED}
            both = given.astype(np.float64), np.where(known, target, 0).astype(np.float64)
            if "mae" in own:
                x, y = map(own["mae"], both)
                errors = np.stack([np.abs(x - y), np.ones_like(x)], axis=-1)
                found[f"{task.name}.mae"] = Statistic(errors * known[..., None], mae_of, False)
            if "pearson" in own:
                x, y = map(own["pearson"], both)
                found[f"{task.name}.pearson"] = Statistic(_moments(x, y, known), pearson_of, True)
        else:
            found |= _emotions(task, given, target, cuts.get(task.name, Thresholds.plain(task.outputs)))
    return found


def _emotions(
    task: Task, given: npt.NDArray[np.float32], target: npt.NDArray[np.float32], cuts: Thresholds
) -> dict[str, Statistic]:
    known = ~np.isnan(target)
    truth = np.where(known, target, 0).astype(np.int64)
    six = [i for i, value in enumerate(task.values) if value != Emotion.NONE]
    found: dict[str, Statistic] = {}
    rules: tuple[tuple[str, tuple[float, ...], Finish], ...] = (
        ("weighted_f1", cuts.weighted_f1, weighted_f1_of),
        ("weighted_accuracy", cuts.weighted_accuracy, weighted_accuracy_of),
    )
    for rule, thresholds, finish in rules:
        said = (given >= np.asarray(thresholds, given.dtype)).astype(np.int64)
        cells = _matrix(truth, said, 2) * known[..., None]  # (n, values, 4)
        found[f"emotions.{rule}"] = Statistic(cells[:, six], finish, True)
        for i in six:
            found[f"emotions.{task.values[i]}.{rule}"] = Statistic(cells[:, [i]], finish, True)
    return found


@dataclass(frozen=True)
class Difference:
    """One run against another in one metric.

    Attributes:
        metric: by name.
        first: the run that the others are held against.
        second: the run that is compared with it.
        first_mean: the first run's mean over seeds.
        second_mean: the second run's.
        difference: second minus first.
        interval: the 95 % interval of the difference over draws of videos, of those in which the metric is defined.
        p_videos: two-sided, from the bootstrap over videos, of the same draws.
        p_videos_corrected: after Holm's correction over all comparisons of the call.
        p_seeds: two-sided t-test over seeds, paired where both runs have the same seeds; NaN for fewer than two.
        effect: Cohen's d over seeds (of the paired differences, if paired); NaN for fewer than two.
        better: the second run is better: ``yes``, ``no`` or ``open`` (the corrected p is 0.05 or more).
        undefined_draws: draws in which the metric is undefined for a run (its predictions or the labels of the videos
            drawn are constant), which are left out.

    Where the metric of a seed is undefined over all videos (its model predicts a constant), so is the run's mean, as
    in an evaluation, and everything that rests on it: NaN, and ``better`` is ``open``.
    """

    metric: str
    first: str
    second: str
    first_mean: float
    second_mean: float
    difference: float
    interval: tuple[float, float]
    p_videos: float
    p_videos_corrected: float
    p_seeds: float
    effect: float
    better: str
    undefined_draws: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {**vars(self), "interval": list(self.interval)}


def compare_runs(
    runs: Sequence[Run],
    corpus: Corpus,
    *,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
    ensemble: bool = False,
    protocol: str = "akhtar2019",
) -> list[Difference]:
    """Hold every run against the first.

    Args:
        runs: two or more, with tasks in common. Thresholds are each seed's own, chosen on its valid split.
        corpus: to judge on.
        split: of it.
        metrics: which; None for the main ones of the tasks in common.
        draws: of the bootstrap, at least 100.
        seed: of the bootstrap.
        ensemble: compare the means of the seeds' probabilities instead of the means of their figures.
        protocol: by whose rules sentiment intensity is judged.

    Raises:
        AffectusError: fewer than two runs, no task in common, an unknown metric, a split of a single video, or an
            oracle's protocol.
    """
    rules = PROTOCOLS[protocol]
    if rules.oracle:
        raise AffectusError(
            f"The protocol {protocol!r} is an oracle's: it chooses on the split that is judged, so it compares luck",
            remedy="Choose another; `affectus protocols` tells which",
        )
    if len(runs) < 2:
        raise AffectusError("A comparison needs two runs or more", got=len(runs))
    if draws < 100:  # before anything is predicted
        raise AffectusError("Too few draws for an interval", got=draws, expected="at least 100")
    names = _run_names(runs)
    videos = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(corpus.recordings(split))])
    found = [_of_run(run, corpus, split, ensemble, rules.intensity) for run in runs]
    paired = [run.seeds == runs[0].seeds and not ensemble for run in runs]
    where = f"{corpus.name}, split {split}"
    return compare_statistics(names, found, videos, paired=paired, where=where, metrics=metrics, draws=draws, seed=seed)


def compare_statistics(
    names: Sequence[str],
    found: Sequence[Sequence[dict[str, Statistic]]],
    videos: npt.NDArray[np.int64],
    *,
    paired: Sequence[bool],
    where: str,
    metrics: Sequence[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> list[Difference]:
    """Hold every system against the first, given what each utterance adds to their metrics.

    Args:
        names: of the systems.
        found: per system, per seed, the metrics (:func:`statistics_of`), for the same utterances in the same order.
        videos: (n,) the number of each utterance's video, from 0.
        paired: per system, whether its seeds match the first system's one by one.
        where: what was judged, for errors.
        metrics: which; None for the main ones that all have.
        draws: of the bootstrap, at least 100.
        seed: of the bootstrap.

    Raises:
        AffectusError: too few draws, a single video, nothing in common, or an unknown metric.
    """
    if draws < 100:
        raise AffectusError("Too few draws for an interval", got=draws, expected="at least 100")
    count = int(videos.max()) + 1
    if count < 2:
        raise AffectusError("The bootstrap draws videos, and there is only one", where=where)
    common = [name for name in found[0][0] if all(name in of[0] for of in found)]
    if not common:
        raise AffectusError("The runs have no task in common", remedy="Compare runs that were trained for the same")
    for name in metrics or ():
        if name not in common:
            raise unknown_name("metric", name, common, where="what these runs have in common")
    chosen = list(metrics) if metrics else [name for name in common if name.count(".") == 1]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    rows: list[tuple[str, int, FloatArray, FloatArray, FloatArray, bool]] = []
    for metric in chosen:
        first = [_figures(of[metric], videos, count, weights) for of in found[0]]
        for i in range(1, len(found)):
            second = [_figures(of[metric], videos, count, weights) for of in found[i]]
            earlier, later = (np.array([f[0] for f in of]) for of in (first, second))
            drawn = np.mean([f[1] for f in second], axis=0) - np.mean([f[1] for f in first], axis=0)
            if np.isnan(later.mean() - earlier.mean()):
                drawn = np.full_like(drawn, np.nan)  # what has no figure has no interval either
            rows.append((metric, i, earlier, later, drawn, found[0][0][metric].higher))
    p_values = [_p_of_draws(drawn) for *_, drawn, _ in rows]
    corrected = holm(p_values)
    result = []
    for (metric, i, earlier, later, drawn, higher), p, p_corrected in zip(rows, p_values, corrected, strict=True):
        p_seeds, effect = _over_seeds(earlier, later, paired=paired[i])
        difference = float(later.mean() - earlier.mean())
        low, high = _interval(drawn)
        better = "open" if not p_corrected < 0.05 else ("yes" if (difference > 0) == higher else "no")
        result.append(
            Difference(
                metric,
                names[0],
                names[i],
                float(earlier.mean()),
                float(later.mean()),
                difference,
                (low, high),
                p,
                p_corrected,
                p_seeds,
                effect,
                better,
                int(np.isnan(drawn).sum()),
            )
        )
    return result


def intervals_of(
    found: Sequence[Sequence[dict[str, Statistic]]],
    videos: npt.NDArray[np.int64],
    metric: str,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """Return the 95 % interval of each system's mean over seeds in one metric, over draws of videos.

    Args:
        found: per system, per seed, the metrics (:func:`statistics_of`).
        videos: (n,) the number of each utterance's video, from 0.
        metric: by name.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        AffectusError: there is only one video.
    """
    count = int(videos.max()) + 1
    if count < 2:
        raise AffectusError("The bootstrap draws videos, and there is only one")
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    result = []
    for seeds in found:
        drawn = np.mean([_figures(of[metric], videos, count, weights)[1] for of in seeds], axis=0)
        result.append(_interval(drawn))
    return result


def _interval(drawn: FloatArray) -> tuple[float, float]:
    """Return the middle 95 % of the draws in which the metric is defined; NaN if there is none."""
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def _run_names(runs: Sequence[Run]) -> list[str]:
    names = [run.folder.name or str(run.folder) for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _of_run(
    run: Run, corpus: Corpus, split: str, ensemble: bool, rules: Mapping[str, Metric]
) -> list[dict[str, Statistic]]:
    found = choose_for(run, corpus, split, ensemble=ensemble)
    return [statistics_of(run.tasks, said, cuts, rules) for said, cuts in found]


def _figures(
    statistic: Statistic, videos: npt.NDArray[np.int64], count: int, weights: FloatArray
) -> tuple[float, FloatArray]:
    """Return the metric of all videos, and of each draw."""
    added = statistic.per_utterance
    if statistic.finish is pearson_of:
        added = _centred_moments(added)
    sums = np.zeros((count, *added.shape[1:]))
    np.add.at(sums, videos, added)
    flat = sums.reshape(count, -1)
    drawn = (weights @ flat).reshape(len(weights), *sums.shape[1:])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # a draw in which a metric is undefined takes no part
        warnings.simplefilter("ignore", RuntimeWarning)
        whole = float(np.nanmean(statistic.finish(sums.sum(axis=0))))
        return whole, np.asarray(np.nanmean(statistic.finish(drawn), axis=-1))


def _p_of_draws(drawn: FloatArray) -> float:
    """Two-sided share of draws on the other side of 0, never below what the number of draws can tell; NaN for none."""
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return float("nan")
    # a difference of exactly 0 speaks for neither side
    below = np.sum(drawn < 0) + 0.5 * np.sum(drawn == 0)
    share = min(below, len(drawn) - below) / len(drawn)
    return float(min(1.0, max(2 * share, 1 / len(drawn))))


def _over_seeds(first: FloatArray, second: FloatArray, *, paired: bool) -> tuple[float, float]:
    # takes two seconds and 30 MB to import, in every process that trains
    from scipy import stats

    if len(first) < 2 or len(second) < 2 or np.isnan(first).any() or np.isnan(second).any():
        return float("nan"), float("nan")
    if paired:
        differences = second - first
        spread = float(np.std(differences, ddof=1))
        if spread == 0:
            return float("nan"), float("nan")
        return float(stats.ttest_rel(second, first).pvalue), float(np.mean(differences)) / spread
    pooled = float(np.sqrt((np.var(first, ddof=1) + np.var(second, ddof=1)) / 2))
    if pooled == 0:
        return float("nan"), float("nan")
    p = float(stats.ttest_ind(second, first, equal_var=False).pvalue)
    return p, float(second.mean() - first.mean()) / pooled


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being several (Holm 1979): each becomes the level at which it would just be rejected.

    A p of NaN is of a test that could not be made: it stays NaN, and does not count.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    made = int(np.sum(~np.isnan(np.asarray(p_values, np.float64))))
    order = np.argsort(p_values, kind="stable")[:made]  # NaN comes last
    corrected = np.full(len(p_values), np.nan)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (made - rank) * p_values[index]))
        corrected[index] = highest
    return [float(p) for p in corrected]


NOTHING = "–"
"""What a table shows where there is no figure."""


def figure_text(value: float, sign: str = "") -> str:
    """Return a figure with four decimals; a dash if it is undefined.

    >>> figure_text(0.25, "+"), figure_text(float("nan"))
    ('+0.2500', '–')
    """
    return NOTHING if np.isnan(value) else f"{value:{sign}.4f}"


def interval_text(bounds: tuple[float, float]) -> str:
    """Return an interval of differences; a dash if it is undefined."""
    return NOTHING if np.isnan(bounds[0]) else f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]"


def to_latex(differences: Sequence[Difference], notes: Sequence[str] = ()) -> str:
    """Return the comparisons as a LaTeX table (booktabs), with notes of a line each as comments above it."""
    lines = [
        *latex_comments(*notes),
        r"\begin{tabular}{llrrrrr}",
        r"\toprule",
        r"metric & run & first & second & difference & 95\,\% interval & $p$ (Holm) \\",
        r"\midrule",
    ]
    for d in differences:
        figures = (figure_text(d.first_mean), figure_text(d.second_mean), figure_text(d.difference, "+"))
        cells = (d.metric, d.second, *figures, interval_text(d.interval), figure_text(d.p_videos_corrected))
        lines.append(rf"{' & '.join(map(latex_text, cells))} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
