"""Hiding modalities at random."""

import torch

from affectus.nn.masking import drop_modalities


def test_drop_modalities_leaves_one_that_is_there() -> None:
    torch.manual_seed(0)
    count = 4000
    masks = {name: torch.ones(count, 2, dtype=torch.bool) for name in ("text", "audio", "vision")}
    masks["vision"][: count // 2] = False
    masks["audio"][: count // 4] = False
    kept = drop_modalities(masks, 0.5)
    there = torch.stack([mask.any(dim=1) for mask in kept.values()], dim=1)
    assert there.any(dim=1).all()
    assert there[: count // 4, 0].all()
    for name in masks:
        assert not (kept[name] & ~masks[name]).any()
        assert torch.equal(kept[name][:, 0], kept[name][:, 1])
    # of three, none may be dropped together: one is missing with (.5 - .5**3 / 3)
    share = 1 - there[count // 2 :].double().mean(dim=0)
    torch.testing.assert_close(share, torch.full((3,), 0.5 - 0.5**3 / 3).double(), atol=0.03, rtol=0)


def test_nothing_is_dropped_at_a_share_of_zero() -> None:
    masks = {"text": torch.tensor([[True, False], [False, False]]), "audio": torch.tensor([[True], [True]])}
    kept = drop_modalities(masks, 0.0)
    assert all(torch.equal(kept[name], masks[name]) for name in masks)
