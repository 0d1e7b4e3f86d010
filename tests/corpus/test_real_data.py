"""Every format read from real files, checked, and round-tripped."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from affectus.corpus import Corpus, load_corpus
from affectus.corpus.check import check_corpus
from affectus.corpus.readers import import_corpus
from affectus.corpus.storage import counts
from affectus.vocabulary import SIX_EMOTIONS


@dataclass
class Case:
    format: str
    sources: tuple[str, ...]
    counts: dict[str, tuple[int, int]]
    """Per split: videos, utterances."""
    dims: dict[str, int] = field(default_factory=dict)
    schemes: tuple[str, ...] = ("sentiment",)
    options: dict[str, Any] = field(default_factory=dict)
    splits: str | None = None
    word_aligned: bool = False
    missing: dict[str, int] = field(default_factory=dict)


MOSI, MOSEI, MFN = "cmu_mosi/", "cmu_mosei/", "mfn_aligned/mfn_mmmo_pom_youtube.npz"
MOSI_DIMS = {"text": 100, "audio": 73, "vision": 100}
CASES = {
    "mosi": Case(
        "mosi-npz",
        (MOSI + "mosi_utterance.npz",),
        {"train": (39, 918), "valid": (9, 195), "test": (24, 558)},
        MOSI_DIMS,
    ),
    "mosi-contextual": Case(
        "mosi-npz",
        (MOSI + "mosi_utterance.npz",),
        {"train": (62, 1447), "valid": (10, 224)},
        MOSI_DIMS,
        options={"splits_key": "contextual"},
        splits=MOSI + "splits.json",
    ),
    "mosei-video": Case(
        "mosei-video",
        (MOSEI + "mosei_video_level.npz",),
        {"train": (656, 656), "valid": (86, 86)},
        {"text": 768, "audio": 40, "vision": 35},
        ("sentiment", "emotions"),
    ),
    "mosei-text": Case(
        "mosei-text",
        (MOSEI + "mosei_valtest_text.csv",),
        {"train": (422, 2785), "valid": (74, 507), "test": (300, 1871)},
        schemes=("sentiment", "emotions"),
        options={"rename_splits": "test=train,valid=test", "valid_fraction": 0.15},
    ),
    "mosei-labels": Case(
        "mosei-labels",
        (MOSEI + "mosei_labels_all.csv",),
        {"train": (2249, 16327), "valid": (300, 1871), "test": (496, 3292)},
        schemes=("sentiment", "emotions"),
    ),
    "csd": Case(
        "csd",
        (MOSI + "CMU_MOSI_Labels.csd", MOSI + "CMU_MOSI_ModifiedTimestampedWords.csd"),
        {"train": (39, 918), "valid": (9, 195), "test": (24, 558)},
        options={"splits_key": "standard"},
        splits=MOSI + "splits.json",
    ),
    "misa": Case(
        "misa", (MOSI + "mosi_words_valid.pkl",), {"valid": (9, 195)}, {"audio": 74, "vision": 47}, word_aligned=True
    ),
    "mmmo": Case(
        "mfn",
        (MFN,),
        {"train": (220, 220), "valid": (40, 40)},
        {"text": 300, "audio": 74, "vision": 36},
        ("ratings",),
        {"name": "mmmo"},
        word_aligned=True,
        missing={"text": 220, "audio": 0, "vision": 0},
    ),
    "pom": Case(
        "mfn",
        (MFN,),
        {"train": (600, 600), "valid": (100, 100)},
        {"audio": 43, "vision": 41},
        ("ratings",),
        {"name": "pom"},
        word_aligned=True,
        missing={"audio": 0, "vision": 322 + 48},
    ),
    "youtube": Case(
        "mfn",
        (MFN,),
        {"train": (173, 173), "valid": (36, 36), "test": (60, 60)},
        {"text": 300, "audio": 74, "vision": 36},
        options={"name": "youtube"},
        word_aligned=True,
        missing={"text": 174, "audio": 191, "vision": 199},
    ),
    "meld": Case(
        "meld",
        ("meld",),
        {"train": (1038, 9989), "valid": (114, 1109)},
        schemes=("sentiment", "emotion_class"),
    ),
    "sims": Case("sims", ("ch_sims/sims_labels_text.csv",), {"train": (60, 1368), "valid": (59, 456)}),
    "sims-v2": Case("sims", ("ch_sims/simsv2_labels_text.csv",), {"train": (134, 2722), "valid": (120, 647)}),
    "ravdess": Case(
        "ravdess",
        ("ravdess/ravdess_au_mfcc.npz",),
        {"train": (18, 1080), "valid": (2, 120)},
        {"audio": 259, "vision": 35},
        ("emotion_class",),
    ),
}


def read(case: Case, data_dir: Path, out: Path | None = None) -> Corpus:
    sources = [data_dir / source for source in case.sources]
    splits = data_dir / case.splits if case.splits else None
    return import_corpus(case.format, sources, splits=splits, out=out, **case.options)


def assert_same(one: Corpus, other: Corpus) -> None:
    assert one.table.equals(other.table)
    assert one.modalities == other.modalities
    for name, ragged in one.features.items():
        np.testing.assert_array_equal(ragged.values, other.features[name].values)
        np.testing.assert_array_equal(ragged.offsets, other.features[name].offsets)
        assert (ragged.times is None) == (other.features[name].times is None)
        if ragged.times is not None:
            np.testing.assert_array_equal(ragged.times, other.features[name].times)
    written = {"counts", "files"}
    assert one.card.model_dump(exclude=written) == other.card.model_dump(exclude=written)


@pytest.mark.parametrize("name", CASES)
def test_imports_checks_and_round_trips(name: str, data_dir: Path, tmp_path: Path) -> None:
    case = CASES[name]
    corpus = read(case, data_dir, tmp_path / "corpus")
    found = {split: (entry["videos"], entry["utterances"]) for split, entry in counts(corpus).items()}
    assert found == case.counts
    assert corpus.dims == case.dims
    assert tuple(corpus.schemes) == case.schemes
    assert corpus.card.word_aligned == case.word_aligned
    assert {m: int((r.lengths == 0).sum()) for m, r in corpus.features.items() if m in case.missing} == case.missing
    assert_same(corpus, load_corpus(tmp_path / "corpus"))
    report = check_corpus(tmp_path / "corpus")
    assert report.damaged == []
    assert report.utterances == sum(utterances for _, utterances in case.counts.values())


def test_mosi_keeps_every_number(data_dir: Path) -> None:
    corpus = read(CASES["mosi-contextual"], data_dir)
    with np.load(data_dir / MOSI / "mosi_utterance.npz") as bundle:
        order = {name: row for row, name in enumerate(bundle["id"].tolist())}
        rows = [order[name] for name in corpus.table["id"]]
        for modality, key in (("text", "text_feat"), ("audio", "audio_feat"), ("vision", "video_feat")):
            np.testing.assert_array_equal(corpus.features[modality].values, bundle[key][rows])
        np.testing.assert_array_equal(corpus.label("sentiment")[:, 0], bundle["sentiment"][rows])
        assert corpus.table["text"].to_list() == bundle["text"][rows].tolist()
    assert "judge only on the other videos" in corpus.card.notes[0]
    assert len(check_corpus(corpus).modalities["vision"].constant_columns) == 32


def test_mosei_video_keeps_and_counts_infinite_values(data_dir: Path) -> None:
    corpus = read(CASES["mosei-video"], data_dir)
    assert np.isneginf(corpus.features["audio"].values[:, 7]).sum() == 535
    found = check_corpus(corpus).modalities["audio"]
    assert (found.nan, found.inf) == (0, 535)
    assert [(column.column, column.inf, column.utterances) for column in found.columns] == [(7, 535, 535)]
    assert any("535 infinite values" in note for note in corpus.card.notes)


def test_the_two_forms_of_mosei_agree(data_dir: Path) -> None:
    text = import_corpus("mosei-text", data_dir / MOSEI / "mosei_valtest_text.csv").table
    labels = read(CASES["mosei-labels"], data_dir).table
    columns = ["video", "start", "sentiment", *SIX_EMOTIONS]
    joined = text.select(columns).join(labels.select(columns), on=["video", "start"], how="inner")
    # the transcripts' file has cut 43 starts that lie before the recording to 0
    assert (len(text), len(joined)) == (5163, 5120)
    for column in ("sentiment", *SIX_EMOTIONS):
        assert (joined[column] - joined[f"{column}_right"]).abs().max() < 1e-6


def test_sdk_folds_on_mosei_labels(data_dir: Path, tmp_path: Path) -> None:
    """The SDK's folds name 182 videos that have no label, and some labelled videos stand in no fold."""
    source = data_dir / MOSEI / "mosei_labels_all.csv"
    corpus = import_corpus("mosei-labels", source, splits=data_dir / MOSEI / "mosei_std_folds.json")
    assert counts(corpus)["test"]["videos"] <= 678
    assert any("in no split of mosei_std_folds.json" in note for note in corpus.card.notes)


def test_mosei_asr_differs_from_the_transcript(data_dir: Path) -> None:
    source = data_dir / MOSEI / "mosei_valtest_text.csv"
    said = import_corpus("mosei-text", source, text_column="text").table["text"]
    heard = import_corpus("mosei-text", source, text_column="ASR").table["text"]
    assert (said != heard).mean() > 0.9


def test_csd_words_are_moved_to_their_own_times(data_dir: Path) -> None:
    """In the published file words lag by one; moved, they equal the published transcripts, before hardly one does."""
    corpus = read(CASES["csd"], data_dir)
    assert "moved by one" in corpus.card.notes[0]
    with np.load(data_dir / MOSI / "mosi_utterance.npz") as bundle:
        said = pl.DataFrame({name: bundle[name] for name in ("video_id", "start", "text")})
    published = {(video, round(start, 2)): text.lower().split() for video, start, text in said.iter_rows()}
    rows = corpus.table.select("video", "start", "words").iter_rows()
    equal = sum(published[video, round(start, 2)] == words for video, start, words in rows)
    assert equal > 0.85 * 1671
    lengths = corpus.table["words"].list.len()
    assert (lengths == corpus.table["word_starts"].list.len()).all()


def test_misa_and_csd_agree_on_labels(data_dir: Path) -> None:
    misa, csd = read(CASES["misa"], data_dir).table, read(CASES["csd"], data_dir).table
    joined = misa.join(csd.select("id", "sentiment"), on="id", how="left")
    assert len(joined) == 195
    assert (joined["sentiment"] - joined["sentiment_right"]).abs().max() < 1e-5
    assert misa["text"][0].startswith("uh i really enjoyed")


def test_meld_order_classes_and_split_in_the_ids(data_dir: Path) -> None:
    corpus = read(CASES["meld"], data_dir)
    first = corpus.table.row(0, named=True)
    assert (first["id"], first["speaker"]) == ("train_dia0_utt0", "Chandler")
    assert first["start"] == pytest.approx(16 * 60 + 16.059)
    classes = dict(corpus.table.filter(split="valid")["emotion_class"].value_counts().iter_rows())
    assert classes == {
        "none": 470, "happiness": 163, "anger": 153, "surprise": 150, "sadness": 111, "fear": 40, "disgust": 22,
    }  # fmt: skip
    steps = corpus.table.select(pl.col("segment").diff().over("split", "video"))["segment"].drop_nulls()
    assert (steps > 0).all()
    assert corpus.table.filter(split="valid")["sentiment"].value_counts().sort("sentiment")["count"].to_list() == [
        406,
        470,
        233,
    ]


def test_ravdess_paths_lead_to_the_sound(data_dir: Path) -> None:
    corpus = read(CASES["ravdess"], data_dir)
    assert (data_dir / "ravdess" / corpus.table["path"][0]).is_file()
    assert corpus.schemes["emotion_class"].classes[:3] == ("none", "calm", "happiness")
    assert not check_corpus(corpus).shared_speakers


def test_sims_splits_cut_through_videos(data_dir: Path) -> None:
    report = check_corpus(read(CASES["sims"], data_dir))
    assert len(report.shared_videos["train and valid"]) == 59


def test_mfn_steps(data_dir: Path) -> None:
    corpus = read(CASES["mmmo"], data_dir)
    assert corpus.features["audio"].lengths.sum() == 4135 + 752
    assert corpus.features["vision"].lengths.sum() == 4135 + 752
    pom = read(CASES["pom"], data_dir)
    assert pom.features["audio"].lengths.sum() == 8201 + 1476
    assert read(CASES["youtube"], data_dir).table["sentiment"].unique().sort().to_list() == [-1, 0, 1]
