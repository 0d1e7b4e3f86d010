"""Partitioned Parquet: whole parts, and readers that are not ours."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.corpus import Corpus
from affectus.corpus.embedded import make_embedded
from affectus.corpus.parts import LIST, Part, open_parts, part_path, utterance_table, write_parts
from affectus.errors import AffectusError
from affectus.files import read_json
from affectus.parallel import Alive

NAMES = ("text", "audio", "vision")


@dataclass(frozen=True)
class Piece:
    part: Part
    corpus: Corpus


@dataclass(frozen=True)
class Write:
    wrong: str = ""

    def open(self) -> Callable[[Piece, Alive], None]:
        def write(piece: Piece, alive: Alive) -> None:
            if piece.part.path.name == self.wrong:
                raise AffectusError("It is wrong")
            piece.part.write(utterance_table(piece.corpus, NAMES))

        return write

    def done(self, item: Piece) -> bool:
        return item.part.written()


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_embedded(videos=6, missing=0.3)


def pieces(corpus: Corpus, out: Path, key: str = "k") -> list[Piece]:
    """Two parts; the second lacks vision altogether."""
    rows = np.arange(len(corpus))
    first, second = corpus.select(rows[: len(rows) // 2]), corpus.select(rows[len(rows) // 2 :])
    features = {name: ragged for name, ragged in second.features.items() if name != "vision"}
    parts = (first, Corpus(second.table, features, second.card.model_copy(deep=True)))
    return [Piece(Part(part_path(out, number), key), part) for number, part in enumerate(parts)]


def test_polars_and_duckdb_read_what_was_written(corpus: Corpus, tmp_path: Path) -> None:
    found = pieces(corpus, tmp_path)
    assert write_parts(tmp_path, Write(), found, None, {"a.mp4": "It is broken."}) == len(corpus)
    assert read_json(tmp_path / LIST)["failures"] == {"a.mp4": "It is broken."}
    frame = pl.read_parquet(tmp_path / "*.parquet")
    assert frame["id"].to_list() == corpus.table["id"].to_list()
    assert frame.select(corpus.table.columns).equals(corpus.table)
    audio = corpus.features["audio"]
    assert frame["audio_features"].is_null().to_list() == (audio.lengths == 0).tolist()
    for row in np.flatnonzero(audio.lengths)[:5].tolist():
        assert np.array_equal(np.array(frame["audio_features"][row].to_list(), np.float32), audio[row])
    half = len(found[0].corpus)
    assert frame["vision_features"][half:].null_count() == len(frame) - half
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    query = f"""
        SELECT count(*), count(audio_features), sum(len(audio_features)), sum(list_sum(flatten(audio_features)))
        FROM '{tmp_path}/*.parquet'
    """
    total, there, steps, sums = duckdb.sql(query).fetchall()[0]
    assert (total, there, steps) == (len(corpus), int((audio.lengths > 0).sum()), len(audio.values))
    assert sums == pytest.approx(float(audio.values.sum(dtype=np.float64)), rel=1e-4)


def test_parts_that_are_there_stay_and_others_are_written(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"1 of 2 parts could not be written in .*part-00001.parquet: got It"):
        write_parts(tmp_path, Write("part-00001.parquet"), pieces(corpus, tmp_path), None)
    assert read_json(tmp_path / LIST)["failures"] == {"part-00001.parquet": "It is wrong."}
    first = part_path(tmp_path, 0)
    when = first.stat().st_mtime_ns
    part_path(tmp_path, 1).write_bytes(b"PAR1 half of it")
    part_path(tmp_path, 7).write_bytes(b"of another table")
    write_parts(tmp_path, Write(), pieces(corpus, tmp_path), None)
    assert first.stat().st_mtime_ns == when
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["part-00000.parquet", "part-00001.parquet"]
    write_parts(tmp_path, Write(), pieces(corpus, tmp_path, "another"), None)
    assert first.stat().st_mtime_ns != when, "a part of something else is not taken for this one"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(AffectusError, match=r"holds something else than parts in .*: got letter\.txt"):
        open_parts(tmp_path)
    with pytest.raises(AffectusError, match="The output of --format parquet is a folder"):
        open_parts(tmp_path / "letter.txt")
