"""Question-guided attention against its equations in NumPy, one utterance and one step at a time."""

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.testing import DIMS, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity")


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return MODELS["teney"].create(dims, TASKS, {"hidden": 4, **options}).eval()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class ByHand:
    """The article's layers from the model's parameters alone."""

    def __init__(self, model) -> None:
        self.p = {name: value.detach().numpy() for name, value in model.named_parameters()}

    def linear(self, prefix, x):
        return self.p[f"{prefix}.weight"] @ x + self.p[f"{prefix}.bias"]

    def gated(self, prefix, x):
        return np.tanh(self.linear(f"{prefix}.value", x)) * sigmoid(self.linear(f"{prefix}.gate", x))

    def gru(self, steps):
        h = np.zeros(4)
        for x in steps:
            inner = self.p["question.layer.weight_ih_l0"] @ x + self.p["question.layer.bias_ih_l0"]
            recurrent = self.p["question.layer.weight_hh_l0"] @ h + self.p["question.layer.bias_hh_l0"]
            (ri, zi, ni), (rh, zh, nh) = inner.reshape(3, 4), recurrent.reshape(3, 4)
            r, z = sigmoid(ri + rh), sigmoid(zi + zh)
            h = (1 - z) * np.tanh(ni + r * nh) + z * h
        return h

    def product(self, name, steps, q, asks=True):
        """Attention over the steps of one modality, and the product with the question."""
        factor = self.gated("of_question", q) if asks else np.ones(4)
        if not len(steps):
            return (factor if asks else np.zeros(4)), np.zeros(0)
        prefix = f"attention.{name}"
        score = self.p[f"{prefix}.score.weight"][0]
        a = np.array([score @ self.gated(f"{prefix}.match", np.concatenate([v, q])) for v in steps])
        alpha = np.exp(a) / np.exp(a).sum()
        return factor * self.gated(f"of_found.{name}", (alpha[:, None] * steps).sum(axis=0)), alpha


@pytest.mark.parametrize("view", [View.UNALIGNED, View.ALIGNED])
def test_equations(view: View) -> None:
    model, batch = build(), make_batch(view, lengths=(3, 5, 2, 4), missing=0.5, seed=3)
    batch.masks["text"][0] = False
    batch.masks["vision"][1] = False
    for name in DIMS:
        batch.masks[name][3] = False  # nothing at all is there
    output, by_hand = model(batch), ByHand(model)
    for b in range(batch.size):
        own = {name: batch.features[name][b][batch.masks[name][b]].numpy() for name in DIMS}
        q = by_hand.gru(own["text"])
        products = []
        for name in ("audio", "vision"):
            product, alpha = by_hand.product(name, own[name], q, asks=len(own["text"]) > 0)
            products.append(product)
            weights = output.extras[f"attention.{name}"][b][batch.masks[name][b]]
            np.testing.assert_allclose(weights.detach().numpy(), alpha, atol=1e-5)
        fused = np.concatenate(products)
        np.testing.assert_allclose(output.extras["fused"][b].detach().numpy(), fused, atol=1e-5)
        joint = by_hand.gated("joint", fused)
        for name, y in output.predictions.items():
            expected = by_hand.linear(f"heads.layers.{name}", joint)
            np.testing.assert_allclose(y[b].detach().numpy(), expected, atol=1e-5)


def test_a_lone_modality_asks_itself() -> None:
    dims = {"audio": 5}
    model, batch = build(dims), make_batch(View.ALIGNED, dims=dims)
    by_hand = ByHand(model)
    own = batch.features["audio"][0][batch.masks["audio"][0]].numpy()
    product, _ = by_hand.product("audio", own, by_hand.gru(own))
    np.testing.assert_allclose(model(batch).extras["fused"][0].detach().numpy(), product, atol=1e-5)


def test_without_text_the_first_modality_asks() -> None:
    model = build({"vision": 4, "gaze": 3})
    assert model.asking == "vision"
    assert list(model.attention) == ["gaze"]


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match="The option 'dropout' is out of range"):
        build(dropout=1.0)
