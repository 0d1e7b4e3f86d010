"""TFN against MMSA's code with the same weights, against the outer product by loops, and where it must differ."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from affectus.errors import AffectusError
from affectus.labels import LabelKind, LabelScheme, sentiment_scheme
from affectus.models import MODELS
from affectus.objectives import RealLoss, choose_tasks
from affectus.testing import Case, make_batch, make_tasks, repad, run_check
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
SMALL = {"widths": {"text": 8, "audio": 3, "vision": 4}, "text_out": 5, "post_fusion": 6}
NODROP = {"dropout": 0.0, "fusion_dropout": 0.0}
KINDS = ("weight", "bias")


def build(inputs=THREE, tasks=INTENSITY, **options):
    torch.manual_seed(0)
    return MODELS["tfn"].create(inputs, tasks, SMALL | NODROP | options).eval()


PLACES = {f"layers.{i}.{kind}": f"post_fusion_layer_{i + 1}.{kind}" for i in (0, 1) for kind in KINDS} | {
    f"heads.layers.intensity.{kind}": f"post_fusion_layer_3.{kind}" for kind in KINDS
}


@pytest.fixture
def pair(mmsa, subnet_places):
    golden = mmsa("tfn")
    # their product is of audio, vision and text
    for kind in ("weight", "grad"):
        theirs = golden[f"{kind}.post_fusion_layer_1.weight"].view(6, 4, 5, 6)
        golden.tensors[f"{kind}.post_fusion_layer_1.weight"] = theirs.permute(0, 3, 1, 2).flatten(1)
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
    assert golden.unused(places) == {"output_range", "output_shift"}  # [-3, 3], as parameters


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


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_product_by_loops(count) -> None:
    """Every choice of one element of each [1, z]: with k modalities a tensor of order k."""
    inputs = dict(list({**THREE, "gaze": 3}.items())[:count])
    model = build(inputs, hidden=2)
    batch = make_batch(View.UNALIGNED, dims=inputs, lengths=(3, 2))
    vectors = model.subnets(batch)
    output = model(batch)
    for b in range(2):
        factors = [[1.0, *z[b].tolist()] for z in vectors.values()]
        product = torch.tensor([math.prod(chosen) for chosen in itertools.product(*factors)])
        assert len(product) == model.layers[0].in_features
        torch.testing.assert_close(output.extras["fused"][b], torch.relu(model.layers[0](product)))


def test_without_a_modality_the_product_of_the_others_is_left() -> None:
    model, batch = build().eval(), make_batch(View.UNALIGNED, dims=THREE)
    products = []
    model.layers[0].register_forward_hook(lambda _, given, __: products.append(given[0].view(-1, 6, 4, 5)))
    model(batch)
    model(batch.without("audio"))
    full, less = products
    torch.testing.assert_close(less[:, :, 0], full[:, :, 0])
    assert (less[:, :, 1:] == 0).all()


def scored(low, high):
    scheme = LabelScheme(name="score", kind=LabelKind.REAL, columns=("score",), low=low, high=high)
    return choose_tasks(["score"], {"score": scheme})


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-1.0, 1.0), (1.0, 7.0)])
def test_the_range_is_the_labels_own(low, high) -> None:
    """MMSA predicts CH-SIMS, which lies in [-1, 1], in [-3, 3]."""
    tasks = scored(low, high)
    model, batch = build(tasks=tasks), make_batch(View.UNALIGNED, dims=THREE)
    torch.nn.init.constant_(model.heads.layers["score"].weight, 0.0)
    for bias, expected in ((0.0, (low + high) / 2), (40.0, high), (-40.0, low)):
        torch.nn.init.constant_(model.heads.layers["score"].bias, bias)
        assert (model(batch).predictions["score"] == expected).all()


def test_what_has_no_range_is_not_bounded() -> None:
    batch = make_batch(View.UNALIGNED, dims=THREE)
    for tasks, options in (
        (scored(None, None), {}),
        (choose_tasks(["polarity"], {"sentiment": sentiment_scheme()}), {}),
        (INTENSITY, {"bounded": False}),
    ):
        model = build(tasks=tasks, **options)
        name = tasks[0].name
        torch.nn.init.constant_(model.heads.layers[name].bias, 40.0)
        assert (model(batch).predictions[name] > 30).all()


@pytest.mark.parametrize("check", ["shapes", "gradients", "padding", "missing_modality", "fits"])
def test_unbounded_keeps_the_contract(check) -> None:
    run_check(Case("tfn", View.UNALIGNED, options={"bounded": False}), check)


# config_regression.json, in MMSA's names; hidden_dims are text, audio, vision, dropouts audio, vision, text, fusion
PUBLISHED = {
    "mosi": {"hidden_dims": [128, 32, 128], "text_out": 32, "post": 64, "drop": (0.3, 0.5), "fit": (32, 1e-3)},
    "mosei": {"hidden_dims": [128, 16, 128], "text_out": 128, "post": 16, "drop": (0.4, 0.4), "fit": (128, 5e-3)},
    "sims": {"hidden_dims": [128, 32, 128], "text_out": 256, "post": 32, "drop": (0.4, 0.4), "fit": (32, 5e-4)},
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    wanted = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["tfn"], preset=preset)
    with torch.device("meta"):  # SIMS's product has a million columns
        model = MODELS["tfn"].create(THREE, INTENSITY, options)
    nets, (text, audio, vision) = model.subnets.nets, wanted["hidden_dims"]
    assert nets["text"].recurrent.width == text
    assert (nets["audio"].layers[2].out_features, nets["vision"].layers[2].out_features) == (audio, vision)
    assert model.layers[0].in_features == (wanted["text_out"] + 1) * (audio + 1) * (vision + 1)
    assert model.layers[0].out_features == wanted["post"]
    assert {net.drop.p for net in nets.values()} == {wanted["drop"][0]}
    assert model.drop.p == wanted["drop"][1]
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == (*wanted["fit"], 0.0)
    assert (settings.optimizer, settings.real_loss, settings.patience, settings.clip) == ("adam", "l1", 8, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "'dropout' is out of range"),
        ({"fusion_dropout": -0.1}, "'fusion_dropout' is out of range"),
        ({"widths": [8]}, r"'widths' is no mapping"),
        (
            {"widths": {"audio": 1000, "vision": 1000}, "text_out": 500},
            r"product of the modalities is too large.*501 \(text\) \* 1001 \(audio\) \* 1001 \(vision\) = 502,002,501.*"
            r"33,333,333 at most, with post_fusion=6.*use lmf",
        ),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)
