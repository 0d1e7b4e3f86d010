"""LF-DNN against MMSA's code with the same weights, against the article's layers, and where it must differ."""

from dataclasses import replace

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.objectives import RealLoss
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
SMALL = {"widths": {"text": 8, "audio": 3, "vision": 4}, "text_out": 5, "dense": 6}
NODROP = {"dropout": 0.0, "fusion_dropout": 0.0}
KINDS = ("weight", "bias")


def build(inputs=THREE, **options):
    torch.manual_seed(0)
    return MODELS["lf_dnn"].create(inputs, INTENSITY, SMALL | NODROP | options).eval()


PLACES = {f"layers.{i}.{kind}": f"post_fusion_layer_{i + 1}.{kind}" for i in (0, 1) for kind in KINDS} | {
    f"heads.layers.intensity.{kind}": f"post_fusion_layer_3.{kind}" for kind in KINDS
}


@pytest.fixture
def pair(mmsa, subnet_places):
    golden = mmsa("lf_dnn")
    # they concatenate audio, vision and text
    for kind in ("weight", "grad"):
        theirs = golden[f"{kind}.post_fusion_layer_1.weight"]
        golden.tensors[f"{kind}.post_fusion_layer_1.weight"] = torch.cat([theirs[:, 7:], theirs[:, :7]], dim=1)
    places, copy_statistics = subnet_places
    places = places | PLACES
    model = build(golden.inputs)
    golden.copy(model, places)
    copy_statistics(golden, model)
    return golden, model, places


def test_equals_mmsa(pair) -> None:
    golden, model, places = pair
    batch = golden.batch()
    output = model(batch)
    torch.testing.assert_close(output.predictions["intensity"], golden["output"], atol=1e-5, rtol=1e-5)
    loss = model.losses(output, batch)["intensity"]
    torch.testing.assert_close(loss, golden["loss"], atol=1e-5, rtol=1e-5)
    loss.backward()
    golden.check_gradients(model, places)
    assert golden.unused(places) == set()


def test_equals_mmsa_in_training(pair) -> None:
    golden, model, _ = pair
    got = model.train()(golden.batch()).predictions["intensity"]
    torch.testing.assert_close(got, golden["train_output"], atol=1e-5, rtol=1e-5)


def test_padding_changes_mmsa_and_not_us(pair) -> None:
    """MMSA averages over the zeros that its loader appends, and its LSTM goes on over them."""
    golden, model, _ = pair
    short = golden.batch()
    short = replace(
        short,
        features={name: x[:, :3] for name, x in short.features.items()},
        masks={name: x[:, :3] for name, x in short.masks.items()},
    )
    assert (golden["padded_output"] - golden["truncated_output"]).abs().max() > 0.1
    for value in (0.0, torch.nan):
        got = model(repad(short, 2, value)).predictions["intensity"]
        torch.testing.assert_close(got, golden["truncated_output"], atol=1e-5, rtol=1e-5)


def test_the_texts_dropout_works() -> None:
    """MMSA sets it to 0 for an LSTM of one layer."""
    model = build(dropout=0.5)
    assert model.subnets.nets["text"].drop.p == 0.5
    batch = make_batch(View.UNALIGNED, dims={"text": 6})
    alone = build({"text": 6}, widths=None, hidden=8, dropout=0.5).train()
    assert not torch.equal(alone(batch).predictions["intensity"], alone(batch).predictions["intensity"])


def test_the_original_by_its_layers() -> None:
    """One utterance at a time: its steps repeated to ten, convolution, pooling, dense, one output each."""
    torch.manual_seed(0)
    model = build(variant="original", steps=10, hidden=3, widths=None)
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(5, 1))
    output = model(batch)
    for b in range(2):
        said = []
        for name in THREE:
            net, x = model.nets[name], batch.features[name][b][batch.masks[name][b]]
            if name == "text":
                states, _ = net.recurrent.layer(x)
                y = torch.cat([states[-1, :3], states[0, 3:]])
            else:
                n = len(x)
                parts = torch.stack([x[i * n // 10 : -(-((i + 1) * n) // 10)].mean(dim=0) for i in range(10)])
                filtered = [
                    torch.relu((net.convolution.weight * parts[t : t + 3].T).sum(dim=(1, 2)) + net.convolution.bias)
                    for t in range(8)
                ]
                y = torch.stack([torch.maximum(filtered[t], filtered[t + 1]) for t in (0, 2, 4, 6)], dim=1).flatten()
            vector = torch.relu(net.dense(y))
            said.append(model.unimodal_heads[name](vector)["intensity"])
            torch.testing.assert_close(output.extras[f"prediction.{name}.intensity"][b], said[-1])
        torch.testing.assert_close(output.predictions["intensity"][b], model.weighing["intensity"](torch.cat(said)))


def test_the_original_weighs_each_modalitys_outputs_and_ignores_a_missing_ones() -> None:
    tasks = make_tasks("emotion_class")
    torch.manual_seed(0)
    model = MODELS["lf_dnn"].create(THREE, tasks, {"variant": "original", "hidden": 3, "dense": 4}).eval()
    assert model.weighing["emotion_class"].in_features == 9
    output = model(make_batch(View.UNALIGNED, dims=THREE).without("audio"))
    assert (output.extras["prediction.audio.emotion_class"] == 0).all()
    assert (output.extras["fused"][:, 4:8] == 0).all()
    assert (output.extras["prediction.text.emotion_class"] != 0).all()


# config_regression.json, in MMSA's names; hidden_dims are text, audio, vision, dropouts audio, vision, text, fusion
PUBLISHED = {
    "mosi": {"hidden_dims": [128, 16, 128], "text_out": 256, "post": 128, "drop": (0.2, 0.2), "fit": (128, 1e-3, 0.01)},
    "mosei": {"hidden_dims": [128, 32, 128], "text_out": 128, "post": 128, "drop": (0.2, 0.2), "fit": (64, 2e-3, 1e-3)},
    "sims": {"hidden_dims": [128, 32, 128], "text_out": 256, "post": 32, "drop": (0.3, 0.5), "fit": (128, 5e-3, 5e-3)},
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    wanted = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["lf_dnn"], preset=preset)
    model = MODELS["lf_dnn"].create(THREE, INTENSITY, options)
    nets = model.subnets.nets
    assert [
        nets["text"].recurrent.width,
        nets["audio"].layers[0].out_features,
        nets["vision"].layers[0].out_features,
    ] == (wanted["hidden_dims"])
    assert (nets["text"].layer.out_features, model.layers[0].out_features) == (wanted["text_out"], wanted["post"])
    assert {net.drop.p for net in nets.values()} == {wanted["drop"][0]}
    assert model.drop.p == wanted["drop"][1]
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == wanted["fit"]
    assert (settings.optimizer, settings.real_loss, settings.patience, settings.clip) == ("adam", "l1", 8, None)


def test_the_original_hyper_parameters() -> None:
    options, settings = resolve_settings(MODELS["lf_dnn"], preset="original")
    model = MODELS["lf_dnn"].create(THREE, INTENSITY, options)
    assert model.nets["text"].recurrent.width == 128
    assert model.nets["audio"].convolution.weight.shape == (64, 5, 3)
    assert {net.dense.out_features for net in model.nets.values()} == {100}
    assert (settings.batch_size, settings.epochs, settings.patience) == (64, 200, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "late"}, r"Unknown value of the option 'variant'.*'late'"),
        ({"dropout": -0.1}, "'dropout' is out of range"),
        ({"fusion_dropout": 1.0}, "'fusion_dropout' is out of range"),
        ({"widths": {"vison": 3}}, r"Unknown modality 'vison'.*'widths'.*Did you mean 'vision'"),
        ({"widths": {"text": 0}}, r"'widths\.text' is no size"),
        ({"variant": "original", "steps": 3}, "'steps' leaves nothing to pool.*3.*4 or more"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)
