"""Losses and metrics over the epochs of training."""

import math
from collections.abc import Sequence

from affectus.report.charts.drawing import (
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
from affectus.report.data import LearningCurves, SeedCurve


def learning_charts(curves: LearningCurves) -> list[Chart]:
    """Draw the losses, and the metric beside them, over the epochs of a stage."""
    charts = [_losses(f"Loss, stage {curves.stage}", curves.seeds)]
    if curves.metric is not None:
        metric = [("valid", "c1", [seed.metric for seed in curves.seeds])]
        charts.append(_epochs(f"{curves.metric} on valid, stage {curves.stage}", curves.seeds, metric))
    return charts


def loss_charts(curves: LearningCurves) -> list[Chart]:
    """Draw each loss of which the whole is made over the epochs of a stage; none if there is but one."""
    return [_losses(f"Loss of {name}, stage {curves.stage}", seeds) for name, seeds in curves.losses.items()]


def _losses(title: str, seeds: Sequence[SeedCurve]) -> Chart:
    losses = [("train", "c0", [seed.train for seed in seeds]), ("valid", "c1", [seed.valid for seed in seeds])]
    return _epochs(title, seeds, [of for of in losses if _any(of[2])])


def _any(series: Sequence[Sequence[float]]) -> bool:
    return any(math.isfinite(value) for values in series for value in values)


def _epochs(title: str, seeds: Sequence[SeedCurve], groups: list[tuple[str, str, list[tuple[float, ...]]]]) -> Chart:
    longest = max(len(seed.train) for seed in seeds)
    plane = Plane((0, longest - 1), span(v for _, _, series in groups for values in series for v in values))
    whole = [tick for tick in ticks(0, longest - 1, 6) if tick == int(tick)]
    parts = plane.axes("epoch", whole, offset=1)
    seen_best = False
    for _, style, series in groups:
        # seeds share a colour and differ in strength, the first one the strongest
        for place, values in enumerate(series):
            strength = f"{style} seed{min(place, 4)}"
            parts.append(plane.line(Line(range(len(values)), values, strength)))
            if len(values) == 1 and math.isfinite(values[0]):
                parts.append(plane.dot(Dot(0, values[0], style)))
    for name, style, series in groups:
        for seed, values in zip(seeds, series, strict=True):
            if name == "valid" and seed.best is not None and math.isfinite(values[seed.best]):
                parts.append(plane.dot(Dot(seed.best, values[seed.best], f"{style} best")))
                seen_best = True
    head = ["epoch", *(f"{name}, seed {seed.seed}" for name, _, _ in groups for seed in seeds)]
    rows = []
    for epoch in range(longest):
        cells = []
        for name, _, series in groups:
            for seed, values in zip(seeds, series, strict=True):
                star = " (best)" if name == "valid" and seed.best == epoch else ""
                cells.append(text_number(values[epoch]) + star if epoch < len(values) else NOTHING)
        rows.append((str(epoch + 1), *cells))
    legend = [Key(style, "line", name) for name, style, _ in groups]
    if seen_best:
        legend.append(Key("c1 best", "dot", "chosen epoch"))
    svg = picture(title, WIDTH, plane.height, parts)
    return Chart(title, svg, tuple(legend), Table(tuple(head), tuple(rows)))
