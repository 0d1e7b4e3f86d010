"""Each format on a small whole source, and on sources that are wrong in one place."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest

from affectus.corpus import load_corpus
from affectus.corpus.check import check_corpus
from affectus.corpus.readers import READERS, import_corpus
from affectus.corpus.storage import counts
from affectus.errors import AffectusError

Source = Callable[[str], list[Path]]
NAMES = {"mfn": "mmmo"}
NPZ_FORMATS = ("mosi-npz", "mosei-video", "mfn", "ravdess")
CSV_FORMATS = ("mosei-text", "mosei-labels", "meld", "sims", "manifest")


@pytest.mark.parametrize("format", READERS.names())
def test_every_format_imports_round_trips_and_checks(format: str, source: Source, tmp_path: Path) -> None:
    corpus = import_corpus(format, source(format), name=NAMES.get(format), out=tmp_path / "out")
    loaded = load_corpus(tmp_path / "out")
    assert loaded.table.equals(corpus.table)
    for name, ragged in corpus.features.items():
        np.testing.assert_array_equal(loaded.features[name].values, ragged.values)
        np.testing.assert_array_equal(loaded.features[name].offsets, ragged.offsets)
    assert loaded.card.notes == corpus.card.notes
    assert check_corpus(tmp_path / "out").damaged == []


@pytest.mark.parametrize("format", READERS.names())
def test_every_format_says_what_it_reads(format: str) -> None:
    reader = READERS[format]
    assert reader.summary
    assert reader.sources
    assert reader.example.startswith(format)
    assert reader.example.split()[-2] == "--out"
    assert reader.kind
    assert (reader.read.__doc__ or "").count("Raises:") == 1


@pytest.mark.parametrize("format", READERS.names())
def test_absent_empty_and_foreign_files(format: str, tmp_path: Path) -> None:
    name = NAMES.get(format)
    out = tmp_path / "out"
    with pytest.raises(AffectusError, match=r"There is no file in .*absent"):
        import_corpus(format, tmp_path / "absent", name=name, out=out)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(AffectusError, match=r"The file is empty in .*empty"):
        import_corpus(format, tmp_path / "empty", name=name, out=out)
    (tmp_path / "foreign").write_bytes(b"\x00\x01\x02 neither this nor that")
    with pytest.raises(AffectusError, match=r"another kind than the format reads .*got a binary file"):
        import_corpus(format, tmp_path / "foreign", name=name, out=out)
    assert not out.exists()


def test_a_csv_given_to_an_npz_reader_names_the_formats_that_read_it(source: Source) -> None:
    with pytest.raises(
        AffectusError, match=r"got a text file; expected a NumPy \.npz archive.*read a text file are: man"
    ):
        import_corpus("mosi-npz", source("mosei-text"))


def test_one_source_where_one_is_read(source: Source) -> None:
    with pytest.raises(AffectusError, match=r"The format reads one source: got 2 sources"):
        import_corpus("mosi-npz", source("mosi-npz") * 2)
    with pytest.raises(AffectusError, match=r"The source is a folder"):
        import_corpus("mosi-npz", source("mosi-npz")[0].parent)


def test_unknown_format_and_option(source: Source) -> None:
    with pytest.raises(AffectusError, match=r"Unknown format 'mosi': .*Did you mean 'mosi-npz'\?"):
        import_corpus("mosi", source("mosi-npz"))
    with pytest.raises(AffectusError, match=r"The format 'meld' has no --text-column"):
        import_corpus("meld", source("meld"), text_column="text")


@pytest.mark.parametrize("format", [*NPZ_FORMATS, "csd", "misa", "mmsa"])
def test_truncated_files(format: str, source: Source, tmp_path: Path) -> None:
    path = source(format)[-1]
    data = path.read_bytes()
    for share in (0.1, 0.5, 0.98):
        path.write_bytes(data[: max(int(len(data) * share), 8)])
        with pytest.raises(AffectusError, match=r"Not a whole"):
            import_corpus(format, source_of(path, format), name=NAMES.get(format), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def source_of(path: Path, format: str) -> list[Path]:
    return [path.parent / "labels.csd", path] if format == "csd" else [path]


@pytest.mark.parametrize("format", NPZ_FORMATS)
def test_damaged_bytes_in_an_archive(format: str, source: Source) -> None:
    path = source(format)[0]
    data = bytearray(path.read_bytes())
    for place in range(40, len(data), 997):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(AffectusError):
        import_corpus(format, path, name=NAMES.get(format))


@pytest.mark.parametrize("format", ["mosei-text", "mosei-labels", "meld", "sims"])
def test_truncated_tables(format: str, source: Source) -> None:
    path = source(format)[0]
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.rstrip().rfind(",") - 8], encoding="utf-8")
    with pytest.raises(AffectusError, match=r"(The cell is empty|The cell is no|Not a whole CSV)"):
        import_corpus(format, path)


@pytest.mark.parametrize("format", CSV_FORMATS)
def test_header_alone_and_not_utf8(format: str, source: Source) -> None:
    path = source(format)[0]
    text = path.read_text(encoding="utf-8")
    path.write_text(text.splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(AffectusError, match=r"The file has a header and no rows"):
        import_corpus(format, path)
    path.write_bytes(text.splitlines()[0].encode() + b"\n" + b"caf\xe9," * text.splitlines()[0].count(",") + b"\xff\n")
    with pytest.raises(AffectusError, match=r"Not a whole CSV file in .*utf-?8"):
        import_corpus(format, path)


# --- NumPy archives ---


def change(make: ModuleType, format: str, path: Path, **changes: Any) -> Path:
    arrays = make.ARRAYS[format]() | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("format", "changes", "message"),
    [
        ("mosi-npz", {"audio_feat": np.zeros((3, 2))}, r"'audio_feat' has the wrong shape .*got \(3, 2\).*\(4, any\)"),
        ("mosi-npz", {"audio_feat": np.zeros(4)}, r"'audio_feat' has the wrong shape .*got \(4,\)"),
        (
            "mosi-npz",
            {"video_feat": None, "vide_feat": np.zeros((4, 2))},
            r"no array 'video_feat' .*mean 'vide_feat'\?",
        ),
        ("mosi-npz", {"text_feat": np.full((4, 3), "a")}, "'text_feat' holds no numbers"),
        ("mosi-npz", {"sentiment": np.array([0, 1, 7.0, 0])}, r"'sentiment' out of range .*row 2: got 7.0.*\[-3, 3\]"),
        ("mosi-npz", {"id": np.array(["a", "a", "b", "c"])}, "Two utterances have the same id"),
        ("mosi-npz", {"split_std": np.array(["tarin"] * 4)}, r"Unknown split 'tarin'.*Did you mean 'train'\?"),
        ("mosi-npz", {"text": np.array([{}] * 4, object)}, "Not a whole .npz archive .*allow_pickle"),
        ("mosi-npz", {k: np.zeros((0,)) for k in ("id", "sentiment")}, "has the wrong shape"),
        ("mosei-video", {"labels": np.zeros((3, 6))}, r"'labels' has the wrong shape .*expected \(3, 7\)"),
        ("mosei-video", {"labels": np.full((3, 7), -1.0)}, r"Label 'happy' out of range .*\[0, 3\]"),
        (
            "mosei-video",
            {"label_names": np.array(["sentiment", "hapy", "sad", "anger", "surprise", "disgust", "fear"])},
            r"There is no column 'happy' .*Did you mean 'hapy'\?",
        ),
        ("mfn", {"mmmo_y_train": np.array([0.0, 3.0])}, r"Label 'rating' out of range .*mmmo_y_train, row 0"),
        ("mfn", {"mmmo_audio_train": np.zeros((2, 5, 3))}, r"modalities of mmmo train differ in steps .*audio.*vision"),
        ("mfn", {"mmmo_audio_train": np.zeros((3, 4, 3))}, "'mmmo_audio_train' has the wrong shape"),
        ("mfn", {"mmmo_audio_valid": np.ones((1, 4, 9)), "mmmo_y_valid": np.ones(1)}, "splits of mmmo differ in width"),
        ("ravdess", {"emotion_name": np.array(["calm", "angri", "sad"])}, r"'angri' in .*row 1.*mean 'angry'\?"),
    ],
)
def test_wrong_archives(format: str, changes: dict[str, Any], message: str, make: ModuleType, tmp_path: Path) -> None:
    path = change(make, format, tmp_path / "x.npz", **changes)
    with pytest.raises(AffectusError, match=message):
        import_corpus(format, path, name=NAMES.get(format), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_without_utterances(make: ModuleType, tmp_path: Path) -> None:
    empty = {key: value[:0] for key, value in make.mosi_arrays().items()}
    np.savez(tmp_path / "x.npz", **empty)
    with pytest.raises(AffectusError, match=r"The source holds no utterance in x\.npz"):
        import_corpus("mosi-npz", tmp_path / "x.npz")


def test_mfn_trims_padding_and_finds_what_is_missing(source: Source) -> None:
    corpus = import_corpus("mfn", source("mfn"), name="MMMO")
    assert corpus.features["audio"].lengths.tolist() == [2, 4]
    assert corpus.features["vision"].lengths.tolist() == [2, 0]
    assert corpus.card.word_aligned
    assert "2 steps were zero in every modality and were trimmed as padding." in corpus.card.notes


def test_mfn_asks_for_a_name(source: Source) -> None:
    with pytest.raises(AffectusError, match=r"several data sets .*Choose with --name: mmmo, pom, youtube"):
        import_corpus("mfn", source("mfn"))
    with pytest.raises(AffectusError, match=r"Unknown data set 'mmo' .*Did you mean 'mmmo'\?"):
        import_corpus("mfn", source("mfn"), name="mmo")


def test_mfn_labels(source: Source, make: ModuleType, tmp_path: Path) -> None:
    assert import_corpus("mfn", source("mfn"), name="pom").schemes["ratings"].size == 17
    assert import_corpus("mfn", source("mfn"), name="youtube").table["sentiment"].to_list() == [-1, 1]
    path = change(make, "mfn", tmp_path / "x.npz", youtube_y_train=np.array([[1.0, 1, 0], [0, 0, 1]]))
    with pytest.raises(AffectusError, match=r"Not exactly one class in .*youtube_y_train, row 0"):
        import_corpus("mfn", path, name="youtube")


def test_mosei_video_maps_names_and_keeps_infinity(source: Source) -> None:
    corpus = import_corpus("mosei-video", source("mosei-video"))
    assert {"happiness", "sadness"} <= set(corpus.table.columns)
    assert np.isneginf(corpus.features["audio"].values).all()


def test_ravdess_splits_and_classes(source: Source) -> None:
    corpus = import_corpus("ravdess", source("ravdess"))
    assert corpus.table["split"].to_list() == ["train", "valid", "test"]
    assert corpus.table["emotion_class"].to_list() == ["none", "calm", "surprise"]
    assert corpus.table["video"].to_list() == corpus.table["speaker"].to_list() == ["actor01", "actor19", "actor21"]


# --- CSV ---


def replaced(make: ModuleType, format: str, path: Path, old: str, new: str) -> Path:
    text = make.TEXTS[format][1]
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("format", "old", "new", "message"),
    [
        ("mosei-text", "sentiment", "sentimnet", r"There is no column 'sentiment' .*Did you mean 'sentimnet'\?"),
        ("mosei-text", "-1.5", "-4", r"out of range in .*row 3, column 'sentiment': got -4.0; .*\[-3, 3\]"),
        ("mosei-text", "0.3", "-0.3", r"out of range in .*row 3, column 'happy': got -0.3; .*\[0, 3\]"),
        ("mosei-text", "-1.5", "low", r"The cell is no number in .*row 3, column 'sentiment': got 'low'"),
        ("mosei-text", "-1.5", "inf", r"out of range in .*row 3, column 'sentiment': got inf"),
        ("mosei-text", "5.0,6.0", ",6.0", "The cell is empty in .*row 2, column 'start_time'"),
        ("mosei-text", ",dev", ",develop", "Unknown split 'develop'"),
        ("mosei-text", '"Second, here."', "Second, here.", "Not a whole CSV file"),
        ("mosei-labels", "segment_id", "segment", r"no column 'segment_id' .*Did you mean 'segment'\?"),
        ("meld", "joy", "joyful", r"The value is unknown in .*row 2, column 'Emotion': got 'joyful'.*mean 'joy'\?"),
        ("meld", "negative", "bad", r"row 4, column 'Sentiment': got 'bad'; expected one of: negative, neutral"),
        ("meld", "0:20:50,5", "20 min", r"The cell is no time in .*row 3, column 'StartTime': got '20 min'"),
        ("sims", "-1.0", "-1.5", r"out of range in .*row 2, column 'label': got -1.5; .*\[-1, 1\]"),
        ("sims", "clip_id", "clip", r"There is no column 'clip_id' .*Did you mean 'clip'\?"),
    ],
)
def test_wrong_tables(format: str, old: str, new: str, message: str, make: ModuleType, tmp_path: Path) -> None:
    path = replaced(make, format, tmp_path / "train.csv", old, new)
    with pytest.raises(AffectusError, match=message):
        import_corpus(format, path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mosei_text_orders_by_time_and_chooses_the_column(source: Source) -> None:
    corpus = import_corpus("mosei-text", source("mosei-text"))
    assert corpus.table["id"].to_list() == ["v1[0]", "v1[1]", "v2[0]"]
    assert corpus.table["text"].to_list() == ["First.", "Second, here.", "Other."]
    assert corpus.table["happiness"][0] == pytest.approx(0.3)
    assert import_corpus("mosei-text", source("mosei-text"), text_column="ASR").table["text"][0] == "first"
    with pytest.raises(AffectusError, match=r"There is no column 'txt'"):
        import_corpus("mosei-text", source("mosei-text"), text_column="txt")


def test_mosei_labels_may_be_missing_and_drop_rows_in_no_split(source: Source) -> None:
    corpus = import_corpus("mosei-labels", source("mosei-labels"))
    assert corpus.table["id"].to_list() == ["v1[0]", "v1[3]"]
    assert corpus.table["sentiment"].to_list() == [1.0, None]
    assert "1 videos (1 utterances) are in no split of the source and were dropped." in corpus.card.notes


def test_meld_reads_times_classes_and_splits(source: Source, make: ModuleType, tmp_path: Path) -> None:
    table = import_corpus("meld", source("meld")).table
    assert table["id"].to_list() == ["train_dia0_utt0", "train_dia0_utt1", "train_dia1_utt0"]
    assert table["start"].to_list() == pytest.approx([1257.256, 1250.5, 4344.66])
    assert table["emotion_class"].to_list() == ["happiness", "none", "fear"]
    assert table["sentiment"].to_list() == [1, 0, -1]
    other = tmp_path / "sub" / "lines.csv"
    other.parent.mkdir()
    other.write_text(make.MELD, encoding="utf-8")
    assert import_corpus("meld", other).table["id"][0] == "lines_dia0_utt0"
    named = import_corpus("meld", other, split_name="test")
    assert (named.table["id"][0], named.table["split"][0]) == ("test_dia0_utt0", "test")
    with pytest.raises(AffectusError, match=r"The folder holds no MELD file in .*\*_sent_emo\.csv"):
        import_corpus("meld", other.parent)


def test_sims_languages_order_and_the_data_sets_own_file(source: Source, tmp_path: Path) -> None:
    corpus = import_corpus("sims", source("sims"))
    assert (corpus.table["text"].to_list(), corpus.card.language) == (["二", "十", "一"], "zh")
    english = import_corpus("sims", source("sims"), text_column="english")
    assert (english.table["text"].to_list(), english.card.language) == (["two", "ten", "one"], "en")
    meta = tmp_path / "meta.csv"
    meta.write_text(
        "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\nv,0001,一,0.2,0.4,-1,1,Positive,test\n",
        encoding="utf-8",
    )
    own = import_corpus("sims", meta)
    assert tuple(own.schemes) == ("sentiment", "sentiment_text", "sentiment_audio", "sentiment_vision")
    assert own.table.select("text", "split", "sentiment_audio").row(0) == ("一", "test", -1.0)


# --- pickles ---


def test_misa_reads_words_labels_and_split(source: Source, make: ModuleType, tmp_path: Path) -> None:
    corpus = import_corpus("misa", source("misa"))
    assert corpus.table["id"].to_list() == ["vid[2]", "vid[10]"]
    assert corpus.table["text"].to_list() == ["one", "three words here"]
    assert corpus.features["audio"].lengths.tolist() == [1, 3]
    assert corpus.card.word_aligned
    dev = make.write_pickle(tmp_path / "dev.pkl", [(*e[:2], f"other[{i}]") for i, e in enumerate(make.misa_entries())])
    assert counts(import_corpus("misa", [*source("misa"), dev])) == {
        "train": {"videos": 1, "utterances": 2},
        "valid": {"videos": 1, "utterances": 2},
    }


def test_misa_with_emotions_lengths_and_unaligned_sequences(make: ModuleType, tmp_path: Path) -> None:
    """MMIM adds the lengths to the tuple, MOSEI's label has seven numbers."""
    sequences = (np.arange(2), np.ones((3, 2), "f4"), np.ones((5, 4), "f4"), [b"two", b"words"], 3, 5)
    entry = (sequences, np.array([[1, 0.5, 0, 0, 0, 0, 3]], "f4"), "vid")
    corpus = import_corpus("misa", make.write_pickle(tmp_path / "x.pkl", [entry], 2))
    assert not corpus.card.word_aligned
    assert corpus.table.row(0, named=True) | {"text": "two words", "happiness": 0.5, "fear": 3.0} == corpus.table.row(
        0, named=True
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": []}, "Not MISA's layout in .*got dict; expected a list of tuples"),
        ([], "Not MISA's layout"),
        ([(1, 2)], "Not MISA's layout in .*row 0"),
        ([((0, np.ones((1, 2)), np.ones(3), ["a"]), [[1.0]], "v[0]")], "The acoustic sequence has the wrong shape"),
        ([((0, np.ones((1, 2)), np.ones((1, 3)), ["a"]), [[1.0, 2]], "v[0]")], "The label has the wrong size"),
        ([((0, np.ones((1, 2)), np.ones((1, 3)), ["a"]), [[4.0]], "v[0]")], r"'sentiment' out of range .*'v\[0\]'"),
        (
            [
                ((0, np.ones((1, 2)), np.ones((1, 3)), ["a"]), [[1.0]], "v[0]"),
                ((0, np.ones((1, 2)), np.ones((1, 4)), ["a"]), [[1.0]], "v[1]"),
            ],
            r"The utterances differ in width of audio .*got \[3, 4\]",
        ),
        (
            [
                ((0, np.ones((1, 2)), np.ones((1, 3)), ["a"]), [[1.0]], "v[0]"),
                ((0, np.ones((1, 2)), np.ones((1, 3)), ["a"]), [[1.0] + [0.0] * 6], "v[1]"),
            ],
            "The labels differ in width in .*row 1: got 7; expected 1",
        ),
    ],
)
def test_wrong_misa_pickles(data: Any, message: str, make: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=message):
        import_corpus("misa", make.write_pickle(tmp_path / "x.pkl", data))


@pytest.mark.parametrize("protocol", [2, 4])
def test_mmsa_unaligned_respects_lengths(protocol: int, make: ModuleType, tmp_path: Path) -> None:
    data = {"train": make.mmsa_part(3, sims=True), "valid": make.mmsa_part(2, video="w", sims=True)}
    path = make.write_pickle(tmp_path / "unaligned_39.pkl", data, protocol)
    corpus = import_corpus("mmsa", path)
    assert not corpus.card.word_aligned
    assert corpus.table["id"].to_list()[:2] == ["video$_$0001", "video$_$0002"]
    assert (corpus.table["video"][0], corpus.table["text"][0]) == ("video", "text 0")
    assert {name: ragged.lengths.tolist() for name, ragged in corpus.features.items()} == {
        "text": [1, 2, 3, 1, 2],
        "audio": [2, 3, 4, 2, 3],
        "vision": [1, 2, 3, 1, 2],
    }
    np.testing.assert_array_equal(corpus.features["audio"][1], data["train"]["audio"][1, :3])
    assert np.isneginf(corpus.features["audio"][0][0, 1])
    assert tuple(corpus.schemes) == ("sentiment", "sentiment_text", "sentiment_audio", "sentiment_vision")
    assert corpus.schemes["sentiment"].low == -1
    assert corpus.table["sentiment_text"].to_list() == pytest.approx([0.4] * 5)
    assert any("2 infinite values" in note for note in corpus.card.notes)


def test_mmsa_aligned_trims_the_padding(make: ModuleType, tmp_path: Path) -> None:
    corpus = import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", {"test": make.mmsa_part(3, aligned=True)}))
    assert corpus.card.word_aligned
    assert corpus.splits.tolist() == ["test"] * 3
    for ragged in corpus.features.values():
        assert ragged.lengths.tolist() == [1, 2, 3]
    assert corpus.schemes["sentiment"].high == 3


def test_mmsa_without_mask_or_lengths(make: ModuleType, tmp_path: Path) -> None:
    part = make.mmsa_part(2)
    for key in ("text_bert", "audio_lengths", "vision_lengths", "raw_text"):
        del part[key]
    part["vision"][1] = 0
    part["vision"][1, [1, 3]] = 1
    part["text"] = part["text"][:, 0]
    corpus = import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", {"train": part}))
    assert corpus.features["vision"].lengths.tolist() == [1, 3]
    assert corpus.features["text"].lengths.tolist() == [1, 1]
    assert corpus.table["text"].null_count() == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio_lengths": [2, 9]}, r"A length in 'audio_lengths' is out of range .*0002': got 9; expected 0 to 6"),
        ({"audio_lengths": [2]}, "'audio_lengths' has the wrong shape"),
        ({"audio": np.zeros((1, 6, 2))}, r"'audio' has the wrong shape .*split train.*\(2, steps, width\)"),
        ({"text_bert": np.zeros((2, 4, 3))}, "'text_bert' has the wrong shape"),
        ({"regression_labels": np.zeros(3)}, "'regression_labels' has the wrong shape"),
        ({"regression_labels": np.array([0, 3.5])}, r"'regression_labels' out of range .*0002': got 3.5"),
        ({"raw_text": ["a"]}, "'raw_text' has the wrong shape .*got 1 entries; expected 2"),
        ({"id": None, "ids": ["a", "b"]}, r"There is no key 'id' .*Did you mean 'ids'\?"),
    ],
)
def test_wrong_mmsa_pickles(changes: dict[str, Any], message: str, make: ModuleType, tmp_path: Path) -> None:
    part = make.mmsa_part(2) | changes
    data = {"train": {key: value for key, value in part.items() if value is not None}}
    with pytest.raises(AffectusError, match=message):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", data))


def test_mmsa_layouts_that_are_none(make: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"Not MMSA's layout in .*got list"):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", [1]))
    with pytest.raises(AffectusError, match=r"Not MMSA's layout in .*got an empty dictionary; expected train"):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", {}))
    with pytest.raises(AffectusError, match=r"Not MMSA's layout in .*got the key 'audio'"):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", {"audio": {}}))
    wide = make.mmsa_part(1, video="w")
    wide["vision"] = np.ones((1, 5, 7))
    with pytest.raises(AffectusError, match=r"The splits differ in width of vision .*got \[2, 7\]"):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", {"train": make.mmsa_part(1), "test": wide}))


# --- computational sequences ---


def test_csd_cuts_words_and_frames_to_the_segments(csd_files: list[Path]) -> None:
    corpus = import_corpus("csd", csd_files)
    assert corpus.table["id"].to_list() == ["vid[0]", "vid[1]"]
    assert corpus.table["text"].to_list() == ["hello", "good bye"]
    assert corpus.table["word_starts"].to_list() == [[0.1], [2.0, 2.4]]
    assert corpus.table["sentiment"].to_list() == [1.0, -2.0]
    audio = corpus.features["audio"]
    assert audio.times is not None
    assert [audio[row][:, 0].tolist() for row in range(2)] == [[0, 2, 4, 6], [16, 18, 20, 22]]
    assert audio.times[:2].tolist() == [[0, 0.25], [0.25, 0.5]]
    assert "1 pauses ('sp') among the words were dropped." in corpus.card.notes


def test_csd_without_labels_makes_each_video_an_utterance(csd_files: list[Path]) -> None:
    corpus = import_corpus("csd", csd_files[1:])
    assert corpus.table.select("id", "start", "end", "text").row(0) == ("vid", 0.0, 4.0, "hello between good bye")
    assert corpus.features["audio"].lengths.tolist() == [16]
    assert corpus.schemes == {}


def test_csd_files_that_the_sdk_has_aligned(make: ModuleType, tmp_path: Path) -> None:
    """After the SDK's align the keys are segments, and every sequence has one step per word."""
    times = np.array([[0.0, 1.0], [1.0, 2.0]])
    keys = ("v[0]", "v[1]")
    labels = {key: (np.array([[0.5] * 7]), np.array([[0.0, 2.0]])) for key in keys}
    paths = [
        make.write_csd(tmp_path / "l.csd", "All Labels", labels),
        make.write_csd(tmp_path / "a.csd", "COVAREP", {key: (np.ones((2, 3)), times) for key in keys}),
        make.write_csd(tmp_path / "v.csd", "FACET 4.2", {key: (np.ones((2, 4)), times) for key in keys}),
        make.write_csd(tmp_path / "w.csd", "glove_vectors", {key: (np.ones((2, 5)), times) for key in keys}),
    ]
    corpus = import_corpus("csd", paths)
    assert corpus.dims == {"text": 5, "audio": 3, "vision": 4}
    assert corpus.card.word_aligned
    assert corpus.table["video"].to_list() == ["v", "v"]
    assert tuple(corpus.schemes) == ("sentiment", "emotions")
    assert corpus.table["happiness"].to_list() == [0.5, 0.5]


def test_csd_names_dimensions_and_several_files_of_a_kind(
    make: ModuleType, csd_files: list[Path], tmp_path: Path
) -> None:
    frames = (np.ones((2, 2)), np.array([[0.0, 1.0], [2.0, 3.0]]))
    more = make.write_csd(tmp_path / "o.csd", "OpenSMILE eGeMAPS", {"vid": frames}, '["pitch", "energy"]')
    absent = make.write_csd(tmp_path / "f.csd", "FACET", {"other": frames})
    corpus = import_corpus("csd", [*csd_files, more])
    assert corpus.modalities == ("audio", "opensmile_egemaps")
    assert corpus.card.modalities["opensmile_egemaps"].feature_names == ["pitch", "energy"]
    with pytest.raises(AffectusError, match=r"None of the videos is in the file in .*f\.csd"):
        import_corpus("csd", [*csd_files, absent])
    both = make.write_csd(tmp_path / "f.csd", "FACET", {"other": frames, "vid": frames})
    two = {"vid": (np.array([[1.0]]), np.array([[0.0, 1.0]])), "third": (np.array([[1.0]]), np.array([[0.0, 1.0]]))}
    labels = make.write_csd(tmp_path / "labels.csd", "Opinion Segment Labels", two)
    corpus = import_corpus("csd", [labels, both])
    assert corpus.features["vision"].lengths.tolist() == [0, 1] or corpus.features["vision"].lengths.tolist() == [1, 0]
    assert "1 of 2 videos are not in f.csd." in corpus.card.notes


def test_csd_ratings(make: ModuleType, tmp_path: Path) -> None:
    entries = {"v": (np.array([[1.0, 7.0]]), np.array([[0.0, 1.0]]))}
    named = make.write_csd(tmp_path / "labels.csd", "labels", entries, '["confidence", "passion"]')
    assert import_corpus("csd", named).schemes["ratings"].columns == ("confidence", "passion")
    unnamed = make.write_csd(tmp_path / "labels.csd", "labels", entries, "nonsense")
    assert import_corpus("csd", unnamed).schemes["ratings"].columns == ("rating_01", "rating_02")


def test_csd_words_that_lag_are_moved(make: ModuleType, tmp_path: Path) -> None:
    """A word of n letters takes n tenths of a second; each is written beside the interval of the next word."""
    rng = np.random.default_rng(0)
    words = ["a" * length for length in rng.integers(1, 12, 400)]
    ends = np.cumsum([len(word) / 10 for word in words])
    times = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    said = np.array([[word.encode()] for word in words])
    right = make.write_csd(tmp_path / "w.csd", "words", {"v": (said, times)})
    straight = import_corpus("csd", right)
    assert not any("moved" in note for note in straight.card.notes)
    lagging = make.write_csd(tmp_path / "w.csd", "words", {"v": (said[:-1], times[1:])})
    moved = import_corpus("csd", lagging)
    assert "moved by one" in moved.card.notes[0]
    assert moved.table["words"][0].to_list() == words[1:-1]
    assert moved.table["word_starts"][0].to_list() == times[1:-1, 0].tolist()


def test_wrong_csd_files(make: ModuleType, csd_files: list[Path], tmp_path: Path) -> None:
    labels = csd_files[0]
    times = np.array([[0.0, 1.0]])

    def write(entries: dict[str, Any], root: str = "COVAREP") -> Path:
        path: Path = make.write_csd(tmp_path / "x.csd", root, entries)
        return path

    with pytest.raises(AffectusError, match=r"do not fit together in .*'vid': got shapes \(3, 2\) and \(1, 2\)"):
        import_corpus("csd", [labels, write({"vid": (np.ones((3, 2)), times)})])
    with pytest.raises(AffectusError, match=r"do not fit together"):
        import_corpus("csd", [labels, write({"vid": (np.ones((1, 2, 2)), times)})])
    with pytest.raises(AffectusError, match=r"There are several files of labels"):
        import_corpus("csd", [labels, labels])
    with pytest.raises(AffectusError, match=r"Label 'sentiment' out of range .*'vid\[0\]': got 5.0"):
        import_corpus("csd", write({"vid": (np.array([[5.0]]), times)}, "Labels"))
    with pytest.raises(AffectusError, match=r"The labels are no numbers"):
        import_corpus("csd", write({"vid": (np.array([[b"x"]]), times)}, "Labels"))
    with pytest.raises(AffectusError, match=r"The labels differ in width between videos .*got \[1, 2\]"):
        import_corpus("csd", write({"a": (np.ones((1, 1)), times), "b": (np.ones((1, 2)), times)}, "Labels"))
    with pytest.raises(AffectusError, match=r"The features differ in width .*'b': got 2; expected 1"):
        import_corpus("csd", write({"a": (np.ones((1, 1)), times), "b": (np.ones((1, 2)), times)}))
    with pytest.raises(AffectusError, match=r"The source holds no utterance"):
        import_corpus("csd", write({}))
    with pytest.raises(AffectusError, match=r"The source holds no utterance"):
        import_corpus("csd", write({}, "Labels"))


def test_csd_layouts_that_are_none(csd_files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "x.csd"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = [1], [2]
    with pytest.raises(AffectusError, match=r"Not a computational sequence in .*got 2 roots"):
        import_corpus("csd", path)
    with h5py.File(path, "w") as file:
        file["root/values"] = [1]
    with pytest.raises(AffectusError, match=r"Not a computational sequence in .*expected a group root/data"):
        import_corpus("csd", path)
    with h5py.File(path, "w") as file:
        file["COVAREP/data/vid/features"] = np.ones((1, 2))
    with pytest.raises(AffectusError, match=r"There is no data set 'intervals'"):
        import_corpus("csd", [csd_files[0], path])


def test_csd_files_may_not_point_to_other_files(csd_files: list[Path], tmp_path: Path) -> None:
    path, secret = tmp_path / "x.csd", tmp_path / "secret.bin"
    secret.write_bytes(bytes(64))
    with h5py.File(path, "w") as file:
        file["root"] = h5py.ExternalLink(str(csd_files[2]), "/COVAREP")
    with pytest.raises(AffectusError, match=r"'root' points to another file"):
        import_corpus("csd", path)
    with h5py.File(path, "w") as file:
        file.create_group("COVAREP/data")["vid"] = h5py.ExternalLink(str(csd_files[2]), "/COVAREP/data/vid")
    with pytest.raises(AffectusError, match=r"'vid' points to another file"):
        import_corpus("csd", path)
    with h5py.File(path, "w") as file:
        group = file.create_group("COVAREP/data/vid")
        group.create_dataset("features", (4, 2), "f8", external=[(str(secret), 0, 64)])
        group["intervals"] = np.zeros((4, 2))
    with pytest.raises(AffectusError, match=r"The data set 'features' points to another file"):
        import_corpus("csd", path)
    with h5py.File(path, "w") as file:
        group = file.create_group("COVAREP/data/vid")
        layout = h5py.VirtualLayout((16, 2), "f8")
        layout[:] = h5py.VirtualSource(str(csd_files[2]), "COVAREP/data/vid/features", (16, 2))
        group.create_virtual_dataset("features", layout)
        group["intervals"] = np.zeros((16, 2))
    with pytest.raises(AffectusError, match=r"The data set 'features' points to another file"):
        import_corpus("csd", path)


def test_nothing_warns(source: Source) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for format in READERS:
            import_corpus(format, source(format), name=NAMES.get(format))
