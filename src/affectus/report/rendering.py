"""From a :class:`Report` to one HTML page that needs nothing else."""

import re
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from affectus.metrics import METRICS
from affectus.report.charts import (
    Chart,
    calibration_chart,
    count,
    emotion_bars,
    heatmap_chart,
    learning_charts,
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


@dataclass(frozen=True)
class _RunCharts:
    learning: list[Chart]
    calibration: list[Chart]
    thresholds: list[Chart]


def render(report: Report) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("affectus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=text_number, count=count, anchor=_anchor, breakable=_breakable)
    # the style sheet is ours, and quotes in it must stay quotes
    style = Markup(files("affectus.report").joinpath("templates/style.css").read_text(encoding="utf-8").strip())
    labels = [run.label for run in report.runs]
    heatmaps, highest = _heatmaps(report)
    headline = [row for row in report.scores if row.metric in HEADLINE]
    versions = list(dict.fromkeys(", ".join(f"{k} {v}" for k, v in run.versions.items()) for run in report.runs))
    return environment.get_template("report.html.j2").render(
        report=report,
        style=style,
        title=_title(report),
        contents=_contents(report),
        # a corpus with tasks of its own has none of the usual figures
        headline=headline or [row for row in report.scores if row.metric.count(".") == 1],
        versions=versions,
        rules=[METRICS[name] for name in _rules(report)],
        bars={
            family: [
                emotion_bars("Weighted accuracy", "weighted_accuracy", rows, labels),
                emotion_bars("Weighted F1", "weighted_f1", rows, labels),
            ]
            for family, rows in report.emotions.items()
        },
        # per family of classes, the runs that tell it and their places
        tellers={
            family: [(place, report.runs[place]) for place in scored(rows, len(labels))]
            for family, rows in report.emotions.items()
        },
        charts=[_run_charts(run) for run in report.runs],
        heatmaps=heatmaps,
        highest=highest,
    )


def _title(report: Report) -> str:
    models = list(dict.fromkeys(run.model for run in report.runs))
    what = " and ".join(models) if len(models) <= 2 else f"{', '.join(models[:-1])} and {models[-1]}"
    runs = f" ({len(report.runs)} runs)" if len(report.runs) > len(models) else ""
    return f"{what}{runs} on {report.corpus}, {report.split}"


def _contents(report: Report) -> list[tuple[str, str]]:
    found = [("figures", "Figures"), *((_anchor(family), family) for family in report.emotions)]
    if report.video:
        found.append(("video", "One video"))
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
        calibration=[calibration_chart(calibration) for calibration in run.calibrations],
        thresholds=[threshold_chart(curves) for curves in run.thresholds],
    )


def _heatmaps(report: Report) -> tuple[list[list[list[Chart]]], list[float]]:
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
    return every, highest
