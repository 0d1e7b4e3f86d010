"""Tables 4 and 7: every figure as published, as an oracle and honestly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from affectus.evaluation.significance import compare_runs
from affectus.models import MODELS
from affectus.studies.akhtar2019.judging import HONEST, ORACLE, Judge
from affectus.studies.akhtar2019.plan import EMOTIONS, JOINT, PER_TASK, POLARITY, Plan
from affectus.studies.claims import p_text
from affectus.studies.published import Results
from affectus.studies.tables import NOTHING, Grid, Quantity, Section
from affectus.vocabulary import SIX_EMOTIONS

METRICS: Mapping[str, tuple[str, ...]] = {
    POLARITY: ("polarity.weighted_f1", "polarity.accuracy"),
    EMOTIONS: ("emotions.weighted_f1", "emotions.weighted_accuracy"),
}
"""The two figures of each task, in the paper's order."""
SHORT = {"weighted_f1": "F1", "weighted_accuracy": "W-Acc", "accuracy": "accuracy"}
SINGLE, MULTI = "single", "multi"
OURS = "mtmm_es"
COLUMNS = ("published", "oracle", "honest")
THREE = (
    "Published: as the paper prints it; a question mark where the cell is uncertain (the JSON says why), a dash where "
    "it is not at hand. Oracle: protocol akhtar2019-released, for each figure by itself the best epoch and threshold "
    "on the judged split, as the released code has it. Honest: protocol akhtar2019, epoch and thresholds chosen on "
    "valid. Per cent, mean ± standard deviation over seeds."
)


def _quantity(judge: Judge, cell: str | None, metric: str, published: tuple[float, str | None] | None) -> Quantity:
    value, doubt = published if published else (None, None)
    return Quantity(value, doubt, judge.values(cell, ORACLE, metric), judge.values(cell, HONEST, metric))


def table4(plan: Plan, judge: Judge, results: Results) -> Section:
    """Return the figures of MTMM-ES for every combination of modalities, tasks learned alone and together."""
    grids, data = [], []
    for task in plan.tasks:
        rows = []
        for letters in plan.sets:
            for learning in (SINGLE, MULTI) if len(plan.tasks) > 1 else (SINGLE,):
                cell = plan.cell(letters, JOINT if learning == MULTI else task)
                row = {"modalities": letters, "learning": learning}
                found = {m: _quantity(judge, cell, m, results.figure("4", row, m)) for m in METRICS[task]}
                rows.append((letters, learning, *(c for q in found.values() for c in q.cells())))
                data += [{**row, "cell": cell, "metric": m, **q.to_json()} for m, q in found.items()]
        grids.append(_grid(f"Table 4, {_words(task)}", ("modalities", "learning"), METRICS[task], rows))
    text = ["T text, A audio, V vision. " + THREE]
    if EMOTIONS in plan.tasks:
        text.append(
            "Emotions: mean over the six. What the paper prints for single-task TAV is 77.7 and 60.8 here but 76.2 and "
            "61.4 in its Table 7; the former fits a mean over seven classes, with *none*."
        )
    return Section("Table 4: modalities, alone and together", tuple(text), tuple(grids), data)


def _words(task: str) -> str:
    return "sentiment" if task == POLARITY else "emotions"


def _grid(title: str, left: tuple[str, ...], metrics: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Grid:
    head = (*left, *(f"{SHORT[metric.rsplit('.', 1)[-1]]}, {column}" for metric in metrics for column in COLUMNS))
    return Grid(title, head, tuple(rows), text_columns=len(left))


@dataclass(frozen=True)
class System:
    """A row of Table 7: how it is called, its row in the paper's results, and its cell for each task."""

    name: str
    row: Mapping[str, str]
    cells: Mapping[str, str]


def systems(plan: Plan, results: Results) -> list[System]:
    """Return the rows of Table 7: the paper's and ours, MTMM-ES last."""
    named = [row.row["system"] for row in results.tables.get("7", ()) if row.row["system"] not in (OURS, "majority")]
    rows = []
    for name in sorted({*named, *plan.systems}):
        paper = MODELS[name].paper if name in MODELS else None
        shown = f"{name} ({paper.short})" if paper else name
        rows.append(System(shown, {"system": name, "learning": SINGLE}, plan.systems.get(name, {})))
    alone = {task: plan.cell(plan.full, task) for task in plan.tasks}
    rows.append(System(f"{OURS}, {SINGLE}", {"system": OURS, "learning": SINGLE}, alone))
    if len(plan.tasks) > 1:
        joint = dict.fromkeys(plan.tasks, plan.cell(plan.full, JOINT))
        rows.append(System(f"{OURS}, {MULTI}", {"system": OURS, "learning": MULTI}, joint))
        chosen = dict.fromkeys(plan.tasks, plan.cell(plan.full, PER_TASK))
        rows.append(System(f"{OURS}, {MULTI}, epoch per task", {"system": OURS, "learning": "per task"}, chosen))
    return rows


def blocks(plan: Plan) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the parts of Table 7: what it is of, the task, its two metrics."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    if POLARITY in plan.tasks:
        found.append(("sentiment", POLARITY, METRICS[POLARITY]))
    if EMOTIONS in plan.tasks:
        columns = plan.corpus.schemes["emotions"].columns
        for emotion in [e for e in SIX_EMOTIONS if e in columns]:
            found.append((emotion, EMOTIONS, tuple(m.replace(".", f".{emotion}.") for m in METRICS[EMOTIONS])))
        found.append(("mean of the six", EMOTIONS, METRICS[EMOTIONS]))
        seven = tuple(m.replace("emotions.", "emotions7.") for m in METRICS[EMOTIONS])
        found.append(("mean of seven, with none", EMOTIONS, seven))
    return found


def table7(plan: Plan, judge: Judge, results: Results) -> Section:
    """Return every system's figures, for sentiment, each emotion and their mean, with the tests of significance."""
    rows = systems(plan, results)
    grids, data = [], []
    tests = _Tests(plan, judge, results, rows)
    for words, task, metrics in blocks(plan):
        lines = []
        majority = {"system": "majority", "learning": SINGLE}
        found = {m: _majority(judge, m, results.figure("7", majority, m)) for m in metrics}
        lines.append(("majority", *(c for q in found.values() for c in q.cells())))
        data += [{**majority, "metric": m, **q.to_json()} for m, q in found.items()]
        for system in rows:
            cell = system.cells.get(task)
            found = {m: _quantity(judge, cell, m, results.figure("7", system.row, m)) for m in metrics}
            if any(q.published is not None or q.honest for q in found.values()):
                lines.append((system.name, *(c for q in found.values() for c in q.cells())))
                data += [{**system.row, "cell": cell, "metric": m, **q.to_json()} for m, q in found.items()]
        significance = {m: tests.of(task, m) for m in metrics}
        for test in dict.fromkeys(name for found_p in significance.values() for name in found_p):
            cells = []
            for metric in metrics:
                p = significance[metric].get(test)
                cells += [NOTHING, NOTHING, NOTHING if p is None or np.isnan(p) else f"p {p_text(p)}"]
            lines.append((f"*{test}*", *cells))
        data += [{"metric": m, "significance": of} for m, of in significance.items() if of]
        grids.append(_grid(f"Table 7, {words}", ("system",), metrics, lines))
    text = (
        THREE,
        "Every system of affectus that reads utterances in context is trained on each task alone with its published "
        "settings, and MTMM-ES on both together. Rows without figures of ours are systems of the paper that have no "
        "such form here. *Epoch per task*: the joint model with each task predicted by its own best epoch on valid.",
        "The paper's two rows of significance are repeated as t-tests over seeds: the joint model against the same "
        "learned alone, and against the best other system (chosen on valid, for each figure by itself). Beside them "
        "the paired bootstrap over videos, which asks whether new videos would show the same, and a t-test of our "
        "seeds against the published figure. These p are not corrected for their number; those of the claims are.",
    )
    return Section("Table 7: systems", text, tuple(grids), data)


def _majority(judge: Judge, metric: str, published: tuple[float, str | None] | None) -> Quantity:
    value, doubt = published if published else (None, None)
    constant = judge.majority(metric)
    return Quantity(value, doubt, constant, constant)


class _Tests:
    """The rows of significance below each part of Table 7."""

    def __init__(self, plan: Plan, judge: Judge, results: Results, rows: Sequence[System]) -> None:
        self.plan, self.judge, self.results = plan, judge, results
        self.others = [system for system in rows if system.row["system"] != OURS and system.cells]
        self._found: dict[str, dict[str, float]] = {}

    def of(self, task: str, metric: str) -> dict[str, float]:
        """Return p by the test's name, for the paper's own system in one figure."""
        ours = self.judge.values(self.plan.main, HONEST, metric)
        if not ours or metric.startswith("emotions7"):
            return {}
        found: dict[str, float] = {}
        if len(self.plan.tasks) > 1:
            found |= self._against(metric, self.plan.cell(self.plan.full, task), "learned alone")
        best = max(
            (s for s in self.others if self.judge.values(s.cells.get(task), HONEST, metric)),
            key=lambda s: self.judge.on_valid(s.cells[task], metric),
            default=None,
        )
        if best is not None:
            found |= self._against(metric, best.cells[task], f"the best other, {best.row['system']}")
        published = self.results.figure("7", {"system": OURS, "learning": MULTI}, metric)
        if published and len(self.plan.tasks) > 1:
            found["t-test over seeds, against the published figure"] = t_test(ours, (published[0],))
        return found

    def _against(self, metric: str, cell: str, words: str) -> dict[str, float]:
        theirs = self.judge.values(cell, HONEST, metric)
        if not theirs or self.plan.main not in self.judge.outcomes:
            return {}
        ours = self.judge.values(self.plan.main, HONEST, metric)
        found = {f"t-test over seeds, against {words}": t_test(ours, theirs)}
        by_videos = self._bootstrap(cell).get(metric)
        return found if by_videos is None else found | {f"bootstrap over videos, against {words}": by_videos}

    def _bootstrap(self, cell: str) -> dict[str, float]:
        """Return p by metric of the paper's system against a cell, over draws of videos; nothing for a single video."""
        if cell not in self._found:
            runs = [self.judge.outcomes[name].run for name in (cell, self.plan.main)]
            there = [run for run in runs if run is not None]
            self._found[cell] = {}
            if len(there) == 2 and len(self.plan.corpus.recordings(self.plan.split)) > 1:
                told = {task.name for task in there[0].tasks}
                metrics = [m for _, task, of in blocks(self.plan) for m in of if task in told and "7" not in m]
                differences = compare_runs(there, self.plan.corpus, split=self.plan.split, metrics=metrics)
                self._found[cell] = {d.metric: d.p_videos for d in differences}
        return self._found[cell]


def t_test(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p of a t-test over seeds: paired where both have as many, and against a constant.

    NaN where it cannot be made: too few seeds, or all differences alike.

    >>> round(t_test([0.80, 0.81, 0.82], [0.79]), 3)
    0.074
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if len(x) < 2:
        return float("nan")
    if len(y) == 1 or len(x) == len(y):
        differences = x - y
        # what differs by rounding alone is alike
        return float(stats.ttest_1samp(differences, 0).pvalue) if np.ptp(differences) > 1e-12 else float("nan")
    return float(stats.ttest_ind(x, y, equal_var=False).pvalue)


def gains(results: Results) -> dict[str, float]:
    """Return what the paper gains by joint learning, by metric, from its Table 7."""
    found: dict[str, float] = {}
    for metric in (m for of in METRICS.values() for m in of):
        pair = [results.figure("7", {"system": OURS, "learning": learning}, metric) for learning in (SINGLE, MULTI)]
        if pair[0] and pair[1]:
            found[metric] = pair[1][0] - pair[0][0]
    return found
