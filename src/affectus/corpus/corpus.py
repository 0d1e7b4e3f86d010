"""The one form of a data set: a table of utterances, a ragged tensor per modality, and a card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.ragged import Ragged
from affectus.errors import AffectusError, suggest, unknown_name
from affectus.labels import LabelKind, LabelScheme
from affectus.vocabulary import Split, order_modalities

BASE_COLUMNS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "video": pl.String(),
    "split": pl.String(),
    "start": pl.Float64(),
    "end": pl.Float64(),
    "speaker": pl.String(),
    "text": pl.String(),
}
"""Columns that every utterance table has; all but id, video and split may be null."""

WORD_COLUMNS: dict[str, pl.DataType] = {
    "words": pl.List(pl.String()),
    "word_starts": pl.List(pl.Float64()),
    "word_ends": pl.List(pl.Float64()),
}
"""Columns of a table whose source gives words (and their times)."""

TOKEN_COLUMN = "token_ids"
"""Column of a table whose source gives each utterance as a tokenizer's ids, marks at the ends included."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A set of recordings (videos, dialogues), each an ordered list of utterances.

    Attributes:
        table: one row per utterance: ``BASE_COLUMNS``, perhaps ``WORD_COLUMNS``, and the label columns that the card's
            schemes name (null where a label is missing). The utterances of a video within a split stand together, in
            their order.
        features: per modality the sequences of all rows.
        card: name, source, licence, label schemes, what is known of each modality.
        sha256: hash of the card in the folder that it was opened from; None for a corpus made in memory.

    Raises:
        AffectusError: the parts do not fit together.
    """

    table: pl.DataFrame
    features: Mapping[str, Ragged]
    card: Card
    sha256: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_table(self.table, self.card)
        ordered = {name: self.features[name] for name in order_modalities(self.features)}
        object.__setattr__(self, "features", ordered)
        for name, ragged in ordered.items():
            _check_sequences(name, ragged, len(self.table), self.card)
            known = self.card.modalities.setdefault(name, ModalityCard(dim=ragged.dim))
            if known.dim != ragged.dim:
                raise AffectusError(
                    f"Modality {name!r} has another width than its card says",
                    where=self.card.name,
                    got=ragged.dim,
                    expected=str(known.dim),
                )

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        counts = dict(self.table["split"].value_counts().iter_rows())
        splits = ", ".join(f"{split} {counts[split]}" for split in Split if split in counts)
        features = ", ".join(f"{name} {dim}" for name, dim in self.dims.items())
        return "\n".join(
            [
                f"<Corpus {self.name!r}: {len(self)} utterances of {self.table['video'].n_unique()} videos"
                + (f" ({splits})" if splits else ""),
                f" features: {features or 'none'}",
                f" labels: {', '.join(self.schemes) or 'none'}>",
            ]
        )

    @property
    def name(self) -> str:
        """The corpus's name, from its card."""
        return self.card.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, text, audio, vision first."""
        return tuple(self.features)

    @property
    def dims(self) -> dict[str, int]:
        """Width of each modality's feature vectors."""
        return {name: ragged.dim for name, ragged in self.features.items()}

    @cached_property
    def schemes(self) -> dict[str, LabelScheme]:
        """The label schemes by name."""
        return {scheme.name: scheme for scheme in self.card.schemes}

    @cached_property
    def splits(self) -> npt.NDArray[np.str_]:
        """(N,) split of each row."""
        return self.table["split"].to_numpy().astype(str)

    def rows(self, split: str | None = None) -> npt.NDArray[np.int64]:
        """Return the row numbers of a split (of all rows if None).

        Raises:
            AffectusError: the corpus has no utterance in that split.
        """
        if split is None:
            return np.arange(len(self))
        found = np.flatnonzero(self.splits == split)
        if len(found) == 0:
            present = sorted(set(self.splits.tolist()))
            raise AffectusError(
                f"The corpus {self.name!r} has no utterance in the split {str(split)!r}",
                expected="one of: " + ", ".join(present) if present else "an utterance at all; the corpus is empty",
                remedy=suggest(split, present) or "Import it with --rename-splits, --splits or --valid-fraction",
            )
        return found

    def recordings(self, split: str | None = None) -> list[npt.NDArray[np.int64]]:
        """Return the rows of each recording (the utterances of one video within one split), in table order."""
        ends = np.cumsum(self.recording_lengths(split))
        return np.split(self.rows(split), ends[:-1]) if len(ends) else []

    def recording_lengths(self, split: str | None = None) -> npt.NDArray[np.int64]:
        """Return how many utterances each recording has; a recording's rows follow each other in those of the split."""
        rows = self.rows(split)
        starts = np.flatnonzero(self._recording_starts[rows])
        return np.diff(starts, append=len(rows))

    @cached_property
    def _recording_starts(self) -> npt.NDArray[np.bool_]:
        changes = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in ("video", "split"))
        starts = self.table.select(changes.alias("starts"))["starts"].to_numpy().copy()
        starts[:1] = True
        return starts

    @cached_property
    def _usable(self) -> set[str]:
        """The label schemes that were found to be usable; a table stays as it is, so each is looked at once."""
        return set()

    def label(self, scheme: str) -> npt.NDArray[np.float32]:
        """Return the labels of a scheme: (N, size) float32, NaN where missing; a class is its index.

        Raises:
            AffectusError: the corpus has no such scheme, or a label is infinite or not one of the classes.
        """
        if scheme not in self.schemes:
            raise unknown_name("label scheme", scheme, self.schemes, where=f"the corpus {self.name!r}")
        found = self.schemes[scheme]
        if scheme not in self._usable:
            # what can be used is looked at here; whether it is within its range, when it is imported and by `corpus
            # check`
            usable = found
            if found.kind is not LabelKind.ONE_OF_K:
                usable = LabelScheme(name=found.name, kind=LabelKind.REAL, columns=found.columns)
            check_labels(self.table, [usable], where=self.name)
            self._usable.add(scheme)
        if found.kind is LabelKind.ONE_OF_K:
            index = {name: float(i) for i, name in enumerate(found.classes)}
            column = self.table[found.columns[0]].to_list()
            values = [[np.nan if name is None else index[name]] for name in column]
            return np.asarray(values, np.float32).reshape(len(self), 1)
        columns = [self.table[c].cast(pl.Float32).fill_null(float("nan")).to_numpy() for c in found.columns]
        return np.stack(columns, axis=1)

    def select(self, rows: npt.NDArray[np.integer]) -> "Corpus":
        """Return a corpus of the given rows only, copied; the table keeps the order of ``rows``."""
        features = {name: ragged.take(rows) for name, ragged in self.features.items()}
        return Corpus(self.table[rows], features, self.card.model_copy(deep=True))

    def with_features(self, name: str, ragged: Ragged, card: ModalityCard) -> "Corpus":
        """Return a corpus with one modality added or replaced."""
        new_card = self.card.model_copy(deep=True)
        new_card.modalities[name] = card
        return Corpus(self.table, {**self.features, name: ragged}, new_card)


def _check_table(table: pl.DataFrame, card: Card) -> None:
    for column, dtype in BASE_COLUMNS.items():
        if column not in table.columns:
            raise AffectusError(f"The utterance table lacks the column {column!r}", where=card.name)
        if table.schema[column] != dtype:
            raise AffectusError(
                f"The column {column!r} has the wrong type",
                where=card.name,
                got=table.schema[column],
                expected=str(dtype),
            )
    _check_names(table, card)
    bad = set(table["split"].unique().to_list()) - {str(s) for s in Split}
    if bad:
        raise AffectusError("Unknown split", where=card.name, got=sorted(map(str, bad)), expected="train, valid, test")
    if table["id"].n_unique() != len(table):
        repeated = table["id"].value_counts().filter(pl.col("count") > 1)["id"].sort()[0]
        raise AffectusError("Two utterances have the same id", where=card.name, got=repeated)
    for scheme in card.schemes:
        for column in scheme.columns:
            if column not in table.columns:
                raise AffectusError(
                    f"The label scheme {scheme.name!r} names the column {column!r}, which the table lacks",
                    where=card.name,
                )
            named, dtype = scheme.kind is LabelKind.ONE_OF_K, table.schema[column]
            fits = dtype == pl.String() if named else dtype.is_numeric() or dtype == pl.Boolean()
            if not fits and dtype != pl.Null():
                raise AffectusError(
                    f"The label column {column!r} has the wrong type",
                    where=card.name,
                    got=dtype,
                    expected="names of classes" if named else "numbers",
                )
    groups = table.select(pl.struct("video", "split").rle_id().alias("run"), "video", "split").unique()
    if len(groups) != groups.select("video", "split").n_unique():
        raise AffectusError("The utterances of a video within a split must stand together", where=card.name)


def _check_names(table: pl.DataFrame, card: Card) -> None:
    for column in ("id", "video"):
        if table[column].null_count():
            raise AffectusError(
                f"An utterance has no {column}",
                where=f"{card.name}, row {int(table[column].is_null().arg_max() or 0) + 1}",
                expected="a name for each; utterances of one video are each other's context",
            )


def build_corpus(
    records: Sequence[Mapping[str, Any]] | pl.DataFrame,
    features: Mapping[str, Ragged],
    card: Card,
) -> Corpus:
    """Make a corpus from records in any order: fills absent columns, brings videos together, orders utterances.

    Utterances are ordered by split, then by the first appearance of their video, then by ``segment`` (the source's own
    number of an utterance, an optional column) or else ``start`` where all rows of the video have one, else as they
    came. Records are dictionaries with ``id``, ``video``, ``split`` and whatever else, or a data frame of polars or
    pandas; None and NaN are what is missing. The features have a row for each record, in the order of the records.

    Raises:
        AffectusError: the parts do not fit together, or a label is out of its range or not one of its classes.
    """
    for name, ragged in features.items():
        _check_sequences(name, ragged, len(records), card)
    types: dict[str, pl.DataType] = {
        **BASE_COLUMNS,
        **{"segment": pl.Int64(), TOKEN_COLUMN: pl.List(pl.Int64()), **WORD_COLUMNS},
        **{column: _type_of(scheme) for scheme in card.schemes for column in scheme.columns},
    }
    table = _as_table(records, types)
    for column, dtype in types.items():
        if column in table.columns:
            table = _cast(table, column, dtype, card)
        elif column in BASE_COLUMNS:
            table = table.with_columns(pl.lit(None, dtype).alias(column))
    _check_names(table, card)
    check_labels(table, card.schemes, where=card.name)
    rank = "segment" if "segment" in table.columns else "start"
    order = (
        table.with_row_index("row")
        .with_columns(
            pl.col("split").replace_strict({"train": 0, "valid": 1, "test": 2}, default=3).alias("split_rank"),
            pl.col("row").min().over("split", "video").alias("first_seen"),
            pl.when(pl.col(rank).is_not_null().all().over("split", "video")).then(rank).alias("rank"),
        )
        .sort("split_rank", "first_seen", "rank", "row", nulls_last=False)["row"]
        .to_numpy()
    )
    front = [*BASE_COLUMNS, *(c for c in WORD_COLUMNS if c in table.columns)]
    table = table.select(*front, *(c for c in table.columns if c not in front))
    in_order = bool(np.array_equal(order, np.arange(len(table))))
    features = {name: ragged if in_order else ragged.take(order) for name, ragged in features.items()}
    return Corpus(table if in_order else table[order], features, card)


def _check_sequences(name: str, ragged: object, count: int, card: Card) -> None:
    if not isinstance(ragged, Ragged):
        shape = getattr(ragged, "shape", None)
        raise AffectusError(
            f"The features of the modality {name!r} are no Ragged",
            where=card.name,
            got=type(ragged).__name__ + (f" of shape {tuple(shape)}" if shape is not None else ""),
            expected="a Ragged, with the sequence of each utterance",
            remedy="Make it with Ragged.from_rows(array) of a vector each, or Ragged.from_sequences(arrays, dim)",
        )
    if len(ragged) != count:
        raise AffectusError(
            f"Modality {name!r} has another number of utterances than the table",
            where=card.name,
            got=len(ragged),
            expected=str(count),
        )


def _type_of(scheme: LabelScheme) -> pl.DataType:
    return pl.String() if scheme.kind is LabelKind.ONE_OF_K else pl.Float32()


def _as_table(records: Any, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return records as a table; NaN among words, which is how pandas writes a missing one, would become a word."""
    if isinstance(records, pl.DataFrame):
        return records
    if isinstance(records, Sequence):
        words = [column for column, dtype in types.items() if dtype == pl.String()]
        records = [
            {**record, **dict.fromkeys(missing)}
            if (missing := [c for c in words if isinstance(record.get(c), float) and np.isnan(record[c])])
            else record
            for record in records
        ]
    return pl.DataFrame(records, infer_schema_length=None)


def _cast(table: pl.DataFrame, column: str, dtype: pl.DataType, card: Card) -> pl.DataFrame:
    try:
        given = pl.col(column)
        if table.schema[column].is_float():
            given = given.fill_nan(None)
        cast = table.with_columns(given.cast(dtype))
    except pl.exceptions.PolarsError:
        kept = table.select(pl.col(column).cast(dtype, strict=False)).to_series()
        row = int((kept.is_null() & table[column].is_not_null()).arg_max() or 0)
        raise AffectusError(
            f"The column {column!r} has the wrong type",
            where=f"{card.name}, row {row + 1}",
            got=repr(table[column][row]),
            expected=str(dtype),
        ) from None
    return cast.with_columns(pl.col(column).fill_nan(None)) if dtype.is_float() else cast


def check_labels(table: pl.DataFrame, schemes: Sequence[LabelScheme], *, where: str) -> None:
    """Check every label against its scheme.

    Raises:
        AffectusError: names the first offending utterance.
    """
    numbers = [column for scheme in schemes if scheme.kind is not LabelKind.ONE_OF_K for column in scheme.columns]
    # NaN is a missing label, but larger than any number to polars
    table = table.with_columns(pl.col(c).cast(pl.Float32).fill_nan(None) for c in numbers if c in table.columns)
    for scheme in schemes:
        for column in scheme.columns:
            if column not in table.columns:
                raise AffectusError(f"There is no label column {column!r}", where=where)
            labels = table[column]
            if scheme.kind is LabelKind.ONE_OF_K:
                bad = ~labels.is_in(list(scheme.classes)) & labels.is_not_null()
                expected = "one of: " + ", ".join(scheme.classes)
            elif scheme.kind is LabelKind.REAL:
                low = -np.inf if scheme.low is None else scheme.low
                high = np.inf if scheme.high is None else scheme.high
                bad = ((labels < low - 1e-6) | (labels > high + 1e-6) | labels.is_infinite()).fill_null(False)
                expected = f"a number in [{low:g}, {high:g}]" if np.isfinite([low, high]).any() else "a finite number"
            else:
                bad = ~labels.is_in([0.0, 1.0]) & labels.is_not_null()
                expected = "0 or 1"
            if bad.any():
                row = int(bad.arg_max() or 0)
                raise AffectusError(
                    f"Label {column!r} out of range",
                    where=f"{where}, utterance {table['id'][row]!r}",
                    got=labels[row],
                    expected=expected,
                    remedy="Mend the value, or leave it empty if it is unknown",
                )
