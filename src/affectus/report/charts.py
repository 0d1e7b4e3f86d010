"""Charts as small SVG pictures, each with a table that says the same.

They are drawn for a width of about 360 units, so that their letters stay legible on a telephone, and coloured by the
page's style sheet (classes ``c0`` to ``c7``), so that they follow its light or dark theme. Nothing is fetched or run.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from affectus.report.data import Calibration, EmotionRow, Heatmap, LearningCurves, ThresholdCurves

COLOURS = 8
WIDTH, HEIGHT = 360.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 10.0, 10.0, 34.0
NOTHING = "–"
LEVELS = 20
"""Shades of a heatmap."""


@dataclass(frozen=True)
class Table:
    """The words and numbers of a chart; the first cell of a row is its heading."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a class of the style sheet, the shape it is drawn in, and what it stands for."""

    style: str
    shape: str
    text: str


@dataclass(frozen=True)
class Chart:
    """A picture, its title, its legend and the table that says the same."""

    title: str
    svg: Markup
    legend: tuple[Key, ...]
    table: Table
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A line through points; NaN interrupts it."""

    x: Sequence[float]
    y: Sequence[float]
    style: str


@dataclass(frozen=True)
class Dot:
    """A mark at a point."""

    x: float
    y: float
    style: str


def element(tag: str, *children: Markup | str, **attributes: object) -> Markup:
    """Return an SVG element; every text and attribute is escaped, ``_`` in a name stands for ``-``.

    >>> element("text", "a < b", font_size=3, class_="x")
    Markup('<text font-size="3" class="x">a &lt; b</text>')
    """
    names = "".join(f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"' for name, value in attributes.items())
    inner = "".join(str(escape(child)) for child in children)
    return Markup(f"<{tag}{names}>{inner}</{tag}>") if children else Markup(f"<{tag}{names}/>")


def text_number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table, with a true minus sign; a dash for none."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:.{digits}f}".replace("-", "−")


def count(value: float | None) -> str:
    """Return a count, which is a mean over seeds: with a decimal only if it is not whole."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if abs(value - round(value)) < 1e-9 else f"{value:.1f}"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers in [low, high], about as many as wanted.

    >>> ticks(0, 1), ticks(0.13, 0.42)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.2, 0.3, 0.4])
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _picture(title: str, width: float, height: float, parts: Iterable[Markup]) -> Markup:
    return element("svg", *parts, viewBox=f"0 0 {_n(width)} {_n(height)}", role="img", aria_label=title, class_="chart")


class _Plane:
    """Axes over a range of x and y."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: float = HEIGHT) -> None:
        self.x_range, self.y_range, self.height = _widened(x), _widened(y), height

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - BOTTOM - TOP)

    def axes(self, x_label: str, x_ticks: Sequence[float], offset: float = 0) -> list[Markup]:
        bottom = self.height - BOTTOM
        parts = []
        for tick in ticks(*self.y_range):
            y = _n(self.y(tick))
            parts.append(element("line", x1=_n(LEFT), x2=_n(WIDTH - RIGHT), y1=y, y2=y, class_="grid"))
            parts.append(element("text", f"{tick:g}".replace("-", "−"), x=_n(LEFT - 6), y=y, class_="tick left"))
        for tick in x_ticks:
            x = _n(self.x(tick))
            parts.append(element("text", f"{tick + offset:g}", x=x, y=_n(bottom + 14), class_="tick middle"))
        parts.append(element("line", x1=_n(LEFT), x2=_n(WIDTH - RIGHT), y1=_n(bottom), y2=_n(bottom), class_="axis"))
        middle = _n((LEFT + WIDTH - RIGHT) / 2)
        parts.append(element("text", x_label, x=middle, y=_n(self.height - 4), class_="tick middle"))
        return parts

    def line(self, line: Line) -> Markup:
        path, pen = [], "M"
        for x, y in zip(line.x, line.y, strict=True):
            if math.isnan(y):
                pen = "M"
                continue
            path.append(f"{pen}{_n(self.x(x))} {_n(self.y(y))}")
            pen = "L"
        return element("path", d="".join(path), class_=f"line {line.style}")

    def dot(self, dot: Dot) -> Markup:
        return element("circle", cx=_n(self.x(dot.x)), cy=_n(self.y(dot.y)), r="4", class_=f"dot {dot.style}")

    def upright(self, x: float, style: str) -> Markup:
        at = _n(self.x(x))
        return element("line", x1=at, x2=at, y1=_n(TOP), y2=_n(self.height - BOTTOM), class_=f"line {style}")


def _widened(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _span(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    return low - margin * (high - low), high + margin * (high - low)


def learning_charts(curves: LearningCurves) -> list[Chart]:
    """Draw the losses, and the metric beside them, over the epochs of a stage."""
    losses = [("train", "c0", [seed.train for seed in curves.seeds]), ("valid", "c1", [s.valid for s in curves.seeds])]
    charts = [_epochs(f"Loss, stage {curves.stage}", curves, [of for of in losses if _any(of[2])])]
    if curves.metric is not None:
        metric = [("valid", "c1", [seed.metric for seed in curves.seeds])]
        charts.append(_epochs(f"{curves.metric} on valid, stage {curves.stage}", curves, metric))
    return charts


def _any(series: Sequence[Sequence[float]]) -> bool:
    return any(math.isfinite(value) for values in series for value in values)


def _epochs(title: str, curves: LearningCurves, groups: list[tuple[str, str, list[tuple[float, ...]]]]) -> Chart:
    longest = max(len(seed.train) for seed in curves.seeds)
    plane = _Plane((0, longest - 1), _span(v for _, _, series in groups for values in series for v in values))
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
        for seed, values in zip(curves.seeds, series, strict=True):
            if name == "valid" and seed.best is not None and math.isfinite(values[seed.best]):
                parts.append(plane.dot(Dot(seed.best, values[seed.best], f"{style} best")))
                seen_best = True
    head = ["epoch", *(f"{name}, seed {seed.seed}" for name, _, _ in groups for seed in curves.seeds)]
    rows = []
    for epoch in range(longest):
        cells = []
        for name, _, series in groups:
            for seed, values in zip(curves.seeds, series, strict=True):
                star = " (best)" if name == "valid" and seed.best == epoch else ""
                cells.append(text_number(values[epoch]) + star if epoch < len(values) else NOTHING)
        rows.append((str(epoch + 1), *cells))
    legend = [Key(style, "line", name) for name, style, _ in groups]
    if seen_best:
        legend.append(Key("c1 best", "dot", "chosen epoch"))
    svg = _picture(title, WIDTH, plane.height, parts)
    return Chart(title, svg, tuple(legend), Table(tuple(head), tuple(rows)))


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
        at = _n(x(tick))
        parts.append(element("line", x1=at, x2=at, y1=_n(TOP - 4), y2=_n(bottom), class_="grid"))
        parts.append(element("text", f"{tick:g}", x=at, y=_n(bottom + 14), class_="tick middle"))
    table = []
    for place, row in enumerate(rows):
        top = TOP + place * (group + gap)
        parts.append(element("text", row.emotion, x=_n(left - 6), y=_n(top + group / 2), class_="tick left"))
        scores = row.scores[rule]
        cells = []
        for number, run in enumerate(places):
            score, y = scores.scores[run], top + number * bar
            if score is None or math.isnan(score.mean):
                cells.append(NOTHING)
                continue
            cells.append(f"{text_number(score.mean)} ± {text_number(score.std)}")
            width = _n(x(score.mean) - left)
            style = f"bar c{run % COLOURS}"
            parts.append(element("rect", x=_n(left), y=_n(y), width=width, height=_n(bar - 2), class_=style))
            if score.std > 0:
                middle = _n(y + bar / 2 - 1)
                low, high = _n(x(score.mean - score.std)), _n(x(score.mean + score.std))
                parts.append(element("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker"))
        for value in scores.majority:
            if value is not None and not math.isnan(value):
                at = _n(x(value))
                parts.append(element("line", x1=at, x2=at, y1=_n(top - 2), y2=_n(top + group), class_="majority"))
        table.append((row.emotion, *cells, *(text_number(value) for value in scores.majority)))
    legend = [Key(f"c{run % COLOURS}", "box", runs[run]) for run in places]
    legend.append(Key("majority", "line", "majority class"))
    majorities = len(rows[0].scores[rule].majority)
    last = ["majority"] if majorities == 1 else [f"majority of {run}" for run in runs]
    head = ("emotion", *(runs[run] for run in places), *last)
    return Chart(title, _picture(title, WIDTH, height, parts), tuple(legend), Table(head, tuple(table)))


def calibration_chart(calibration: Calibration) -> Chart:
    """Draw how often what was predicted came true, over its probability; on the diagonal the two agree."""
    plane = _Plane((0, 1), (0, 1), 200)
    parts = plane.axes("probability", ticks(0, 1))
    total = sum(b.n for b in calibration.bins) or 1
    floor = plane.y(0)
    for b in calibration.bins:
        if b.n:
            left, right = plane.x(b.low), plane.x(b.high)
            # the bar tells how many utterances speak; it is scaled so that half of them fill the height
            height = min(b.n / total * 2, 1) * (floor - TOP)
            parts.append(
                element(
                    "rect",
                    x=_n(left + 1),
                    y=_n(floor - height),
                    width=_n(right - left - 2),
                    height=_n(height),
                    class_="share",
                )
            )
    parts.append(plane.line(Line((0, 1), (0, 1), "diagonal")))
    known = [b for b in calibration.bins if b.n]
    parts.append(plane.line(Line([b.probability for b in known], [b.frequency for b in known], "c0")))
    parts += [plane.dot(Dot(b.probability, b.frequency, "c0")) for b in known]
    title = f"Calibration of {calibration.title}"
    rows = tuple(
        (f"{b.low:g} to {b.high:g}", str(b.n), text_number(b.probability), text_number(b.frequency))
        for b in calibration.bins
    )
    return Chart(
        title=calibration.title,
        svg=_picture(title, WIDTH, plane.height, parts),
        legend=(),
        table=Table(("probability", "predictions", "mean probability", "came true"), rows),
        note=f"ECE {text_number(calibration.ece)}",
    )


def threshold_chart(curves: ThresholdCurves) -> Chart:
    """Draw weighted F1 and weighted accuracy over the thresholds, with the chosen ones upright."""
    splits = list(curves.weighted_f1)
    series = [
        (f"{name}, {split}", style + ("" if split == splits[-1] else " dashed"), of[split])
        for name, style, of in (("F1", "c0", curves.weighted_f1), ("W-Acc", "c1", curves.weighted_accuracy))
        for split in splits
    ]
    plane = _Plane(_span(curves.grid, 0), _span(v for _, _, values in series for v in values))
    parts = plane.axes("threshold", ticks(min(curves.grid), max(curves.grid), 4))
    chosen = ((curves.chosen_f1, "c0 upright"), (curves.chosen_accuracy, "c1 upright"))
    for cuts, style in chosen:
        parts += [plane.upright(cut, style) for cut in sorted(set(cuts)) if plane.x_range[0] <= cut <= plane.x_range[1]]
    parts += [plane.line(Line(curves.grid, values, style)) for _, style, values in series]
    rows = tuple(
        (f"{cut:.2f}", *(text_number(values[i]) for _, _, values in series)) for i, cut in enumerate(curves.grid)
    )
    shown = [", ".join(f"{cut:g}" for cut in sorted(set(cuts))) for cuts, _ in chosen]
    return Chart(
        title=curves.emotion,
        svg=_picture(f"Scores of {curves.emotion} over the threshold", WIDTH, plane.height, parts),
        legend=tuple(Key(style, "line", name) for name, style, _ in series),
        table=Table(("threshold", *(name for name, _, _ in series)), rows),
        note=f"chosen for F1: {shown[0]}; for W-Acc: {shown[1]}",
    )


def heatmap_chart(heatmap: Heatmap, name: str, highest: float) -> Chart:
    """Draw attention weights: a row per utterance that attends, a column per utterance that is attended to.

    Args:
        heatmap: the weights.
        name: ``N1`` or ``N2``, as the papers call them.
        highest: the weight drawn in the fullest shade.
    """
    count = len(heatmap.weights)
    edge, margin = 200.0, 18.0
    cell = edge / count
    shades: dict[int, list[str]] = {}
    for i, line in enumerate(heatmap.weights):
        for j, weight in enumerate(line):
            level = round(min(weight / highest, 1.0) * LEVELS) if highest > 0 else 0
            if level:
                shades.setdefault(level, []).append(f"M{margin + j * cell:.1f} {margin + i * cell:.1f}h{cell:.2f}")
    # one stroke as thick as a cell is high paints a row of the shade's cells: far smaller than a rectangle for each
    parts = [element("rect", x=_n(margin), y=_n(margin), width=_n(edge), height=_n(edge), class_="plate")]
    parts += [
        element(
            "path",
            d="".join(strokes),
            class_="heat",
            stroke_opacity=f"{level / LEVELS:.2f}",
            stroke_width=f"{cell:.2f}",
            transform=f"translate(0 {cell / 2:.2f})",
        )
        for level, strokes in sorted(shades.items())
    ]
    step = 1 if count <= 12 else 2
    for i in range(0, count, step):
        at = _n(margin + (i + 0.5) * cell)
        parts.append(element("text", str(i + 1), x=at, y=_n(margin - 5), class_="tick middle small"))
        parts.append(element("text", str(i + 1), x=_n(margin - 4), y=at, class_="tick left small"))
    title = f"{name}: {heatmap.query} over {heatmap.key}"
    rows = tuple((str(i + 1), *(text_number(weight, 2) for weight in line)) for i, line in enumerate(heatmap.weights))
    return Chart(
        title=title,
        svg=_picture(f"Attention, {title}", margin + edge + 2, margin + edge + 2, parts),
        legend=(),
        table=Table(("utterance", *(str(j + 1) for j in range(count))), rows),
    )
