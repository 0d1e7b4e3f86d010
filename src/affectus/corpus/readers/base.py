"""What every reader shares: its registration, its options, the checks of its sources, and how it makes a corpus."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from affectus.corpus.card import Card
from affectus.corpus.corpus import Corpus, build_corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers.signals import Signal
from affectus.corpus.splits import SplitTable, assign_splits
from affectus.errors import AffectusError
from affectus.registry import Registry


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say about a source; a reader uses the options that its registration names.

    Attributes:
        name: which data set of a file that holds several (``mfn``: mmmo, pom, youtube), or the corpus's name.
        text_column: which column holds the transcript.
        split_name: put all rows in this split.
        splits: the split of each video; overrides the source's own.
        signals: by the column of the manifest, what to read from the files that it names.
        progress: called with (done, total) by readers that take long.
    """

    name: str | None = None
    text_column: str | None = None
    split_name: str | None = None
    splits: SplitTable | None = None
    signals: Mapping[str, Signal] = field(default_factory=dict)
    progress: Callable[[int, int], None] = _silent


ReadFunction = Callable[[Sequence[Path], ReadOptions], Corpus]


@dataclass(frozen=True)
class Reader:
    """An outside format.

    Attributes:
        read: from the source files to a corpus.
        summary: what it reads, in one line, for ``affectus import --help`` and the docs.
        sources: what the source paths are, in words (``one .npz file``).
        options: per option that this format uses, what it means here.
        example: the arguments after ``affectus import``.
        kind: what its files are, as ``sniff`` calls it; errors name the formats that read a file of another kind.
    """

    read: ReadFunction
    summary: str
    sources: str
    options: Mapping[str, str] = field(default_factory=dict)
    example: str = ""
    kind: str = ""


READERS: Registry[Reader] = Registry("reader")


def register_reader(
    name: str,
    *,
    summary: str,
    sources: str,
    options: Mapping[str, str] | None = None,
    example: str = "",
    kind: str = "",
) -> Callable[[ReadFunction], ReadFunction]:
    """Return a decorator that registers a reading function as the reader of the format ``name``."""

    def decorate(function: ReadFunction) -> ReadFunction:
        READERS.add(name, Reader(function, summary, sources, options or {}, example, kind))
        return function

    return decorate


NPZ, HDF5, PICKLE, TEXT_FILE = "a NumPy .npz archive", "an HDF5 file", "a pickle", "a text file"
_MAGIC = {b"PK\x03\x04": NPZ, b"\x89HDF": HDF5}


def sniff(path: Path) -> str:
    """Return what a file is, from its first bytes: npz archive, HDF5, pickle, text, or some other binary file."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    if head[:4] in _MAGIC:
        return _MAGIC[head[:4]]
    # protocols 2 and up say so in their first byte; 0 and 1 begin with a mark, a list or a dict
    if head[:1] == b"\x80" or head[:2] in (b"(d", b"(l", b"}q", b"]q"):
        return PICKLE
    return "a binary file" if b"\0" in head else TEXT_FILE


def check_file(path: Path, kind: str) -> None:
    """Check that a source is a file of the right kind.

    Raises:
        AffectusError: it is absent, a folder, empty, unreadable, or of another kind.
    """
    if not path.exists():
        raise AffectusError("There is no file", where=path)
    if path.is_dir():
        raise AffectusError("The source is a folder", where=path, expected=kind)
    try:
        if path.stat().st_size == 0:
            raise AffectusError("The file is empty", where=path, expected=kind)
        found = sniff(path)
    except OSError as error:
        raise AffectusError("Could not read", where=path, got=error.strerror) from None
    if found != kind:
        others = [name for name in READERS if READERS[name].kind == found]
        raise AffectusError(
            "The file is of another kind than the format reads",
            where=path,
            got=found,
            expected=kind,
            remedy=f"The formats that read {found} are: {', '.join(others)}" if others else None,
        )


def one_source(sources: Sequence[Path], kind: str) -> Path:
    """Return the only source, checked.

    Raises:
        AffectusError: there are several, or it is not a file of the kind.
    """
    if len(sources) != 1:
        raise AffectusError("The format reads one source", got=f"{len(sources)} sources", expected=kind)
    check_file(sources[0], kind)
    return sources[0]


def make_corpus(
    records: Sequence[Mapping[str, Any]] | pl.DataFrame,
    features: Mapping[str, Ragged],
    card: Card,
    options: ReadOptions,
) -> Corpus:
    """Make the corpus that a reader returns: sets each row's split, drops rows that have none, and orders the rest.

    Args:
        records: one row per utterance; ``split`` is the source's own name of it, or None where it has none.
        features: per modality the sequences of all rows.
        card: with the label schemes; what is dropped is written into its notes.
        options: the splits that the user set.

    Raises:
        AffectusError: there is no utterance, a split is unknown or has no video, or the parts do not fit together.
    """
    table = pl.DataFrame(records, infer_schema_length=None) if not isinstance(records, pl.DataFrame) else records
    if len(table) == 0:
        raise AffectusError("The source holds no utterance", where=card.source or card.name)
    if "split" not in table.columns:
        table = table.with_columns(pl.lit(None, pl.String()).alias("split"))
    table, features, notes = assign_splits(table, features, split_name=options.split_name, splits=options.splits)
    return build_corpus(table, features, card.model_copy(update={"notes": [*card.notes, *notes]}, deep=True))
