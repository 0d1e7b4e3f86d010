"""Deep belief networks: what each stage learns from and trains, the layers by hand, and that a stopped run goes on."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import affectus.training.callbacks as callbacks
from affectus.api import train
from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.nn.rbm import RBM
from affectus.testing import DIMS, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity")
MACHINES = ["text.0", "text.1", "audio.0", "audio.1", "vision.0", "vision.1", "joint"]


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    model = MODELS["cdbn"].create(dims, TASKS, {"hidden": 4, "joint_hidden": 3, **options}).eval()
    for name, parameter in model.named_parameters():
        if "bias" in name or "weight" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("view", list(View))
def test_layers_by_hand(view: View) -> None:
    model, batch = build(), make_batch(view, seed=1)
    batch.masks["vision"][1] = False
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    units = []
    for name in ("text", "audio"):
        x = batch.features[name][1].numpy()
        x = x[0] if view is View.CONTEXTUAL else x[batch.masks[name][1].numpy()].mean(axis=0)
        for i in range(2):
            x = sigmoid(p[f"machines.{name}.{i}.weight"] @ x + p[f"machines.{name}.{i}.hidden_bias"])
        units.append(x)
    fused = sigmoid(p["joint.weight"] @ np.concatenate([*units, np.zeros(4)]) + p["joint.hidden_bias"])
    at = (1, 0) if view is View.CONTEXTUAL else (1,)
    for name, y in model(batch).predictions.items():
        expected = p[f"heads.layers.{name}.weight"] @ fused + p[f"heads.layers.{name}.bias"]
        np.testing.assert_allclose(y[at].detach().numpy(), expected, atol=1e-5)


def test_stages() -> None:
    model = build(pretraining_epochs=7, pretraining_rate=0.02)
    *before, last = model.stages()
    assert [stage.name for stage in before] == [f"pretraining.{name}" for name in MACHINES]
    assert all((stage.epochs, stage.select, stage.trains_text) == (7, False, False) for stage in before)
    assert all(group.learning_rate == 0.02 for stage in before for group in stage.groups.values())
    assert (last.name, last.epochs, last.select, last.trains_text) == ("fine_tuning", None, True, True)
    tuned = {id(p) for p in last.groups["all"].parameters}
    left_out = [name for name, p in model.named_parameters() if id(p) not in tuned]
    assert all(name.endswith("visible_bias") for name in left_out)
    assert len(left_out) == 7
    assert [rbm.gaussian for rbm in model.modules() if isinstance(rbm, RBM)] == [True, False] * 3 + [False]


@pytest.mark.parametrize("view", list(View))
def test_each_machine_learns_alone_from_what_those_below_say(view: View) -> None:
    model, batch = build(), make_batch(view, missing=0.4, seed=2)
    activations = {}
    for name in DIMS:
        x, there = batch.features[name], batch.masks[name]
        rows = x[there & batch.mask] if view is View.CONTEXTUAL else None
        if rows is None:
            rows = torch.stack([x[i][mask].mean(dim=0) for i, mask in enumerate(there) if mask.any()])
        activations[name] = rows
    for stage in model.stages()[:-1]:
        model.stage = stage.name
        model.eval()
        model.zero_grad()
        losses = model.losses(model(batch), batch)
        assert list(losses) == [f"reconstruction.{stage.name.removeprefix('pretraining.')}"]
        loss = losses.popitem()[1]
        loss.backward()
        trained = {id(p) for group in stage.groups.values() for p in group.parameters}
        reached = {id(p) for p in model.parameters() if p.grad is not None}
        assert reached == trained
        name, _, layer = stage.name.removeprefix("pretraining.").rpartition(".")
        if name:
            rbm, v = model.machines[name][int(layer)], activations[name]
            again = rbm.visible(rbm.hidden(v))
            torch.testing.assert_close(loss, ((v - again) ** 2).mean())
            activations[name] = rbm.hidden(v).detach()


def test_a_missing_modality_has_no_part_in_the_joint_machine() -> None:
    model = build()
    batch = make_batch(View.ALIGNED).without("audio", "vision")
    model.stage = "pretraining.joint"
    model.losses(model(batch), batch)["reconstruction.joint"].backward()
    assert (model.joint.weight.grad[:, :4] != 0).any()
    assert (model.joint.weight.grad[:, 4:] == 0).all()
    assert (model.joint.visible_bias.grad[4:] == 0).all()


def test_fine_tuning_keeps_the_rule_of_missing_labels() -> None:
    """What the contract asks of every model, for the stage that sees labels."""
    model, batch = build(dropout=0.0), make_batch(View.CONTEXTUAL, unlabelled=0.5)
    model.stage = "fine_tuning"
    losses = model.losses(model(batch), batch)
    known = ~batch.labels["sentiment"][..., 0].isnan()
    said = model(batch).predictions["intensity"][..., 0][known]
    torch.testing.assert_close(losses["intensity"], ((said - batch.labels["sentiment"][..., 0][known]) ** 2).mean())


def test_pretraining_finds_the_structure_of_the_data() -> None:
    """Two hidden causes behind twelve numbers: the first machine's units come to follow them."""
    torch.manual_seed(0)
    causes = (torch.rand(64, 2) < 0.5).float()
    mixing = 2 * torch.randn(2, 12)
    model = MODELS["cdbn"].create({"audio": 12}, TASKS, {"hidden": 8, "layers": 1})
    batch = make_batch(View.ALIGNED, dims={"audio": 12}, lengths=(1,) * 64)
    batch.features["audio"][:, 0] = causes @ mixing - mixing.mean(dim=0) + 0.1 * torch.randn(64, 12)
    stage = model.stages()[0]
    model.stage = stage.name
    optimizer = torch.optim.Adam(next(iter(stage.groups.values())).parameters, lr=0.02)
    errors = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = model.train().losses(model(batch), batch)["reconstruction.audio.0"]
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.2 * errors[0]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    arguments = {
        "tasks": ["polarity"],
        "options": {"hidden": 6, "joint_hidden": 6, "layers": 1, "pretraining_epochs": 3},
        "training": {"epochs": 2, "patience": None},
    }

    def history(run):
        lines = (run.seed_folder(0) / "history.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    whole = train("cdbn", corpus, out=tmp_path / "whole", **arguments)
    stages = ["pretraining.text.0", "pretraining.audio.0", "pretraining.joint", "fine_tuning"]
    assert [row["stage"] for row in history(whole)] == [
        s for s in stages for _ in range(2 if s == "fine_tuning" else 3)
    ]
    assert "train.loss.reconstruction.audio.0" in history(whole)[3]

    def stop(event):
        if event.stage == "pretraining.audio.0" and event.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning may turn an interruption into SystemExit
        train("cdbn", corpus, out=tmp_path / "stopped", report=stop, **arguments)
    seen = []
    resumed = train(
        "cdbn", corpus, out=tmp_path / "stopped", report=lambda e: seen.append((e.stage, e.epoch)), **arguments
    )
    assert ("pretraining.text.0", 2) not in seen
    assert history(resumed) == history(whole)
    weights = [load_file(run.seed_folder(0) / "model.safetensors") for run in (whole, resumed)]
    assert all(np.array_equal(weights[1][name], value) for name, value in weights[0].items())


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match="The option 'dropout' is out of range"):
        build(dropout=1.0)
    with pytest.raises(AffectusError, match="The option 'pretraining_rate' is out of range: got 0"):
        build(pretraining_rate=0.0)
