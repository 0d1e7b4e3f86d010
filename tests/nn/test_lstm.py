"""The written-out steps and gradients against PyTorch's own layer over packed sequences."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affectus.nn.lstm import CHUNK, LSTM, _is_for_onednn, _Steps
from affectus.nn.packing import Packing

LENGTHS = torch.tensor([5, 2 * CHUNK + 3, 1])


def _case(**settings):
    torch.manual_seed(0)
    layer = LSTM(4, 3, **settings).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(len(LENGTHS), int(LENGTHS.max()), 4, dtype=torch.double)
    return layer, x, torch.arange(x.shape[1]) < LENGTHS.unsqueeze(1)


@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (3, False), (2, True)])
def test_equals_torch_with_packed_sequences_and_so_do_the_gradients(layers: int, bidirectional: bool) -> None:
    layer, x, mask = _case(layers=layers, bidirectional=bidirectional)
    x.requires_grad_()
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    y, (ends, _) = layer.layer(packed)
    theirs = pad_packed_sequence(y, batch_first=True)[0]
    last = torch.cat(list(ends[-2:]), dim=-1) if bidirectional else ends[-1]
    ours = layer(x, mask)
    assert layer.width == ours.shape[-1]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.last(x, mask), last, rtol=0, atol=1e-12)
    inputs, weights = (x, *layer.parameters()), torch.randn_like(theirs)
    found = torch.autograd.grad((ours * weights).sum() + layer.last(x, mask).square().sum(), inputs)
    expected = torch.autograd.grad((theirs * weights).sum() + last.square().sum(), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        assert (b != 0).any()


def test_cells_equal_those_of_the_single_cell() -> None:
    layer, x, mask = _case()
    packing = Packing(mask)
    states, cells = (packing.unpack(rows) for rows in layer.cells(packing.pack(x), packing))
    h = c = torch.zeros(3, 3, dtype=torch.double)
    cell = nn.LSTMCell(4, 3).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.layer.state_dict().items()})
    for t in range(x.shape[1]):
        h, c = cell(x[:, t], (h, c))
        real = mask[:, t]
        torch.testing.assert_close(states[real, t], h[real], rtol=0, atol=1e-12)
        torch.testing.assert_close(cells[real, t], c[real], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [[2], [3, 3, 1], [2] * (CHUNK + 2)])
def test_gradient_of_the_steps(sizes: list[int]) -> None:
    torch.manual_seed(1)
    shapes = ((sum(sizes), 3), (8, 3), (8,), (8, 2))
    inputs = tuple(torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes)
    assert torch.autograd.gradcheck(lambda *given: _Steps.apply(*given, sizes, None, None), inputs)
    affine = tuple(torch.randn(sum(sizes), dtype=torch.double, requires_grad=True) for _ in range(2))
    run = lambda *given: _Steps.apply(*given[:4], sizes, *given[4:])  # noqa: E731
    assert torch.autograd.gradcheck(run, (*inputs, *affine))
    scale, shift = (x.detach().unsqueeze(1) for x in affine)
    expected = _Steps.apply(inputs[0] * scale + shift, *inputs[1:], sizes, None, None)
    torch.testing.assert_close(run(*inputs, *affine), expected)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    "lengths", [[70, 64, 40, 33, 33, 32, 31, 9, 9, 1, 0], [3], [33] * 9], ids=["many", "one", "alike"]
)
def test_small_states_in_single_precision_equal_the_written_out_steps(
    lengths: list[int], bidirectional: bool, no_kernels: None
) -> None:
    torch.manual_seed(0)
    layer = LSTM(4, 3, layers=2, bidirectional=bidirectional)
    mask = torch.rand(len(lengths), 80).argsort(dim=1) < torch.tensor(lengths).unsqueeze(1)
    x = torch.randn(*mask.shape, 4, requires_grad=True)
    assert _is_for_onednn(x)
    inputs, weights = (x, *layer.parameters()), torch.randn(*mask.shape, layer.width)
    y = layer(x, mask)
    found = torch.autograd.grad((y * weights).sum(), inputs)
    exact = layer.double()(x.double(), mask)
    assert exact.abs().max() > 0.1
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-6)
    expected = torch.autograd.grad((exact * weights).sum(), (x, *layer.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-5)
        assert (b != 0).any()


def test_dropout_is_between_the_layers_and_in_training_alone() -> None:
    layer, x, mask = _case(layers=2, dropout=0.5)
    layer.train()
    assert not torch.equal(layer(x, mask), layer(x, mask))
    layer.eval()
    assert torch.equal(layer(x, mask), layer(x, mask))
    one, x, mask = _case(dropout=0.5)
    assert torch.equal(one.train()(x, mask), one(x, mask))


def test_masked_steps_are_skipped_wherever_they_stand() -> None:
    layer, x, _ = _case(layers=2, bidirectional=True)
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    kept = torch.tensor([1, 2, 5, 9])
    mask[:, kept] = True
    expected = layer(x[:, kept], torch.ones(3, 4, dtype=torch.bool))
    got = layer(x.masked_fill(~mask.unsqueeze(-1), math.nan), mask)
    torch.testing.assert_close(got[:, kept], expected)
    assert (got[~mask] == 0).all()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_without_a_real_step_everything_is_zero(bidirectional: bool) -> None:
    layer, x, mask = _case(layers=2, bidirectional=bidirectional)
    y = layer(x, torch.zeros_like(mask))
    assert (y == 0).all()
    assert (layer.last(x, torch.zeros_like(mask)) == 0).all()
    y.sum().backward()
    assert all((parameter.grad == 0).all() for parameter in layer.parameters())


def test_the_graph_may_be_gone_through_twice() -> None:
    """Gradient surgery does."""
    layer, x, mask = _case()
    y = layer(x, mask).sum()
    first = torch.autograd.grad(y, list(layer.parameters()), retain_graph=True)
    second = torch.autograd.grad(y, list(layer.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
