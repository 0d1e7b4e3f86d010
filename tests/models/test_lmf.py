"""LMF against MMSA's code with the same weights, against the tensor that it stands for, and where it must differ."""

from dataclasses import replace

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.lmf import LowRankFusion
from affectus.objectives import RealLoss
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
SMALL = {"widths": {"text": 8, "audio": 3, "vision": 4}, "text_out": 4, "rank": 3, "dropout": 0.0}


def build(inputs=THREE, tasks=INTENSITY, **options):
    torch.manual_seed(0)
    return MODELS["lmf"].create(inputs, tasks, SMALL | options).eval()


PLACES = {
    "fusions.intensity.factors.text": "text_factor",
    "fusions.intensity.factors.audio": "audio_factor",
    "fusions.intensity.factors.vision": "video_factor",
    "fusions.intensity.weights": "fusion_weights",
    "fusions.intensity.bias": "fusion_bias",
}


@pytest.fixture
def pair(mmsa, subnet_places):
    golden = mmsa("lmf")
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


def test_mmsa_leaves_two_weights_untrained_and_we_do_not(mmsa) -> None:
    golden = mmsa("lmf")
    assert set(golden.group("weight")) - set(golden.facts["trained"]) == {"fusion_weights", "fusion_bias"}
    model = build(factor_learning_rate=0.05)
    (stage,) = model.stages()
    trained = [parameter for group in stage.groups.values() for parameter in group.parameters]
    assert {id(p) for p in trained} == {id(p) for p in model.parameters()}
    assert len(trained) == len(list(model.parameters()))
    fusion = model.fusions["intensity"]
    assert {id(p) for p in stage.groups["factors"].parameters} == {id(p) for p in fusion.factors.values()}
    assert (stage.groups["factors"].learning_rate, stage.groups["rest"].learning_rate) == (0.05, None)


def test_the_fusion_is_a_contraction_of_tfns_product() -> None:
    """Liu et al. 2018: the tensor of weights is a sum of outer products of the factors."""
    torch.manual_seed(0)
    fusion = LowRankFusion({"text": 4, "audio": 2, "vision": 3}, 3, 2)
    torch.nn.init.normal_(fusion.bias)
    vectors = {"text": torch.randn(5, 4), "audio": torch.randn(5, 2), "vision": torch.randn(5, 3)}
    ones = torch.ones(5, 1)
    t, a, v = (torch.cat([ones, x], dim=1) for x in vectors.values())
    factors = [fusion.factors[name] for name in vectors]
    tensor = torch.einsum("r,rto,rao,rvo->tavo", fusion.weights[0], *factors)
    product = torch.einsum("bt,ba,bv->btav", t, a, v)
    expected = torch.einsum("btav,tavo->bo", product, tensor) + fusion.bias
    torch.testing.assert_close(fusion(vectors), expected)


def test_each_task_has_its_own_factors_of_its_width() -> None:
    model = build(tasks=make_tasks("polarity", "emotions"))
    assert {name: fusion.bias.shape[1] for name, fusion in model.fusions.items()} == {"polarity": 2, "emotions": 7}


def test_a_missing_modality_takes_part_with_its_one_alone() -> None:
    model, batch = build(), make_batch(View.UNALIGNED, dims=THREE)
    fusion, vectors = model.fusions["intensity"], model.subnets(batch)
    factors = {name: torch.cat([torch.ones(4, 1), x], dim=1) @ fusion.factors[name] for name, x in vectors.items()}
    factors["audio"] = fusion.factors["audio"][:, :1].expand(3, 4, 1)
    expected = torch.einsum("r,rbo->bo", fusion.weights[0], factors["text"] * factors["audio"] * factors["vision"])
    torch.testing.assert_close(model(batch.without("audio")).predictions["intensity"], expected + fusion.bias)


# config_regression.json, in MMSA's names; hidden_dims are text, audio, vision; the text's vector is half as wide
PUBLISHED = {
    "mosi": {"hidden_dims": [128, 16, 128], "rank": 3, "drop": 0.3, "factor_lr": 1e-3, "fit": (64, 1e-3, 5e-3)},
    "mosei": {"hidden_dims": [128, 16, 128], "rank": 4, "drop": 0.2, "factor_lr": 1e-3, "fit": (32, 1e-3, 1e-3)},
    "sims": {"hidden_dims": [64, 16, 64], "rank": 4, "drop": 0.2, "factor_lr": 5e-4, "fit": (64, 2e-3, 5e-3)},
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    wanted = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["lmf"], preset=preset)
    model = MODELS["lmf"].create(THREE, INTENSITY, options)
    nets, (text, audio, vision) = model.subnets.nets, wanted["hidden_dims"]
    assert (nets["text"].recurrent.width, nets["text"].layer.out_features) == (text, text // 2)
    assert (nets["audio"].layers[2].out_features, nets["vision"].layers[2].out_features) == (audio, vision)
    shapes = {name: tuple(factor.shape) for name, factor in model.fusions["intensity"].factors.items()}
    rank = wanted["rank"]
    assert shapes == {"text": (rank, text // 2 + 1, 1), "audio": (rank, audio + 1, 1), "vision": (rank, vision + 1, 1)}
    assert {net.drop.p for net in nets.values()} == {wanted["drop"]}
    assert model.stages()[0].groups["factors"].learning_rate == wanted["factor_lr"]
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == wanted["fit"]
    assert (settings.optimizer, settings.real_loss, settings.patience, settings.clip) == ("adam", "l1", 8, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "'dropout' is out of range"),
        ({"widths": {"audio": 1.5}}, r"'widths\.audio' is no size.*1\.5"),
        ({"factor_learning_rate": -1.0}, r"'factor_learning_rate' is out of range.*-1\.0.*a number from 0"),
        ({"factor_learning_rate": "fast"}, "'factor_learning_rate' is out of range.*'fast'"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)
