"""One vector per utterance."""

import pytest
import torch

from affectus.nn.pooling import masked_max, utterance_means
from affectus.testing import make_batch, repad
from affectus.vocabulary import View


@pytest.mark.parametrize("view", list(View))
def test_a_plain_mean_over_real_steps(view: View) -> None:
    batch = make_batch(view, missing=0.4, lengths=(3, 5, 2, 4, 6), seed=3)
    vectors, present = utterance_means(repad(batch, 2, torch.nan), ("audio", "vision"))
    assert list(vectors) == ["audio", "vision"]
    for name, x in vectors.items():
        there = batch.masks[name]
        if view is View.CONTEXTUAL:
            width = there.shape[1]
            assert torch.equal(present[name][:, :width], there & batch.mask)
            assert not present[name][:, width:].any()
            torch.testing.assert_close(x[:, :width], batch.features[name])
            continue
        for i, mask in enumerate(there):
            expected = batch.features[name][i][mask].mean(dim=0) if mask.any() else torch.zeros(x.shape[1])
            torch.testing.assert_close(x[i], expected)
            assert present[name][i] == mask.any()


def test_the_largest_over_real_steps() -> None:
    x = torch.tensor([[[1.0, -5.0], [-2.0, -3.0], [9.0, torch.nan]], [[torch.nan] * 2] * 3], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False] * 3])
    largest = masked_max(x, mask)
    torch.testing.assert_close(largest, torch.tensor([[1.0, -3.0], [0.0, 0.0]]))
    largest.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[0.0] * 2] * 3]))
