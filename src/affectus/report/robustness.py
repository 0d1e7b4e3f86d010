"""The curves of robustness as a page, as a table of numbers, and as the areas side by side."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import affectus
from affectus.errors import AffectusError
from affectus.evaluation import CORRUPTIONS, Robustness, Scorer
from affectus.evaluation.spread import std_over_seeds
from affectus.files import no_formula, write_text
from affectus.report.charts.drawing import (
    COLOURS,
    NOTHING,
    WIDTH,
    Chart,
    Dot,
    Key,
    Line,
    Plane,
    Table,
    picture,
    span,
    text_number,
    ticks,
)
from affectus.report.rendering import page_environment, page_style

MAIN = (
    "polarity.accuracy",
    "intensity.mae",
    "intensity.pearson",
    "emotions.weighted_f1",
    "emotion_intensity.mae",
    "emotion_class.weighted_f1",
    "ratings.mae",
    "ratings.pearson",
)
"""What is shown if nothing is asked for; there is a curve of each for every corruption and target."""


@dataclass(frozen=True)
class AreaRow:
    """The areas under the curves of one corruption of one target, for one metric.

    Attributes:
        corruption, target, metric: of which curve.
        higher: True if more is better.
        areas: per run (mean, spread over seeds, NaN for one); None where the run has no such curve.
        clean: per run the same without any corruption.
    """

    corruption: str
    target: str
    metric: str
    higher: bool
    areas: tuple[tuple[float, float] | None, ...]
    clean: tuple[tuple[float, float] | None, ...]


def run_labels(found: Sequence[Robustness]) -> list[str]:
    """Return a name for each run: the folder's, with the model's if two folders have one name.

    Raises:
        AffectusError: there is no run, they were judged on different things, or one is given twice.
    """
    if not found:
        raise AffectusError("There is no run to show")
    judged = {(one.corpus, one.split, one.protocol, one.draws, one.draw_seed) for one in found}
    if len(judged) > 1:
        raise AffectusError(
            "The runs were not judged alike", got=" and ".join(f"{j[0]}, {j[1]}, by {j[2]}" for j in sorted(judged))
        )
    names = [one.run for one in found]
    if len(set(names)) < len(names):
        names = [f"{one.run} ({one.model})" for one in found]
    if len(set(names)) < len(names):
        raise AffectusError("Two runs have one name", got=", ".join(names), remedy="Rename a run folder")
    return names


def choose_metrics(found: Sequence[Robustness], wanted: Sequence[str] | None = None) -> list[str]:
    """Return the metrics to show: the main ones that the runs share, or the wanted ones.

    Raises:
        AffectusError: no run has a wanted one, or the runs share none.
    """
    shared = [name for name in found[0].clean if all(name in one.clean for one in found)]
    if not shared:
        raise AffectusError("The runs have no figure in common", got="; ".join(", ".join(o.clean) for o in found))
    for name in wanted or ():
        if name not in shared:
            raise AffectusError(f"No figure {name!r} is there", expected="one of: " + ", ".join(shared))
    main = [name for name in shared if name in MAIN]
    return list(wanted) if wanted else main or [name for name in shared if name.count(".") == 1] or shared


def area_rows(found: Sequence[Robustness], metrics: Sequence[str]) -> list[AreaRow]:
    """Return the areas of every curve that a run has, in the order of corruptions, targets and metrics."""
    keys = list(dict.fromkeys(key for one in found for key in one.by_name))
    scorer = Scorer()

    def figure(values: Sequence[float]) -> tuple[float, float]:
        return float(np.mean(values)), float(std_over_seeds(values))

    return [
        AreaRow(
            corruption,
            target,
            metric,
            scorer.higher_is_better(metric),
            tuple(
                figure(one.by_name[corruption, target].area(metric).tolist())
                if (corruption, target) in one.by_name
                else None
                for one in found
            ),
            tuple(figure(one.clean[metric]) for one in found),
        )
        for corruption, target in keys
        for metric in metrics
    ]


def to_csv(found: Sequence[Robustness]) -> str:
    """Return every figure of every run: run, model, corruption, target, level, metric, mean, std, std_over_draws."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", "model", "corruption", "target", "level", "metric", "mean", "std", "std_over_draws"])

    def cell(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.6f}"

    for name, one in zip(run_labels(found), found, strict=True):
        for curve in one.curves:
            for metric in curve.values:
                figures = (curve.mean(metric), curve.std(metric), curve.draw_std(metric))
                for level, *numbers in zip(curve.levels, *figures, strict=True):
                    start = [name, one.model, curve.corruption, curve.target, f"{level:g}", metric]
                    writer.writerow([*map(no_formula, start), *map(cell, numbers)])
    return stream.getvalue()


def curve_chart(title: str, corruption: str, metric: str, lines: Sequence[tuple[str, Robustness, str]]) -> Chart:
    """Draw a metric over the levels of a corruption, with the spread over seeds and the majority's value.

    Args:
        title: of the chart.
        corruption: by name.
        metric: by name.
        lines: per line its name, the run and the target.
    """
    curves = [(name, run, run.by_name[corruption, target]) for name, run, target in lines]
    levels = curves[0][2].levels
    majority = [run.majority.get(metric, math.nan) for _, run, _ in curves]
    # of one seed the spread is unknown, and the mean stands alone
    low = [float(v) for _, _, c in curves for v in c.mean(metric) - np.nan_to_num(c.std(metric))]
    high = [float(v) for _, _, c in curves for v in c.mean(metric) + np.nan_to_num(c.std(metric))]
    plane = Plane((min(levels), max(levels)), span([*low, *high, *majority]))
    parts = plane.axes(CORRUPTIONS[corruption].axis, ticks(min(levels), max(levels), 6))
    known = sorted({value for value in majority if math.isfinite(value)})
    parts += [plane.line(Line((min(levels), max(levels)), (value, value), "majority")) for value in known]
    rows = [[f"{level:g}".replace("-", "−")] for level in levels]
    notes = []
    for place, (name, _, curve) in enumerate(curves):
        style = f"c{place % COLOURS}"
        mean, std = curve.mean(metric).tolist(), curve.std(metric).tolist()
        spreads = any(s > 0 for s in std)
        for sign in (-1, 1):
            if spreads:
                edge = [m + sign * s for m, s in zip(mean, std, strict=True)]
                parts.append(plane.line(Line(levels, edge, f"{style} seed4 dashed")))
        parts.append(plane.line(Line(levels, mean, style)))
        parts += [plane.dot(Dot(x, y, style)) for x, y in zip(levels, mean, strict=True) if math.isfinite(y)]
        for row, m, s in zip(rows, mean, std, strict=True):
            row.append(f"{text_number(m)} ± {text_number(s)}" if spreads else text_number(m))
        notes.append(f"{name} {text_number(float(curve.area(metric).mean()))}")
    legend = [Key(f"c{place % COLOURS}", "line", name) for place, (name, _, _) in enumerate(curves)]
    if known:
        legend.append(Key("majority", "line", "majority"))
    head = (CORRUPTIONS[corruption].axis, *(name for name, _, _ in curves))
    return Chart(
        title=title,
        svg=picture(title, WIDTH, plane.height, parts),
        legend=tuple(legend),
        table=Table(head, tuple(tuple(row) for row in rows)),
        note="area: " + ", ".join(notes),
    )


@dataclass(frozen=True)
class _Section:
    name: str
    title: str
    summary: str
    charts: list[Chart]


@dataclass(frozen=True)
class _AreaTable:
    """Metrics in columns, each with all runs; a row per corruption and target, the first without any."""

    metrics: tuple[AreaRow, ...]
    rows: tuple[tuple[str, str, tuple[tuple[float, float] | None, ...]], ...]


def _area_table(rows: Sequence[AreaRow], metrics: int) -> _AreaTable:
    first = tuple(rows[:metrics])
    groups = [rows[start : start + metrics] for start in range(0, len(rows), metrics)]
    clean = ("none", "", tuple(value for row in first for value in row.clean))
    damaged = [(of[0].corruption, of[0].target, tuple(area for row in of for area in row.areas)) for of in groups]
    return _AreaTable(first, (clean, *damaged))


def _sections(found: Sequence[Robustness], labels: Sequence[str], metrics: Sequence[str]) -> list[_Section]:
    sections = []
    for name in dict.fromkeys(curve.corruption for one in found for curve in one.curves):
        targets = list(dict.fromkeys(c.target for one in found for c in one.curves if c.corruption == name))
        charts = []
        for metric in metrics:
            if len(found) == 1:
                lines = [(target, found[0], target) for target in targets]
                charts.append(curve_chart(metric, name, metric, lines))
                continue
            for target in targets:
                has = [
                    (label, one, target)
                    for label, one in zip(labels, found, strict=True)
                    if (name, target) in one.by_name
                ]
                charts.append(curve_chart(f"{metric}, {target}", name, metric, has))
        sections.append(_Section(name, CORRUPTIONS[name].title, CORRUPTIONS[name].summary, charts))
    return sections


def render_robustness(found: Sequence[Robustness], *, metrics: Sequence[str] | None = None) -> str:
    """Return the page: areas side by side, then the curves of each corruption.

    Raises:
        AffectusError: the runs were not judged alike, or a metric is not there.
    """
    labels, chosen = run_labels(found), choose_metrics(found, metrics)
    models = list(dict.fromkeys(one.model for one in found))
    first = found[0]
    return (
        page_environment()
        .get_template("robustness.html.j2")
        .render(
            title=f"Robustness of {' and '.join(models)} on {first.corpus}, {first.split}",
            style=page_style(),
            version=affectus.__version__,
            first=first,
            runs=list(zip(labels, found, strict=True)),
            labels=labels,
            notes=list(dict.fromkeys(note for one in found for note in one.notes)),
            areas=_area_table(area_rows(found, chosen), len(chosen)),
            sections=_sections(found, labels, chosen),
            nothing=NOTHING,
        )
    )


def write_robustness(found: Sequence[Robustness], out: str | Path, *, metrics: Sequence[str] | None = None) -> Path:
    """Write the curves as a page (``.html``) or as numbers (``.csv``); an existing file is replaced.

    Raises:
        AffectusError: the file's name ends in neither, or it cannot be written.
    """
    out = Path(out)
    check_out(out)
    write_text(out, to_csv(found) if out.suffix.lower() == ".csv" else render_robustness(found, metrics=metrics))
    return out


def check_out(out: Path) -> None:
    """Check the name of a file to write, before the work is done.

    Raises:
        AffectusError: it ends neither in .html nor in .csv.
    """
    if out.suffix.lower() not in (".html", ".csv"):
        raise AffectusError(
            "The output is of an unknown kind", got=out.name, expected="a name that ends in .html or .csv"
        )
