"""An analysis as a table, one row per utterance."""

import csv
import io
from typing import Any

from affectus.files import no_formula
from affectus.predict.results import Analysis, Opinion


def csv_text(analysis: Analysis) -> str:
    """Return CSV: id, times, speaker, text, then the opinion of all modalities, then each one's own.

    Numbers are rounded to a thousandth; ``result.json`` has them whole. An apostrophe stands before text that a
    spreadsheet would take for a formula (``- Yes.``, ``=1+1``).
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    modalities = analysis.modalities
    rows = []
    for one in analysis.utterances:
        row: dict[str, Any] = {
            "id": one.id,
            "recording": one.recording,
            "start": one.start,
            "end": one.end,
            "speaker": one.speaker,
            "text": one.text,
            **_columns("", one.opinion),
            **{f"present.{name}": value for name, value in one.present.items()},
        }
        for name in modalities:
            row |= _columns(f"{name}.", one.alone.get(name, Opinion()))
        rows.append(row | {"spread": one.spread, "disagree": int(one.disagree)})
    heads = list(dict.fromkeys(name for row in rows for name in row)) or ["id"]
    writer.writerow(heads)
    writer.writerows([_cell(row.get(name)) for name in heads] for row in rows)
    return stream.getvalue()


def _columns(prefix: str, said: Opinion) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{prefix}intensity": said.intensity,
        f"{prefix}polarity": said.polarity,
        f"{prefix}emotion": said.emotion,
    }
    if not prefix:
        found |= {f"polarity.{name}": value for name, value in said.polarities.items()}
    return found | {f"{prefix}emotion.{name}": value for name, value in said.emotions.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else no_formula(value)
