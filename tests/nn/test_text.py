from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from affectus.nn import text as module
from affectus.nn.text import TextLayers, word_means


class Mixing(nn.Module):
    """A layer in which each token sees the others of its utterance, and whose padding is not innocent."""

    def __init__(self, dim: int, words: int = 9) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(words, dim), nn.Linear(dim, dim)

    def forward(
        self, *, inputs_embeds: Tensor | None = None, input_ids: Tensor | None = None, attention_mask: Tensor
    ) -> SimpleNamespace:
        x = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        weights = attention_mask.float() / attention_mask.sum(dim=1, keepdim=True)
        seen = (weights.unsqueeze(-1) * x).sum(dim=1, keepdim=True)
        return SimpleNamespace(last_hidden_state=torch.tanh(self.layer(x + seen)) + 1)


@pytest.fixture
def layers() -> TextLayers:
    torch.manual_seed(0)
    return TextLayers(Mixing(4), 4)


def tokens(*lengths: int, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Return states that depend on the utterance and the step alone, and their mask."""
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(len(lengths), 20, 4, generator=generator)
    width = max(lengths) if width is None else width
    return whole[:, :width], torch.arange(width) < torch.tensor(lengths).unsqueeze(1)


@pytest.mark.parametrize("pool", [True, False])
def test_padding_and_what_is_under_it_change_nothing(layers: TextLayers, pool: bool) -> None:
    x, mask = tokens(3, 0, 5, 1)
    short = layers(x, mask, pool=pool)
    x, mask = tokens(3, 0, 5, 1, width=11)
    long = layers(torch.where(mask.unsqueeze(-1), x, torch.nan), mask, pool=pool)
    assert torch.isfinite(long).all()
    assert torch.allclose(short, long if pool else long[:, :5], atol=1e-6)
    assert pool or not long[:, 5:].any()
    assert not long[1].any()


@pytest.mark.parametrize("pool", [True, False])
def test_the_others_of_a_batch_change_nothing(layers: TextLayers, pool: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, mask = tokens(3, 0, 5, 1, 4, 2)
    together = layers(x, mask, pool=pool)
    alone = torch.cat([layers(x[i : i + 1], mask[i : i + 1], pool=pool) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-6)
    monkeypatch.setattr(module, "SUB_BATCH", 2)
    assert torch.allclose(layers(x, mask, pool=pool), together, atol=1e-6)


def test_pooled_is_the_mean_over_tokens(layers: TextLayers) -> None:
    x, mask = tokens(3, 5)
    steps = layers(x, mask, pool=False)
    pooled = layers(x, mask, pool=True)
    assert torch.allclose(pooled[0], steps[0, :3].mean(dim=0), atol=1e-6)
    assert torch.allclose(pooled[1], steps[1].mean(dim=0), atol=1e-6)


def test_more_axes_in_front(layers: TextLayers) -> None:
    x, mask = tokens(3, 0, 5, 1)
    flat = layers(x, mask, pool=True)
    assert torch.equal(layers(x.reshape(2, 2, 5, 4), mask.reshape(2, 2, 5), pool=True), flat.reshape(2, 2, 4))
    steps = layers(x.reshape(2, 2, 5, 4), mask.reshape(2, 2, 5), pool=False)
    assert torch.equal(steps, layers(x, mask, pool=False).reshape(2, 2, 5, 4))


def test_ids() -> None:
    torch.manual_seed(0)
    layers = TextLayers(Mixing(4), 4, ids=True)
    ids, mask = torch.tensor([[1, 2, 3], [4, 99, 99]]), torch.tensor([[True] * 3, [True, False, False]])
    found = layers(ids, mask, pool=False)  # 99 is in no vocabulary, but is padding
    assert torch.allclose(found[1, :1], layers(ids[1:, :1], mask[1:, :1], pool=False)[0], atol=1e-6)
    assert not found[1, 1:].any()


def test_scaled_where_there_is_text() -> None:
    torch.manual_seed(0)
    inner = Mixing(4)
    shift, factor = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([2.0, 1.0, 1.0, 0.5])
    plain, scaled = TextLayers(inner, 4), TextLayers(inner, 4, shift=shift, factor=factor)
    x, mask = tokens(3, 0)
    for pool in (True, False):
        expected = (plain(x, mask, pool=pool) - shift) * factor
        found = scaled(x, mask, pool=pool)
        assert torch.allclose(found[0], expected[0], atol=1e-6)
        assert not found[1].any()
    assert {"shift", "factor"} <= set(scaled.state_dict())


def test_gradients_reach_every_layer_and_no_text_costs_nothing(layers: TextLayers) -> None:
    x, mask = tokens(3, 0, 2)
    layers(x, mask, pool=True).square().sum().backward()
    assert layers.layers.layer.weight.grad is not None  # type: ignore[union-attr]
    assert layers.layers.layer.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert not layers(x, torch.zeros_like(mask), pool=True).any()


def test_a_hole_is_not_seen(layers: TextLayers) -> None:
    x, mask = tokens(5, 3)
    mask[0, 2] = False
    other = x.clone()
    other[0, 2] = 100.0
    assert torch.equal(layers(x, mask, pool=True), layers(other, mask, pool=True))


def test_word_means() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, requires_grad=True)
    words = torch.tensor([[-1, 0, 0, 2, -1], [1, 1, 1, -1, -1]])
    found = word_means(x, words, 4)
    assert found.shape == (2, 4, 3)
    assert torch.allclose(found[0, 0], x[0, 1:3].mean(dim=0))
    assert torch.allclose(found[0, 2], x[0, 3])
    assert torch.allclose(found[1, 1], x[1, :3].mean(dim=0))
    assert not found[0, [1, 3]].any()
    assert not found[1, [0, 2, 3]].any()
    found.sum().backward()
    assert x.grad is not None
    assert not x.grad[0, [0, 4]].any()
