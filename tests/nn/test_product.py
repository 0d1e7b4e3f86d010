"""The linear layer upon an outer product that is never whole."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from affectus.nn import product
from affectus.nn.dropping import LEVELS, LargeDropout, draw_factors, draw_words
from affectus.nn.product import outer_product, product_layer


def vectors(*widths: int) -> list[torch.Tensor]:
    return [torch.randn(5, width, requires_grad=True) for width in widths]


@pytest.mark.parametrize("widths", [(3,), (3, 4), (6, 5, 3, 2)])
@pytest.mark.parametrize("part", [1, 100, 10**6])
def test_it_is_the_layer_upon_the_product(widths: tuple[int, ...], part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(product, "PART", part)
    xs = vectors(*widths)
    layer = nn.Linear(torch.tensor([width + 1 for width in widths]).prod().item(), 4)
    wanted = F.linear(outer_product(xs), layer.weight, layer.bias)
    found = product_layer(xs, LargeDropout(0.0), layer)
    assert_close(found, wanted)
    upon = torch.randn_like(wanted)
    leaves = [*xs, layer.weight, layer.bias]
    for a, b in zip(torch.autograd.grad(found, leaves, upon), torch.autograd.grad(wanted, leaves, upon), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_what_is_dropped_is_dropped_going_back_too(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(product, "PART", 5 * 4 * 7)  # some 40 parts: more than a word has bits
    xs = vectors(8, 30, 3)
    layer = nn.Linear(9 * 31 * 4, 9 * 31 * 4, bias=False)
    nn.init.eye_(layer.weight)
    layer.bias = nn.Parameter(torch.zeros(9 * 31 * 4))
    said = product_layer(xs, LargeDropout(share), layer)  # the product itself, with holes
    whole = outer_product(xs)
    kept = said != 0
    assert abs(1 - float(kept.float().mean()) - share) < 0.03
    assert (kept[:, :200] != kept[:, -200:]).any()
    wanted = whole * kept / (1 - round(share * LEVELS) / LEVELS)
    assert_close(said, wanted)
    upon = torch.randn_like(said)
    for a, b in zip(torch.autograd.grad(said, xs, upon), torch.autograd.grad(wanted, xs, upon), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_in_evaluation_nothing_is_dropped() -> None:
    xs, layer, drop = vectors(2, 3), nn.Linear(12, 2).eval(), LargeDropout(0.5).eval()
    assert_close(product_layer(xs, drop, layer), layer(outer_product(xs)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.75, 0.9])
def test_each_bit_has_its_share(share: float) -> None:
    torch.manual_seed(0)
    words = draw_words(20_000, round(share * LEVELS))
    for bit in (0, 1, 17, 31):
        assert abs(float(((words >> bit) & 1).float().mean()) - (1 - share)) < 0.015


def test_factors_keep_the_mean_and_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    like = torch.empty(301, 403)
    factors = draw_factors(like, 0.2)
    assert factors.shape == like.shape
    assert factors.unique().tolist() == pytest.approx([0.0, 1.25], abs=1e-4)
    assert abs(float(factors.mean()) - 1) < 0.01
    torch.manual_seed(0)
    assert torch.equal(draw_factors(like, 0.2), factors)
    assert set(draw_factors(like.double(), 0.2).unique().tolist()) == {0.0, 1.25}


def test_a_gradient_is_written_where_the_one_before_was_unless_somebody_holds_it() -> None:
    xs, layer = vectors(200, 300), nn.Linear(201 * 301, 20)  # 4.8 MB

    def step(factor: float) -> torch.Tensor:
        (factor * product_layer(xs, LargeDropout(0.0), layer)).sum().backward()
        assert layer.weight.grad is not None
        return layer.weight.grad

    place, first = step(1.0).data_ptr(), step(0.0).clone()  # the second is added to the first
    layer.zero_grad()
    assert step(1.0).data_ptr() in (place, layer.weight.grad.data_ptr())
    assert_close(layer.weight.grad, first)
    held = layer.weight.grad
    layer.zero_grad()
    assert step(2.0).data_ptr() != held.data_ptr()
    assert_close(held, first)
    assert_close(layer.weight.grad, 2 * first)
    place = layer.weight.grad.data_ptr()
    layer.zero_grad()
    assert step(1.0).data_ptr() == place
