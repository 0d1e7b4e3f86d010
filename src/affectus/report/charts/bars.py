"""Figures side by side as bars: a group per row, a bar per run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from affectus.report.charts.drawing import (
    BOTTOM,
    COLOURS,
    NOTHING,
    TOP,
    WIDTH,
    Chart,
    Key,
    Table,
    element,
    picture,
    text_number,
    ticks,
    units,
)
from affectus.report.data import EmotionRow, HeadTable, Score

BAR, GAP, LEFT, RIGHT = 11.0, 9.0, 78.0, 14.0


@dataclass(frozen=True)
class Bars:
    """One group of bars.

    Attributes:
        name: beside it.
        scores: per run; None where it has none.
        marks: values to compare with, drawn across the group.
    """

    name: str
    scores: tuple[Score | None, ...]
    marks: tuple[float | None, ...] = ()


def scored(rows: Sequence[EmotionRow], runs: int) -> list[int]:
    """Return the places of the runs that tell these emotions at all."""
    return [run for run in range(runs) if any(row.predicted[run] is not None for row in rows)]


def emotion_bars(title: str, rule: str, rows: Sequence[EmotionRow], runs: Sequence[str]) -> Chart:
    """Draw one metric per emotion as bars from 0 to 1, with the spread over seeds and the majority's value.

    Args:
        title: of the chart.
        rule: which of the rows' scores.
        rows: the emotions.
        runs: the labels of all runs; those without any score of these emotions are left out.
    """
    groups = [Bars(row.emotion, row.scores[rule].scores, row.scores[rule].majority) for row in rows]
    majorities = len(groups[0].marks)
    heads = ["majority"] if majorities == 1 else [f"majority of {run}" for run in runs]
    return bar_chart(title, groups, runs, scored(rows, len(runs)), first="class", mark="majority class", marks=heads)


def negative_bars(table: HeadTable, runs: Sequence[str]) -> Chart:
    """Draw the share of utterances that each head says to be negative, with the labels' share."""
    groups = [
        Bars(row.head, tuple(None if of is None else of.negative for of in row.scores), (row.label,))
        for row in table.rows
    ]
    title = f"Share said to be negative: {table.task}"
    return bar_chart(title, groups, runs, _present(groups, runs), first="head", mark="labels", marks=["labels"])


def bias_bars(table: HeadTable, runs: Sequence[str]) -> Chart:
    """Draw the bias of each head, from 0 to either side."""
    groups = [Bars(row.head, tuple(None if of is None else of.bias for of in row.scores)) for row in table.rows]
    known = [of for group in groups for of in group.scores if of]
    spreads = [0.0 if math.isnan(of.std) else of.std for of in known]
    ends = [abs(of.mean) + spread for of, spread in zip(known, spreads, strict=True)]
    widest = max((end for end in ends if math.isfinite(end)), default=0.0) * 1.05 or 0.1
    title = f"Bias: {table.task}"
    return bar_chart(title, groups, runs, _present(groups, runs), first="head", span=(-widest, widest))


def _present(groups: Sequence[Bars], runs: Sequence[str]) -> list[int]:
    return [run for run in range(len(runs)) if any(group.scores[run] is not None for group in groups)]


def bar_chart(
    title: str,
    groups: Sequence[Bars],
    runs: Sequence[str],
    places: Sequence[int],
    *,
    first: str,
    span: tuple[float, float] = (0.0, 1.0),
    mark: str = "",
    marks: Sequence[str] = (),
) -> Chart:
    """Draw bars from 0, with the spread over seeds as a line.

    Args:
        title: of the chart.
        groups: from top to bottom.
        runs: the labels of all runs.
        places: those that are drawn.
        first: heading of the groups in the table.
        span: of the axis, with 0 in it; what lies beyond is cut.
        mark: what the marks stand for, in the legend; empty without any.
        marks: their headings in the table.
    """
    group_height = len(places) * BAR
    height = TOP + len(groups) * (group_height + GAP) + BOTTOM - 12
    low, high = span

    def x(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    bottom = height - BOTTOM + 8
    parts = []
    for tick in ticks(low, high):
        at = units(x(tick))
        kind = "axis" if tick == 0 and low < 0 else "grid"
        parts.append(element("line", x1=at, x2=at, y1=units(TOP - 4), y2=units(bottom), class_=kind))
        number = f"{tick:g}".replace("-", "−")
        parts.append(element("text", number, x=at, y=units(bottom + 14), class_="tick middle"))
    rows = []
    for place, group in enumerate(groups):
        top = TOP + place * (group_height + GAP)
        parts.append(
            element("text", group.name, x=units(LEFT - 6), y=units(top + group_height / 2), class_="tick left")
        )
        cells = []
        for number_of, run in enumerate(places):
            score, y = group.scores[run], top + number_of * BAR
            if score is None or math.isnan(score.mean):
                cells.append(NOTHING)
                continue
            spread = "" if math.isnan(score.std) else f" ± {text_number(score.std)}"
            cells.append(text_number(score.mean) + spread)
            left, right = sorted((x(0), x(score.mean)))
            style = f"bar c{run % COLOURS}"
            size = {"width": units(right - left), "height": units(BAR - 2)}
            parts.append(element("rect", x=units(left), y=units(y), **size, class_=style))
            if score.std > 0:
                middle = units(y + BAR / 2 - 1)
                ends = units(x(score.mean - score.std)), units(x(score.mean + score.std))
                parts.append(element("line", x1=ends[0], x2=ends[1], y1=middle, y2=middle, class_="whisker"))
        for value in group.marks:
            if value is not None and not math.isnan(value):
                at = units(x(value))
                y1, y2 = units(top - 2), units(top + group_height)
                parts.append(element("line", x1=at, x2=at, y1=y1, y2=y2, class_="majority"))
        rows.append((group.name, *cells, *(text_number(value) for value in group.marks)))
    legend = [Key(f"c{run % COLOURS}", "box", runs[run]) for run in places]
    if mark:
        legend.append(Key("majority", "line", mark))
    head = (first, *(runs[run] for run in places), *marks)
    return Chart(title, picture(title, WIDTH, height, parts), tuple(legend), Table(head, tuple(rows)))
