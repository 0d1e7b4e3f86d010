"""One vector per utterance."""

import pytest
import torch

from affectus.nn.pooling import utterance_means
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
