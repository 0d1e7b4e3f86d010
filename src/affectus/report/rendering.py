"""From a :class:`Report` to one HTML page that needs nothing else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from affectus.metrics import METRICS
from affectus.report.charts import (
    Chart,
    bias_bars,
    calibration_chart,
    count,
    emotion_bars,
    heatmap_chart,
    learning_charts,
    loss_charts,
    map_chart,
    negative_bars,
    sample_strip,
    scored,
    text_number,
    threshold_chart,
)
from affectus.report.data import Report, RunPart

HEADLINE = (
    "polarity.accuracy",
    "polarity.weighted_f1",
    "emotions.weighted_f1",
    "emotions.weighted_accuracy",
    "emotions7.weighted_f1",
    "emotions7.weighted_accuracy",
    "emotion_class.accuracy",
    "emotion_class.weighted_f1",
    "intensity.mae",
    "intensity.pearson",
    "intensity.acc2",
    "intensity.acc2_negative_nonnegative",
    "intensity.acc2_negative_positive",
    "intensity.acc5",
    "intensity.acc7",
    "emotion_intensity.mae",
    "ratings.mae",
    "ratings.pearson",
)
"""What a first look needs; the page has the other figures too, folded away."""


FIRST_SAMPLES = 6
"""Of a list, those that are not folded away."""
RULE_NAMES = {
    "weighted_accuracy": "W-Acc",
    "weighted_f1": "weighted F1",
    "f1": "F1",
    "recall": "recall",
    "precision": "precision",
}
"""The short names of what is told of each class."""


@dataclass(frozen=True)
class _RunCharts:
    learning: list[Chart]
    losses: list[Chart]
    calibration: list[Chart]
    thresholds: list[Chart]


def page_environment() -> Environment:
    """Return the templates, with their filters."""
    environment = Environment(
        loader=PackageLoader("affectus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=text_number, count=count, anchor=_anchor, breakable=_breakable, rule_name=lambda rule: RULE_NAMES[rule]
    )
    return environment


def page_style() -> Markup:
    """Return the style sheet, which is ours, so that quotes in it stay quotes."""
    return Markup(files("affectus.report").joinpath("templates/style.css").read_text(encoding="utf-8").strip())


def render(report: Report) -> str:
    """Return the page."""
    headline = [row for row in report.scores if row.metric in HEADLINE]
    versions = list(dict.fromkeys(", ".join(f"{k} {v}" for k, v in run.versions.items()) for run in report.runs))
    values: dict[str, Any] = {
        "report": report,
        "style": page_style(),
        "title": _title(report),
        "contents": _contents(report),
        # a corpus with tasks of its own has none of the usual figures
        "headline": headline or [row for row in report.scores if row.metric.count(".") == 1],
        "versions": versions,
        "rules": [METRICS[name] for name in _rules(report)],
        "charts": [_run_charts(run) for run in report.runs],
    }
    parts = (_classes, _heatmaps, _maps, _modalities)
    for part in parts:
        values |= part(report)
    return page_environment().get_template("report.html.j2").render(values)


def _title(report: Report) -> str:
    models = list(dict.fromkeys(run.model for run in report.runs))
    what = " and ".join(models) if len(models) <= 2 else f"{', '.join(models[:-1])} and {models[-1]}"
    runs = f" ({len(report.runs)} runs)" if len(report.runs) > len(models) else ""
    return f"{what}{runs} on {report.corpus}, {report.split}"


def _contents(report: Report) -> list[tuple[str, str]]:
    found = [("figures", "Figures"), *((_anchor(family), family) for family in report.emotions)]
    if report.video:
        found.append(("video", "One video"))
    if report.modalities:
        found.append(("modalities", "Modalities"))
    if any(report.maps):
        found.append(("maps", "Representation"))
    if report.differences:
        found.append(("differences", "Differences"))
    found += [(f"run-{place}", run.label) for place, run in enumerate(report.runs, start=1)]
    return found


def _anchor(name: str) -> str:
    return "classes-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _breakable(name: str) -> list[str]:
    """Cut a metric's name where a narrow screen may break it."""
    return re.findall(r"[^._]+[._]?|[._]", name)


def _rules(report: Report) -> list[str]:
    names = dict.fromkeys(row.metric.rsplit(".", 1)[-1] for row in report.scores)
    return [name for name in names if name in METRICS]


def _run_charts(run: RunPart) -> _RunCharts:
    return _RunCharts(
        learning=[chart for curves in run.curves for chart in learning_charts(curves)],
        losses=[chart for curves in run.curves for chart in loss_charts(curves)],
        calibration=[calibration_chart(calibration) for calibration in run.calibrations],
        thresholds=[threshold_chart(curves) for curves in run.thresholds],
    )


def _classes(report: Report) -> dict[str, Any]:
    """Per family of classes its charts, the runs that tell it with their places, and how many tasks each has."""
    labels = [run.label for run in report.runs]
    tellers = {
        family: [(place, report.runs[place]) for place in scored(rows, len(labels))]
        for family, rows in report.emotions.items()
    }
    bars = {}
    for family, rows in report.emotions.items():
        shown = [rule for rule in ("weighted_accuracy", "weighted_f1", "recall", "f1") if rule in rows[0].scores][:2]
        bars[family] = [emotion_bars(_capital(RULE_NAMES[rule]), rule, rows, labels) for rule in shown]
    together = {family: _together([run for _, run in of]) for family, of in tellers.items()}
    return {"bars": bars, "tellers": tellers, "together": together}


def _together(runs: Sequence[RunPart]) -> str:
    """Say which run learned how many tasks, where that differs."""
    if len({len(run.tasks) for run in runs}) < 2:
        return ""
    what = "Single-task against multi-task" if any(len(run.tasks) == 1 for run in runs) else "Tasks learned together"
    return f"{what}: {', '.join(f'{run.label} learned {_tasks(len(run.tasks))}' for run in runs)}."


def _tasks(count: int) -> str:
    return "this task alone" if count == 1 else f"{count} tasks together"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _maps(report: Report) -> dict[str, Any]:
    charts = [map_chart(of, run.label) for of, run in zip(report.maps, report.runs, strict=False) if of is not None]
    return {"maps": charts}


def _modalities(report: Report) -> dict[str, Any]:
    """Per task its charts and the runs that tell it with their places, and a picture of each sample."""
    part = report.modalities
    if part is None:
        return {}
    labels = [run.label for run in report.runs]

    def tellers(task: str) -> list[tuple[int, RunPart]]:
        rows = next(table.rows for table in part.tables if table.task == task)
        places = [place for place in range(len(labels)) if any(row.scores[place] for row in rows)]
        return [(place, report.runs[place]) for place in places]

    return {
        "heads": {row.head for table in part.tables for row in table.rows},
        "head_charts": {table.task: [negative_bars(table, labels), bias_bars(table, labels)] for table in part.tables},
        "told_by": [run for table in part.tables for _, run in tellers(table.task)],
        "told": {table.task: tellers(table.task) for table in part.tables},
        "samplers": tellers(part.task),
        "first_samples": FIRST_SAMPLES,
        "strips": {
            listed.by: [
                sample_strip(sample, part.low, part.high, f"What is said of {sample.id}") for sample in listed.samples
            ]
            for listed in part.samples
        },
    }


def _heatmaps(report: Report) -> dict[str, Any]:
    """Per run, per pair of modalities, one chart or two; per run, the largest weight."""
    every: list[list[list[Chart]]] = []
    highest: list[float] = []
    for pairs in report.video.heatmaps if report.video else ():
        maps = [heatmap for pair in pairs for heatmap in (pair.first, pair.second) if heatmap is not None]
        top = max((weight for heatmap in maps for line in heatmap.weights for weight in line), default=0.0)
        drawn = []
        for pair in pairs:
            charts = [heatmap_chart(pair.first, "N1", top)]
            if pair.second is not None:
                charts.append(heatmap_chart(pair.second, "N2", top))
            drawn.append(charts)
        every.append(drawn)
        highest.append(top)
    return {"heatmaps": every, "highest": highest}
