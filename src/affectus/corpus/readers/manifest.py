"""A plain CSV of utterances, beside feature files or clips: the way in for a data set of one's own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers import mosei
from affectus.corpus.readers.base import TEXT_FILE, ReadOptions, make_corpus, one_source, register_reader
from affectus.corpus.readers.recordings import cut_signals
from affectus.corpus.readers.signals import Signal, columns_of
from affectus.corpus.readers.tables import CsvTable, read_csv
from affectus.errors import AffectusError, suggest
from affectus.files import FORMULA
from affectus.labels import LabelKind, LabelScheme, emotion_class_scheme, sentiment_scheme
from affectus.vocabulary import (
    KNOWN_MODALITIES,
    SEVEN_EMOTIONS,
    SIX_EMOTIONS,
    canonical_emotion,
    canonical_modality,
)

PLAIN = ("id", "video", "split", "speaker", "text", "path")
TIMES = ("start", "end")
UNIMODAL = tuple(f"sentiment_{modality}" for modality in KNOWN_MODALITIES)
_FEATURES = re.compile(r"([a-z][a-z0-9_]*)_features\Z")
_RATING = re.compile(r"rating(_[a-z0-9_]+)?\Z")


@register_reader(
    "manifest",
    summary="a plain CSV of utterances, beside feature files or clips",
    sources="one CSV file",
    options={
        "signal": "`NAME=COLUMN[:rate=N][:channels=A+B][:time=COLUMN][:source_rate=N]`, repeatable: a modality from "
        "the files that a column names. Steps per second of the modality (default: as in the files), which channels "
        "(all), the time column of a CSV (time), samples per second of a CSV without one"
    },
    example="manifest utterances.csv --valid-fraction .2 --out mine",
    kind=TEXT_FILE,
)
def read_manifest(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read a CSV of which every column is optional but ``id`` or ``video``; an empty cell means missing.

    - ``id``: unique; default ``video[number]``. ``video``: the recording or dialogue; default the id.
    - ``split``: train, valid or test; empty means that the utterance is dropped. Without the column, all are train.
    - ``start``, ``end``: seconds from the start of the recording. ``speaker``. ``text``: the transcript.
    - ``path``: the clip, relative to the CSV.
    - ``sentiment``, ``sentiment_text``, ``sentiment_audio``, ``sentiment_vision``: in [-3, 3].
    - ``anger``, ``disgust``, ``fear``, ``happiness``, ``sadness``, ``surprise``: in [0, 3].
    - ``emotion_class``: one word. If every one of them is one of the six emotions or ``none``, the classes are these
      seven, whichever occur; else those that occur. ``rating``, ``rating_<name>``: numbers.
    - ``<modality>_features``: a ``.npy`` array (steps, width) or (width,), or a ``.csv`` of numbers with one row per
      step, perhaps a header, whose columns ``start`` and ``end`` (if any) are the steps' times; relative to the CSV.
      Headers of one modality must name the same columns, in any order.
    - ``<modality>_signal``, or any column that ``--signal`` names: a recording of numbers (ECG, EDA) as ``.csv`` with a
      header and a column ``time`` in seconds, or as ``.edf`` or ``.bdf``; time 0 is that of the recording from which
      ``start`` and ``end`` count, by which it is cut. Every channel is a feature, resampled to one rate.

    No path may leave the folder of the CSV.

    Raises:
        AffectusError: a column is unknown, a value is no number or out of range, or a file is absent or damaged.
    """
    table = read_csv(one_source(sources, TEXT_FILE))
    # what affectus writes has an apostrophe before text that spreadsheets would compute
    table = replace(table, frame=table.frame.with_columns(pl.all().str.replace(f"^'({FORMULA[1:]})", "${1}")))
    signals = columns_of(options.signals, table.frame.columns)
    names = {column: _known(column, table.path) for column in table.frame.columns if column not in signals}
    repeated = next((n for n in names.values() if list(names.values()).count(n) > 1), None)
    if repeated is not None:
        raise AffectusError(f"Two columns mean {repeated!r}", where=table.path)
    if "id" not in table and "video" not in table:
        raise AffectusError("There is neither a column 'id' nor 'video'", where=table.path)
    columns: dict[str, pl.Series] = {column: table.strings(column) for column in PLAIN if column in table}
    columns |= {column: table.numbers(column) for column in TIMES if column in table}
    columns |= _names(table)
    for source, name in names.items():
        if name.startswith("sentiment"):
            columns[name] = table.numbers(source, -3, 3)
        elif name in SIX_EMOTIONS:
            columns[name] = table.numbers(source, 0, 3)
        elif _RATING.match(name):
            columns[name] = table.numbers(source)
        elif name == "emotion_class":
            values = table.strings(source).to_list()
            columns[name] = pl.Series(
                [None if value is None else canonical_emotion(value) for value in values], dtype=pl.String()
            )
    notes = []
    if "path" in columns:
        absent = _check_clips(table)
        notes.append("Paths are relative to the folder of the source.")
        if absent:
            notes.append(f"{absent} of {len(table)} clips are not there.")
    features, cards = {}, {}
    for source in names:
        match = _FEATURES.match(source)
        if match:
            modality = canonical_modality(match[1])
            features[modality], cards[modality], said = _features(table, source, columns["id"])
            notes += said
    for column, signal in signals.items():
        if signal.modality in features:
            raise AffectusError(
                f"Two columns mean the modality {signal.modality!r}", where=table.path, got=repr(column)
            )
        features[signal.modality], cards[signal.modality], said = _signal(table, signal, columns)
        notes += said
    schemes, said = _schemes(columns)
    notes += said
    card = Card(name=table.path.stem, source=table.path.name, modalities=cards, schemes=schemes, notes=notes)
    return make_corpus(pl.DataFrame(columns), features, card, options)


def _known(column: str, path: Path) -> str:
    """Return what a column means, in affectus's words."""
    known = (*PLAIN, *TIMES, "sentiment", *UNIMODAL, "emotion_class")
    if column in known or _RATING.match(column) or _FEATURES.match(column):
        return column
    emotion = canonical_emotion(column)
    if emotion in SIX_EMOTIONS:
        return emotion
    raise AffectusError(
        f"Unknown column {column!r}",
        where=path,
        expected="one of: "
        + ", ".join((*known, *SIX_EMOTIONS, "rating_<name>", "<modality>_features", "<modality>_signal")),
        remedy=suggest(column, (*known, *SIX_EMOTIONS)) or "Rename or remove it",
    )


def _names(table: CsvTable) -> dict[str, pl.Series]:
    """Return id and video, the one made from the other where it is not there."""
    if "id" not in table:
        video = table.strings("video", filled=True)
        number = pl.int_range(pl.len()).over("video")
        numbers = video.to_frame("video").select(number.alias("number"))["number"].cast(pl.String())
        return {"id": video + "[" + numbers + "]", "video": video}
    ids = table.strings("id", filled=True)
    repeated = ids.is_duplicated()
    if repeated.any():
        index = int(repeated.arg_max() or 0)
        raise AffectusError("Two rows have the same id", where=table.where(index, "id"), got=repr(ids[index]))
    return {"id": ids, "video": table.strings("video", filled=True) if "video" in table else ids}


def _schemes(columns: dict[str, pl.Series]) -> tuple[list[LabelScheme], list[str]]:
    """Return what the label columns mean, and which of them mean nothing."""
    notes = []
    schemes = mosei.schemes(columns)
    schemes += [sentiment_scheme(modality=m) for m in KNOWN_MODALITIES if f"sentiment_{m}" in columns]
    if "emotion_class" in columns:
        found = set(columns["emotion_class"].drop_nulls())
        # a few rows seldom show all classes, and what is imported in parts is to have the same ones
        whole = bool(found) and found <= set(SEVEN_EMOTIONS)
        classes = [name for name in SEVEN_EMOTIONS if whole or name in found]
        classes += sorted(found - set(classes))
        if len(classes) >= 2:
            schemes.append(emotion_class_scheme(tuple(classes)))
        else:
            holds = f"holds no class but {classes[0]!r}" if classes else "is empty"
            notes.append(f"The column 'emotion_class' {holds}, so it is not used as a label.")
    ratings = tuple(column for column in columns if _RATING.match(column))
    if ratings:
        schemes.append(LabelScheme(name="ratings", kind=LabelKind.REAL, columns=ratings))
    return schemes, notes


def _inside(table: CsvTable, index: int, column: str, name: str) -> Path:
    """Return the file that a cell names, which must lie in the manifest's folder."""
    folder = table.path.parent.resolve()
    path = (folder / name).resolve()
    if Path(name).is_absolute() or not path.is_relative_to(folder):
        raise AffectusError(
            "The path leaves the manifest's folder",
            where=table.where(index, column),
            got=repr(name),
            expected="a path relative to the manifest, inside its folder",
        )
    return path


def _check_clips(table: CsvTable) -> int:
    """Check that no clip lies outside, and return how many are not there."""
    paths = table.strings("path").to_list()
    return sum(not _inside(table, i, "path", name).is_file() for i, name in enumerate(paths) if name is not None)


def _signal(
    table: CsvTable, signal: Signal, columns: Mapping[str, pl.Series]
) -> tuple[Ragged, ModalityCard, list[str]]:
    """Cut the signals that a column names."""
    named = table.strings(signal.column).to_list()
    nothing = [None] * len(named)
    sequences, times, rate, channels, notes = cut_signals(
        signal,
        [None if name is None else _inside(table, row, signal.column, name) for row, name in enumerate(named)],
        columns["start"].to_list() if "start" in columns else nothing,
        columns["end"].to_list() if "end" in columns else nothing,
        [table.where(row, signal.column) for row in range(len(named))],
    )
    ragged = Ragged.from_sequences(sequences, len(channels), times=times)
    return ragged, ModalityCard(dim=len(channels), feature_names=channels, rate=rate, encoder="signal"), notes


def _features(table: CsvTable, column: str, ids: pl.Series) -> tuple[Ragged, ModalityCard, list[str]]:
    """Read the files that a column names; columns that have names come in the order of the first file that has any."""
    sequences: list[npt.NDArray[Any] | None] = []
    times: list[npt.NDArray[Any] | None] = []
    width: int | None = None
    names: list[str] | None = None
    first, moved = "", 0
    for index, name in enumerate(table.strings(column).to_list()):
        if name is None:
            sequences.append(None)
            times.append(None)
            continue
        path = _inside(table, index, column, name)
        where = f"{table.where(index, column)}, {name}"
        if not path.is_file():
            raise AffectusError(
                "There is no feature file",
                where=f"{table.where(index, column)} (id {ids[index]!r})",
                got=repr(name),
                expected="the path of a .npy or .csv file, relative to the manifest",
                remedy="Mend the path, or leave the cell empty where the modality is missing",
            )
        values, steps, header = _read_features(path, where)
        width = values.shape[1] if width is None else width
        if values.shape[1] != width:
            raise AffectusError(
                "The feature file has another width than those before it",
                where=where,
                got=values.shape[1],
                expected=str(width),
            )
        if header is not None and names is None:
            first, names = name, header
        if header is not None and names is not None and header != names:
            values = values[:, _places(names, header, first, where)]
            moved += 1
        sequences.append(values)
        times.append(steps)
    if width is None:
        raise AffectusError(f"The column {column!r} names no file", where=table.path, remedy="Fill or remove it")
    timed = all(t is not None for t, s in zip(times, sequences, strict=True) if s is not None)
    ragged = Ragged.from_sequences(sequences, width, times=times if timed else None)
    notes = []
    if moved:
        files = sum(one is not None for one in sequences)
        notes.append(
            f"{column}: the columns of {moved} of {files} files stood in another order and were put in that of {first}."
        )
    return ragged, ModalityCard(dim=width, feature_names=names), notes


def _places(names: Sequence[str], header: Sequence[str], first: str, where: str) -> list[int]:
    """Return where each of the names stands in a header that has them in another order."""
    if set(header) != set(names) or len(set(header)) < len(header):
        lacking = [name for name in names if name not in header]
        others = [name for name in header if name not in names]
        raise AffectusError(
            "The feature file has other columns than those before it",
            where=where,
            got=_some(others or header),
            expected=f"{_some(lacking or names)}, as in {first}",
            remedy="Give all files of the column the same header; its order is free",
        )
    return [header.index(name) for name in names]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _read_features(path: Path, where: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, list[str] | None]:
    """Return (steps, width) values, (steps, 2) times or None, and the names of the columns or None."""
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = str(error).splitlines()[0]
            raise AffectusError("Not a whole .npy file", where=where, got=reason) from None
        if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
            shape = f"{getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}".strip()
            raise AffectusError(
                "The feature file has the wrong shape", where=where, got=shape, expected="numbers (steps, width)"
            )
        return array.reshape(-1, array.shape[-1]), None, None
    if path.suffix != ".csv":
        raise AffectusError("The feature file is of an unknown kind", where=where, expected=".npy or .csv")
    try:
        frame = pl.read_csv(path, has_header=False, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AffectusError("Not a whole CSV file", where=where, got=str(error).splitlines()[0]) from None
    header: list[str] | None = [str(cell or "").strip() for cell in frame.row(0)]
    if all(_is_number(cell) for cell in header or []):
        header = None
    else:
        frame = frame[1:]
    numbers = frame.select(pl.all().str.strip_chars().cast(pl.Float64(), strict=False))
    bad = np.argwhere(numbers.select(pl.all().is_null()).to_numpy())
    if len(bad):
        row, column = bad[0].tolist()
        raise AffectusError(
            "The cell is no number",
            where=f"{where}, row {row + (1 if header is None else 2)}",
            got=repr(frame.row(row)[column]),
        )
    values = numbers.to_numpy()
    if header is not None and "start" in header and "end" in header:
        at = [header.index("start"), header.index("end")]
        kept = [index for index in range(len(header)) if index not in at]
        return values[:, kept], values[:, at], [header[index] for index in kept]
    return values, None, header


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
