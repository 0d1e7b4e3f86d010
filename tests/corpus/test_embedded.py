"""The embedded corpus holds what its rule says: each effect is there at size 1 and gone at size 0."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from affectus.batches import Loader, fit_scaler
from affectus.cli.main import main
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.corpus.check import check_corpus
from affectus.corpus.embedded import make_embedded
from affectus.corpus.storage import corpus_hash
from affectus.errors import AffectusError
from affectus.objectives import available_tasks
from affectus.vocabulary import SIX_EMOTIONS, View

FloatArray = npt.NDArray[np.float64]
MANY = 800  # videos; enough for the explained variance to stand out from its noise


def vectors(corpus: Corpus, modalities: tuple[str, ...]) -> FloatArray:
    """Return (n, dim) vectors of the modalities side by side; zero where one is missing."""
    parts = []
    for name in modalities:
        ragged = corpus.features[name]
        rows = np.zeros((len(corpus), ragged.dim))
        rows[ragged.lengths > 0] = ragged.values
        parts.append(rows)
    return np.concatenate(parts, axis=1)


def neighbours(corpus: Corpus, x: FloatArray) -> FloatArray:
    """Return the vectors of the previous and of the next utterance side by side; zero at the ends of a video."""
    before, after = np.zeros_like(x), np.zeros_like(x)
    for rows in corpus.recordings():
        before[rows[1:]], after[rows[:-1]] = x[rows[:-1]], x[rows[1:]]
    return np.concatenate([before, after], axis=1)


def explained(corpus: Corpus, x: FloatArray, y: FloatArray) -> float:
    """Fit ridge regression on train and return the explained variance on the rest."""
    known = ~np.isnan(y)
    train = (corpus.splits == "train") & known
    rest = (corpus.splits != "train") & known
    return float(r2_score(y[rest], Ridge(1.0).fit(x[train], y[train]).predict(x[rest])))


def sentiment(corpus: Corpus) -> FloatArray:
    return corpus.label("sentiment")[:, 0].astype(np.float64)


ALL = ("text", "audio", "vision")


@pytest.mark.parametrize(("size", "low", "high"), [(1.0, 0.2, 0.6), (0.0, -0.02, 0.01)])
def test_contextual_effect(size: float, low: float, high: float) -> None:
    corpus = make_embedded(videos=MANY, context=size, cross_modal=0, missing=0)
    own = vectors(corpus, ALL)
    alone = explained(corpus, own, sentiment(corpus))
    together = explained(corpus, np.concatenate([own, neighbours(corpus, own)], axis=1), sentiment(corpus))
    assert low < together - alone < high


def test_what_the_neighbour_tells_stands_in_its_other_modalities() -> None:
    corpus = make_embedded(videos=MANY, cross_modal=0, missing=0)
    y = sentiment(corpus)
    around = {name: neighbours(corpus, vectors(corpus, (name,))) for name in ALL}
    assert explained(corpus, around["text"], y) < 0.01
    for name in ("audio", "vision"):
        dim = corpus.dims[name]
        before, after = around[name][:, :dim], around[name][:, dim:]
        where, elsewhere = (before, after) if name == "audio" else (after, before)
        assert explained(corpus, where, y) > 0.1
        assert explained(corpus, elsewhere, y) < 0.01


def test_deferred_utterances_hold_nothing_themselves() -> None:
    corpus = make_embedded(videos=MANY, cross_modal=0, missing=0)
    full, empty = make_embedded(videos=MANY, context=0, cross_modal=0, missing=0), vectors(corpus, ("text",))
    deferred = (np.abs(empty - vectors(full, ("text",))) > 1e-3).any(axis=1)
    assert 0.37 < deferred.mean() < 0.43
    own, y = vectors(corpus, ALL), sentiment(corpus)
    # the guest channels of an utterance's own audio and vision are about others
    train = (corpus.splits == "train") & deferred & ~np.isnan(y)
    rest = (corpus.splits != "train") & deferred & ~np.isnan(y)
    assert r2_score(y[rest], Ridge(1.0).fit(own[train], y[train]).predict(own[rest])) < 0.02


@pytest.mark.parametrize(("size", "low", "high"), [(1.0, 0.4, 0.8), (0.0, -0.02, 0.01)])
def test_cross_modal_effect(size: float, low: float, high: float) -> None:
    corpus = make_embedded(videos=MANY, context=0, cross_modal=size, missing=0)
    y = sentiment(corpus)
    gain = explained(corpus, vectors(corpus, ALL), y) - explained(corpus, vectors(corpus, ("text",)), y)
    assert low < gain < high


def test_words_times_tone_tell_what_the_words_meant() -> None:
    corpus = make_embedded(videos=MANY, context=0, missing=0)
    text, audio, y = vectors(corpus, ("text",)), vectors(corpus, ("audio",)), sentiment(corpus)
    product = (text[:, :, None] * audio[:, None, :]).reshape(len(text), -1)
    sums = np.concatenate([text, audio], axis=1)
    products = np.concatenate([sums, product], axis=1)
    assert explained(corpus, products, y) - explained(corpus, sums, y) > 0.1
    assert explained(corpus, products, y) > 0.9


@pytest.mark.parametrize(("size", "low", "high"), [(1.0, 0.25, 1.0), (0.0, -0.05, 0.01)])
def test_cross_task_effect(size: float, low: float, high: float) -> None:
    corpus = make_embedded(videos=MANY, cross_task=size, emotion_labels=1)
    emotions, y = corpus.label("emotions").astype(np.float64), sentiment(corpus)
    known = ~np.isnan(emotions).any(axis=1) & ~np.isnan(y)
    r = {name: pearsonr(y[known], emotions[known, k]).statistic for k, name in enumerate(SIX_EMOTIONS)}
    assert low < r["happiness"] ** 2 < high
    assert low < r["disgust"] ** 2 < high
    # and the other way round
    filled = np.where(known[:, None], emotions, 0)
    back = explained(corpus, filled, np.where(known, y, np.nan))
    assert (back > 0.6) if size else (back < 0.01)


def test_emotion_labels_are_few_on_train_alone() -> None:
    corpus = make_embedded()
    unknown = np.isnan(corpus.label("emotions")).all(axis=1)
    train = corpus.splits == "train"
    assert 0.75 < unknown[train].mean() < 0.85
    assert 0.02 < unknown[~train].mean() < 0.08
    assert np.isnan(corpus.label("sentiment")).mean() < 0.08


def test_an_effects_size_changes_only_what_it_governs() -> None:
    kept = ["id", "split", "start", "speaker", "sentiment", "emotion_class"]
    default = make_embedded(videos=40)
    for size in ({"context": 0}, {"cross_modal": 0}):
        assert make_embedded(videos=40, **size).table.select(kept).equals(default.table.select(kept))
    other = make_embedded(videos=40, cross_task=0)
    assert all(np.array_equal(other.features[name].values, default.features[name].values) for name in ALL)
    assert not other.table["happiness"].equals(default.table["happiness"])


def test_layout_and_labels() -> None:
    corpus = make_embedded()
    table = corpus.table
    assert corpus.card.generated
    assert any("Generated" in note for note in corpus.card.notes)
    assert set(corpus.splits) == {"train", "valid", "test"}
    sizes = [len(rows) for rows in corpus.recordings()]
    assert (len(sizes), min(sizes), max(sizes)) == (300, 4, 12)
    assert corpus.dims == {"text": 32, "audio": 16, "vision": 16}
    for name, ragged in corpus.features.items():
        assert set(ragged.lengths.tolist()) == {0, 1}, name
        assert 0.07 < (ragged.lengths == 0).mean() < 0.13
    assert (sum(ragged.lengths for ragged in corpus.features.values()) > 0).all()
    tasks = {"polarity", "intensity", "emotions", "emotion_intensity", "emotion_class", "sentiment_text"}
    assert tasks <= set(available_tasks(corpus.schemes))
    for scheme in corpus.schemes:
        missing = np.isnan(corpus.label(scheme)).any(axis=1)
        assert 0 < missing.sum() < len(corpus)
    classes = table["emotion_class"].drop_nulls().unique()
    assert len(classes) == 7
    assert (table["end"] > table["start"]).all()
    assert (table["start"] >= 0).all()
    ahead = table.filter(pl.col("video") == pl.col("video").shift(-1))["end"].to_numpy()
    assert (table.filter(pl.col("video") == pl.col("video").shift(1))["start"].to_numpy() > ahead).all()
    assert (table["text"].is_null().to_numpy() == (corpus.features["text"].lengths == 0)).all()
    words = table["text"].drop_nulls().str.split(" ").list.len()
    assert (words.min(), words.max()) == (3, 8)
    assert table.group_by("speaker").agg(pl.col("split").n_unique())["split"].max() == 1


def test_no_emotion_and_class_agree() -> None:
    corpus = make_embedded(emotion_labels=1)
    emotions, classes = corpus.label("emotions"), corpus.label("emotion_class")[:, 0]
    known = ~np.isnan(emotions).any(axis=1) & ~np.isnan(classes)
    none = (emotions[known] == 0).all(axis=1)
    assert ((classes[known] == 6) == none).all()
    some = np.flatnonzero(known)[~none]
    highest = emotions[some].max(axis=1)
    assert (emotions[some, classes[some].astype(int)] == highest).all()


def test_every_split_has_a_video_even_in_the_smallest() -> None:
    corpus = make_embedded(videos=4)
    assert [len(corpus.recordings(split)) for split in ("train", "valid", "test")] == [2, 1, 1]


def test_same_seed_same_hash(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        save_corpus(make_embedded(videos=20, seed=seed), tmp_path / name)
    assert corpus_hash(tmp_path / "a") == corpus_hash(tmp_path / "b") != corpus_hash(tmp_path / "c")


@pytest.mark.parametrize("steps", [False, True])
def test_round_trip(tmp_path: Path, steps: bool) -> None:
    corpus = make_embedded(videos=20, steps=steps)
    save_corpus(corpus, tmp_path / "corpus")
    loaded = load_corpus(tmp_path / "corpus")
    assert loaded.table.equals(corpus.table)
    for name, ragged in corpus.features.items():
        assert np.array_equal(loaded.features[name].values, ragged.values)
        assert np.array_equal(loaded.features[name].offsets, ragged.offsets)
    assert not check_corpus(tmp_path / "corpus").damaged


def test_steps_are_words_whose_mean_is_the_vector() -> None:
    flat, corpus = make_embedded(videos=40), make_embedded(videos=40, steps=True)
    assert corpus.card.word_aligned
    for name, ragged in corpus.features.items():
        lengths = ragged.lengths[ragged.lengths > 0]
        assert (lengths.min(), lengths.max()) == (3, 8)
        means = np.add.reduceat(ragged.values, ragged.offsets[:-1][ragged.lengths > 0]) / lengths[:, None]
        np.testing.assert_allclose(means, flat.features[name].values, atol=2e-4)
    words = corpus.table["words"].list.len().fill_null(0).to_numpy()
    assert (words == corpus.features["text"].lengths).all()
    view = View.ALIGNED
    batch = next(iter(Loader(corpus, "test", view, ALL, fit_scaler(corpus, view, ALL, "standard"), batch_size=8)))
    assert batch.features["text"].shape[:2] == batch.features["audio"].shape[:2]


def test_other_widths() -> None:
    assert make_embedded(videos=4, dims={"text": 50}).dims == {"text": 50, "audio": 16, "vision": 16}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"videos": 3}, "needs more videos: got 3; expected at least 4"),
        ({"seed": -1}, "seed of the embedded corpus is negative"),
        ({"context": 1.5}, r"effect size 'context' is out of range: got 1.5; expected a number in \[0, 1\]"),
        ({"cross_modal": -0.1}, "effect size 'cross_modal' is out of range"),
        ({"cross_task": float("nan")}, "effect size 'cross_task' is out of range: got nan"),
        ({"missing": 1.0}, "share of missing modalities is out of range"),
        ({"emotion_labels": 0.0}, "share of emotion labels is out of range"),
        ({"dims": {"txt": 8}}, "Unknown modality 'txt' in the embedded corpus: .* Did you mean 'text'?"),
        ({"dims": {"audio": 6}}, "audio vectors are too narrow: got 6; expected at least 7"),
    ],
)
def test_bad_parameters(options: dict[str, object], message: str) -> None:
    with pytest.raises(AffectusError, match=message):
        make_embedded(**options)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "corpus"
    options = ["--videos", "12", "--seed", "5", "--context", "0.5", "--cross-modal", "0", "--cross-task", "0.5"]
    assert main(["corpus", "embedded", "--out", str(out), *options, "--missing", "0.2", "--steps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["generated"]
    expected = make_embedded(videos=12, seed=5, context=0.5, cross_modal=0, cross_task=0.5, missing=0.2, steps=True)
    assert load_corpus(out).table.equals(expected.table)
    assert main(["corpus", "embedded", "--out", str(out), "--context", "2"]) == 2
    assert "out of range" in capsys.readouterr().err
