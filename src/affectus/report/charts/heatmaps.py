"""Attention between the utterances of a video."""

from affectus.report.charts.drawing import Chart, Table, element, picture, text_number, units
from affectus.report.data import Heatmap

LEVELS = 20
"""Shades of a heatmap."""


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
    parts = [element("rect", x=units(margin), y=units(margin), width=units(edge), height=units(edge), class_="plate")]
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
        at = units(margin + (i + 0.5) * cell)
        parts.append(element("text", str(i + 1), x=at, y=units(margin - 5), class_="tick middle small"))
        parts.append(element("text", str(i + 1), x=units(margin - 4), y=at, class_="tick left small"))
    title = f"{name}: {heatmap.query} over {heatmap.key}"
    rows = tuple((str(i + 1), *(text_number(weight, 2) for weight in line)) for i, line in enumerate(heatmap.weights))
    return Chart(
        title=title,
        svg=picture(f"Attention, {title}", margin + edge + 2, margin + edge + 2, parts),
        legend=(),
        table=Table(("utterance", *(str(j + 1) for j in range(count))), rows),
    )
