"""An analysis as files for people and other programs: CSV, JSON, WebVTT, ELAN, Praat."""

from collections.abc import Callable
from pathlib import Path

from affectus.files import json_text
from affectus.predict.exports.elan import elan_text
from affectus.predict.exports.praat import textgrid_text
from affectus.predict.exports.subtitles import vtt_text
from affectus.predict.exports.table import csv_text
from affectus.predict.results import Analysis

CSV, JSON = "utterances.csv", "result.json"
TIMED: dict[str, Callable[[Analysis], str]] = {
    "subtitles.vtt": vtt_text,
    "annotation.eaf": elan_text,
    "annotation.TextGrid": textgrid_text,
}
"""What needs times, and is not written for text without them."""


def write_exports(analysis: Analysis, folder: Path) -> list[Path]:
    """Write an analysis into a folder that exists, as every kind of file that it has enough for.

    Returns:
        The files.
    """
    texts = {CSV: csv_text(analysis), JSON: json_text(analysis.to_json()) + "\n"}
    if any(one.start is not None and one.end is not None for one in analysis.utterances):
        texts |= {name: make(analysis) for name, make in TIMED.items()}
    written = []
    for name, text in texts.items():
        path = folder / name
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        written.append(path)
    return written


__all__ = ["CSV", "JSON", "TIMED", "csv_text", "elan_text", "textgrid_text", "vtt_text", "write_exports"]
