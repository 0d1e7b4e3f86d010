import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectus.corpus import Card, Corpus, Ragged, build_corpus, load_corpus
from affectus.corpus import align as align_module
from affectus.corpus.align import align_corpus, pool_over
from affectus.corpus.intervals import overlap_ranges
from affectus.corpus.readers import import_corpus
from affectus.errors import AffectusError

Array = npt.NDArray[Any]


def plain_pool(values: Array, steps: Array, words: Array) -> Array:
    """Average per word, one word and one step at a time."""
    pooled = np.zeros((len(words), values.shape[1]))
    for number, (start, end) in enumerate(words):
        inside = []
        for row, (begin, stop) in enumerate(steps):
            stop, last = max(stop, np.nextafter(begin, np.inf)), max(end, np.nextafter(start, np.inf))
            if begin < last and stop > start:
                inside.append(row)
        if not inside:
            # the nearest step, the last of those before if several are
            gaps = [max(start - stop, begin - end) for begin, stop in steps]
            nearest = np.flatnonzero(np.array(gaps) == min(gaps)).tolist()
            inside = [row for row in nearest if steps[row, 1] <= start][-1:] or nearest[:1]
        pooled[number] = values[inside].mean(axis=0)
    return pooled


@st.composite
def sequences(draw: Any, *, may_be_empty: bool = True) -> Array:
    """Draw (T, 2) intervals on a coarse grid, so that edges coincide; begins and ends rise, gaps and overlaps occur."""
    count = draw(st.integers(0 if may_be_empty else 1, 8))
    begins = np.cumsum(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    ends = np.maximum.accumulate(begins + np.array(draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))))
    return np.stack([begins, ends], axis=1).reshape(-1, 2) / 4.0


@st.composite
def utterances(draw: Any) -> list[tuple[Array, Array]]:
    return [(draw(sequences()), draw(sequences())) for _ in range(draw(st.integers(1, 5)))]


@settings(max_examples=80, deadline=None)
@given(utterances(), st.integers(1, 40), st.integers(0, 2**16))
def test_pooling_equals_a_plain_loop(parts: list[tuple[Array, Array]], chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=(len(steps), 2)).astype(np.float32) for steps, _ in parts]
    ragged = Ragged.from_sequences(values, 2, times=[steps for steps, _ in parts])
    words = np.concatenate([said for _, said in parts])
    offsets = np.concatenate([[0], np.cumsum([len(said) for _, said in parts])]).astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align_module, "CHUNK_VALUES", chunk)
        pooled, _ = pool_over(ragged, words, offsets)
    for row, (steps, said) in enumerate(parts):
        if len(steps) == 0:
            assert len(pooled[row]) == 0
        else:
            np.testing.assert_allclose(pooled[row], plain_pool(values[row], steps, said), rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(utterances())
def test_overlap_ranges_hold_just_the_overlapping_steps(parts: list[tuple[Array, Array]]) -> None:
    joined = [np.concatenate([pair[side] for pair in parts]) for side in (0, 1)]
    offsets = [np.concatenate([[0], np.cumsum([len(pair[side]) for pair in parts])]) for side in (0, 1)]
    low, high = overlap_ranges(joined[0], offsets[0], joined[1], offsets[1])
    for utterance in range(len(parts)):
        for query in range(offsets[1][utterance], offsets[1][utterance + 1]):
            start, end = joined[1][query]
            end = max(end, np.nextafter(start, np.inf))
            inside = []
            for step in range(offsets[0][utterance], offsets[0][utterance + 1]):
                begin, stop = joined[0][step]
                if begin < end and max(stop, np.nextafter(begin, np.inf)) > start:
                    inside.append(step)
            assert list(range(low[query], high[query])) == inside


def words_corpus(**features: Ragged) -> Corpus:
    """Return two utterances of two words and of one word, and a third of none."""
    table = pl.DataFrame(
        {
            "id": ["a", "b", "c"],
            "video": ["v", "v", "v"],
            "split": ["train"] * 3,
            "words": [["one", "two"], ["three"], []],
            "word_starts": [[0.0, 1.0], [2.0], []],
            "word_ends": [[1.0, 2.0], [3.0], []],
        },
        schema_overrides={"words": pl.List(pl.String()), "word_starts": pl.List(pl.Float64())},
    )
    return build_corpus(table, features, Card(name="words"))


def frames(*counts: int, rate: float = 2.0, begin: float = 0.0) -> Ragged:
    """Return sequences that count up, at so many steps per second."""
    values = [np.arange(n, dtype=float)[:, None] for n in counts]
    times = [np.stack([np.arange(n) / rate, np.arange(1, n + 1) / rate], axis=1) + begin for n in counts]
    return Ragged.from_sequences(values, 1, times=times)


def test_aligns_to_words() -> None:
    aligned = align_corpus(words_corpus(audio=frames(4, 6, 2), vision=frames(4, 0, 0, rate=1.0)))
    assert aligned.card.word_aligned
    audio = aligned.features["audio"]
    assert [audio[row].ravel().tolist() for row in range(3)] == [[0.5, 2.5], [4.5], []]
    assert aligned.features["vision"].lengths.tolist() == [2, 0, 0]
    assert audio.times is not None
    assert audio.times.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert "1 of 3 utterances have no words, hence no step in any modality." in aligned.card.notes


def test_a_word_without_a_step_takes_the_nearest() -> None:
    aligned = align_corpus(words_corpus(audio=frames(1, 2, 0, begin=0.25)))
    assert aligned.features["audio"].values.ravel().tolist() == [0.0, 0.0, 1.0]
    assert "audio: 2 of 3 words overlap no step and took the nearest one." in aligned.card.notes


def test_non_finite_values_stay_in_their_word() -> None:
    ragged = frames(4, 2, 0)
    ragged.values[0] = -np.inf
    ragged.values[1] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aligned = align_corpus(words_corpus(audio=ragged))
    assert np.isnan(aligned.features["audio"].values[0])
    assert aligned.features["audio"].values[1:].ravel().tolist() == [2.5, 1.0]


def test_sequences_that_have_one_step_per_word_are_kept() -> None:
    tokens = Ragged.from_sequences([[[7.0], [8.0]], [[9.0]], None], 1)
    aligned = align_corpus(words_corpus(text=tokens, audio=frames(4, 6, 2)))
    assert aligned.features["text"].values.ravel().tolist() == [7, 8, 9]
    assert aligned.features["text"].times is not None


def test_aligns_to_a_modality() -> None:
    corpus = words_corpus(audio=frames(4, 6, 2), vision=frames(2, 3, 1, rate=1.0))
    aligned = align_corpus(corpus, "vision")
    assert aligned.features["vision"].lengths.tolist() == aligned.features["audio"].lengths.tolist() == [2, 3, 1]
    assert aligned.features["audio"][0].ravel().tolist() == [0.5, 2.5]


def test_modalities_can_be_left_out() -> None:
    corpus = words_corpus(text=Ragged.from_rows([[1.0], [2.0], [3.0]]), audio=frames(4, 6, 2))
    with pytest.raises(
        AffectusError, match=r"'text' has no times, so it cannot be aligned .*leave it out with --modal"
    ):
        align_corpus(corpus)
    assert align_corpus(corpus, modalities=["audio"]).modalities == ("audio",)
    with pytest.raises(AffectusError, match=r"Unknown modality 'adio' .*Did you mean 'audio'\?"):
        align_corpus(corpus, modalities=["adio"])


def test_what_cannot_be_aligned(corpus: Corpus) -> None:
    with pytest.raises(AffectusError, match=r"The words have no times.* 'little'\. Align with --to audio"):
        align_corpus(corpus)
    with pytest.raises(AffectusError, match="'vision' has no times, so nothing can be aligned to it"):
        align_corpus(corpus, "vision")
    with pytest.raises(AffectusError, match=r"Unknown target 'wrods' .*Did you mean 'words'\?"):
        align_corpus(corpus, "wrods")
    untimed = Corpus(corpus.table, {"vision": corpus.features["vision"]}, corpus.card)
    with pytest.raises(AffectusError, match="Import it from a source with word times"):
        align_corpus(untimed)
    backwards = frames(4, 6, 2)
    assert backwards.times is not None
    backwards.times[:2] = backwards.times[1::-1]
    with pytest.raises(AffectusError, match="do not begin in rising order"):
        align_corpus(words_corpus(audio=backwards))
    ragged_times = words_corpus(audio=frames(4, 6, 2))
    table = ragged_times.table.with_columns(pl.col("word_ends").list.head(1))
    with pytest.raises(AffectusError, match="another number of word starts than of word ends"):
        align_corpus(Corpus(table, ragged_times.features, ragged_times.card))


def test_progress_ends_at_all_steps() -> None:
    seen: list[tuple[int, int]] = []
    corpus = words_corpus(audio=frames(4, 6, 2), vision=frames(2, 3, 1, rate=1.0))
    align_corpus(corpus, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (18, 18)
    assert seen == sorted(seen)


def test_real_words(data_dir: Path, tmp_path: Path, make: Any) -> None:
    """CMU-MOSI's words and made-up frames, 20 a second, whose value is the time: a word's mean is its middle."""
    mosi = data_dir / "cmu_mosi"
    labels, words = mosi / "CMU_MOSI_Labels.csd", mosi / "CMU_MOSI_ModifiedTimestampedWords.csd"
    videos = import_corpus("csd", [labels, words]).table.group_by("video").agg(pl.col("end").max())
    entries = {}
    for video, end in videos.iter_rows():
        begins = np.arange(0, end + 1, 0.05)
        entries[video] = (begins[:, None] + 0.025, np.stack([begins, begins + 0.05], axis=1))
    audio = make.write_csd(tmp_path / "audio.csd", "COVAREP", entries)
    import_corpus("csd", [labels, words, audio], out=tmp_path / "corpus")
    aligned = align_corpus(load_corpus(tmp_path / "corpus"))
    times, values = aligned.features["audio"].times, aligned.features["audio"].values
    assert times is not None
    assert len(values) == aligned.table["words"].list.len().sum()
    inside = times[:, 1] - times[:, 0] > 0.1
    assert np.abs(values[:, 0] - times.mean(axis=1))[inside].mean() < 0.02
