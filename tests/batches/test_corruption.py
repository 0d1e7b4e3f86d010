"""Corruptions do what they say, to what they name, by the same numbers whatever the batching."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectus.batches import Batch, Tokens
from affectus.batches.corruption import (
    Draw,
    add_noise,
    column_deviations,
    drop_burst,
    drop_frames,
    hide_modalities,
    missing,
    shuffle_pairing,
)
from affectus.testing.batches import make_batch
from affectus.vocabulary import View

DRAW = Draw(3, 1)
VIEWS = list(View)
NAMES = ("text", "audio", "vision")


def many(view: View, count: int = 400, missing: float = 0.0) -> Batch:
    lengths = tuple(np.random.default_rng(0).integers(2, 9, count).tolist())
    return make_batch(view, lengths=lengths, missing=missing)


def utterances(batch: Batch, name: str) -> torch.Tensor:
    return batch.masks[name] if batch.view is View.CONTEXTUAL else batch.masks[name].any(dim=1)


def with_tokens(batch: Batch, *, ids: bool = False) -> Batch:
    """Turn a batch's text into tokens, one per step, or three per utterance in the contextual view."""
    text, mask = batch.features["text"], batch.masks["text"]
    words = None
    if batch.view is View.CONTEXTUAL:
        text, mask = text.unsqueeze(2).repeat(1, 1, 3, 1), mask.unsqueeze(2).repeat(1, 1, 3)
    if batch.view is View.ALIGNED:
        # two tokens for each word, and a mark at the start
        words = torch.arange(mask.shape[1]).repeat_interleave(2).expand(len(mask), -1)
        text, mask = text.repeat_interleave(2, dim=1), mask.repeat_interleave(2, dim=1)
        words = torch.cat([torch.full((len(mask), 1), -1), words.masked_fill(~mask, -1)], dim=1)
        text, mask = torch.cat([text[:, :1], text], dim=1), torch.cat([mask.any(dim=1, keepdim=True), mask], dim=1)
    states = (text[..., 0].abs() * 100).long() if ids else text
    features = {name: values for name, values in batch.features.items() if name != "text"}
    return replace(batch, features=features, tokens=Tokens(states, mask, words))


def same(first: Batch, second: Batch, *names: str) -> bool:
    return all(
        torch.equal(first.masks[name], second.masks[name]) and torch.equal(first.features[name], second.features[name])
        for name in names
    )


def zero_outside(batch: Batch) -> bool:
    return all(bool((values[~batch.masks[name]] == 0).all()) for name, values in batch.features.items())


# --- random numbers ---


def test_numbers_are_uniform_and_do_not_depend_on_each_other() -> None:
    rows, steps = np.arange(300)[:, None], np.arange(200)
    x = DRAW.uniform("frames", "audio", rows, steps)
    assert x.shape == (300, 200)
    assert ((x >= 0) & (x < 1)).all()
    counts = np.histogram(x, bins=20, range=(0, 1))[0]
    assert (np.abs(counts - 3000) < 5 * np.sqrt(3000)).all()
    for shifted in (
        x[1:, :] - 0.5,
        np.roll(x, 1, axis=1)[1:] - 0.5,
        DRAW.uniform("frames", "text", rows, steps)[1:] - 0.5,
    ):
        assert abs(np.mean(shifted * (x[:-1] - 0.5))) < 5 / 12 / np.sqrt(x.size)
    assert np.unique(x).size == x.size


def test_numbers_belong_to_the_place() -> None:
    rows = np.array([7, 3, 9])
    whole = DRAW.uniform("missing", "audio", rows)
    assert [DRAW.uniform("missing", "audio", row).item() for row in rows] == whole.tolist()
    for other in (Draw(3, 2), Draw(4, 1)):
        assert not np.isin(other.uniform("missing", "audio", rows), whole).any()
    assert not np.isin(DRAW.uniform("frames", "audio", rows), whole).any()


# --- hiding ---


@pytest.mark.parametrize("view", VIEWS)
def test_missing(view: View) -> None:
    batch = many(view)
    found = missing(batch, ["audio"], 0.3, DRAW)
    assert same(found, batch, "text", "vision")
    had, has = utterances(batch, "audio"), utterances(found, "audio")
    assert float(has[had].float().mean()) == pytest.approx(0.7, abs=4 * (0.21 / int(had.sum())) ** 0.5)
    assert zero_outside(found)
    # an utterance keeps all of its steps or none
    kept = found.masks["audio"] if view is View.CONTEXTUAL else has.unsqueeze(1)
    assert torch.equal(found.masks["audio"], batch.masks["audio"] & kept)
    gone = missing(batch, NAMES, 1.0, DRAW)
    assert not any(mask.any() for mask in gone.masks.values())
    assert same(missing(batch, NAMES, 0.0, DRAW), batch, *NAMES)
    both = missing(batch, ["text", "audio"], 0.5, DRAW)
    assert bool((utterances(both, "text") != utterances(both, "audio"))[batch.mask].any())


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("corrupt", [missing, drop_frames])
def test_a_larger_rate_hides_all_that_a_smaller_one_hides(view: View, corrupt) -> None:
    batch = many(view, 60)
    before = batch
    for rate in (0.1, 0.4, 0.7, 1.0):
        after = corrupt(batch, NAMES, rate, DRAW)
        for name in NAMES:
            assert not bool((after.masks[name] & ~before.masks[name]).any())
        before = after


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("corrupt", [missing, drop_frames, drop_burst])
def test_batching_changes_nothing(view: View, corrupt) -> None:
    batch = many(view, 6)
    whole = corrupt(batch, NAMES, 0.5, DRAW)
    for place in range(6):
        one = corrupt(batch.map(lambda x, i=place: x[i : i + 1]), NAMES, 0.5, DRAW)
        for name in NAMES:
            assert torch.equal(one.masks[name], whole.masks[name][place : place + 1])


@pytest.mark.parametrize("view", [View.UNALIGNED, View.ALIGNED])
def test_frames(view: View) -> None:
    batch = many(view)
    found = drop_frames(batch, ["vision"], 0.25, DRAW)
    real = batch.masks["vision"]
    assert float(found.masks["vision"][real].float().mean()) == pytest.approx(0.75, abs=0.04)
    assert same(found, batch, "text", "audio")
    assert zero_outside(found)
    partly = found.masks["vision"].sum(dim=1)
    assert bool(((partly > 0) & (partly < real.sum(dim=1))).any())


def test_frames_of_the_contextual_view_are_utterances() -> None:
    batch = many(View.CONTEXTUAL)
    assert same(drop_frames(batch, NAMES, 0.4, DRAW), missing(batch, NAMES, 0.4, DRAW), *NAMES)


@given(st.sampled_from(VIEWS), st.floats(0, 1), st.integers(0, 50))
def test_a_burst_is_one_run_of_the_right_length(view: View, share: float, number: int) -> None:
    batch = make_batch(view, lengths=(1, 4, 7, 10), missing=0.2, seed=number)
    found = drop_burst(batch, ["audio"], share, Draw(0, number))
    for before, after in zip(batch.masks["audio"], found.masks["audio"], strict=True):
        gone = (before & ~after)[before]  # over the real steps alone
        assert int(gone.sum()) == int(np.floor(share * int(before.sum()) + 0.5))
        where = gone.nonzero().ravel()
        assert len(where) == 0 or int(where[-1] - where[0]) == len(where) - 1
    assert zero_outside(found)


def test_bursts_fall_anywhere() -> None:
    batch = make_batch(View.UNALIGNED, lengths=(4,) * 300)
    found = drop_burst(batch, ["text"], 0.25, DRAW)
    assert ((batch.masks["text"] & ~found.masks["text"]).sum(dim=0) > 40).all()


# --- noise ---


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("decibels", [20.0, 0.0, -10.0])
def test_noise_has_the_power_that_it_should(view: View, decibels: float) -> None:
    batch = many(view)
    features = {
        name: torch.where(batch.masks[name].unsqueeze(-1), values * 3 + 1, 0.0)
        for name, values in batch.features.items()
    }
    features["audio"][..., 1] = torch.where(batch.masks["audio"], 5.0, 0.0)
    batch = replace(batch, features=features)
    deviations = column_deviations([batch], NAMES)
    found = add_noise(batch, ["audio"], decibels, DRAW, deviations)
    assert same(found, batch, "text", "vision")
    assert torch.equal(found.masks["audio"], batch.masks["audio"])
    real = batch.masks["audio"]
    noise = (found.features["audio"] - batch.features["audio"])[real].double()
    ratio = 10 * torch.log10(batch.features["audio"][real].double().var(dim=0) / noise.var(dim=0))
    assert not noise[:, 1].any()  # a constant column
    kept = [0, 2, 3, 4]
    np.testing.assert_allclose(ratio[kept], decibels, atol=0.8)
    assert float(noise[:, kept].mean().abs()) < 0.1 * 10 ** (-decibels / 20) * 3
    assert zero_outside(found)


def test_the_same_noise_at_every_ratio_and_batching() -> None:
    batch = many(View.UNALIGNED, 5)
    deviations = column_deviations([batch], NAMES)
    strong, weak = (add_noise(batch, NAMES, d, DRAW, deviations).features["text"] for d in (0.0, 20.0))
    np.testing.assert_allclose(strong - batch.features["text"], 10 * (weak - batch.features["text"]), atol=1e-4)
    one = add_noise(batch.map(lambda x: x[2:3]), NAMES, 0.0, DRAW, deviations)
    torch.testing.assert_close(one.features["text"], strong[2:3])
    other = add_noise(batch, NAMES, 0.0, Draw(3, 2), deviations).features["text"]
    assert not torch.allclose(other, strong)


def test_deviations_of_parts_are_those_of_the_whole() -> None:
    batch = many(View.UNALIGNED, 40, missing=0.3)
    batch = batch.map(lambda x: x * 1e-3 + 100 if x.is_floating_point() else x)
    whole = {
        name: values[batch.masks[name]].double().std(dim=0, correction=0) for name, values in batch.features.items()
    }
    parts = [batch.map(lambda x, i=i: x[i : i + 7]) for i in range(0, 40, 7)]
    for name, found in column_deviations(parts, NAMES).items():
        np.testing.assert_allclose(found, whole[name], rtol=1e-9)


def test_a_modality_that_is_nowhere_has_no_deviation() -> None:
    assert set(column_deviations([many(View.ALIGNED, 3).without("audio")], NAMES)) == {"text", "vision"}


# --- pairing ---


@pytest.mark.parametrize("view", VIEWS)
def test_shuffled_pairing(view: View) -> None:
    batch = many(view, 50, missing=0.2)
    found = shuffle_pairing(batch, ["audio"], 1.0, DRAW)
    assert same(found, batch, "text", "vision")
    has = utterances(batch, "audio")
    assert torch.equal(utterances(found, "audio"), has)
    before, after = batch.features["audio"][has], found.features["audio"][has]
    assert not any(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert sorted(float(x.sum()) for x in before) == pytest.approx(sorted(float(x.sum()) for x in after), abs=1e-5)
    half = shuffle_pairing(batch, ["audio"], 0.5, DRAW).features["audio"][has]
    moved = torch.tensor([not torch.equal(x, y) for x, y in zip(before, half, strict=True)])
    assert 0.3 < float(moved.float().mean()) < 0.7
    assert same(shuffle_pairing(batch, NAMES, 0.0, DRAW), batch, *NAMES)


def test_nothing_to_pair_with() -> None:
    batch = make_batch(View.UNALIGNED, lengths=(3,))
    assert same(shuffle_pairing(batch, NAMES, 1.0, DRAW), batch, *NAMES)


# --- tokens ---


@pytest.mark.parametrize("view", VIEWS)
def test_tokens_are_hidden_with_their_text(view: View) -> None:
    batch = with_tokens(many(view, 30))
    tokens = batch.tokens
    assert tokens is not None
    gone = missing(batch, ["text"], 1.0, DRAW)
    assert gone.tokens is not None
    assert not gone.tokens.mask.any()
    assert not gone.masks["text"].any()
    some = missing(batch, ["text"], 0.5, DRAW)
    assert some.tokens is not None
    assert torch.equal(some.tokens.mask.flatten(batch.rows.dim()).any(dim=-1), utterances(some, "text"))
    if view is not View.CONTEXTUAL:
        frames = drop_frames(batch, ["text"], 0.5, DRAW).tokens
        assert frames is not None
        assert 0.3 < int(frames.mask.sum()) / int(tokens.mask.sum()) < 0.8
    if view is View.ALIGNED:
        kept = drop_frames(batch, ["text"], 0.5, DRAW)
        assert kept.tokens is not None
        assert kept.tokens.words is not None
        of_word = kept.masks["text"].gather(1, kept.tokens.words.clamp(min=0))
        belongs = kept.tokens.words >= 0
        assert torch.equal(kept.tokens.mask[belongs], of_word[belongs])


def test_tokens_swap_and_get_noise() -> None:
    batch = with_tokens(many(View.UNALIGNED, 20))
    deviations = column_deviations([batch], NAMES)
    noisy = add_noise(batch, ["text"], 0.0, DRAW, deviations)
    assert batch.tokens is not None
    assert noisy.tokens is not None
    changed = (noisy.tokens.states != batch.tokens.states).any(dim=-1)
    assert torch.equal(changed, batch.tokens.mask)
    swapped = shuffle_pairing(batch, ["text"], 1.0, DRAW)
    assert swapped.tokens is not None
    assert torch.equal(swapped.tokens.mask, swapped.masks["text"])
    ids = with_tokens(many(View.UNALIGNED, 20), ids=True)
    assert "text" not in column_deviations([ids], NAMES)
    same_ids = add_noise(ids, ["text"], 0.0, DRAW, {})
    assert same_ids.tokens is ids.tokens


# --- modality dropout ---


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_modality_dropout_leaves_one(view: View, share: float) -> None:
    batch = many(view, missing=0.3)
    found = hide_modalities(batch, share, torch.Generator().manual_seed(0))
    had = torch.stack([utterances(batch, name) for name in NAMES], dim=-1)
    has = torch.stack([utterances(found, name) for name in NAMES], dim=-1)
    assert torch.equal(has.any(dim=-1), had.any(dim=-1))
    assert not bool((has & ~had).any())
    assert zero_outside(found)
    # of k modalities each is hidden with the probability share, all of them with share^k, when one of them stays
    for k in (1, 2, 3):
        those = had.sum(dim=-1) == k
        hidden = 1 - float(has[those].sum()) / (k * int(those.sum()))
        assert hidden == pytest.approx(share - share**k / k, abs=0.06)
    if share:
        assert has[those].float().mean(dim=0).std() < 0.06  # no modality is favoured


def test_modality_dropout_is_that_of_its_generator() -> None:
    batch = many(View.ALIGNED, 30)
    first, second, other = (hide_modalities(batch, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert same(first, second, *NAMES)
    assert not same(first, other, *NAMES)
