"""The written-out steps and gradients against PyTorch's own layer over packed sequences."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affectus.nn.gru import CHUNK, BiGRU, LastGRU, _Steps

LENGTHS = torch.tensor([2 * CHUNK + 3, 5, 1])


def _case(dim=4, hidden=3):
    torch.manual_seed(0)
    layer = BiGRU(dim, hidden).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(len(LENGTHS), int(LENGTHS.max()), dim, dtype=torch.double)
    mask = torch.arange(x.shape[1]) < LENGTHS.unsqueeze(1)
    return layer, x, mask


def _packed(layer, x):
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer.layer(packed)[0], batch_first=True)[0]


def test_equals_torch_with_packed_sequences_and_so_do_the_gradients() -> None:
    layer, x, mask = _case()
    x.requires_grad_()
    weights = torch.randn(*x.shape[:2], 6, dtype=torch.double)
    inputs = (x, *layer.parameters())
    ours, theirs = layer(x, mask), _packed(layer, x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert ours.shape == (3, 2 * CHUNK + 3, 6)
    found = torch.autograd.grad((ours * weights).sum(), inputs)
    expected = torch.autograd.grad((theirs * weights).sum(), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        assert (b != 0).any()


def test_the_way_of_other_devices_gives_the_same() -> None:
    layer, x, mask = _case()
    mask[0, 4:9] = False
    expected = layer(x, mask)
    layer._stepwise = layer._packed
    torch.testing.assert_close(layer(x, mask), expected)
    nothing = torch.zeros_like(mask)
    assert (layer(x, nothing) == 0).all()


@pytest.mark.parametrize("steps", [1, CHUNK, CHUNK + 2])
def test_gradient_of_the_steps(steps) -> None:
    torch.manual_seed(1)
    shapes = ((2, steps, 2, 3), (2, 6, 3), (2, 6), (2, 6, 2), (2, 2))
    inputs = tuple(torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes)
    assert torch.autograd.gradcheck(_Steps.apply, inputs)


def test_the_graph_may_be_gone_through_twice() -> None:
    """Gradient surgery does."""
    layer, x, mask = _case()
    y = layer(x, mask).sum()
    first = torch.autograd.grad(y, list(layer.parameters()), retain_graph=True)
    second = torch.autograd.grad(y, list(layer.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_masked_steps_are_skipped_wherever_they_stand() -> None:
    layer, x, _ = _case()
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    kept = torch.tensor([1, 2, 5, 9])
    mask[:, kept] = True
    expected = layer(x[:, kept], torch.ones(3, 4, dtype=torch.bool))
    got = layer(x.masked_fill(~mask.unsqueeze(-1), math.nan), mask)
    torch.testing.assert_close(got[:, kept], expected)
    assert (got[~mask] == 0).all()


def test_without_a_real_step_everything_is_zero() -> None:
    layer, x, mask = _case()
    y = layer(x, torch.zeros_like(mask))
    assert (y == 0).all()
    y.sum().backward()
    assert all((parameter.grad == 0).all() for parameter in layer.parameters())


def test_the_last_state_equals_torch_on_each_sequence_alone() -> None:
    torch.manual_seed(0)
    layer = LastGRU(4, 3).double()
    x = torch.randn(4, 9, 4, dtype=torch.double, requires_grad=True)
    mask = torch.arange(9) < torch.tensor([[9], [5], [1], [0]])
    mask[1, 2] = False  # a hole
    ours = layer(torch.where(mask.unsqueeze(-1), x, torch.nan), mask)
    theirs = torch.stack([layer.layer(x[i][mask[i]].unsqueeze(0))[1].flatten() for i in range(3)])
    torch.testing.assert_close(ours[:3], theirs, rtol=0, atol=1e-12)
    assert (ours[3] == 0).all()
    inputs = (x, *layer.parameters())
    found = torch.autograd.grad((ours**2).sum(), inputs)
    for a, b in zip(found, torch.autograd.grad((theirs**2).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
