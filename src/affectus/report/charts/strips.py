"""One utterance: what every head of every run says of it, on one scale."""

from markupsafe import Markup

from affectus.report.charts.drawing import COLOURS, element, picture, ticks, units
from affectus.report.data import Sample

WIDTH, LEFT, RIGHT, LANE, FOOT = 320.0, 60.0, 12.0, 15.0, 16.0


def sample_strip(sample: Sample, low: float, high: float, name: str) -> Markup:
    """Draw a lane per head with a dot per run, the modality's own label as an open square, the label as an upright.

    Args:
        sample: the utterance.
        low: left end of the scale; what lies beyond is drawn at the end.
        high: right end of the scale.
        name: for a screen reader.
    """
    height = len(sample.said) * LANE + FOOT
    bottom = height - FOOT

    def x(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = []
    for tick in ticks(low, high, 6):
        at = units(x(tick))
        parts.append(element("line", x1=at, x2=at, y1="0", y2=units(bottom), class_="grid"))
        number = f"{tick:g}".replace("-", "−")
        parts.append(element("text", number, x=at, y=units(height - 4), class_="tick middle small"))
    if sample.label is not None:
        at = units(x(sample.label))
        parts.append(element("line", x1=at, x2=at, y1="0", y2=units(bottom), class_="truth"))
    for lane, (head, said) in enumerate(sample.said.items()):
        y = units((lane + 0.5) * LANE)
        parts.append(element("text", head, x=units(LEFT - 14), y=y, class_="tick left"))
        own = sample.own.get(head)
        if own is not None:
            place = {"x": units(x(own) - 4.5), "y": units((lane + 0.5) * LANE - 4.5)}
            parts.append(element("rect", **place, width="9", height="9", class_="own"))
        for run, value in enumerate(said):
            if value is not None:
                # a little apart, so that runs that agree do not hide each other
                cy = units((lane + 0.5) * LANE + (run - (len(said) - 1) / 2) * min(4.0, 8.0 / len(said)))
                parts.append(element("circle", cx=units(x(value)), cy=cy, r="4", class_=f"dot c{run % COLOURS}"))
    return picture(name, WIDTH, height, parts)
