"""What the charts are drawn with: elements, axes, numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLOURS = 8
WIDTH, HEIGHT = 360.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 10.0, 10.0, 34.0
NOTHING = "–"


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
    # what is rounded to 0 has no sign
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


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


def units(value: float) -> str:
    """Return a length or a place in a picture: a tenth of a unit is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0")


def picture(title: str, width: float, height: float, parts: Iterable[Markup]) -> Markup:
    """Return a picture that a screen reader calls by its title."""
    return element(
        "svg", *parts, viewBox=f"0 0 {units(width)} {units(height)}", role="img", aria_label=title, class_="chart"
    )


class Plane:
    """Axes over a range of x and y."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: float = HEIGHT) -> None:
        self.x_range, self.y_range, self.height = _widened(x), _widened(y), height

    def x(self, value: float) -> float:
        """Return where a value of x lies."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return where a value of y lies."""
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - BOTTOM - TOP)

    def axes(self, x_label: str, x_ticks: Sequence[float], offset: float = 0) -> list[Markup]:
        """Return both axes; the numbers of x are shown with ``offset`` added."""
        bottom = self.height - BOTTOM
        parts = []
        for tick in ticks(*self.y_range):
            y = units(self.y(tick))
            parts.append(element("line", x1=units(LEFT), x2=units(WIDTH - RIGHT), y1=y, y2=y, class_="grid"))
            parts.append(element("text", f"{tick:g}".replace("-", "−"), x=units(LEFT - 6), y=y, class_="tick left"))
        for tick in x_ticks:
            x = units(self.x(tick))
            parts.append(element("text", f"{tick + offset:g}", x=x, y=units(bottom + 14), class_="tick middle"))
        parts.append(
            element("line", x1=units(LEFT), x2=units(WIDTH - RIGHT), y1=units(bottom), y2=units(bottom), class_="axis")
        )
        middle = units((LEFT + WIDTH - RIGHT) / 2)
        parts.append(element("text", x_label, x=middle, y=units(self.height - 4), class_="tick middle"))
        return parts

    def line(self, line: Line) -> Markup:
        """Return a line."""
        path, pen = [], "M"
        for x, y in zip(line.x, line.y, strict=True):
            if math.isnan(y):
                pen = "M"
                continue
            path.append(f"{pen}{units(self.x(x))} {units(self.y(y))}")
            pen = "L"
        return element("path", d="".join(path), class_=f"line {line.style}")

    def dot(self, dot: Dot) -> Markup:
        """Return a mark."""
        return element("circle", cx=units(self.x(dot.x)), cy=units(self.y(dot.y)), r="4", class_=f"dot {dot.style}")

    def upright(self, x: float, style: str) -> Markup:
        """Return a line from bottom to top."""
        at = units(self.x(x))
        return element("line", x1=at, x2=at, y1=units(TOP), y2=units(self.height - BOTTOM), class_=f"line {style}")


def _widened(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def span(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """Return the range of the finite values, a little widened; 0 to 1 without any."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    return low - margin * (high - low), high + margin * (high - low)
