"""Random batches are what a loader would give, and their changes are the ones they say they are."""

import pytest
import torch

from affectus.testing import DIMS, SCHEMES, join, make_batch, make_tasks, repad, take, with_garbage
from affectus.vocabulary import View

VIEWS = list(View)


def same(a, b) -> None:
    for name in a.features:
        torch.testing.assert_close(a.features[name], b.features[name], rtol=0, atol=0)
        assert torch.equal(a.masks[name], b.masks[name])
    for name in a.labels:
        torch.testing.assert_close(a.labels[name], b.labels[name], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(a.mask, b.mask)


@pytest.mark.parametrize("view", VIEWS)
def test_like_a_loader(view: View) -> None:
    batch = make_batch(view, missing=0.4, unlabelled=0.3, seed=3)
    assert batch.size == 4
    assert batch.mask.sum() == (14 if view is View.CONTEXTUAL else 4)
    assert sorted(batch.rows[batch.mask].tolist()) == list(range(int(batch.mask.sum())))
    assert (batch.rows[~batch.mask] == -1).all()
    for name, dim in DIMS.items():
        assert batch.features[name].shape == (*batch.masks[name].shape, dim)
        assert (batch.features[name][~batch.masks[name]] == 0).all()
    for name, scheme in SCHEMES.items():
        assert batch.labels[name].shape == (*batch.mask.shape, scheme.size)
        assert torch.isnan(batch.labels[name][~batch.mask]).all()
        known = batch.labels[name][~torch.isnan(batch.labels[name])]
        assert len(known)
        if scheme.low is not None:
            assert ((known >= scheme.low) & (known <= scheme.high)).all()
    there = torch.stack([m if view is View.CONTEXTUAL else m.any(dim=1) for m in batch.masks.values()])
    assert torch.equal(there.any(dim=0), batch.mask)  # each utterance keeps a modality
    assert not there[:, batch.mask].all()


def test_unaligned_lengths_differ() -> None:
    widths = {name: m.sum(dim=1).tolist() for name, m in make_batch(View.UNALIGNED).masks.items()}
    assert widths == {"text": [3, 5, 2, 4], "audio": [4, 6, 3, 5], "vision": [5, 7, 4, 6]}


def test_seeded() -> None:
    same(make_batch(View.ALIGNED, seed=4), make_batch(View.ALIGNED, seed=4))
    with pytest.raises(AssertionError):
        same(make_batch(View.ALIGNED, seed=4), make_batch(View.ALIGNED, seed=5))


@pytest.mark.parametrize("view", VIEWS)
def test_repad_keeps_what_is_real(view: View) -> None:
    batch = make_batch(view, missing=0.3)
    longer = repad(batch, 2, torch.nan)
    for name in DIMS:
        assert longer.features[name].shape[1] == batch.features[name].shape[1] + 2
        real = batch.masks[name]
        assert torch.equal(longer.features[name][:, :-2][real], batch.features[name][real])
        assert torch.equal(longer.masks[name][:, :-2], real)
        assert torch.isnan(longer.features[name][~longer.masks[name]]).all()
    if view is View.CONTEXTUAL:
        assert torch.equal(longer.mask[:, :-2], batch.mask)
        assert not longer.mask[:, -2:].any()
    same(repad(batch, 0, 0.0), batch)
    assert torch.isinf(with_garbage(batch, torch.inf).features["text"][~batch.masks["text"]]).all()


@pytest.mark.parametrize("view", VIEWS)
def test_take_and_join_are_inverse(view: View) -> None:
    batch = make_batch(view)
    again = take(batch, 0)
    for i in range(1, batch.size):
        again = join(again, take(batch, i))
    same(again, batch)
    assert len(set(again.rows[again.mask].tolist())) == int(again.mask.sum())


@pytest.mark.parametrize("view", VIEWS)
def test_take_without_padding(view: View) -> None:
    one = take(make_batch(view), 2)
    assert one.size == 1
    assert all(mask.all() for mask in one.masks.values())


def test_tasks() -> None:
    assert [task.name for task in make_tasks()] == ["polarity", "intensity", "emotions", "emotion_class"]
    assert [task.weight for task in make_tasks("ratings:2")] == [2.0]
