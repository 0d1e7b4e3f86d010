"""Tables as partitioned Parquet: ``part-00000.parquet`` and so on, which polars and DuckDB read as one.

A part is written whole or not at all, and bears the key of what it was made from, so that whoever goes on sees which
parts are done. ``_parts.json`` (names that begin with ``_`` are no data for Spark) lists parts and failures.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.errors import AffectusError
from affectus.files import atomic_path, write_json
from affectus.parallel import Executor, Here, Work

LIST, KEY = "_parts.json", b"affectus.part"


@dataclass(frozen=True)
class Part:
    """A part of a table.

    Attributes:
        path: its file.
        key: of what it is made from.
    """

    path: Path
    key: str

    def written(self) -> bool:
        """Return whether the file is there and made from the same."""
        try:
            metadata = pq.read_schema(self.path).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return False
        return bool(metadata.get(KEY) == self.key.encode())

    def write(self, table: pa.Table) -> None:
        """Write it, so that a reader sees the whole file or none."""
        marked = table.replace_schema_metadata({KEY: self.key.encode()})
        with atomic_path(self.path) as temporary:
            pq.write_table(marked, temporary, compression="zstd")


def part_key(*facts: Any) -> str:
    """Return the SHA-256 of plain data that says what a part is made from."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def part_path(out: Path, number: int) -> Path:
    """Return the file of a part."""
    return out / f"part-{number:05d}.parquet"


def open_parts(out: Path) -> None:
    """Check that a folder may hold parts.

    Raises:
        AffectusError: it holds something else.
    """
    if out.exists() and not out.is_dir():
        raise AffectusError("The output of --format parquet is a folder", where=out, got="a file")
    if out.is_dir():
        other = [entry.name for entry in out.iterdir() if not entry.name.startswith((".", "part-", LIST))]
        if other:
            raise AffectusError(
                "The output folder holds something else than parts",
                where=out,
                got=sorted(other)[0],
                remedy="Choose another --out folder",
            )


class Piece(Protocol):
    """An item of work whose result is a part."""

    @property
    def part(self) -> Part:
        """The part."""


def write_parts(
    out: Path, work: Work, pieces: Sequence[Piece], executor: Executor | None, failures: Mapping[str, str] | None = None
) -> int:
    """Write the parts that are not there, remove those of another table, and return how many rows there are.

    Args:
        out: their folder.
        work: that writes a part.
        pieces: of all parts.
        executor: does the work; None for this process.
        failures: what is in no part, and why.

    Raises:
        AffectusError: a part could not be written; the others are.
    """
    waiting = [piece for piece in pieces if not piece.part.written()]
    wrong = {}
    for ended in (executor or Here()).run(work, waiting):
        if ended.error is not None:
            wrong[waiting[ended.number].part.path.name] = ended.error
    names = {piece.part.path.name for piece in pieces}
    for path in out.glob("part-*.parquet"):
        if path.name not in names:
            path.unlink()
    rows = {
        piece.part.path.name: pq.read_metadata(piece.part.path).num_rows for piece in pieces if piece.part.written()
    }
    listed = {"rows": sum(rows.values()), "parts": rows, "failures": {**(failures or {}), **wrong}}
    write_json(out / LIST, listed)
    if wrong:
        name, reason = next(iter(wrong.items()))
        raise AffectusError(
            f"{len(wrong)} of {len(pieces)} parts could not be written",
            where=out / name,
            got=reason.rstrip("."),
            remedy="Give the same command again: what is done stays done",
        )
    return sum(rows.values())


def utterance_table(corpus: Corpus, modalities: Sequence[str]) -> pa.Table:
    """Return a corpus as one table: its columns, and each modality's steps, one list of numbers per step.

    A modality is ``<name>_features`` and ``<name>_times`` (begin and end of each step), null where it is missing or its
    times are unknown.

    Args:
        corpus: to write.
        modalities: which have columns, in this corpus and in the others that are parts of the same table.
    """
    table = corpus.table.to_arrow()
    for name in modalities:
        ragged = corpus.features.get(name)
        features = times = None
        if ragged is not None:
            features = _steps(ragged.values.astype(np.float32, copy=False), ragged)
            times = None if ragged.times is None else _steps(ragged.times, ragged)
        for suffix, column, kind in (("features", features, pa.float32()), ("times", times, pa.float64())):
            if column is None:
                column = pa.nulls(len(table), pa.large_list(pa.large_list(kind)))
            table = table.append_column(f"{name}_{suffix}", column)
    return table


def _steps(values: Any, ragged: Ragged) -> pa.Array:
    """Return (steps, width) numbers as a list of lists per utterance, without copying them."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    inner = pa.LargeListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int64) * values.shape[1], flat)
    return pa.LargeListArray.from_arrays(pa.array(ragged.offsets), inner, mask=pa.array(ragged.lengths == 0))
