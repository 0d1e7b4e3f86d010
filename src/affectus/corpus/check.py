"""What a corpus holds and what is odd about it: counts, lengths, what is missing, NaN and inf, constants, overlaps."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus.card import ModalityCard
from affectus.corpus.corpus import Corpus, check_labels
from affectus.corpus.ragged import CHUNK_BYTES, Ragged
from affectus.corpus.storage import counts, load_corpus, verify_files
from affectus.errors import AffectusError
from affectus.labels import LabelKind

NAMED = 10
"""How many utterances a report names per finding; the number of all stands beside them."""


@dataclass
class ColumnFindings:
    """NaN and inf in one feature column."""

    column: int
    name: str | None
    nan: int
    inf: int
    utterances: int
    """How many utterances have one or more."""
    examples: list[str]
    """The first of them."""


@dataclass
class ModalityFindings:
    """What one modality's features hold.

    Attributes:
        dim: width of a feature vector.
        steps: how many vectors there are.
        lengths: minimum, median, mean and maximum of the steps of an utterance that has any.
        missing: utterances without this modality, all and per split; ``missing_rate`` is their share.
        nan: NaN values in all.
        inf: infinite values in all.
        columns: the columns that hold NaN or inf.
        all_zero_steps: vectors that are zero throughout.
        all_zero_utterances: utterances whose every vector is zero (perhaps a missing modality that the source wrote
            as zeros).
        constant_columns: the columns that hold one value only.
    """

    dim: int
    steps: int = 0
    lengths: dict[str, float] = field(default_factory=dict)
    missing: int = 0
    missing_rate: float = 0.0
    missing_per_split: dict[str, int] = field(default_factory=dict)
    nan: int = 0
    inf: int = 0
    columns: list[ColumnFindings] = field(default_factory=list)
    all_zero_steps: int = 0
    all_zero_utterances: int = 0
    constant_columns: list[int] = field(default_factory=list)


@dataclass
class LabelFindings:
    """What one label column holds: missing labels, and the range and mean of numbers or the count of each class."""

    scheme: str
    kind: str
    missing: int
    missing_rate: float
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    negative: int | None = None
    zero: int | None = None
    positive: int | None = None
    classes: dict[str, int] | None = None


@dataclass
class Report:
    """What ``affectus corpus check`` prints.

    Attributes:
        shared_videos, shared_speakers: per pair of splits the ids that stand in both.
        damaged: files whose SHA-256 is not the card's, or that are absent.
        warnings: what deserves a look, one sentence each; empty if all is well.
    """

    name: str
    utterances: int
    splits: dict[str, dict[str, int]]
    without_text: int
    modalities: dict[str, ModalityFindings]
    labels: dict[str, LabelFindings]
    shared_videos: dict[str, list[str]]
    shared_speakers: dict[str, list[str]]
    damaged: list[str]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain containers, for JSON."""
        return asdict(self)


def _chunks(ragged: Ragged) -> Iterator[tuple[int, npt.NDArray[np.floating]]]:
    count = max(CHUNK_BYTES // max(ragged.dim * ragged.values.dtype.itemsize, 1), 1)
    for begin in range(0, len(ragged.values), count):
        yield begin, np.asarray(ragged.values[begin : begin + count])


def check_features(ragged: Ragged, card: ModalityCard, table: pl.DataFrame) -> ModalityFindings:
    """Look at every value of one modality once."""
    found = ModalityFindings(dim=ragged.dim, steps=len(ragged.values))
    lengths = ragged.lengths
    present = lengths[lengths > 0]
    if len(present):
        found.lengths = {
            "min": int(present.min()),
            "median": float(np.median(present)),
            "mean": round(float(present.mean()), 2),
            "max": int(present.max()),
        }
    found.missing = int((lengths == 0).sum())
    found.missing_rate = found.missing / max(len(ragged), 1)
    gone = table.filter(pl.Series(lengths == 0)).group_by("split").len()
    found.missing_per_split = dict(sorted(gone.iter_rows()))
    nan, inf = np.zeros(ragged.dim, np.int64), np.zeros(ragged.dim, np.int64)
    constant = np.full(ragged.dim, len(ragged.values) > 0)
    zero_steps = np.zeros(len(ragged), np.int64)
    hits: dict[int, set[int]] = {}
    first = np.asarray(ragged.values[:1])
    for begin, values in _chunks(ragged):
        # the utterance that begins last at or before a step owns it; those without steps begin where the next one does
        rows = np.searchsorted(ragged.offsets, np.arange(begin, begin + len(values)), side="right") - 1
        zero = ~values.any(axis=1)
        found.all_zero_steps += int(zero.sum())
        np.add.at(zero_steps, rows[zero], 1)
        constant &= (values == first).all(axis=0)
        bad = ~np.isfinite(values)
        if bad.any():
            inf += np.isinf(values).sum(axis=0)
            nan += np.isnan(values).sum(axis=0)
            for column in np.flatnonzero(bad.any(axis=0)).tolist():
                hits.setdefault(column, set()).update(np.unique(rows[bad[:, column]]).tolist())
    found.nan, found.inf = int(nan.sum()), int(inf.sum())
    ids = table["id"]
    for column in sorted(hits):
        rows_hit = sorted(hits[column])
        name = card.feature_names[column] if card.feature_names else None
        examples = [ids[row] for row in rows_hit[:NAMED]]
        found.columns.append(ColumnFindings(column, name, int(nan[column]), int(inf[column]), len(rows_hit), examples))
    found.all_zero_utterances = int(((zero_steps == lengths) & (lengths > 0)).sum())
    # one vector alone makes every column constant, which says nothing
    found.constant_columns = np.flatnonzero(constant).tolist() if len(ragged.values) > 1 else []
    return found


def _sentences(name: str, found: ModalityFindings) -> list[str]:
    said = []
    if found.nan or found.inf:
        utterances = max(column.utterances for column in found.columns)
        columns = ", ".join(str(column.column) for column in found.columns[:NAMED])
        if len(found.columns) > NAMED:
            columns += ", ..."
        said.append(
            f"{name}: {found.nan} NaN and {found.inf} infinite values in {len(found.columns)} of {found.dim} columns "
            f"({columns}; up to {utterances} utterances per column); kept."
        )
    if found.all_zero_steps:
        said.append(
            f"{name}: {found.all_zero_steps} of {found.steps} vectors are all zero, in {found.all_zero_utterances} "
            "utterances throughout; kept."
        )
    if found.constant_columns:
        said.append(f"{name}: {len(found.constant_columns)} of {found.dim} columns are constant; kept.")
    return said


def feature_notes(corpus: Corpus) -> list[str]:
    """Return what is odd about the features and kept, one sentence each; importing writes it into the card."""
    return [
        sentence
        for name, ragged in corpus.features.items()
        for sentence in _sentences(name, check_features(ragged, corpus.card.modalities[name], corpus.table))
    ]


def _check_labels(corpus: Corpus) -> dict[str, LabelFindings]:
    found = {}
    for scheme in corpus.card.schemes:
        for column in scheme.columns:
            values = corpus.table[column]
            missing = values.null_count()
            entry = LabelFindings(scheme.name, str(scheme.kind), missing, missing / max(len(values), 1))
            if scheme.kind is LabelKind.ONE_OF_K:
                entry.classes = {name: int((values == name).sum()) for name in scheme.classes}
            elif missing < len(values):
                numbers = values.drop_nulls().to_numpy()
                entry.low, entry.high = float(numbers.min()), float(numbers.max())
                entry.mean = float(numbers.mean())
                entry.negative, entry.zero = int((numbers < 0).sum()), int((numbers == 0).sum())
                entry.positive = int((numbers > 0).sum())
            found[column] = entry
    return found


def _shared(table: pl.DataFrame, column: str) -> dict[str, list[str]]:
    splits = table["split"].unique().to_list()
    members = {split: set(table.filter(split=split)[column].drop_nulls().to_list()) for split in splits}
    order = [split for split in ("train", "valid", "test") if split in members]
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    return {f"{a} and {b}": sorted(members[a] & members[b]) for a, b in pairs if members[a] & members[b]}


def check_corpus(corpus: Corpus | str | Path) -> Report:
    """Look through a corpus.

    Args:
        corpus: in memory, or its folder; of a folder the SHA-256 of each file is verified too.

    Raises:
        AffectusError: the folder holds no corpus, or a part of it cannot be read.
    """
    damaged: list[str] = []
    if not isinstance(corpus, Corpus):
        folder = corpus
        corpus = load_corpus(folder)
        damaged = verify_files(folder)
    table = corpus.table
    modalities = {
        name: check_features(ragged, corpus.card.modalities[name], table) for name, ragged in corpus.features.items()
    }
    labels = _check_labels(corpus)
    shared_videos, shared_speakers = _shared(table, "video"), _shared(table, "speaker")
    without_text = int((table["text"].is_null() | (table["text"] == "")).sum())
    warnings = [f"{name} is damaged: its SHA-256 is not the card's." for name in damaged]
    if len(table) == 0:
        warnings.append("The corpus is empty.")
    for what, shared in (("videos", shared_videos), ("speakers", shared_speakers)):
        for pair, ids in shared.items():
            some = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
            warnings.append(f"{len(ids)} {what} stand in both {pair}: {some}.")
    for name, found in modalities.items():
        warnings.extend(_sentences(name, found))
        if found.missing:
            warnings.append(f"{name}: {found.missing} of {len(table)} utterances lack it ({found.missing_rate:.1%}).")
    for column, label in labels.items():
        if label.missing:
            warnings.append(f"{column}: {label.missing} of {len(table)} labels are missing ({label.missing_rate:.1%}).")
        absent = [repr(name) for name, count in (label.classes or {}).items() if count == 0]
        if absent:
            warnings.append(f"{column}: no utterance is {' or '.join(absent)}.")
    for scheme in corpus.card.schemes:
        try:
            check_labels(table, [scheme], where=corpus.name)
        except AffectusError as error:
            warnings.append(str(error))
    backwards = int((table["end"] < table["start"]).sum())
    if backwards:
        warnings.append(f"{backwards} utterances end before they start.")
    return Report(
        name=corpus.name,
        utterances=len(table),
        splits=counts(corpus),
        without_text=without_text,
        modalities=modalities,
        labels=labels,
        shared_videos=shared_videos,
        shared_speakers=shared_speakers,
        damaged=damaged,
        warnings=warnings,
    )
