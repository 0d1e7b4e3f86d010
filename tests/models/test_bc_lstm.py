"""bc-LSTM: what each of its stages trains, sees and gives."""

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.testing import DIMS, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "emotions")
SMALL = {"hidden": 6, "dense": 5, "fusion_dense": 7}


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return MODELS["bc_lstm"].create(dims, TASKS, {**SMALL, **options}).eval()


def total(model, batch):
    return torch.stack(list(model.losses(model(batch), batch).values())).sum()


def test_stages() -> None:
    model = build()
    stages = model.stages()
    assert [stage.name for stage in stages] == ["unimodal.text", "unimodal.audio", "unimodal.vision", "fusion"]
    trained = [p for stage in stages for group in stage.groups.values() for p in group.parameters]
    assert len(trained) == len({id(p) for p in trained}) == len(list(model.parameters()))


def test_each_stage_trains_its_part_alone() -> None:
    model, batch = build(), make_batch(View.CONTEXTUAL)
    for stage in model.stages():
        model.stage = stage.name
        model.train()
        model.zero_grad()
        total(model, batch).backward()
        reached = {name for name, p in model.named_parameters() if p.grad is not None}
        assert reached
        assert all(name.startswith(f"{stage.name}.") for name in reached)


def test_a_unimodal_stage_predicts_from_its_modality() -> None:
    model, batch = build(), make_batch(View.CONTEXTUAL)
    model.stage = "unimodal.audio"
    output = model(batch)
    torch.testing.assert_close(output.predictions["polarity"], output.extras["unimodal.audio.polarity"])
    without = model(batch.without("text", "vision"))
    torch.testing.assert_close(output.predictions["polarity"], without.predictions["polarity"])


def test_an_utterance_without_the_modality_has_no_part_in_its_stage() -> None:
    model, batch = build(), make_batch(View.CONTEXTUAL, lengths=(4, 4))
    model.stage = "unimodal.audio"
    batch.masks["audio"][0, 1] = False
    before = model.losses(model(batch), batch)
    batch.labels["sentiment"][0, 1] *= -1
    after = model.losses(model(batch), batch)
    assert before["polarity"] == after["polarity"]


def test_the_fusion_learns_from_fixed_activations() -> None:
    """No dropout below the fusion while it is trained: its input is the same in training and in evaluation."""
    model, batch = build(), make_batch(View.CONTEXTUAL)
    model.stage = "fusion"
    expected = model.eval()(batch).extras["fused"]
    fused = model.train()(batch).extras["fused"]
    torch.testing.assert_close(fused, expected)
    assert not fused.requires_grad
    model.stage = "unimodal.text"
    assert not torch.equal(model(batch).extras["fused"], model(batch).extras["fused"])


def test_activations_are_concatenated() -> None:
    model, batch = build(), make_batch(View.CONTEXTUAL, missing=0.3)
    fused = model(batch).extras["fused"]
    assert fused.shape == (*batch.mask.shape, 15)
    for i, name in enumerate(DIMS):
        there = batch.masks[name] & batch.mask
        part = fused[..., 5 * i : 5 * i + 5]
        assert (part[~there] == 0).all()
        assert (part[there] != 0).all()


def test_one_modality_has_one_stage() -> None:
    dims = {"audio": 5}
    model, batch = build(dims), make_batch(View.CONTEXTUAL, dims=dims)
    assert model.fusion is None
    assert [stage.name for stage in model.stages()] == ["unimodal.audio"]
    output = model(batch)
    torch.testing.assert_close(output.predictions["polarity"], output.extras["unimodal.audio.polarity"])


def test_published_sizes() -> None:
    entry = MODELS["bc_lstm"]
    model = entry.create({"text": 100, "audio": 73, "vision": 100}, make_tasks("polarity"))
    text = model.unimodal["text"]
    assert (text.recurrent.hidden, text.recurrent.dropout, text.drop.p, text.dense.out_features) == (300, 0.6, 0.9, 100)
    assert (text.activation, model.fusion.activation) == (torch.tanh, torch.relu)
    assert model.fusion.recurrent.input_layers["x"].in_features == 300
    assert (model.fusion.recurrent.dropout, model.fusion.dense.out_features) == (0.4, 500)
    assert entry.training == {
        "optimizer": "adadelta", "learning_rate": 1.0, "batch_size": 10, "epochs": 200, "patience": 10,
    }  # fmt: skip


def test_bad_options() -> None:
    for name in ("input_dropout", "fusion_input_dropout", "dropout"):
        with pytest.raises(AffectusError, match=f"The option '{name}' is out of range"):
            build(**{name: 1.5})
