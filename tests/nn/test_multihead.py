"""Attention against PyTorch's module, the way by pieces against the equations, and what dropout does to it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from affectus.nn import multihead
from affectus.nn.dropping import draw_kept
from affectus.nn.multihead import MultiHeadAttention, _Pieces, attend, attention_weights

B, H, T, S, D = 3, 2, 5, 7, 4
KEYS = torch.tensor([[True] * 7, [True, False, True, False, False, False, False], [False] * 7])


def _inputs(dtype=torch.double, requires_grad=False):
    torch.manual_seed(0)
    return tuple(torch.randn(B, H, n, D, dtype=dtype, requires_grad=requires_grad) for n in (T, S, S))


def test_equals_torch_multihead_attention() -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(8, 2)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(8), ours.value.bias]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x, y, keys = torch.randn(2, T, 8), torch.randn(2, S, 8), KEYS[:2]
    expected, weights = theirs(x, y, y, key_padding_mask=~keys, average_attn_weights=False)
    torch.testing.assert_close(ours(x, y, keys), expected)
    torch.testing.assert_close(ours.weights(x, y, keys), weights)


def test_equals_the_equation_for_each_sample_alone() -> None:
    q, k, v = _inputs()
    got = attend(q, k, v, KEYS)
    for i, real in enumerate(KEYS[:2]):
        scores = q[i] @ k[i][:, real].transpose(1, 2) / D**0.5
        torch.testing.assert_close(got[i], scores.softmax(dim=-1) @ v[i][:, real])
    assert (got[2] == 0).all()


def test_weights_sum_to_one_over_real_keys() -> None:
    q, k, _ = _inputs()
    weights = attention_weights(q, k, KEYS)
    assert (weights.masked_select(~KEYS[:, None, None].expand_as(weights)) == 0).all()
    torch.testing.assert_close(
        weights.sum(dim=-1), torch.tensor([1.0, 1.0, 0.0]).double()[:, None, None].expand(B, H, T)
    )


FRONT = torch.arange(S) < torch.tensor([[7], [2], [0]])
REACH = torch.tensor([2, 0, 5])


def test_reach_hides_what_comes_later() -> None:
    q, k, v = _inputs()
    got = attend(q, k, v, FRONT, reach=REACH)
    for i in range(2):
        for t in range(T):
            seen = min(t + int(REACH[i]) + 1, int(FRONT[i].sum()))
            weights = (q[i, :, t : t + 1] @ k[i, :, :seen].transpose(1, 2) / D**0.5).softmax(dim=-1)
            torch.testing.assert_close(got[i, :, t : t + 1], weights @ v[i, :, :seen])
    assert (got[2] == 0).all()


def test_values_may_be_others_than_the_keys() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2)
    x, y, z = torch.randn(2, T, 8), torch.randn(2, S, 8), torch.randn(2, S, 8)
    assert torch.equal(layer(x, y, KEYS[:2], values=y), layer(x, y, KEYS[:2]))
    scores = layer.weights(x, y, KEYS[:2])
    found = scores @ layer._split(layer.value(z))
    torch.testing.assert_close(
        layer(x, y, KEYS[:2], values=z), layer.out(found.transpose(1, 2).flatten(2)), atol=1e-6, rtol=1e-5
    )


@pytest.fixture(params=["one sample at a time", "together, kept", "together, computed again"])
def way(request, monkeypatch) -> None:
    """How a batch is cut, and whether weights are kept for the gradient."""
    monkeypatch.setattr(multihead, "PIECE", 1 if request.param.startswith("one") else 1 << 17)
    monkeypatch.setattr(multihead, "KEPT", 0 if request.param.endswith("again") else 1 << 20)


@pytest.mark.usefixtures("way")
class TestPieces:
    """Some samples at a time, with dropout."""

    def test_without_dropout_it_equals_the_fused_kernel_with_its_gradients(self) -> None:
        inputs = _inputs(requires_grad=True)
        weights = torch.randn(B, H, T, D, dtype=torch.double)
        ours, theirs = _Pieces.apply(*inputs, KEYS, None, 0.0), attend(*inputs, KEYS)
        torch.testing.assert_close(ours, theirs)
        found = torch.autograd.grad((ours * weights).sum(), inputs)
        expected = torch.autograd.grad((theirs * weights).sum(), inputs)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)

    def test_reach_hides_what_comes_later(self) -> None:
        inputs = _inputs(requires_grad=True)
        weights = torch.randn(B, H, T, D, dtype=torch.double)
        ours, theirs = _Pieces.apply(*inputs, FRONT, REACH, 0.0), attend(*inputs, FRONT, reach=REACH)
        torch.testing.assert_close(ours, theirs)
        found = torch.autograd.grad((ours * weights).sum(), inputs)
        expected = torch.autograd.grad((theirs * weights).sum(), inputs)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)

    def test_gradient_with_dropout(self) -> None:
        def seeded(q, k, v):
            torch.manual_seed(7)
            return _Pieces.apply(q, k, v, KEYS, None, 0.3)

        assert torch.autograd.gradcheck(seeded, _inputs(requires_grad=True))

    def test_dropout_is_that_of_the_weights(self) -> None:
        """One key per value dimension shows each weight: dropped, or its softmax divided by what is kept."""
        torch.manual_seed(0)
        q, k = torch.randn(1, 2, 40, 16), torch.randn(1, 2, 16, 16)
        eye = torch.eye(16).expand(1, 2, 16, 16)
        keys = torch.ones(1, 16, dtype=torch.bool)
        y = _Pieces.apply(q, k, eye, keys, None, 0.25)
        weights = attention_weights(q, k, keys)
        dropped = y == 0
        torch.testing.assert_close(y[~dropped], (weights / 0.75)[~dropped])
        assert 0.2 < dropped.double().mean() < 0.3

    def test_long_sequences_with_dropout_go_by_pieces_and_average_to_none(self, monkeypatch) -> None:
        calls = []
        original = multihead._pieces
        monkeypatch.setattr(multihead, "_pieces", lambda *a: calls.append(1) or original(*a))
        q, k, v = _inputs(torch.float32)
        attend(q, k, v, KEYS, dropout=0.2)
        assert not calls
        monkeypatch.setattr(multihead, "LONG", 1)
        torch.manual_seed(0)
        mean = torch.stack([attend(q, k, v, KEYS, dropout=0.2) for _ in range(2000)]).mean(dim=0)
        assert len(calls) == 2000
        torch.testing.assert_close(mean, attend(q, k, v, KEYS), atol=0.1, rtol=0)

    def test_module_drops_in_training_alone(self, monkeypatch) -> None:
        monkeypatch.setattr(multihead, "LONG", 1)
        torch.manual_seed(0)
        layer = MultiHeadAttention(8, 2, dropout=0.5)
        x, y = torch.randn(B, T, 8), torch.randn(B, S, 8)
        assert not torch.equal(layer(x, y, KEYS), layer(x, y, KEYS))
        layer.eval()
        assert torch.equal(layer(x, y, KEYS), layer(x, y, KEYS))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_draw(share) -> None:
    torch.manual_seed(0)
    drawn = draw_kept(torch.Size((1001, 101)), round(share * 65536))
    assert drawn.shape == (1001, 101)
    assert drawn.dtype == torch.bool
    assert abs((~drawn).double().mean().item() - share) < 0.005
    # four decisions come from one number: they must not hang together
    if share:
        a, b = drawn.flatten()[:-1].double(), drawn.flatten()[1:].double()
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 0.02


def test_fused_kernel_keeps_its_own_dropout_for_short_sequences() -> None:
    q, k, v = _inputs(torch.float32)
    torch.manual_seed(3)
    got = attend(q[:2], k[:2], v[:2], KEYS[:2], dropout=0.4)
    torch.manual_seed(3)
    expected = F.scaled_dot_product_attention(q[:2], k[:2], v[:2], attn_mask=KEYS[:2, None, None], dropout_p=0.4)
    torch.testing.assert_close(got, expected)
