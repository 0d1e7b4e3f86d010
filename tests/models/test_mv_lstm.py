"""MV-LSTM against its equations in NumPy, and against PyTorch's LSTM where they coincide."""

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.mv_lstm import MVLSTMLayer
from affectus.testing import DIMS, check_model, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "emotions")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_hand(layer: MVLSTMLayer, features, masks, alpha: float, beta: float) -> np.ndarray:
    """One utterance and one view at a time: a gate is W x + A h_own[:alpha n] + sum_j B_j h_j[:beta n] + b."""
    n, names = layer.hidden, list(features)
    own, other = round(alpha * n), round(beta * n)
    batch, steps = masks[names[0]].shape
    result = []
    for b in range(batch):
        h = {name: np.zeros(n) for name in names}
        c = {name: np.zeros(n) for name in names}
        for t in range(steps):
            before = {name: state.copy() for name, state in h.items()}
            for k, name in enumerate(names):
                if not masks[name][b, t]:
                    continue
                linear = layer.inputs.layers[name]
                total = linear.weight.detach().numpy() @ features[name][b, t].numpy() + linear.bias.detach().numpy()
                if own:
                    total = total + before[name][:own] @ layer.own[k].detach().numpy()
                if other and len(names) > 1:
                    blocks = layer.other[k].detach().numpy().reshape(len(names) - 1, other, 4 * n)
                    for block, j in zip(blocks, [j for j in names if j != name]):
                        total = total + before[j][:other] @ block
                enter, forget, candidate, leave = total.reshape(4, n)
                c[name] = sigmoid(forget) * c[name] + sigmoid(enter) * np.tanh(candidate)
                h[name] = sigmoid(leave) * np.tanh(c[name])
        result.append(np.concatenate([h[name] for name in names]))
    return np.array(result)


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0), (2 / 3, 1 / 3), (0.5, 0.5)]
)
def test_equations(alpha: float, beta: float) -> None:
    torch.manual_seed(1)
    batch = make_batch(View.ALIGNED, lengths=(3, 1, 4), missing=0.4, seed=2)
    layer = MVLSTMLayer(DIMS, 3, alpha=alpha, beta=beta)
    got = layer(batch.features, batch.masks).detach().numpy()
    np.testing.assert_allclose(got, by_hand(layer, batch.features, batch.masks, alpha, beta), atol=1e-6)


def test_one_view_that_sees_all_of_itself_is_an_lstm() -> None:
    torch.manual_seed(0)
    batch = make_batch(View.ALIGNED, dims={"text": 6}, lengths=(5, 5))
    layer, lstm = MVLSTMLayer({"text": 6}, 4, alpha=1.0, beta=1.0), torch.nn.LSTM(6, 4, batch_first=True)
    linear = layer.inputs.layers["text"]
    lstm.weight_ih_l0.data, lstm.bias_ih_l0.data = linear.weight.data, linear.bias.data
    lstm.weight_hh_l0.data, lstm.bias_hh_l0.data = layer.own.data[0].T, torch.zeros(16)
    torch.testing.assert_close(layer(batch.features, batch.masks), lstm(batch.features["text"])[1][0][0])


def test_view_specific_views_do_not_meet_before_the_heads() -> None:
    torch.manual_seed(0)
    model = MODELS["mv_lstm"].create(DIMS, TASKS, {"hidden": 4, "alpha": 1.0, "beta": 0.0}).eval()
    batch = make_batch(View.ALIGNED)
    both, less = model(batch).extras["fused"], model(batch.without("audio")).extras["fused"]
    torch.testing.assert_close(both[:, :4], less[:, :4])
    assert (less[:, 4:8] == 0).all()
    coupled = MODELS["mv_lstm"].create(DIMS, TASKS, {"hidden": 4, "alpha": 0.0, "beta": 1.0}).eval()
    both, less = coupled(batch).extras["fused"], coupled(batch.without("audio")).extras["fused"]
    assert not torch.allclose(both[:, :4], less[:, :4])


def test_the_forget_gate_starts_open() -> None:
    torch.manual_seed(0)
    layer = MVLSTMLayer(DIMS, 3, alpha=1.0, beta=1.0)
    assert all((bias[3:6] == 1).all() and not (bias[:3] == 1).any() for bias in layer.inputs.biases())


@pytest.mark.parametrize("preset", MODELS["mv_lstm"].presets)
def test_the_corner_cases_keep_the_contract(preset: str) -> None:
    checks = ["gradients", "padding", "missing_modality", "modality_matters", "modalities"]
    check_model("mv_lstm", view=View.ALIGNED, preset=preset, checks=checks)


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_shares_out_of_range(name: str) -> None:
    with pytest.raises(AffectusError, match=rf"The option '{name}' is out of range: got 1.5; expected a number in \[0"):
        MODELS["mv_lstm"].create(DIMS, TASKS, {name: 1.5})
    with pytest.raises(AffectusError, match="'dropout' is out of range"):
        MODELS["mv_lstm"].create(DIMS, TASKS, {"dropout": 1.0})
