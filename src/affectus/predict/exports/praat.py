"""Praat's TextGrid, the long text form."""

from collections.abc import Sequence

from affectus.predict.exports.tiers import Mark, tiers_of
from affectus.predict.results import Analysis


def textgrid_text(analysis: Analysis) -> str:
    """Return a TextGrid with one interval tier for each of :func:`tiers_of`.

    Intervals of a tier must follow one another without a gap, so empty ones stand between them.
    """
    tiers = tiers_of(analysis)
    end = max([analysis.duration or 0.0, *(mark.end for marks in tiers.values() for mark in marks)])
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end:.6f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, marks) in enumerate(tiers.items(), start=1):
        intervals = _filled(marks, end)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {end:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for place, mark in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {mark.start:.6f}",
                f"            xmax = {mark.end:.6f}",
                f"            text = {_quoted(mark.text)}",
            ]
    return "\n".join(lines) + "\n"


def _filled(marks: Sequence[Mark], end: float) -> list[Mark]:
    """Fill gaps with empty intervals, from 0 to the end; times are rounded as they are written."""
    found: list[Mark] = []
    at = 0.0
    for mark in marks:
        start, stop = max(round(mark.start, 6), at), round(mark.end, 6)
        if stop <= start:
            continue
        if start > at:
            found.append(Mark(at, start, ""))
        found.append(Mark(start, stop, mark.text))
        at = stop
    if at < round(end, 6) or not found:
        found.append(Mark(at, round(end, 6), ""))
    return found


def _quoted(text: str) -> str:
    """Return a text as Praat writes it: on one line, quotes doubled."""
    return '"' + " ".join(text.split()).replace('"', '""') + '"'
