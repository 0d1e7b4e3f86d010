"""Convolution with masks against loops, and interpolation against NumPy's."""

import numpy as np
import pytest
import torch

from affectus.nn.convolution import MaskedConv1d, halved, stretched


def _loops(layer, x, mask, stride):
    """Every output as the sum over its window of what is real."""
    weight, bias = (p.detach().numpy() for p in (layer.layer.weight, layer.layer.bias))  # (F, D, K), (F,)
    steps, kernel = len(x), weight.shape[2]
    out = []
    for t in range(0, steps, stride):
        y = bias.copy()
        for k in range(kernel):
            s = t + k - kernel // 2
            if 0 <= s < steps and mask[s]:
                y = y + weight[:, :, k] @ x[s]
        out.append(y)
    return np.stack(out)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("steps", [1, 6, 7])
def test_equals_loops(stride, kernel, steps) -> None:
    torch.manual_seed(0)
    layer = MaskedConv1d(3, 4, kernel, stride=stride).double()
    x = torch.randn(1, steps, 3, dtype=torch.double)
    mask = torch.arange(steps) != 2
    y, real = layer(x.masked_fill(~mask[:, None], torch.nan), mask[None])
    np.testing.assert_allclose(y[0].detach().numpy(), _loops(layer, x[0].numpy(), mask.numpy(), stride), atol=1e-12)
    assert real.shape == y.shape[:2]
    assert torch.equal(real, mask[None]) if stride == 1 else torch.equal(real, halved(mask[None]))


def test_halved() -> None:
    mask = torch.tensor([[True, True, False, False, False, True, True], [False] * 7])
    assert halved(mask).tolist() == [[True, False, True, True], [False] * 4]


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("steps", [1, 4, 5, 9])
def test_stretched_interpolates_between_real_steps(factor, steps) -> None:
    torch.manual_seed(0)
    short = -(-steps // factor)
    x = torch.randn(1, short + 2, 2, dtype=torch.double)
    mask = torch.arange(short + 2) < short
    y = stretched(x.masked_fill(~mask[:, None], torch.nan), mask[None], steps + 3, factor)
    for column in range(2):
        expected = np.interp(np.arange(steps) / factor, np.arange(short), x[0, :short, column].numpy())
        np.testing.assert_allclose(y[0, :steps, column].numpy(), expected, atol=1e-12)


def test_stretched_over_a_gap_takes_the_real_neighbour() -> None:
    x = torch.tensor([[[1.0], [5.0], [9.0]]])
    y = stretched(x, torch.tensor([[True, False, True]]), 6, 2)
    torch.testing.assert_close(y[0, :, 0], torch.tensor([1.0, 1.0, 0.0, 9.0, 9.0, 9.0]))


def test_every_real_step_finds_a_real_one_below_it() -> None:
    torch.manual_seed(0)
    mask = torch.rand(50, 13) < 0.3
    once, twice = halved(mask), halved(halved(mask))
    t = torch.arange(13)
    assert (once[:, t // 2] | ~mask).all()
    assert (twice[:, t // 4] | ~mask).all()


def test_factor_one_leaves_the_sequence() -> None:
    x, mask = torch.randn(2, 3, 4), torch.tensor([[True, False, True], [False] * 3])
    torch.testing.assert_close(stretched(x, mask, 3, 1), x * mask.unsqueeze(-1))
