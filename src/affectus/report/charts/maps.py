"""The fused representation as points."""

from affectus.report.charts.drawing import COLOURS, Chart, Key, Table, element, picture, text_number, units
from affectus.report.data import FusedMap

EDGE, MARGIN = 340.0, 8.0
FIXED = {"negative": 1, "neutral": 6, "positive": 0}
"""Colours that stay the same from map to map, whichever labels occur."""
SHAPES = ("round", "square")
"""Ends of a stroke of no length: what is drawn at a point."""


def map_chart(fused: FusedMap, run: str) -> Chart:
    """Draw a map, the utterances of each label in a colour, and tell how many of the nearest ones share the label.

    Args:
        fused: the map.
        run: its label.
    """
    points = [point for group in fused.groups for point in group.points]
    xs, ys = zip(*points, strict=True)
    left, top = min(xs), min(ys)
    scale = (EDGE - 2 * MARGIN) / (max(max(xs) - left, max(ys) - top) or 1.0)
    height = (max(ys) - top) * scale + 2 * MARGIN
    drawn, legend = [], []
    for number, group in enumerate(fused.groups):
        # a stroke of no length paints a point: far smaller than a circle for each
        path = "".join(
            f"M{units(MARGIN + (x - left) * scale)} {units(MARGIN + (y - top) * scale)}h0" for x, y in group.points
        )
        style = f"c{FIXED.get(group.label, number) % COLOURS} {SHAPES[number % 2]}"
        drawn.append((len(group.points), element("path", d=path, class_=f"points {style}")))
        legend.append(Key(style, "box" if number % 2 else "dot", f"{group.label} ({len(group.points)})"))
    # the rarest label is drawn last, so that it is not buried
    parts = [element("rect", x="0", y="0", width=units(EDGE), height=units(height), class_="plate")]
    parts += [path for _, path in sorted(drawn, key=lambda pair: -pair[0])]
    rows = tuple(
        (group.label, str(len(group.points)), text_number(group.neighbours), text_number(group.chance))
        for group in fused.groups
    )
    shown = len(points)
    every = f"{shown} utterances" if shown == fused.total else f"{shown} of {fused.total} utterances"
    return Chart(
        title=run,
        svg=picture(f"Map of the representation of {run}, coloured by {fused.coloured}", EDGE, height, parts),
        legend=tuple(legend),
        table=Table((fused.coloured, "points", f"same among {fused.nearest} nearest", "by chance"), rows),
        note=f"seed {fused.seed}, {every}, {fused.width} dimensions, coloured by {fused.coloured}",
    )
