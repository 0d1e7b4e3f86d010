import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest

from affectus.corpus import Card, Corpus, ModalityCard, Ragged, build_corpus
from affectus.labels import emotions_scheme, sentiment_scheme
from affectus.vocabulary import SIX_EMOTIONS

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


@pytest.fixture(scope="session")
def make() -> ModuleType:
    """Return this module, whose functions make small sources."""
    return sys.modules[__name__]


@pytest.fixture
def corpus() -> Corpus:
    """Return six utterances of three videos, with sequences of two modalities, one of them missing once."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "id": [f"u{i}" for i in range(6)],
            "video": ["a", "a", "b", "b", "c", "c"],
            "split": ["train", "train", "train", "train", "valid", "valid"],
            "start": [0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
            "end": [1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
            "text": ["one two", "three", "four", "five six", "seven", None],
            "sentiment": [1.0, -2.0, 0.0, None, 3.0, -3.0],
            **{emotion: [0.0, 1.0, 0.0, 2.0, None, 3.0] for emotion in SIX_EMOTIONS},
        }
    )
    audio = [rng.normal(size=(n, 3)) for n in (4, 2, 3, 1, 5, 2)]
    vision = [rng.normal(size=(n, 2)) for n in (2, 0, 1, 3, 1, 1)]
    times = [np.stack([np.arange(len(a)), np.arange(len(a)) + 1], axis=1) * 0.2 for a in audio]
    features = {"vision": Ragged.from_sequences(vision, 2), "audio": Ragged.from_sequences(audio, 3, times=times)}
    card = Card(
        name="little",
        schemes=[sentiment_scheme(), emotions_scheme()],
        modalities={"audio": ModalityCard(dim=3, feature_names=["x", "y", "z"], rate=5.0)},
    )
    return build_corpus(table, features, card)


def mosi_arrays(rows: int = 4) -> dict[str, Any]:
    """Return the arrays of a MOSI bundle of two videos."""
    videos = [f"v{row // 2}" for row in range(rows)]
    return {
        "id": np.array([f"{video}_{row % 2 + 1}" for row, video in enumerate(videos)]),
        "video_id": np.array(videos),
        "segment": np.arange(rows) % 2 + 1,
        "text": np.array(["WORDS"] * rows),
        "sentiment": np.linspace(-3, 3, rows, dtype=np.float32),
        "split_std": np.array(["train", "train", "test", "test"] * rows)[:rows],
        "start": np.arange(rows) * 1.0,
        "end": np.arange(rows) + 1.0,
        "text_feat": np.ones((rows, 3), np.float32),
        "audio_feat": np.arange(rows * 2, dtype=np.float32).reshape(rows, 2),
        "video_feat": np.zeros((rows, 2), np.float32),
    }


def mosei_arrays(rows: int = 3) -> dict[str, Any]:
    """Return the arrays of a video-level MOSEI bundle."""
    return {
        "video_id": np.array([f"v{row}" for row in range(rows)]),
        "split": np.array(["train"] * (rows - 1) + ["valid"]),
        "label_names": np.array(["sentiment", *EMOTIONS]),
        "labels": np.full((rows, 7), 0.5, np.float32),
        "text_bert_cls": np.ones((rows, 4), np.float16),
        "acoustic_covarep40": np.full((rows, 2), -np.inf, np.float32),
        "visual_openface35": np.ones((rows, 2), np.float32),
    }


def mfn_arrays() -> dict[str, Any]:
    """Return MMMO, POM and YouTube, two utterances each, of four steps of which the first two may be padding."""
    rng = np.random.default_rng(1)
    audio, video = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 2))
    audio[0, :2] = video[0, :2] = 0
    video[1] = 0
    shared = {"audio_train": audio, "video_train": video}
    data = {f"{name}_{key}": value for name in ("mmmo", "pom", "youtube") for key, value in shared.items()}
    data["mmmo_y_train"] = np.array([1.0, 4.5])
    data["pom_y_train"] = np.full((2, 17), 3.0)
    data["youtube_y_train"] = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    return data


def ravdess_arrays() -> dict[str, Any]:
    """Return three clips of RAVDESS by actors of three splits."""
    return {
        "id": np.array(["x", "y", "z"]),
        "flac": np.array(["x.flac", "y.flac", "z.flac"]),
        "emotion_name": np.array(["neutral", "calm", "surprised"]),
        "actor": np.array([1, 19, 21]),
        "text": np.array(["Kids are talking by the door"] * 3),
        "audio_mfcc259": np.ones((3, 2)),
        "visual_au35": np.ones((3, 2)),
    }


ARRAYS = {
    "mosi-npz": mosi_arrays,
    "mosei-video": mosei_arrays,
    "mfn": mfn_arrays,
    "ravdess": ravdess_arrays,
}

MOSEI_TEXT = (
    "video_id,start_time,end_time,sentiment,happy,sad,anger,surprise,disgust,fear,text,ASR,split\n"
    'v1,5.0,6.0,1.0,0,0,0,0,0,0,"Second, here.",second here,train\n'
    "v1,1.0,2.0,-1.5,0.3,0,0,0,0,0,First.,first,train\n"
    "v2,0.0,2.0,0.0,0,3,0,0,0,0,Other.,other,dev\n"
)
MOSEI_LABELS = (
    "video_id,segment_id,start,end,sentiment,happy,sad,anger,surprise,disgust,fear,split\n"
    "v1,0,1.0,2.0,1.0,0,0,0,0,0,0,train\n"
    "v1,3,3.0,4.0,,0,0,0,0,0,0,train\n"
    "v2,0,0.0,2.0,0.0,0,3,0,0,0,0,none\n"
)
MELD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    '1,"Oh, no.",Phoebe,joy,positive,0,0,4,7,"00:20:57,256","00:21:00,049"\n'
    '2,What?,Monica,neutral,neutral,0,1,4,7,"0:20:50,5","00:21:03,261"\n'
    '3,Bye.,Ross,fear,negative,1,0,4,4,"01:12:24,660","01:12:30,915"\n'
)
SIMS = (
    "name,label,emo,split,chinese,english,video_id,clip_id\n"
    "v_0010,-1.0,0,train,十,ten,v,0010\n"
    "v_0002,0.6,0,train,二,two,v,0002\n"
    "w_0001,,0,valid,一,one,w,0001\n"
)
TEXTS = {
    "mosei-text": ("mosei.csv", MOSEI_TEXT),
    "mosei-labels": ("labels.csv", MOSEI_LABELS),
    "meld": ("train_sent_emo.csv", MELD),
    "sims": ("sims.csv", SIMS),
    "manifest": ("mine.csv", "id,video,text,sentiment\na,v,Hello,1\nb,v,Bye,-1\n"),
}


def misa_entries() -> list[Any]:
    """Return two utterances in MISA's layout."""
    rng = np.random.default_rng(2)
    entries = []
    for segment, words in ((10, ["three", "words", "here"]), (2, ["one"])):
        length = len(words)
        sequences = (np.arange(length), rng.normal(size=(length, 2)).astype("f4"), rng.normal(size=(length, 3)))
        entries.append(((*sequences, words), np.array([[1.5]], np.float32), f"vid[{segment}]"))
    return entries


def mmsa_part(rows: int = 2, *, video: str = "video", aligned: bool = False, sims: bool = False) -> dict[str, Any]:
    """Return one split in MMSA's layout; utterance i has i + 1 tokens, i + 2 audio and i + 1 vision steps."""
    rng = np.random.default_rng(3)
    steps = {"text": 4, "audio": 4 if aligned else 6, "vision": 4 if aligned else 5}
    part: dict[str, Any] = {m: np.zeros((rows, n, 2), np.float32) for m, n in steps.items()}
    tokens = np.zeros((rows, 3, 4), np.float32)
    for row in range(rows):
        part["text"][row] = rng.normal(size=(4, 2))
        tokens[row, :, : row + 1] = 1
        part["audio"][row, : row + (1 if aligned else 2)] = rng.normal(size=(1, 2))
        part["vision"][row, : row + 1] = rng.normal(size=(1, 2))
    part |= {
        "raw_text": np.array([f"text {row}" for row in range(rows)]),
        "text_bert": tokens,
        "id": [f"{video}$_${row + 1:04d}" for row in range(rows)],
        "regression_labels": np.linspace(-1, 1, rows),
        "classification_labels": np.zeros(rows),
        "annotations": ["Negative"] * rows,
    }
    if not aligned:
        part |= {"audio_lengths": [row + 2 for row in range(rows)], "vision_lengths": [row + 1 for row in range(rows)]}
        part["audio"][0, 0, 1] = -np.inf
    if sims:
        part |= {f"regression_labels_{letter}": np.full(rows, 0.4) for letter in "TAV"}
    return part


def write_pickle(path: Path, data: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    return path


def write_csd(
    path: Path,
    root: str,
    entries: dict[str, tuple[Any, Any]],
    dimensions: str | None = None,
) -> Path:
    """Write a computational sequence: per key features and intervals."""
    with h5py.File(path, "w") as file:
        for key, (features, intervals) in entries.items():
            file[f"{root}/data/{key}/features"] = features
            file[f"{root}/data/{key}/intervals"] = intervals
        if not entries:
            file.create_group(f"{root}/data")
        if dimensions is not None:
            file[f"{root}/metadata/dimension names"] = np.array([dimensions.encode()])
    return path


@pytest.fixture
def csd_files(tmp_path: Path) -> list[Path]:
    """Return labels, words and audio frames of one video of two segments."""
    labels = write_csd(
        tmp_path / "labels.csd",
        "Opinion Segment Labels",
        {"vid": (np.array([[1.0], [-2.0]]), np.array([[0.0, 1.0], [2.0, 3.0]]))},
    )
    words = np.array([[b"hello"], [b"sp"], [b"between"], [b"good"], [b"bye"]])
    word_times = np.array([[0.1, 0.5], [0.5, 0.9], [1.2, 1.8], [2.0, 2.4], [2.4, 3.2]])
    said = write_csd(tmp_path / "words.csd", "words", {"vid": (words, word_times)})
    starts = np.arange(0, 4, 0.25)
    frames = np.stack([starts, starts + 0.25], axis=1)
    audio = write_csd(tmp_path / "covarep.csd", "COVAREP", {"vid": (np.arange(32.0).reshape(16, 2), frames)})
    return [labels, said, audio]


@pytest.fixture
def source(tmp_path: Path, csd_files: list[Path]) -> Callable[[str], list[Path]]:
    """Return a function that writes a small, whole source of any format."""

    def write(format: str) -> list[Path]:
        if format in ARRAYS:
            path = tmp_path / f"{format}.npz"
            np.savez(path, **ARRAYS[format]())
            return [path]
        if format in TEXTS:
            name, text = TEXTS[format]
            (tmp_path / name).write_text(text, encoding="utf-8")
            return [tmp_path / name]
        if format == "misa":
            return [write_pickle(tmp_path / "train.pkl", misa_entries())]
        if format == "mmsa":
            return [write_pickle(tmp_path / "mmsa.pkl", {"train": mmsa_part(), "valid": mmsa_part(1, video="other")})]
        return csd_files

    return write
