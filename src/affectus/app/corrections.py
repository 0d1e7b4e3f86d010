"""What people corrected, as a manifest to train on."""

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affectus.app.store import RESULT, Correction, Job
from affectus.errors import AffectusError
from affectus.files import no_formula

MANIFEST = "manifest.csv"
_PLAIN = ("id", "video", "start", "end", "speaker", "text", "sentiment", "emotion_class")


def manifest_text(corrections: Sequence[Correction], utterances: Sequence[dict[str, Any]], file: str | None) -> str:
    """Return a manifest of the corrected utterances, for ``affectus extract``.

    Args:
        corrections: by people.
        utterances: of the analysis.
        file: name of the media, which is to lie beside the manifest; None without media.
    """
    more = {} if file is None else {"path": file}
    return _csv([row | more for row in _rows(corrections, utterances)])


def _rows(corrections: Sequence[Correction], utterances: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    said = {one.utterance: one for one in corrections}
    return [
        {
            "id": one["id"],
            "video": one["recording"],
            "start": one["start"],
            "end": one["end"],
            "speaker": one["speaker"],
            "text": one["text"],
            "sentiment": said[one["id"]].sentiment,
            "emotion_class": said[one["id"]].emotion,
        }
        for one in utterances
        if one["id"] in said
    ]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV, without the columns in which nothing stands."""
    heads = [
        name for name in dict.fromkeys(n for row in rows for n in row) if any(row.get(name) is not None for row in rows)
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads or _PLAIN)
    writer.writerows(["" if row.get(name) is None else no_formula(row[name]) for name in heads] for row in rows)
    return stream.getvalue()


def write_archive(
    out: Path, job: Job, folder: Path, corrections: Sequence[Correction], utterances: Sequence[dict[str, Any]]
) -> None:
    """Write a ZIP with the manifest, the features of the corrected utterances, and the media if there is any.

    Unpacked, ``affectus import manifest manifest.csv`` makes a corpus of the features, and ``affectus extract
    manifest.csv`` one of the media.

    Args:
        out: the file to write.
        job: the analysis.
        folder: of the analysis.
        corrections: by people.
        utterances: of the analysis.

    Raises:
        AffectusError: its features are damaged.
    """
    from affectus.corpus import load_corpus

    corpus = load_corpus(folder / RESULT / "features")
    places = {name: row for row, name in enumerate(corpus.table["id"].to_list())}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        media = None
        if job.file is not None and (job.mime or "").startswith(("video/", "audio/")):
            media = f"media/{job.file}"
            archive.write(folder / job.file, media, zipfile.ZIP_STORED)
        rows = []
        for number, row in enumerate(_rows(corrections, utterances)):
            more: dict[str, Any] = {} if media is None else {"path": media}
            if row["id"] not in places:
                raise AffectusError("The features of an utterance are gone", got=repr(row["id"]))
            for name, ragged in corpus.features.items():
                values = np.asarray(ragged[places[row["id"]]])
                more[f"{name}_features"] = None
                if len(values):
                    file = f"features/{name}/{number}.npy"
                    stream = io.BytesIO()
                    np.save(stream, values, allow_pickle=False)
                    archive.writestr(file, stream.getvalue())
                    more[f"{name}_features"] = file
            rows.append(row | more)
        archive.writestr(MANIFEST, _csv(rows))
