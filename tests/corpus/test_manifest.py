from pathlib import Path

import numpy as np
import pytest

from affectus.corpus import Corpus
from affectus.corpus.align import align_corpus
from affectus.corpus.check import check_corpus
from affectus.corpus.readers import import_corpus
from affectus.errors import AffectusError
from affectus.vocabulary import SEVEN_EMOTIONS


def read(folder: Path, text: str) -> Corpus:
    path = folder / "m.csv"
    path.write_text(text, encoding="utf-8")
    return import_corpus("manifest", path)


def test_every_column(tmp_path: Path) -> None:
    corpus = read(
        tmp_path,
        "id,video,split,start,end,speaker,text,path,sentiment,sentiment_audio,joy,anger,emotion_class,rating_fun\n"
        'a,v,train,1.5,2,Ann,"Yes, well.",clips/a.wav,-3,0.5,3,0,joy,7\n'
        "b,v,dev,0,1,,,,,,,,neutral,\n",
    )
    assert corpus.table.row(0, named=True) == {
        "id": "a", "video": "v", "split": "train", "start": 1.5, "end": 2.0, "speaker": "Ann", "text": "Yes, well.",
        "path": "clips/a.wav", "sentiment": -3.0, "sentiment_audio": 0.5, "happiness": 3.0, "anger": 0.0,
        "emotion_class": "happiness", "rating_fun": 7.0,
    }  # fmt: skip
    assert corpus.table["sentiment"][1] is None
    assert set(corpus.schemes) == {"sentiment", "sentiment_audio", "emotions", "emotion_class", "ratings"}
    assert corpus.schemes["emotion_class"].classes == SEVEN_EMOTIONS
    assert corpus.schemes["emotions"].columns == ("anger", "happiness")
    assert "1 of 2 clips are not there." in corpus.card.notes


def test_id_or_video_is_enough(tmp_path: Path) -> None:
    assert read(tmp_path, "id\na\nb\n").table["video"].to_list() == ["a", "b"]
    corpus = read(tmp_path, "video,text\nv,one\nw,two\nv,three\n")
    assert corpus.table["id"].to_list() == ["v[0]", "v[1]", "w[0]"]
    assert corpus.table["text"].to_list() == ["one", "three", "two"]
    with pytest.raises(AffectusError, match="neither a column 'id' nor 'video'"):
        read(tmp_path, "text\nhello\n")


def test_features_beside_it(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f/a.npy", np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "f/b.npy", np.arange(3.0))
    (tmp_path / "f/a.csv").write_text("start,end,AU1\n0,0.5,1\n0.5,1,2\n", encoding="utf-8")
    (tmp_path / "f/b.csv").write_text("start,end,AU1\n0,0.5,nan\n", encoding="utf-8")
    (tmp_path / "f/plain.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    corpus = read(
        tmp_path,
        "id,audio_features,visual_features,gaze_features\na,f/a.npy,f/a.csv,\nb,f/b.npy,f/b.csv,f/plain.csv\n",
    )
    assert corpus.modalities == ("audio", "vision", "gaze")
    assert corpus.features["audio"].lengths.tolist() == [2, 1]
    assert corpus.features["audio"][1].tolist() == [[0, 1, 2]]
    assert corpus.features["gaze"].lengths.tolist() == [0, 2]
    vision = corpus.features["vision"]
    assert vision.times is not None
    assert vision.times.tolist() == [[0, 0.5], [0.5, 1], [0, 0.5]]
    assert corpus.card.modalities["vision"].feature_names == ["AU1"]
    assert np.isnan(vision.values[2, 0])
    assert any("1 NaN" in note for note in corpus.card.notes)
    aligned = align_corpus(corpus, "vision", modalities=["vision"])
    assert aligned.card.word_aligned


def test_columns_in_another_order_are_put_in_the_first_files(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("start,end,pitch,energy\n0,1,10,0.5\n", encoding="utf-8")
    (tmp_path / "2.csv").write_text("energy,start,pitch,end\n0.7,1,20,2\n", encoding="utf-8")
    (tmp_path / "3.csv").write_text("30,0.9\n", encoding="utf-8")  # without a header
    corpus = read(tmp_path, "id,audio_features\na,1.csv\nb,2.csv\nc,3.csv\n")
    assert corpus.features["audio"].values.tolist() == pytest.approx(np.array([[10, 0.5], [20, 0.7], [30, 0.9]]))
    assert corpus.card.modalities["audio"].feature_names == ["pitch", "energy"]
    assert corpus.card.notes[0] == (
        "audio_features: the columns of 1 of 3 files stood in another order and were put in that of 1.csv."
    )
    later = read(tmp_path, "id,audio_features\na,3.csv\nb,1.csv\nc,2.csv\n")
    assert later.features["audio"].values.tolist() == pytest.approx(np.array([[30, 0.9], [10, 0.5], [20, 0.7]]))


def test_columns_of_other_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("pitch,energy\n10,0.5\n", encoding="utf-8")
    (tmp_path / "2.csv").write_text("pitch,loudness\n20,0.7\n", encoding="utf-8")
    (tmp_path / "3.csv").write_text("pitch,pitch\n20,30\n", encoding="utf-8")
    rows = "id,audio_features\na,1.csv\n"
    with pytest.raises(
        AffectusError,
        match=r"other columns than those before it in .*row 3, column 'audio_features', 2\.csv: got loudness; expected "
        r"energy, as in 1\.csv\. Give all files",
    ):
        read(tmp_path, rows + "b,2.csv\n")
    with pytest.raises(AffectusError, match=r"3\.csv: got pitch, pitch; expected energy, as in 1\.csv"):
        read(tmp_path, rows + "b,3.csv\n")


def test_classes_of_known_emotions_are_the_seven(tmp_path: Path) -> None:
    corpus = read(tmp_path, "id,emotion_class\na,joy\nb,\n")
    assert corpus.schemes["emotion_class"].classes == SEVEN_EMOTIONS
    warnings = check_corpus(corpus).warnings
    assert len([warning for warning in warnings if "no utterance is 'anger' or 'disgust' or 'fear'" in warning]) == 1
    assert read(tmp_path, "id,emotion_class\na,joy\nb,calm\n").schemes["emotion_class"].classes == (
        "happiness",
        "calm",
    )


@pytest.mark.parametrize(
    ("cell", "why"), [("calm", "holds no class but 'calm'"), ("", "is empty")], ids=["one class", "none"]
)
def test_a_column_that_is_no_label_is_told(tmp_path: Path, cell: str, why: str) -> None:
    corpus = read(tmp_path, f"id,emotion_class\na,{cell}\nb,{cell}\n")
    assert not corpus.schemes
    assert f"The column 'emotion_class' {why}, so it is not used as a label." in corpus.card.notes


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/hostname", "f/../../secret.npy", "link.npy"])
def test_no_path_leaves_the_folder(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "secret.npy", np.ones(2))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.npy").symlink_to(tmp_path / "secret.npy")
    for column in ("audio_features", "path"):
        with pytest.raises(AffectusError, match=rf"The path leaves the manifest's folder .*row 2, column '{column}'"):
            read(folder, f"id,{column}\na,{name}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,sentimnet\na,1\n", r"Unknown column 'sentimnet' in .*Did you mean 'sentiment'\?"),
        ("id,age\na,1\n", r"Unknown column 'age' .*expected one of: id, video"),
        ("id,happy,joy\na,1,2\n", "Two columns mean 'happiness'"),
        ("id,sentiment\na,1\nb,3.5\n", r"out of range in .*row 3, column 'sentiment': got 3.5; expected .*\[-3, 3\]"),
        ("id,anger\na,-1\n", r"out of range in .*row 2, column 'anger': got -1.0; expected .*\[0, 3\]"),
        ("id,start\na,soon\n", r"The cell is no number in .*row 2, column 'start': got 'soon'"),
        ("id,split\na,trian\n", r"Unknown split 'trian'.*Did you mean 'train'\?"),
        ("id,split\na,\nb,none\n", None),
        ("id\na\na\n", "Two rows have the same id in .*row 2, column 'id': got 'a'"),
        ("id,text\n,hello\n", "The cell is empty in .*row 2, column 'id'"),
        ("id,audio_features\na,\n", "The column 'audio_features' names no file"),
        (
            "id,audio_features\na,\nb,f/x.npy\n",
            r"There is no feature file in .*row 3, column 'audio_features' \(id 'b'\): got 'f/x\.npy'; expected the "
            r"path .*\. Mend the path, or leave the cell empty",
        ),
        ("id,audio_features\na,x.txt\n", r"of an unknown kind in .*row 2, .*x\.txt: expected \.npy or \.csv"),
        ("id,audio_features\na,bad.npy\n", "Not a whole .npy file in .*row 2, .*bad.npy"),
        ("id,audio_features\na,objects.npy\n", "Not a whole .npy file in .*allow_pickle=False"),
        ("id,audio_features\na,cube.npy\n", r"has the wrong shape in .*cube\.npy: got float64 \(2, 2, 2\)"),
        ("id,audio_features\na,two.npy\nb,three.npy\n", "another width .*row 3, .*three.npy: got 3; expected 2"),
        ("id,audio_features\na,words.csv\n", r"The cell is no number in .*words\.csv, row 3: got 'x'"),
        ("id,audio_features\na,torn.csv\n", "Not a whole CSV file in .*torn.csv"),
    ],
)
def test_wrong_manifests(tmp_path: Path, text: str, message: str | None) -> None:
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01")
    (tmp_path / "x.txt").write_text("1", encoding="utf-8")
    (tmp_path / "words.csv").write_text("a,b\n1,2\n3,x\n", encoding="utf-8")
    (tmp_path / "torn.csv").write_text("1,2\n3,4,5\n", encoding="utf-8")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "cube.npy", np.ones((2, 2, 2)))
    np.save(tmp_path / "two.npy", np.ones(2))
    np.save(tmp_path / "three.npy", np.ones(3))
    if message is None:
        assert read(tmp_path, text).splits.tolist() == ["train", "train"]
        return
    with pytest.raises(AffectusError, match=message):
        read(tmp_path, text)
