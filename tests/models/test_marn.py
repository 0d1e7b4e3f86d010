"""MARN against its equations in NumPy, one utterance, one step, one modality and one attention at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.testing import DIMS, check_model, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "emotions")
SMALL = {"hidden": 3, "attentions": 2, "reduced": 2, "code": 4}


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return MODELS["marn"].create(dims, TASKS, {**SMALL, **options}).eval()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def by_hand(model, batch, joint: bool) -> np.ndarray:
    """[h_T; z_T] of each utterance, from the article's equations."""
    n, K, names = model.hidden, model.attention.attentions, list(model.inputs)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    V = p["hybrid.weight"].reshape(len(names), 4 * n, -1)
    rows = []
    for b in range(batch.size):
        h, c = {m: np.zeros(n) for m in names}, {m: np.zeros(n) for m in names}
        z = np.zeros(model.code)
        for t in range(batch.masks[names[0]].shape[1]):
            real = [m for m in names if batch.masks[m][b, t]]
            if not real:
                continue
            for i, m in enumerate(names):
                if m not in real:
                    continue
                W, bias = p[f"entering.layers.{m}.weight"], p[f"entering.layers.{m}.bias"]
                total = W @ batch.features[m][b, t].numpy() + h[m] @ p["recurrent"][i] + V[i] @ z + bias
                enter, forget, leave, candidate = total.reshape(4, n)
                c[m] = sigmoid(forget) * c[m] + sigmoid(enter) * np.tanh(candidate)
                h[m] = sigmoid(leave) * np.tanh(c[m])
            together = np.concatenate([h[m] for m in names])
            scores = p["attention.attend.weight"] @ together + p["attention.attend.bias"]
            a = softmax(scores).reshape(K, -1) if joint else np.stack([softmax(s) for s in scores.reshape(K, -1)])
            reduced = []
            for i in range(len(names)):
                copies = np.concatenate([(a[k] * together)[i * n : (i + 1) * n] for k in range(K)])
                reduced.append(np.maximum(copies @ p["attention.reduce"][i] + p["attention.reduce_bias"][i, 0], 0))
            z = np.tanh(p["attention.code.weight"] @ np.concatenate(reduced) + p["attention.code.bias"])
        rows.append(np.concatenate([*(h[m] for m in names), z]))
    return np.array(rows)


@pytest.mark.parametrize("softmax", ["each", "joint"])
@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_equations(softmax: str, missing: float) -> None:
    model = build(softmax=softmax)
    batch = make_batch(View.ALIGNED, lengths=(3, 1, 4), missing=missing, seed=2)
    # larger features than usual, so that no gate and no attention stays near its start
    batch = replace(batch, features={name: 3 * x for name, x in batch.features.items()})
    got = model(batch).extras["fused"].detach().numpy()
    np.testing.assert_allclose(got, by_hand(model, batch, softmax == "joint"), atol=1e-5)


@pytest.mark.parametrize(("softmax", "total"), [("each", 2.0), ("joint", 1.0)])
def test_attention_sums(softmax: str, total: float) -> None:
    output = build(softmax=softmax)(make_batch(View.ALIGNED))
    weights = output.extras["attention"]
    assert weights.shape == (4, 2, 3, 3)
    torch.testing.assert_close(weights.sum(dim=(1, 2, 3)), torch.full((4,), total))
    if softmax == "each":
        torch.testing.assert_close(weights.sum(dim=(2, 3)), torch.ones(4, 2))


def test_what_one_modality_says_changes_the_others_later() -> None:
    """The hybrid memory: the audio of the first step reaches the text's units from the second step on."""
    model = build()
    batch = make_batch(View.ALIGNED, lengths=(3,))
    changed = replace(batch, features={**batch.features, "audio": batch.features["audio"].clone()})
    changed.features["audio"][0, 0] += 3.0

    def text_units(some, steps):
        return model(some.map(lambda x: x[:, :steps] if x.ndim > 1 and x.shape[1] == 3 else x)).extras["fused"][:, :3]

    torch.testing.assert_close(text_units(batch, 1), text_units(changed, 1))
    assert not torch.allclose(text_units(batch, 2), text_units(changed, 2), atol=1e-6)


def test_one_softmax_keeps_the_contract() -> None:
    checks = ["gradients", "padding", "missing_modality", "modality_matters", "batch"]
    check_model("marn", view=View.ALIGNED, options={"softmax": "joint"}, checks=checks)


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match=r"Unknown value of the option 'softmax'.*'joined'.*Did you mean 'joint'"):
        build(softmax="joined")
    with pytest.raises(AffectusError, match="'dropout' is out of range"):
        build(dropout=-0.1)
