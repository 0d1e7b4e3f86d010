"""The corpus in memory and on disk."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from affectus.corpus import Card, Corpus, ModalityCard, Ragged, build_corpus, load_corpus, save_corpus, storage
from affectus.corpus.check import check_corpus
from affectus.corpus.storage import content_hash, corpus_hash, identity, map_safetensors, remove_corpus, verify_files
from affectus.errors import AffectusError
from affectus.labels import LabelKind, LabelScheme, emotion_class_scheme, sentiment_scheme


@given(st.lists(st.integers(0, 4), max_size=8), st.integers(1, 3), st.booleans())
def test_ragged_gives_back_its_sequences(lengths: list[int], dim: int, timed: bool) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(length, dim)).astype(np.float32) for length in lengths]
    times = [rng.normal(size=(length, 2)) for length in lengths]
    ragged = Ragged.from_sequences(parts, dim, times=times if timed else None)
    assert ragged.lengths.tolist() == lengths
    for row, part in enumerate(parts):
        np.testing.assert_array_equal(ragged[row], part)
    order = rng.permutation(len(parts))
    taken = ragged.take(order)
    for row, old in enumerate(order):
        np.testing.assert_array_equal(taken[row], parts[old])
    assert (taken.times is not None) == timed


def test_ragged_checks_its_parts() -> None:
    with pytest.raises(ValueError, match=r"expected \(steps, dim\)"):
        Ragged(np.zeros(3), np.array([0, 3]))
    with pytest.raises(ValueError, match="start at 0"):
        Ragged(np.zeros((3, 1)), np.array([1, 3]))
    with pytest.raises(ValueError, match="rise to the number of steps 3, got 2"):
        Ragged(np.zeros((3, 1)), np.array([0, 2]))
    with pytest.raises(ValueError, match="rise to the number of steps"):
        Ragged(np.zeros((3, 1)), np.array([0, 4, 3]))
    with pytest.raises(ValueError, match="times have shape"):
        Ragged(np.zeros((3, 1)), np.array([0, 3]), np.zeros((2, 2)))


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 3), st.integers(1, 200))
def test_row_chunks_keep_every_row_in_order_and_small(lengths: list[int], dim: int, size: int) -> None:
    ragged = Ragged.from_sequences([np.zeros((length, dim)) for length in lengths], dim)
    rows = np.random.default_rng(0).permutation(len(lengths))
    chunks = list(ragged.row_chunks(rows, size))
    assert [row for chunk in chunks for row in chunk] == rows.tolist()
    for chunk in chunks:
        assert len(chunk) == 1 or ragged.take(chunk).values.nbytes <= size


def test_rows_that_are_not_present_are_missing() -> None:
    ragged = Ragged.from_rows([[1.0], [2.0], [3.0]], np.array([True, False, True]))
    assert ragged.lengths.tolist() == [1, 0, 1]
    assert ragged.values.ravel().tolist() == [1, 3]


def test_round_trip(corpus: Corpus, tmp_path: Path) -> None:
    corpus.features["audio"].values[0] = np.nan
    save_corpus(corpus, tmp_path / "c")
    loaded = load_corpus(tmp_path / "c")
    assert loaded.table.equals(corpus.table)
    assert isinstance(loaded.features["audio"].values, np.memmap)
    for name, ragged in corpus.features.items():
        np.testing.assert_array_equal(loaded.features[name].values, ragged.values)
        np.testing.assert_array_equal(loaded.features[name].offsets, ragged.offsets)
    np.testing.assert_array_equal(loaded.features["audio"].times, corpus.features["audio"].times)
    assert loaded.card.schemes == corpus.card.schemes
    assert loaded.card.counts == {
        "train": {"videos": 2, "utterances": 4},
        "valid": {"videos": 1, "utterances": 2},
    }
    assert verify_files(tmp_path / "c") == []
    save_corpus(loaded, tmp_path / "again")
    assert corpus_hash(tmp_path / "again") == corpus_hash(tmp_path / "c")
    save_corpus(loaded, tmp_path / "c")
    assert load_corpus(tmp_path / "c").table.equals(corpus.table)


@pytest.mark.parametrize("chunk", [1, 40, 1 << 24])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_safetensors_are_written_as_the_package_does(
    chunk: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "values": rng.normal(size=(3, steps)).astype(np.float32).T,  # not contiguous
        "offsets": np.array([0, steps]),
        "times": rng.normal(size=(steps, 2)),
        "ü": np.arange(5, dtype=">i4"),
        "half": np.zeros(3, np.float16),
        "flags": np.array([True, False]),
        "bytes": np.arange(2, dtype=np.uint8),
    }
    monkeypatch.setattr(storage, "CHUNK_BYTES", chunk)
    storage.write_safetensors(arrays, tmp_path / "mine")
    save_file(
        {name: np.ascontiguousarray(a, a.dtype.newbyteorder("<")) for name, a in arrays.items()}, tmp_path / "theirs"
    )
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "theirs").read_bytes()
    for name, array in map_safetensors(tmp_path / "mine").items():
        np.testing.assert_array_equal(array, arrays[name])


def test_identity_is_that_of_the_folder_or_of_the_content(corpus: Corpus, tmp_path: Path) -> None:
    save_corpus(corpus, tmp_path / "toy")
    loaded = load_corpus(tmp_path / "toy")
    assert identity(loaded) == corpus_hash(tmp_path / "toy")
    assert identity(corpus) == content_hash(corpus) == content_hash(loaded)
    every = np.arange(len(loaded))
    assert identity(loaded.select(every)) == content_hash(corpus)  # a copy has no folder, whatever its card says
    label, audio = pl.col("sentiment") / 2, corpus.features["audio"]
    changed = [
        corpus.select(every[:-1]),
        Corpus(corpus.table.with_columns(label), corpus.features, corpus.card),
        corpus.with_features("audio", Ragged(audio.values + 1, audio.offsets), corpus.card.modalities["audio"]),
        Corpus(
            corpus.table,
            corpus.features,
            corpus.card.model_copy(update={"schemes": [sentiment_scheme(-4, 4), *corpus.card.schemes[1:]]}),
        ),
    ]
    assert len({content_hash(one) for one in (corpus, *changed)}) == 5


def test_an_empty_corpus_round_trips(tmp_path: Path) -> None:
    table = pl.DataFrame(schema={"id": pl.String(), "video": pl.String(), "split": pl.String()})
    empty = build_corpus(table, {"audio": Ragged.from_sequences([], 3)}, Card(name="empty"))
    save_corpus(empty, tmp_path / "c")
    loaded = load_corpus(tmp_path / "c")
    assert len(loaded) == 0
    assert loaded.dims == {"audio": 3}
    with pytest.raises(AffectusError, match="no utterance in the split 'train': expected an utterance at all"):
        loaded.rows("train")


def test_label_columns_of_the_wrong_type(corpus: Corpus) -> None:
    for column in ("sentiment", "anger"):
        table = corpus.table.with_columns(pl.col(column).cast(pl.String))
        with pytest.raises(AffectusError, match=f"The label column '{column}' has the wrong type in .*: got String; "):
            Corpus(table, {}, corpus.card)
    scheme = emotion_class_scheme(("fear", "none"))
    table = corpus.table.with_columns(pl.lit(1).alias("emotion_class"))
    with pytest.raises(AffectusError, match=r"'emotion_class' has the wrong type in .*expected names of classes"):
        Corpus(table, {}, Card(name="x", schemes=[scheme]))
    whole = Corpus(corpus.table.with_columns(pl.lit(1).alias("sentiment")), {}, corpus.card)
    assert whole.label("sentiment").ravel().tolist() == [1.0] * 6


def test_labels_that_cannot_be_used(corpus: Corpus) -> None:
    table = corpus.table.with_columns(
        pl.when(pl.col("id") == "u1").then(float("inf")).otherwise(float("nan")).alias("sentiment"),
        pl.when(pl.col("id") == "u2").then(pl.lit("joy")).alias("emotion_class"),
    )
    damaged = Corpus(table, {}, Card(name="x", schemes=[sentiment_scheme(), emotion_class_scheme(("fear", "none"))]))
    with pytest.raises(AffectusError, match="'sentiment' out of range in x, utterance 'u1': got inf; expected a fin"):
        damaged.label("sentiment")
    with pytest.raises(AffectusError, match="'emotion_class' out of range in x, utterance 'u2': got joy; "):
        damaged.label("emotion_class")
    warnings = " ".join(check_corpus(damaged).warnings)
    assert "Label 'sentiment' out of range in x, utterance 'u1': got inf" in warnings
    assert "Label 'emotion_class' out of range in x, utterance 'u2': got joy" in warnings


def test_order_by_segment_then_start_then_as_they_came() -> None:
    def order(*columns: str) -> list[str]:
        rows = [
            {"id": "a", "video": "v", "split": "valid", "start": 0.0, "segment": 3},
            {"id": "b", "video": "w", "split": "train", "start": 2.0, "segment": 0},
            {"id": "c", "video": "v", "split": "valid", "start": 2.0, "segment": 1},
            {"id": "d", "video": "w", "split": "train", "start": 1.0, "segment": 1},
        ]
        kept = [{key: row[key] for key in ("id", "video", "split", *columns)} for row in rows]
        return build_corpus(kept, {}, Card(name="x")).table["id"].to_list()  # type: ignore[no-any-return]

    assert order("start", "segment") == ["b", "d", "c", "a"]
    assert order("start") == ["d", "b", "a", "c"]
    assert order() == ["b", "d", "a", "c"]


def test_features_of_other_rows_than_the_records_are_refused() -> None:
    rows = [{"id": f"{i}", "video": "a", "split": "train", "start": 5.0 - i} for i in range(5)]  # which are reordered
    for count in (4, 6):
        audio = Ragged.from_rows(np.arange(count * 2.0).reshape(count, 2))
        message = f"'audio' has another number of utterances than the table in x: got {count}; expected 5"
        with pytest.raises(AffectusError, match=message):
            build_corpus(rows, {"audio": audio}, Card(name="x"))


def test_what_is_not_a_number_is_missing_in_every_column() -> None:
    absent = float("nan")  # as pandas has it
    rows = [
        {"id": "a-0", "video": "a", "split": "train", "start": 2.0, "text": absent, "speaker": "Ann", "sentiment": 1.0},
        {"id": "a-1", "video": "a", "split": "train", "start": absent, "text": "NaN", "speaker": absent},
    ]
    for records in (rows, pl.DataFrame(rows, infer_schema_length=None, strict=False)):
        found = build_corpus(records, {}, Card(name="x", schemes=[sentiment_scheme()])).table
        assert found["id"].to_list() == ["a-0", "a-1"]
        assert found["start"].to_list() == [2.0, None]
        assert found["sentiment"].to_list() == [1.0, None]
        if records is rows:
            assert found["text"].to_list() == [None, "NaN"]
            assert found["speaker"].to_list() == ["Ann", None]
    nothing = build_corpus(pl.DataFrame(rows[:1]).with_columns(text=absent), {}, Card(name="x")).table
    assert nothing["text"].to_list() == [None]


@pytest.mark.parametrize("column", ["id", "video"])
def test_utterances_have_an_id_and_a_video(column: str) -> None:
    rows = [{"id": f"{i}", "video": "a", "split": "train"} for i in range(3)]
    with pytest.raises(AffectusError, match=f"An utterance has no {column} in x, row 2"):
        build_corpus([rows[0], {**rows[1], column: None}, rows[2]], {}, Card(name="x"))
    with pytest.raises(AffectusError, match=f"An utterance has no {column} in x, row 1"):
        build_corpus([{k: v for k, v in row.items() if k != column} for row in rows], {}, Card(name="x"))


def test_columns_that_cannot_be_read_name_the_row() -> None:
    rows = [{"id": f"{i}", "video": "a", "split": "train", "sentiment": "1.5"} for i in range(3)]
    rows[1]["sentiment"] = "much"
    with pytest.raises(AffectusError, match="'sentiment' has the wrong type in x, row 2: got 'much'; expected Float32"):
        build_corpus(rows, {}, Card(name="x", schemes=[sentiment_scheme()]))


def test_labels(corpus: Corpus) -> None:
    label = corpus.label("sentiment")
    assert label.shape == (6, 1)
    assert np.isnan(label[3, 0])
    assert corpus.label("emotions").shape == (6, 6)
    with pytest.raises(AffectusError, match=r"Unknown label scheme 'sentimnet' .*Did you mean 'sentiment'\?"):
        corpus.label("sentimnet")
    with pytest.raises(AffectusError, match="no utterance in the split 'test': expected one of: train, valid"):
        corpus.rows("test")


@pytest.mark.parametrize(
    ("scheme", "value", "message"),
    [
        (sentiment_scheme(), 4.0, r"Label 'sentiment' out of range in x, utterance 'b': got 4.0; .*\[-3, 3\]"),
        (sentiment_scheme(), float("inf"), "got inf"),
        (emotion_class_scheme(("fear", "none")), "joy", "got joy; expected one of: fear, none"),
        (LabelScheme(name="b", kind=LabelKind.BINARY, columns=("b",)), 0.5, "got 0.5; expected 0 or 1"),
    ],
)
def test_labels_out_of_range(scheme: LabelScheme, value: object, message: str) -> None:
    rows = [
        {"id": name, "video": "v", "split": "train", scheme.columns[0]: label}
        for name, label in (("a", None), ("b", value))
    ]
    with pytest.raises(AffectusError, match=message):
        build_corpus(rows, {}, Card(name="x", schemes=[scheme]))


def test_parts_that_do_not_fit(corpus: Corpus) -> None:
    with pytest.raises(AffectusError, match="'audio' has another number of utterances than the table in little: got 1"):
        Corpus(corpus.table, {"audio": Ragged.from_rows([[1.0]])}, corpus.card)
    with pytest.raises(
        AffectusError, match="'audio' has another width than its card says in little: got 1; expected 3"
    ):
        Corpus(corpus.table, {"audio": Ragged.from_rows([[1.0]] * 6)}, corpus.card)
    with pytest.raises(AffectusError, match="lacks the column 'text'"):
        Corpus(corpus.table.drop("text"), {}, corpus.card)
    with pytest.raises(AffectusError, match="'start' has the wrong type in little: got String; expected Float64"):
        Corpus(corpus.table.with_columns(pl.col("start").cast(pl.String)), {}, corpus.card)
    with pytest.raises(AffectusError, match="Unknown split in little"):
        Corpus(corpus.table.with_columns(split=pl.lit("dev")), {}, corpus.card)
    with pytest.raises(AffectusError, match="Two utterances have the same id in little: got same"):
        Corpus(corpus.table.with_columns(id=pl.lit("same")), {}, corpus.card)
    with pytest.raises(AffectusError, match="names the column 'fear', which the table lacks"):
        Corpus(corpus.table.drop("fear"), {}, corpus.card)
    with pytest.raises(AffectusError, match="must stand together"):
        Corpus(corpus.table[[0, 2, 1, 3, 4, 5]], {}, corpus.card)


def test_folders_that_hold_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"There is no corpus folder in .*Make one with: affectus import"):
        load_corpus(tmp_path / "absent")
    with pytest.raises(AffectusError, match=r"The folder holds no corpus \(no card.json\)"):
        load_corpus(tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(AffectusError, match="The folder holds no corpus"):
        remove_corpus(tmp_path)
    assert (tmp_path / "notes.txt").exists()


def test_a_folder_with_something_else_is_not_replaced(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(AffectusError, match="holds something else than a corpus"):
        save_corpus(corpus, tmp_path)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_damaged_corpora(corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "c"

    def fresh() -> Path:
        save_corpus(corpus, folder)
        return folder

    (fresh() / "utterances.parquet").write_bytes(b"PAR1")
    with pytest.raises(AffectusError, match=r"Not a whole Parquet file in .*utterances.parquet"):
        load_corpus(folder)
    (fresh() / "utterances.parquet").unlink()
    with pytest.raises(AffectusError, match=r"There is no file in .*utterances.parquet"):
        load_corpus(folder)
    path = fresh() / "features" / "audio.safetensors"
    data = path.read_bytes()
    for length in (0, 4, 30, len(data) - 8):
        path.write_bytes(data[:length])
        with pytest.raises(AffectusError, match=r"Not a whole safetensors file in .*audio.safetensors"):
            load_corpus(folder)
    (fresh() / "features" / "audio.safetensors").unlink()
    with pytest.raises(AffectusError, match=r"There is no file in .*audio.safetensors"):
        load_corpus(folder)
    assert verify_files(folder) == ["features/audio.safetensors"]
    features = fresh() / "features" / "audio.safetensors"
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    features.write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(AffectusError, match=r"Not a whole safetensors file in .*nested too deep.* Import"):
        load_corpus(folder)
    features.unlink()
    features.mkdir()
    with pytest.raises(AffectusError, match=r"Could not read in .*audio.safetensors"):
        load_corpus(folder)
    features.rmdir()
    card = json.loads((fresh() / "card.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"format_version": 99}, "written by a newer affectus"),
        ({"format_version": "2"}, "The card is not valid in .*key 'format_version'"),
        ({"format_version": None}, "The card is not valid in .*key 'format_version'"),
        ({"nmae": 1}, "The card is not valid in .*key 'nmae'"),
        ({"modalities": {"../../x": {"dim": 1}}}, "A modality's name must be a plain word"),
    ):
        (folder / "card.json").write_text(json.dumps(card | change), encoding="utf-8")
        with pytest.raises(AffectusError, match=message):
            load_corpus(folder)
    (folder / "card.json").write_text("{", encoding="utf-8")
    with pytest.raises(AffectusError, match="Not a JSON file"):
        load_corpus(folder)


def test_offsets_that_do_not_fit_the_values(corpus: Corpus, tmp_path: Path) -> None:
    save_corpus(corpus, tmp_path / "c")
    path = tmp_path / "c" / "features" / "vision.safetensors"
    save_corpus(
        Corpus(corpus.table, {"vision": corpus.features["audio"]}, Card(name="x", schemes=corpus.card.schemes)),
        tmp_path / "d",
    )
    arrays = map_safetensors(path)
    assert arrays["values"].shape == (8, 2)
    wrong = (tmp_path / "d" / "features" / "vision.safetensors").read_bytes()
    path.write_bytes(wrong)
    with pytest.raises(AffectusError, match="another width than its card says"):
        load_corpus(tmp_path / "c")


def test_names_of_modalities(corpus: Corpus, tmp_path: Path) -> None:
    named = corpus.with_features("../x", Ragged.from_rows([[1.0]] * 6), ModalityCard(dim=1))
    with pytest.raises(AffectusError, match="A modality's name must be a plain word"):
        save_corpus(named, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert corpus.with_features("gaze", Ragged.from_rows([[1.0]] * 6), ModalityCard(dim=1)).modalities == (
        "audio",
        "vision",
        "gaze",
    )


def test_an_array_in_place_of_sequences_is_one_sentence(corpus: Corpus) -> None:
    rows = np.ones((6, 2), np.float32)
    sentence = (
        r"The features of the modality 'audio' are no Ragged in .*: got ndarray of shape \(6, 2\); .*Ragged\.from_rows"
    )
    with pytest.raises(AffectusError, match=sentence):
        Corpus(corpus.table, {"audio": rows}, Card(name="x"))  # type: ignore[dict-item]
    with pytest.raises(AffectusError, match=sentence):
        build_corpus(corpus.table, {"audio": rows}, Card(name="x"))  # type: ignore[dict-item]
    with pytest.raises(AffectusError, match=r"'gaze' are no Ragged in .*: got list; expected"):
        corpus.with_features("gaze", [[1.0]] * 6, ModalityCard(dim=1))  # type: ignore[arg-type]


def test_a_corpus_is_shown_in_three_lines(corpus: Corpus) -> None:
    lines = repr(corpus).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"<Corpus {corpus.name!r}: 6 utterances of ")
    assert f"train {len(corpus.rows('train'))}" in lines[0]
    assert lines[1] == " features: audio 3, vision 2"
    assert lines[2].startswith(" labels: sentiment, ")
    assert lines[2].endswith(">")
    bare = Corpus(corpus.table[:0], {}, Card(name="x"))
    assert repr(bare) == "<Corpus 'x': 0 utterances of 0 videos\n features: none\n labels: none>"


def test_labels_are_checked_once(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr("affectus.corpus.corpus.check_labels", lambda table, schemes, where: checked.extend(schemes))
    for _ in range(3):
        corpus.label("sentiment")
        corpus.label("emotions")
    assert [scheme.name for scheme in checked] == ["sentiment", "emotions"]
    corpus.select(corpus.rows()).label("sentiment")  # another corpus, another table
    assert len(checked) == 3


def test_remove(corpus: Corpus, tmp_path: Path) -> None:
    save_corpus(corpus, tmp_path / "c")
    remove_corpus(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    remove_corpus(tmp_path / "c")
