"""Loaders: every utterance once per epoch, an order that depends on (seed, epoch) alone, padding and views."""

import numpy as np
import pytest
import torch

from affectus.batches import Batch, Loader, Scale, Scaler, choose_modalities, fit_scaler
from affectus.batches.loaders import mean_over_steps, measured
from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.errors import AffectusError
from affectus.labels import emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.vocabulary import SIX_EMOTIONS, View

DIMS = {"text": 3, "audio": 2}


def make_corpus(videos: int = 11, *, aligned: bool = False, missing: bool = True, seed: int = 0) -> Corpus:
    """Videos of 1 to 6 utterances in two splits; sequences of 1 to 5 steps, some empty, some steps all zero."""
    rng = np.random.default_rng(seed)
    records, sequences = [], {name: [] for name in DIMS}
    for video in range(videos):
        for number in range(int(rng.integers(1, 7))):
            records.append(
                {
                    "id": f"{video}-{number}",
                    "video": f"v{video}",
                    "split": "train" if video < videos * 2 // 3 else "valid",
                    "sentiment": None if rng.random() < 0.2 else float(rng.uniform(-3, 3)),
                    **{name: float(rng.uniform(0, 3)) for name in SIX_EMOTIONS},
                    "emotion_class": rng.choice(["anger", "none"]),
                }
            )
            steps = int(rng.integers(1, 6))
            for name, dim in DIMS.items():
                length = steps if aligned else int(rng.integers(1, 6))
                values = rng.normal(2, 3, size=(length, dim))
                values[rng.random(length) < 0.2] = 0
                gone = missing and rng.random() < 0.15
                sequences[name].append(None if gone else values)
    features = {name: Ragged.from_sequences(parts, DIMS[name]) for name, parts in sequences.items()}
    schemes = [sentiment_scheme(), emotions_scheme(), emotion_class_scheme(("anger", "none"))]
    return build_corpus(records, features, Card(name="made", schemes=schemes))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus()


@pytest.fixture(scope="module")
def aligned() -> Corpus:
    return make_corpus(aligned=True)


def loader(corpus: Corpus, view: View = View.CONTEXTUAL, split: str | None = "train", scale=Scale.NONE, **settings):
    names = tuple(DIMS)
    return Loader(corpus, split, view, names, fit_scaler(corpus, view, names, scale), **{"batch_size": 3, **settings})


def rows_of(batches) -> list[int]:
    return [int(row) for batch in batches for row in batch.rows[batch.mask]]


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.parametrize("split", ["train", "valid", None])
def test_every_utterance_once_per_epoch(aligned, view, shuffle, buckets, split) -> None:
    batches = loader(aligned, view, split, shuffle=shuffle, buckets=buckets)
    for epoch in range(2):
        batches.set_epoch(epoch)
        found = list(batches)
        assert len(found) == len(batches)
        assert sorted(rows_of(found)) == aligned.rows(split).tolist()
        assert all(batch.size <= 3 for batch in found)


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("buckets", [False, True])
def test_order_depends_on_seed_and_epoch_alone(aligned, view, buckets) -> None:
    def order(seed: int, epoch: int, *, skip: int = 0) -> list[int]:
        batches = loader(aligned, view, shuffle=True, seed=seed, buckets=buckets, batch_size=2)
        for earlier in range(skip):
            batches.set_epoch(earlier)
            list(batches)
        batches.set_epoch(epoch)
        np.random.seed(skip)
        torch.manual_seed(skip)
        return rows_of(batches)

    assert order(1, 3) == order(1, 3, skip=3)
    assert order(1, 3) != order(1, 4)
    assert order(1, 3) != order(2, 3)


def test_order_without_shuffling_and_buckets(corpus) -> None:
    assert rows_of(loader(corpus, split=None, buckets=False)) == list(range(len(corpus)))


def test_buckets_waste_less(corpus) -> None:
    def padding(buckets: bool) -> int:
        return sum(int((~batch.mask).sum()) for batch in loader(corpus, split=None, buckets=buckets))

    assert padding(True) < padding(False)


def test_contextual_batches_hold_the_corpus(corpus) -> None:
    for batch in loader(corpus, split="valid"):
        for video, rows in enumerate(batch.rows):
            real = batch.mask[video]
            # the utterances of one video, in their order, then padding
            assert real.sum() == len(rows[real])
            assert bool(real[: int(real.sum())].all())
            assert corpus.table["video"].gather(rows[real].tolist()).n_unique() == 1
            assert rows[real].tolist() == sorted(rows[real].tolist())
            assert (rows[~real] == -1).all()
            for name in DIMS:
                assert (batch.features[name][video, ~real] == 0).all()
                assert not batch.masks[name][video, ~real].any()
                means, present = mean_over_steps(corpus.features[name], rows[real].numpy())
                np.testing.assert_array_equal(batch.masks[name][video, real].numpy(), present)
                np.testing.assert_allclose(batch.features[name][video, real], np.where(present[:, None], means, 0))
            for name in corpus.schemes:
                np.testing.assert_array_equal(batch.labels[name][video, real], corpus.label(name)[rows[real].numpy()])
                assert torch.isnan(batch.labels[name][video, ~real]).all()


def test_vectors_that_are_not_pooled_beforehand_are_the_same(corpus, monkeypatch) -> None:
    def batches() -> list[Batch]:
        scaler = fit_scaler(corpus, View.CONTEXTUAL, ("text", "audio"), Scale.STANDARD)
        loader = Loader(corpus, "train", View.CONTEXTUAL, ("text", "audio"), scaler, batch_size=3, shuffle=True)
        return list(loader)

    pooled = batches()
    monkeypatch.setattr("affectus.batches.loaders.POOLED_BYTES", 0)
    for one, two in zip(pooled, batches(), strict=True):
        assert torch.equal(one.rows, two.rows)
        for name in one.modalities:
            assert torch.equal(one.features[name], two.features[name])
            assert torch.equal(one.masks[name], two.masks[name])


def test_pad_to(corpus) -> None:
    longest = max(len(rows) for rows in corpus.recordings("train"))
    assert all(batch.mask.shape[1] == 20 for batch in loader(corpus, pad_to=20))
    assert max(batch.mask.shape[1] for batch in loader(corpus, pad_to=2)) == longest


@pytest.mark.parametrize("view", [View.UNALIGNED, View.ALIGNED])
def test_sequence_batches_hold_the_corpus(aligned, view) -> None:
    for batch in loader(aligned, view, "valid"):
        assert batch.mask.all()
        for i, row in enumerate(batch.rows.tolist()):
            for name in DIMS:
                raw = np.asarray(aligned.features[name][row])
                x, mask = batch.features[name][i].numpy(), batch.masks[name][i].numpy()
                np.testing.assert_allclose(x[: len(raw)], raw, rtol=1e-6)
                assert (x[len(raw) :] == 0).all()
                # a step in which nothing was measured is not real
                np.testing.assert_array_equal(mask, np.pad((raw != 0).any(axis=1), (0, len(x) - len(raw))))
        widths = {name: batch.features[name].shape[1] for name in DIMS}
        assert view is View.UNALIGNED or len(set(widths.values())) == 1


def test_unaligned_modalities_keep_their_lengths(corpus) -> None:
    found = list(loader(corpus, View.UNALIGNED, batch_size=4))
    assert any(batch.features["text"].shape[1] != batch.features["audio"].shape[1] for batch in found)
    for batch in found:
        for name in DIMS:
            assert batch.features[name].shape[1] == max(corpus.features[name].lengths[batch.rows].max(), 1)


def test_a_modality_that_is_missing_throughout_a_batch_has_a_step() -> None:
    features = {"text": Ragged.from_sequences([None, None], 3)}
    records = [{"id": str(i), "video": "v", "split": "train"} for i in range(2)]
    only = build_corpus(records, features, Card(name="empty"))
    scaler = Scaler({"text": np.zeros(3, np.float32)}, {"text": np.ones(3, np.float32)})
    batch = next(iter(Loader(only, "train", View.UNALIGNED, ["text"], scaler, batch_size=2)))
    assert batch.features["text"].shape == (2, 1, 3)
    assert not batch.masks["text"].any()


def test_the_aligned_view_needs_aligned_sequences(corpus) -> None:
    with pytest.raises(AffectusError, match=r"'made' is not word-aligned in utterance '.*text \d, audio \d steps"):
        loader(corpus, View.ALIGNED)


def test_a_missing_modality_does_not_break_alignment() -> None:
    assert rows_of(loader(make_corpus(aligned=True, missing=True), View.ALIGNED))


def test_choose_modalities(corpus) -> None:
    assert choose_modalities(corpus, None) == ("text", "audio")
    assert choose_modalities(corpus, ["audio"]) == ("audio",)
    with pytest.raises(AffectusError, match=r"Unknown modality 'vision' in the corpus 'made'"):
        choose_modalities(corpus, ["vision"])
    table_only = Corpus(corpus.table, {}, corpus.card.model_copy(update={"modalities": {}}))
    with pytest.raises(AffectusError, match=r"has no features, only a table.*affectus features text"):
        choose_modalities(table_only, None)


def test_empty_split(corpus) -> None:
    with pytest.raises(AffectusError, match="no utterance in the split 'test'"):
        loader(corpus, split="test")


def test_mean_over_steps_against_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    sequences = []
    for length in (3, 0, 1, 7, 2, 4):
        values = rng.normal(size=(length, 3)).astype(np.float32)
        values[rng.random(length) < 0.3] = 0
        values[rng.random((length, 3)) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
        sequences.append(values)
    sequences.append(np.zeros((4, 3)))  # there, but nothing was measured
    sequences.append(np.array([[np.nan, 1.0, 2.0], [np.inf, 3.0, 2.0]]))  # a column without a finite value
    ragged = Ragged.from_sequences(sequences, 3)
    rows = np.array([4, 0, 6, 1, 7, 2, 3, 5])
    means, present = mean_over_steps(ragged, rows)
    for got, there, row in zip(means, present, rows, strict=True):
        real = [step for step in sequences[row] if any(x != 0 and np.isfinite(x) for x in step)]
        assert there == bool(real)
        for column in range(3):
            finite = [step[column] for step in real if np.isfinite(step[column])]
            expected = np.mean(finite) if finite else np.nan
            np.testing.assert_allclose(got[column], expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 60, 1 << 24])
@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("view", [View.CONTEXTUAL, View.UNALIGNED])
def test_scaling_of_parts_is_that_of_the_whole(
    view: View, scale: Scale, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_corpus()
    rng = np.random.default_rng(0)
    sequences = []
    for _ in range(len(plain)):
        values = rng.normal(100, [1, 1e-3, 0], size=(rng.integers(0, 9), 3)).astype(np.float32)
        values[rng.random(values.shape) < 0.1] = rng.choice([np.nan, -np.inf, 0.0])
        values[rng.random(len(values)) < 0.1] = -np.inf
        sequences.append(values)
    corpus = Corpus(plain.table, {"eda": Ragged.from_sequences(sequences, 3)}, plain.card.model_copy(deep=True))
    monkeypatch.setattr(Ragged.row_chunks, "__defaults__", (size,))
    found = fit_scaler(corpus, view, ["eda"], scale).arrays()
    rows = corpus.rows("train")
    steps = [step[((step != 0) & np.isfinite(step)).any(axis=1)] for step in sequences]
    whole = np.concatenate([steps[row] for row in rows])
    if view is View.CONTEXTUAL:
        means, present = mean_over_steps(corpus.features["eda"], rows)
        whole = means[present]
    for name, values in Scaler.fit({"eda": whole}, scale).arrays().items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)


def test_a_step_without_a_finite_value_was_not_measured(corpus) -> None:
    """MMSA writes -inf where audio was silent and reads it as 0; so such a step is no step."""
    sequences = [np.full((3, 2), -np.inf, np.float32) for _ in range(len(corpus))]
    for sequence in sequences:
        sequence[0] = 1.0
        sequence[1] = [-np.inf, 0.0]
    one = Corpus(corpus.table, {"audio": Ragged.from_sequences(sequences, 2)}, corpus.card.model_copy(deep=True))
    scaler = fit_scaler(one, View.UNALIGNED, ["audio"], Scale.STANDARD)
    batch = next(iter(Loader(one, "train", View.UNALIGNED, ["audio"], scaler, batch_size=3)))
    assert batch.masks["audio"].tolist() == [[True, False, False]] * 3
    assert bool(torch.isfinite(batch.features["audio"]).all())


def test_mean_of_single_steps_is_the_step() -> None:
    ragged = Ragged.from_rows([[1.0, 2.0], [0.0, 0.0], [3.0, np.inf]])
    means, present = mean_over_steps(ragged, np.array([2, 0, 1]))
    np.testing.assert_array_equal(present, [True, True, False])
    np.testing.assert_array_equal(means[1], [1.0, 2.0])


def test_mean_of_single_steps_leaves_out_what_is_not_finite() -> None:
    """The same rule as for longer sequences: a column without a finite value has no mean."""
    means, _ = mean_over_steps(Ragged.from_rows([[3.0, np.inf]]), np.array([0]))
    np.testing.assert_array_equal(means, [[3.0, np.nan]])


def test_scaling_enters_the_batches(corpus) -> None:
    batches = loader(corpus, scale=Scale.STANDARD, batch_size=100)
    batch = next(iter(batches))
    for name in DIMS:
        real = batch.features[name][batch.masks[name]]
        torch.testing.assert_close(real.mean(dim=0), torch.zeros(DIMS[name]), atol=1e-5, rtol=0)
        torch.testing.assert_close(real.std(dim=0, correction=0), torch.ones(DIMS[name]), atol=1e-4, rtol=0)
        assert (batch.features[name][~batch.masks[name]] == 0).all()


def test_scaling_is_fitted_on_train_alone(corpus) -> None:
    changed = {name: Ragged(r.values.copy(), r.offsets) for name, r in corpus.features.items()}
    for ragged in changed.values():
        ragged.values[ragged.step_index(corpus.rows("valid"))] = 1e6
    other = Corpus(corpus.table, changed, corpus.card)
    for view in (View.CONTEXTUAL, View.UNALIGNED):
        first, second = (fit_scaler(c, view, tuple(DIMS), Scale.STANDARD).arrays() for c in (corpus, other))
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_batch_helpers(corpus) -> None:
    batch = next(iter(loader(corpus)))
    assert batch.modalities == ("text", "audio")
    assert batch.to("cpu").rows is batch.rows
    without = batch.without("audio")
    assert not without.masks["audio"].any()
    assert (without.features["audio"] == 0).all()
    assert without.features["text"] is batch.features["text"]


def test_steps_that_were_not_measured_are_found_whatever_the_rest_looks_like() -> None:
    finite = np.array([[0.0, 0.0], [0.0, 2.0], [1e-38, 0.0], [3e38, 3e38]], np.float32)
    odd = np.array([[-np.inf, -np.inf], [np.nan, 0.0], [np.nan, 1.0], [np.inf, 0.0]], np.float32)
    assert measured(finite).tolist() == [False, True, True, True]
    assert measured(np.concatenate([finite[:2], odd])).tolist() == [False, True, False, False, True, False]
    assert measured(np.zeros((2, 0), np.float32)).tolist() == [False, False]
