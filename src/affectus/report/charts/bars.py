"""Figures side by side, from 0 to 1."""

import math
from collections.abc import Sequence

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
from affectus.report.data import EmotionRow


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
    places = scored(rows, len(runs))
    bar, gap, left, right = 11.0, 9.0, 78.0, 14.0
    group = len(places) * bar
    height = TOP + len(rows) * (group + gap) + BOTTOM - 12

    def x(value: float) -> float:
        return left + min(max(value, 0.0), 1.0) * (WIDTH - left - right)

    bottom = height - BOTTOM + 8
    parts = []
    for tick in ticks(0, 1):
        at = units(x(tick))
        parts.append(element("line", x1=at, x2=at, y1=units(TOP - 4), y2=units(bottom), class_="grid"))
        parts.append(element("text", f"{tick:g}", x=at, y=units(bottom + 14), class_="tick middle"))
    table = []
    for place, row in enumerate(rows):
        top = TOP + place * (group + gap)
        parts.append(element("text", row.emotion, x=units(left - 6), y=units(top + group / 2), class_="tick left"))
        scores = row.scores[rule]
        cells = []
        for number, run in enumerate(places):
            score, y = scores.scores[run], top + number * bar
            if score is None or math.isnan(score.mean):
                cells.append(NOTHING)
                continue
            cells.append(f"{text_number(score.mean)} ± {text_number(score.std)}")
            width = units(x(score.mean) - left)
            style = f"bar c{run % COLOURS}"
            parts.append(element("rect", x=units(left), y=units(y), width=width, height=units(bar - 2), class_=style))
            if score.std > 0:
                middle = units(y + bar / 2 - 1)
                low, high = units(x(score.mean - score.std)), units(x(score.mean + score.std))
                parts.append(element("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker"))
        for value in scores.majority:
            if value is not None and not math.isnan(value):
                at = units(x(value))
                parts.append(element("line", x1=at, x2=at, y1=units(top - 2), y2=units(top + group), class_="majority"))
        table.append((row.emotion, *cells, *(text_number(value) for value in scores.majority)))
    legend = [Key(f"c{run % COLOURS}", "box", runs[run]) for run in places]
    legend.append(Key("majority", "line", "majority class"))
    majorities = len(rows[0].scores[rule].majority)
    last = ["majority"] if majorities == 1 else [f"majority of {run}" for run in runs]
    head = ("emotion", *(runs[run] for run in places), *last)
    return Chart(title, picture(title, WIDTH, height, parts), tuple(legend), Table(head, tuple(table)))
