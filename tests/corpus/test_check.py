import numpy as np
import polars as pl
import pytest

from affectus.corpus import Card, Corpus, ModalityCard, Ragged, build_corpus, save_corpus
from affectus.corpus import check as check_module
from affectus.corpus.check import check_corpus, feature_notes
from affectus.labels import emotion_class_scheme, sentiment_scheme


@pytest.fixture(params=[40, 1 << 24])
def _chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "CHUNK_BYTES", request.param)


def odd() -> Corpus:
    """Return four utterances with everything that a check looks for."""
    table = pl.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "video": ["v", "v", "v", "w"],
            "split": ["train", "train", "valid", "valid"],
            "speaker": ["s", "s", "t", "s"],
            "text": ["x", "", None, "y"],
            "start": [0.0, 2.0, 0.0, 0.0],
            "end": [1.0, 1.0, 1.0, 1.0],
            "sentiment": [-1.0, 0.0, 2.0, None],
            "emotion_class": ["fear", "fear", None, "none"],
        }
    )
    audio = [
        [[1.0, 5.0, np.nan], [np.inf, 5.0, -np.inf]],
        [[0.0, 5.0, 1.0]],
        None,
        [[0.0, 5.0, -np.inf], [2.0, 5.0, 2.0]],
    ]
    features = {
        "audio": Ragged.from_sequences(audio, 3),
        "vision": Ragged.from_sequences([[[0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0]] * 2, None], 2),
    }
    schemes = [sentiment_scheme(), emotion_class_scheme(("fear", "anger", "none"))]
    names = ModalityCard(dim=3, feature_names=["pitch", "energy", "jitter"])
    return build_corpus(table, features, Card(name="odd", schemes=schemes, modalities={"audio": names}))


@pytest.mark.usefixtures("_chunk")
def test_finds_what_is_odd() -> None:
    report = check_corpus(odd())
    audio, vision = report.modalities["audio"], report.modalities["vision"]
    assert (audio.nan, audio.inf, audio.missing, audio.missing_rate) == (1, 3, 1, 0.25)
    assert audio.missing_per_split == {"valid": 1}
    assert [(c.column, c.name, c.nan, c.inf, c.utterances, c.examples) for c in audio.columns] == [
        (0, "pitch", 0, 1, 1, ["a"]),
        (2, "jitter", 1, 2, 2, ["a", "d"]),
    ]
    assert audio.constant_columns == [1]
    assert audio.lengths == {"min": 1, "median": 2.0, "mean": 1.67, "max": 2}
    assert (vision.all_zero_steps, vision.all_zero_utterances) == (4, 2)
    assert vision.constant_columns == [1]
    assert report.splits == {
        "train": {"videos": 1, "utterances": 2},
        "valid": {"videos": 2, "utterances": 2},
    }
    assert report.without_text == 2
    sentiment, emotion = report.labels["sentiment"], report.labels["emotion_class"]
    assert (sentiment.low, sentiment.high, sentiment.missing) == (-1, 2, 1)
    assert (sentiment.negative, sentiment.zero, sentiment.positive) == (1, 1, 1)
    assert emotion.classes == {"fear": 2, "anger": 0, "none": 1}
    assert report.shared_videos == {"train and valid": ["v"]}
    assert report.shared_speakers == {"train and valid": ["s"]}
    assert report.warnings == [
        "1 videos stand in both train and valid: v.",
        "1 speakers stand in both train and valid: s.",
        "audio: 1 NaN and 3 infinite values in 2 of 3 columns (0, 2; up to 2 utterances per column); kept.",
        "audio: 1 of 3 columns are constant; kept.",
        "audio: 1 of 4 utterances lack it (25.0%).",
        "vision: 4 of 5 vectors are all zero, in 2 utterances throughout; kept.",
        "vision: 1 of 2 columns are constant; kept.",
        "vision: 1 of 4 utterances lack it (25.0%).",
        "sentiment: 1 of 4 labels are missing (25.0%).",
        "emotion_class: 1 of 4 labels are missing (25.0%).",
        "emotion_class: no utterance is 'anger'.",
        "1 utterances end before they start.",
    ]


def test_notes_of_an_import_say_what_was_kept() -> None:
    assert feature_notes(odd())[0].startswith("audio: 1 NaN and 3 infinite values")


def test_nothing_odd() -> None:
    table = {"id": ["a"], "video": ["v"], "split": ["train"], "text": ["x"], "sentiment": [1.0]}
    features = {"audio": Ragged.from_rows([[1.0, 2.0]])}
    corpus = build_corpus(pl.DataFrame(table), features, Card(name="fine", schemes=[sentiment_scheme()]))
    assert check_corpus(corpus).warnings == []


def test_an_empty_corpus() -> None:
    table = pl.DataFrame(schema={"id": pl.String(), "video": pl.String(), "split": pl.String()})
    empty = build_corpus(table, {"audio": Ragged.from_sequences([], 2)}, Card(name="empty"))
    report = check_corpus(empty)
    assert report.warnings == ["The corpus is empty."]
    assert report.modalities["audio"].lengths == {}


def test_damaged_files(corpus: Corpus, tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_corpus(corpus, tmp_path / "c")
    path = tmp_path / "c" / "features" / "audio.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = check_corpus(tmp_path / "c")
    assert report.damaged == ["features/audio.safetensors"]
    assert report.warnings[0] == "features/audio.safetensors is damaged: its SHA-256 is not the card's."
