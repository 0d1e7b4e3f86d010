"""Self-attentive fusion against its equations in NumPy."""

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.hazarika_sa import KERNELS, SentenceCNN
from affectus.testing import DIMS, check_model, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity")


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return MODELS["hazarika_sa"].create(dims, TASKS, {"dim": 4, "attention_dim": 3, **options}).eval()


@pytest.mark.parametrize("fusion", ["sum", "concat"])
@pytest.mark.parametrize("view", list(View))
def test_equations(view: View, fusion: str) -> None:
    model, batch = build(fusion=fusion), make_batch(view, seed=1)
    batch.masks["vision"][2] = False
    output = model(batch)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    for i in range(batch.size):
        at = (i, 0) if view is View.CONTEXTUAL else (i,)
        F, names = [], [name for name in DIMS if not (name == "vision" and i == 2)]
        for name in names:
            x = batch.features[name][i].numpy()
            x = x[0] if view is View.CONTEXTUAL else x[batch.masks[name][i].numpy()].mean(axis=0)
            F.append(np.maximum(p[f"project.{name}.weight"] @ x + p[f"project.{name}.bias"], 0))
        scores = [
            float((p["attention.2.weight"] @ np.tanh(p["attention.0.weight"] @ f + p["attention.0.bias"]))[0])
            for f in F
        ]
        alpha = np.exp(scores) / np.exp(scores).sum()
        weighted = [a * f for a, f in zip(alpha, F)]
        fused = np.sum(weighted, axis=0)
        if fusion == "concat":
            fused = np.concatenate(weighted + [np.zeros(4)] * (3 - len(names)))
        np.testing.assert_allclose(output.extras["attention"][at].detach().numpy()[: len(names)], alpha, atol=1e-5)
        np.testing.assert_allclose(output.extras["fused"][at].detach().numpy(), fused, atol=1e-5)
        for name, y in output.predictions.items():
            expected = p[f"heads.layers.{name}.weight"] @ fused + p[f"heads.layers.{name}.bias"]
            np.testing.assert_allclose(y[at].detach().numpy(), expected, atol=1e-5)


def test_the_cnn_by_a_plain_loop() -> None:
    torch.manual_seed(0)
    cnn = SentenceCNN(3, 2)
    x = torch.randn(3, 6, 3)
    mask = torch.arange(6) < torch.tensor([[6], [2], [0]])
    got = cnn(torch.where(mask.unsqueeze(-1), x, torch.nan), mask).detach().numpy()
    for b, length in enumerate((6, 2, 0)):
        expected = []
        for kernel, layer in zip(KERNELS, cnn.convolutions):
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            columns = []
            for t in range(length):
                total = bias.copy()
                for offset in range(kernel):
                    source = t + offset - (kernel - 1) // 2
                    if 0 <= source < length:
                        total = total + weight[:, :, offset] @ x[b, source].numpy()
                columns.append(np.maximum(total, 0))
            expected.append(np.max(columns, axis=0) if columns else np.zeros(2))
        np.testing.assert_allclose(got[b], np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("view", list(View))
def test_with_a_cnn_or_side_by_side_it_keeps_the_contract(view: View) -> None:
    options = {"text_cnn": True, "text_filters": 4, "fusion": "concat", "dim": 16}
    checks = ["shapes", "finite", "gradients", "padding", "batch", "missing_modality", "modality_matters", "modalities"]
    check_model("hazarika_sa", view=view, options=options, checks=checks)


def test_one_modality_has_nothing_to_weigh() -> None:
    dims = {"audio": 5}
    model, batch = build(dims, text_cnn=True), make_batch(View.CONTEXTUAL, dims=dims)
    assert (model.attention, model.cnn) == (None, None)
    assert (model(batch).extras["attention"][batch.mask] == 1).all()


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match="The option 'dropout' is out of range"):
        build(dropout=1.0)
    with pytest.raises(AffectusError, match=r"Unknown value of the option 'fusion'.*'add'"):
        build(fusion="add")
