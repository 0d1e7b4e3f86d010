"""EDM: its confidences, and what each of its stages trains, sees and gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.edm import confidences
from affectus.testing import DIMS, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity", "emotions", "emotion_class")
SMALL = {"hidden": 6, "fusion_hidden": 5}


def build(dims=DIMS, tasks=TASKS, **options):
    torch.manual_seed(0)
    return MODELS["edm"].create(dims, tasks, {**SMALL, **options}).eval()


def total(model, batch):
    return torch.stack(list(model.losses(model(batch), batch).values())).sum()


def task(name):
    return next(t for t in TASKS if t.name == name)


def test_confidences_by_hand() -> None:
    two = confidences(task("polarity"), torch.tensor([0.0, 1.0])).numpy()
    p = np.e / (1 + np.e)
    np.testing.assert_allclose(two, [p, 1 - p], atol=1e-6)
    three = confidences(task("emotion_class"), torch.tensor([0.0, np.log(2.0), 0.0])).numpy()
    np.testing.assert_allclose(three, [0.25, 0.5, 0.25, 0.75, 0.5, 0.75], atol=1e-6)
    labels = confidences(task("emotions"), torch.zeros(7)).numpy()
    np.testing.assert_allclose(labels, [0.5] * 14)
    np.testing.assert_allclose(confidences(task("intensity"), torch.tensor([1.5])).numpy(), [0.75, 0.25])
    unbounded = replace(task("intensity"), low=None, high=None)
    np.testing.assert_allclose(confidences(unbounded, torch.tensor([1.5])).numpy(), [1.5, -1.5])


@pytest.mark.parametrize("view", list(View))
def test_networks_by_hand(view: View) -> None:
    """Each modality's network and the fusion, layer by layer in NumPy, for one utterance."""
    model = build()
    batch = make_batch(view, seed=1)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}

    def network(prefix, x, layers):
        for i in range(layers):
            x = np.maximum(
                p[f"{prefix}.layers.layers.{3 * i}.weight"] @ x + p[f"{prefix}.layers.layers.{3 * i}.bias"], 0
            )
        heads = f"{prefix}.heads.layers"
        return {t.name: p[f"{heads}.{t.name}.weight"] @ x + p[f"{heads}.{t.name}.bias"] for t in TASKS}

    entering = []
    for name in DIMS:
        x = batch.features[name][1].numpy()
        x = x[0] if view is View.CONTEXTUAL else x[batch.masks[name][1].numpy()].mean(axis=0)
        said = network(f"unimodal.{name}", x, 2)
        entering += [confidences(t, torch.tensor(said[t.name])).numpy() for t in TASKS]
    expected = network("fusion", np.concatenate(entering), 1)
    at = (1, 0) if view is View.CONTEXTUAL else (1,)
    for name, y in model(batch).predictions.items():
        np.testing.assert_allclose(y[at].detach().numpy(), expected[name], atol=1e-5)


def test_stages() -> None:
    model = build()
    stages = model.stages()
    assert [stage.name for stage in stages] == ["unimodal.text", "unimodal.audio", "unimodal.vision", "fusion"]
    assert [stage.trains_text for stage in stages] == [True, False, False, False]
    trained = [p for stage in stages for group in stage.groups.values() for p in group.parameters]
    assert len(trained) == len({id(p) for p in trained}) == len(list(model.parameters()))


@pytest.mark.parametrize("view", list(View))
def test_each_stage_trains_its_part_alone(view: View) -> None:
    model, batch = build(), make_batch(view)
    for stage in model.stages():
        model.stage = stage.name
        model.train()
        model.zero_grad()
        total(model, batch).backward()
        reached = {name for name, p in model.named_parameters() if p.grad is not None}
        assert reached
        assert all(name.startswith(f"{stage.name}.") for name in reached)


@pytest.mark.parametrize("view", list(View))
def test_an_utterance_without_the_modality_has_no_part_in_its_stage(view: View) -> None:
    model, batch = build(), make_batch(view, lengths=(4, 4))
    model.stage = "unimodal.audio"
    at = (0, 1) if view is View.CONTEXTUAL else (0,)
    batch.masks["audio"][at] = False
    before = model.losses(model(batch), batch)
    batch.labels["sentiment"][at] *= -1
    after = model.losses(model(batch), batch)
    assert before["intensity"] == after["intensity"]


def test_the_fusion_learns_from_fixed_confidences() -> None:
    model, batch = build(), make_batch(View.CONTEXTUAL)
    model.stage = "fusion"
    expected = model.eval()(batch).extras["fused"]
    fused = model.train()(batch).extras["fused"]
    torch.testing.assert_close(fused, expected)
    assert not fused.requires_grad


def test_a_missing_modality_says_nothing_at_all() -> None:
    model, batch = build(), make_batch(View.CONTEXTUAL, missing=0.4)
    fused = model(batch).extras["fused"].unflatten(-1, (3, -1))
    for i, name in enumerate(DIMS):
        there = batch.masks[name] & batch.mask
        assert (fused[..., i, :][~there] == 0).all()
        # a confidence and its complement make one
        polarity = fused[..., i, :2].sum(dim=-1)[there]
        torch.testing.assert_close(polarity, torch.ones_like(polarity))


def test_one_modality_has_one_stage() -> None:
    dims = {"audio": 5}
    model, batch = build(dims), make_batch(View.CONTEXTUAL, dims=dims)
    assert model.fusion is None
    assert [stage.name for stage in model.stages()] == ["unimodal.audio"]
    output = model(batch)
    torch.testing.assert_close(output.predictions["polarity"], output.extras["unimodal.audio.polarity"])


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match="The option 'dropout' is out of range"):
        build(dropout=1.0)
