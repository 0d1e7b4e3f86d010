"""Calibration, and what each threshold scores."""

from affectus.report.charts.drawing import (
    TOP,
    WIDTH,
    Chart,
    Dot,
    Key,
    Line,
    Plane,
    Table,
    element,
    picture,
    span,
    text_number,
    ticks,
    units,
)
from affectus.report.data import Calibration, ThresholdCurves


def calibration_chart(calibration: Calibration) -> Chart:
    """Draw how often what was predicted came true, over its probability; on the diagonal the two agree."""
    plane = Plane((0, 1), (0, 1), 200)
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
                    x=units(left + 1),
                    y=units(floor - height),
                    width=units(right - left - 2),
                    height=units(height),
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
        svg=picture(title, WIDTH, plane.height, parts),
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
    plane = Plane(span(curves.grid, 0), span(v for _, _, values in series for v in values))
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
        svg=picture(f"Scores of {curves.emotion} over the threshold", WIDTH, plane.height, parts),
        legend=tuple(Key(style, "line", name) for name, style, _ in series),
        table=Table(("threshold", *(name for name, _, _ in series)), rows),
        note=f"chosen for F1: {shown[0]}; for W-Acc: {shown[1]}",
    )
