"""Blanchard: layer by layer in NumPy, and what becomes of the text."""

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.testing import DIMS, check_model, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity")


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return MODELS["blanchard"].create(dims, TASKS, {"hidden": 4, "dense": 3, **options}).eval()


@pytest.mark.parametrize("view", list(View))
def test_layers_by_hand(view: View) -> None:
    model, batch = build(), make_batch(view, seed=1)
    batch.masks["vision"][1] = False
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}

    def layer(prefix, x):
        return np.maximum(p[f"{prefix}.weight"] @ x + p[f"{prefix}.bias"], 0)

    audio = batch.features["audio"][1].numpy()
    audio = audio[0] if view is View.CONTEXTUAL else audio[batch.masks["audio"][1].numpy()].mean(axis=0)
    fused = layer("fusion.layers.0", np.concatenate([layer("unimodal.audio.layers.0", audio), np.zeros(4)]))
    at = (1, 0) if view is View.CONTEXTUAL else (1,)
    for name, y in model(batch).predictions.items():
        expected = p[f"heads.layers.{name}.weight"] @ fused + p[f"heads.layers.{name}.bias"]
        np.testing.assert_allclose(y[at].detach().numpy(), expected, atol=1e-5)


def test_text_is_left_out_unless_wanted_or_alone() -> None:
    batch = make_batch(View.CONTEXTUAL)
    plain = build()
    assert list(plain.unimodal) == ["audio", "vision"]
    assert [stage.trains_text for stage in plain.stages()] == [False]
    without = plain(batch.without("text"))
    assert torch.equal(plain(batch).predictions["intensity"], without.predictions["intensity"])
    assert list(build(text=True).unimodal) == ["text", "audio", "vision"]
    alone = build({"text": 6})
    assert list(alone.unimodal) == ["text"]
    assert [stage.trains_text for stage in alone.stages()] == [True]


def test_with_text_every_modality_matters() -> None:
    check_model("blanchard", view=View.ALIGNED, options={"text": True}, checks=["gradients", "missing_modality"])
    model, batch = build(text=True), make_batch(View.ALIGNED)
    said = model(batch).predictions["intensity"]
    for name in DIMS:
        assert not torch.equal(said, model(batch.without(name)).predictions["intensity"])


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match="The option 'dropout' is out of range"):
        build(dropout=1.0)
