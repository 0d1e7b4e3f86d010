"""EF-LSTM against MMSA's code with the same weights, against the article's layers, and where it must differ."""

import copy
from dataclasses import replace

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS, ef_lstm
from affectus.nn.stepping import in_step
from affectus.objectives import RealLoss
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
SMALL = {"hidden": 8, "layers": 2, "dense": 8, "steps": 5, "dropout": 0.0}


def build(inputs=THREE, **options):
    torch.manual_seed(0)
    return MODELS["ef_lstm"].create(inputs, INTENSITY, SMALL | options).eval()


PLACES = {
    **{f"norm.norm.{kind}": f"norm.{kind}" for kind in ("weight", "bias")},
    **{
        f"recurrent.layer.{name}_l{layer}": f"lstm.{name}_l{layer}"
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for layer in (0, 1)
    },
    **{f"dense.{kind}": f"linear.{kind}" for kind in ("weight", "bias")},
    **{f"heads.layers.intensity.{kind}": f"out.{kind}" for kind in ("weight", "bias")},
}


@pytest.fixture
def pair(mmsa):
    golden = mmsa("ef_lstm")
    model = build(golden.inputs)
    golden.copy(model, PLACES)
    for name in ("running_mean", "running_var"):
        getattr(model.norm.norm, name).copy_(golden[f"buffer.norm.{name}"])
    return golden, model


def test_equals_mmsa(pair) -> None:
    golden, model = pair
    batch = golden.batch()
    output = model(batch)
    torch.testing.assert_close(output.predictions["intensity"], golden["output"], atol=1e-5, rtol=1e-5)
    loss = model.losses(output, batch)["intensity"]
    torch.testing.assert_close(loss, golden["loss"], atol=1e-5, rtol=1e-5)
    loss.backward()
    golden.check_gradients(model, PLACES)
    assert golden.unused(PLACES) == set()


def test_equals_mmsa_in_training(pair) -> None:
    golden, model = pair
    got = model.train()(golden.batch()).predictions["intensity"]
    torch.testing.assert_close(got, golden["train_output"], atol=1e-5, rtol=1e-5)


def test_padding_changes_mmsa_and_not_us(pair) -> None:
    """MMSA normalises the zeros that its loader appends, and its LSTM goes on over them."""
    golden, model = pair
    short = golden.batch().map(lambda x: x[:, :3] if x.dim() == 3 else x)
    masks = {name: mask[:, :3] for name, mask in short.masks.items()}
    expected = model(replace(short, masks=masks)).predictions["intensity"]
    for value in (0.0, torch.nan):
        got = model(repad(replace(short, masks=masks), 2, value)).predictions["intensity"]
        torch.testing.assert_close(got, expected)
    # the same weights, the same three steps, two of padding
    assert (golden["padded_output"] - expected).abs().max() > 0.1


def test_mmsa_aligns_by_distant_steps_and_we_by_neighbours(mmsa) -> None:
    """Ten steps of audio onto five of text: MMSA averages step j with step j + 5."""
    golden = mmsa("align")
    audio = golden["input.audio"]
    torch.testing.assert_close(golden["output.audio"], (audio[:, :5] + audio[:, 5:]) / 2)
    batch = golden.batch(sentiment=torch.zeros(2, 1))
    ours, masks = in_step(batch.features, batch.masks, View.UNALIGNED)
    torch.testing.assert_close(ours["audio"], (audio[:, 0::2] + audio[:, 1::2]) / 2)
    assert all(mask.shape == (2, 5) for mask in masks.values())


def test_the_original_by_its_layers() -> None:
    """Normalised features, two bidirectional LSTMs, both ends, a dense layer; one utterance at a time."""
    model = build(variant="original")
    for name, norm in model.norm.items():
        norm.norm.running_mean.normal_()
        norm.norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.norm.weight)
        assert norm.norm.num_features == THREE[name]
    batch = make_batch(View.ALIGNED, dims=THREE, lengths=(3, 1, 5))
    got = model(batch).predictions["intensity"]
    for b, length in enumerate((3, 1, 5)):
        x = [model.norm[name].norm(batch.features[name][b, :length]) for name in THREE]
        states, _ = model.recurrent.layer(torch.cat(x, dim=-1))
        ends = torch.cat([states[-1, :8], states[0, 8:]])
        expected = model.heads(torch.relu(model.dense(ends)))["intensity"]
        torch.testing.assert_close(got[b], expected)


def test_a_missing_modality_is_zero_in_the_concatenation() -> None:
    for variant in ("mmsa", "original"):
        model, batch = build(variant=variant), make_batch(View.ALIGNED, dims=THREE, lengths=(4, 2))
        seen = []
        model.recurrent.register_forward_hook(lambda *_: None)
        rows = model.recurrent.rows
        model.recurrent.rows = lambda x, *rest, rows=rows, seen=seen: (seen.append(x), rows(x, *rest))[1]
        model(batch.without("audio"))
        assert (seen[0][:, 6:11] == 0).all()
        assert (seen[0][:, :6] != 0).all()


def test_normalised_after_the_product_as_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build(hidden=120).train(), make_batch(View.ALIGNED, dims=THREE, lengths=(6, 3, 4))
    before, found = copy.deepcopy(model.state_dict()), []
    for there in (ef_lstm._all_are_there, lambda masks, packing: False):
        monkeypatch.setattr(ef_lstm, "_all_are_there", there)
        model.load_state_dict(before)
        torch.manual_seed(0)
        model.zero_grad()
        losses = model.losses(model(batch), batch)
        torch.stack(list(losses.values())).sum().backward()
        found.append([p.grad for p in model.parameters()] + list(model.buffers()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_late_steps_share_the_statistics_of_the_last() -> None:
    model, batch = build(steps=2), make_batch(View.ALIGNED, dims=THREE, lengths=(6,))
    model.train()(batch)
    assert model.norm.norm.running_mean.shape == (2,)
    late = torch.cat([batch.features[name][0, 1:] for name in THREE], dim=-1)
    torch.testing.assert_close(model.norm.norm.running_mean[1], late.mean())


# config_regression.json, in MMSA's names
PUBLISHED = {
    "mosi": {"hidden_dims": 128, "num_layers": 4, "dropout": 0.5, "batch": 32, "rate": 1e-3, "decay": 5e-3},
    "mosei": {"hidden_dims": 256, "num_layers": 2, "dropout": 0.4, "batch": 128, "rate": 5e-3, "decay": 1e-4},
    "sims": {"hidden_dims": 32, "num_layers": 3, "dropout": 0.5, "batch": 128, "rate": 5e-4, "decay": 1e-3},
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    wanted = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["ef_lstm"], preset=preset)
    model = MODELS["ef_lstm"].create(THREE, INTENSITY, options)
    layer = model.recurrent.layer
    assert (layer.hidden_size, layer.num_layers, layer.bidirectional) == (
        wanted["hidden_dims"],
        wanted["num_layers"],
        False,
    )
    assert (layer.dropout, model.drop.p, model.dense.out_features) == (
        wanted["dropout"],
        wanted["dropout"],
        wanted["hidden_dims"],
    )
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == (
        wanted["batch"],
        wanted["rate"],
        wanted["decay"],
    )
    assert (settings.optimizer, settings.real_loss, settings.patience, settings.clip) == ("adam", "l1", 8, None)


def test_the_original_hyper_parameters() -> None:
    options, settings = resolve_settings(MODELS["ef_lstm"], preset="original")
    model = MODELS["ef_lstm"].create(THREE, INTENSITY, options)
    assert model.recurrent.layer.bidirectional
    assert (model.recurrent.width, model.dense.out_features) == (128, 100)
    assert (settings.batch_size, settings.epochs, settings.patience) == (64, 200, 10)


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match=r"Unknown value of the option 'variant'.*'mmas'.*Did you mean 'mmsa'"):
        build(variant="mmas")
    with pytest.raises(AffectusError, match="'dropout' is out of range"):
        build(dropout=1.0)
