"""MLF-DNN, MTFN and MLMF against MMSA's code with the same weights, and where they must differ."""

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
NAMES = ("mlf_dnn", "mtfn", "mlmf")
THEIRS = {"text": "text", "audio": "audio", "vision": "video"}
WEIGHTS = {"fused": 0.6, "text": 0.2, "audio": 0.8, "vision": 0.7}
SIZES = {
    **{"widths": {"text": 8, "audio": 3, "vision": 4}, "unimodal_widths": {"text": 6, "audio": 3, "vision": 4}},
    **{"dropout": 0.0, "unimodal_dropout": 0.0},
}
OWN = {
    "mlf_dnn": {"text_out": 5, "dense": 6, "fusion_dropout": 0.0},
    "mtfn": {"text_out": 5, "dense": 6, "fusion_dropout": 0.0},
    "mlmf": {"text_out": 4, "rank": 3},
}


def build(name, inputs=THREE, tasks=INTENSITY, **options):
    torch.manual_seed(0)
    return MODELS[name].create(inputs, tasks, {**SIZES, **OWN[name], **options}).eval()


def in_our_order(name):
    """MMSA lines up audio, vision and text, and takes its outer product in that order."""

    def columns(weight):
        if name == "mlf_dnn":
            audio, vision, text = torch.split(weight, [3, 4, 5], dim=1)
            return torch.cat([text, audio, vision], dim=1)
        return weight.view(len(weight), 4, 5, 6).permute(0, 3, 1, 2).reshape(len(weight), -1)

    return columns


def places(name):
    found = {}
    for kind in ("weight", "bias"):
        for ours, theirs in THEIRS.items():
            net, branch = f"subnets.nets.{ours}", f"unimodal.branches.{ours}"
            found[f"{branch}.first.{kind}"] = f"post_{theirs}_layer_1.{kind}"
            found[f"{branch}.second.{kind}"] = f"post_{theirs}_layer_2.{kind}"
            found[f"{branch}.heads.layers.intensity.{kind}"] = f"post_{theirs}_layer_3.{kind}"
            if ours == "text":
                found[f"{net}.layer.{kind}"] = f"text_subnet.linear_1.{kind}"
                for part in ("ih_l0", "hh_l0"):
                    found[f"{net}.recurrent.layer.{kind}_{part}"] = f"text_subnet.rnn.{kind}_{part}"
                continue
            found[f"{net}.norm.norm.{kind}"] = f"{theirs}_subnet.norm.{kind}"
            found |= {f"{net}.layers.{i}.{kind}": f"{theirs}_subnet.linear_{i + 1}.{kind}" for i in range(3)}
        if name != "mlmf":
            layer = f"post_fusion_layer_1.{kind}"
            found[f"layers.0.{kind}"] = (layer, in_our_order(name)) if kind == "weight" else layer
            found[f"layers.1.{kind}"] = f"post_fusion_layer_2.{kind}"
            found[f"heads.layers.intensity.{kind}"] = f"post_fusion_layer_3.{kind}"
    if name == "mlmf":
        for ours, theirs in THEIRS.items():
            found[f"fusions.intensity.factors.{ours}"] = f"{theirs}_factor"
        found |= {"fusions.intensity.weights": "fusion_weights", "fusions.intensity.bias": "fusion_bias"}
    return found


@pytest.fixture(params=NAMES)
def pair(request, mmsa):
    name = request.param
    golden = mmsa(name)
    model = build(name, golden.inputs, loss_weights=WEIGHTS)
    golden.copy(model, places(name))
    for ours, theirs in THEIRS.items():
        if ours != "text":
            norm = model.subnets.nets[ours].norm.norm
            norm.running_mean.copy_(golden[f"buffer.{theirs}_subnet.norm.running_mean"])
            norm.running_var.copy_(golden[f"buffer.{theirs}_subnet.norm.running_var"])
    return name, golden, model


def labels_of(golden):
    names = {"sentiment": "fusion", **{f"sentiment_{name}": name for name in THREE}}
    return {scheme: golden[f"label.{name}"] for scheme, name in names.items()}


def test_equals_mmsa(pair) -> None:
    """What every head says, the weighed loss against all four labels, and its gradients."""
    name, golden, model = pair
    batch = golden.batch(**labels_of(golden))
    output = model(batch)
    said = {"fusion": output.predictions["intensity"]}
    said |= {modality: output.extras[f"prediction.{modality}.intensity"] for modality in THREE}
    for head, y in said.items():
        torch.testing.assert_close(y, golden[f"output.{head}"], atol=1e-5, rtol=1e-5)
    losses = model.losses(output, batch)
    assert set(losses) == {"intensity", *(f"intensity.{modality}" for modality in THREE)}
    total = sum(losses.values())
    torch.testing.assert_close(total, golden["loss"], atol=1e-5, rtol=1e-5)
    total.backward()
    golden.check_gradients(model, places(name))
    extra = {"output_range", "output_shift"} if name == "mtfn" else set()
    assert golden.unused(places(name)) == extra


def test_equals_mmsa_in_training(pair) -> None:
    """Where batch normalisation looks at the batch."""
    _, golden, model = pair
    model.train()
    found = model(golden.batch(**labels_of(golden))).predictions["intensity"]
    torch.testing.assert_close(found, golden["train_output"], atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing(pair) -> None:
    """Nor may it: MMSA averages over it, and its LSTM runs through it."""
    _, golden, model = pair
    batch = golden.batch(**labels_of(golden))
    output = model(repad(batch, 3, torch.nan))
    torch.testing.assert_close(output.predictions["intensity"], golden["output.fusion"], atol=1e-5, rtol=1e-5)


def test_what_mmsa_never_trains_is_trained_here(mmsa) -> None:
    """The weights of the ranks and the bias, of which MMSA's optimiser has a rate of 0."""
    assert set(mmsa("mlmf").facts["never_trained"]) == {"fusion_weights", "fusion_bias"}
    model = build("mlmf", factor_learning_rate=0.5)
    (stage,) = model.stages()
    rates = {id(p): group.learning_rate for group in stage.groups.values() for p in group.parameters}
    fusion = model.fusions["intensity"]
    assert {rates[id(p)] for p in fusion.factors.values()} == {0.5}
    assert rates[id(fusion.weights)] is None
    assert rates[id(fusion.bias)] is None
    assert set(rates) == {id(p) for p in model.parameters()}


def test_a_range_is_that_of_the_label() -> None:
    """CH-SIMS ends at 1, where MMSA still says up to 3."""
    sims = tuple(replace(task, low=-1.0, high=1.0) for task in INTENSITY)
    batch = make_batch(View.UNALIGNED, dims=THREE)
    batch = replace(batch, features={name: 100 * x for name, x in batch.features.items()})
    wide = build("mtfn")(batch).predictions["intensity"]
    narrow = build("mtfn", tasks=sims)(batch).predictions["intensity"]
    torch.testing.assert_close(narrow, wide / 3)
    assert narrow.abs().max() <= 1
    free = build("mtfn", bounded=False)(batch).predictions["intensity"]
    torch.testing.assert_close(3 * (2 * torch.sigmoid(free) - 1), wide)


@pytest.mark.parametrize("name", NAMES)
class TestHeads:
    """What each head learns, and how it weighs."""

    def losses(self, model, batch):
        return model.losses(model(batch), batch)

    def batch(self):
        batch = make_batch(View.UNALIGNED, dims=THREE)
        own = torch.tensor([[-1.0], [torch.nan], [2.0], [-0.5]])
        return replace(batch, labels=batch.labels | {"sentiment_audio": own})

    def test_own_labels_where_there_are_any(self, name) -> None:
        batch = self.batch()
        own = self.losses(build(name), batch)
        joint = self.losses(build(name, unimodal_labels="joint"), batch)
        assert {key for key in own if own[key] != joint[key]} == {"intensity.audio"}
        said = build(name)(batch).extras["prediction.audio.intensity"]
        known = [0, 2, 3]
        expected = (said - batch.labels["sentiment_audio"])[known].abs().mean()
        torch.testing.assert_close(own["intensity.audio"], expected)

    def test_every_kind_of_task(self, name) -> None:
        tasks = make_tasks()
        found = self.losses(build(name, tasks=tasks), self.batch())
        assert set(found) == {f"{task.name}{head}" for task in tasks for head in ("", ".text", ".audio", ".vision")}

    def test_weights(self, name) -> None:
        batch = self.batch()
        plain = self.losses(build(name), batch)
        weighed = self.losses(build(name, loss_weights={"fused": 0.5, "vision": 3.0}), batch)
        factors = {"intensity": 0.5, "intensity.vision": 3.0}
        for key, loss in plain.items():
            torch.testing.assert_close(weighed[key], factors.get(key, 1.0) * loss)

    def test_a_head_that_weighs_nothing_is_not_there(self, name) -> None:
        model = build(name, loss_weights={"audio": 0.0})
        assert set(model.unimodal.branches) == {"text", "vision"}
        assert set(self.losses(model, self.batch())) == {"intensity", "intensity.text", "intensity.vision"}

    def test_a_missing_modality_has_no_part_in_its_loss(self, name) -> None:
        model = build(name, unimodal_labels="joint")
        batch = make_batch(View.UNALIGNED, dims=THREE)
        there = torch.arange(4) != 2
        batch = replace(batch, masks=batch.masks | {"text": batch.masks["text"] & there[:, None]})
        output = model(batch)
        error = (output.extras["prediction.text.intensity"] - batch.labels["sentiment"]).abs()
        torch.testing.assert_close(model.losses(output, batch)["intensity.text"], error[there].mean())
        assert output.extras["present"][:, 0].tolist() == there.tolist()

    def test_groups(self, name) -> None:
        model = build(name, weight_decays={"audio": 0.0, "vision": 0.25})
        groups = model.stages()[0].groups
        found = {key: group.weight_decay for key, group in groups.items() if key.startswith("net.")}
        assert found == {"net.text": None, "net.audio": 0.0, "net.vision": 0.25}
        listed = [id(p) for group in groups.values() for p in group.parameters]
        assert len(listed) == len(set(listed))
        assert set(listed) == {id(p) for p in model.parameters()}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"unimodal_labels": "both"}, "Unknown value of the option 'unimodal_labels'"),
            ({"unimodal_dropout": 1.0}, "'unimodal_dropout' is out of range"),
            ({"dropout": -0.1}, "'dropout' is out of range"),
            ({"loss_weights": {"fusion": 1.0}}, r"Unknown head 'fusion'.*'loss_weights'"),
            ({"loss_weights": {"fused": 0.0}}, r"'loss_weights\.fused' is out of range.*above 0"),
            ({"loss_weights": {"text": -1.0}}, r"'loss_weights\.text' is out of range.*from 0"),
            ({"loss_weights": [1.0]}, "'loss_weights' is no mapping"),
            ({"unimodal_widths": {"text": 0}}, r"'unimodal_widths\.text' is no size"),
            ({"weight_decays": {"text": -1.0}}, r"'weight_decays\.text' is out of range"),
            ({"weight_decays": {"smell": 1.0}}, "Unknown modality 'smell'"),
        ],
    )
    def test_bad_options(self, name, options, message) -> None:
        with pytest.raises(AffectusError, match=message):
            build(name, **options)

    def test_a_modality_may_not_bear_the_heads_name(self, name) -> None:
        with pytest.raises(AffectusError, match=r"A modality has the name of a head.*fused"):
            build(name, {"text": 4, "fused": 3}, widths=None, unimodal_widths=None)


def test_own_bad_options() -> None:
    for name in ("mlf_dnn", "mtfn"):
        with pytest.raises(AffectusError, match="'fusion_dropout' is out of range"):
            build(name, fusion_dropout=1.0)
    with pytest.raises(AffectusError, match="'factor_learning_rate' is out of range"):
        build("mlmf", factor_learning_rate=0.0)
    with pytest.raises(AffectusError, match=r"The product of the modalities is too large.*use mlmf"):
        build("mtfn", widths={"audio": 4000, "vision": 40000})


# config_regression.json for CH-SIMS, in MMSA's order: text, audio, vision; then M, T, A, V
PUBLISHED = {
    "mlf_dnn": {
        **{"nets": (64, 32, 64), "text_out": 32, "dense": 32, "post": (16, 4, 32), "drops": (0.3, 0.5)},
        **{"weights": (0.6, 0.2, 0.8, 0.8), "decays": (1e-4, 1e-3, 1e-4), "rate": 2e-3, "decay": 0.0, "batch": 32},
    },
    "mtfn": {
        **{"nets": (256, 32, 256), "text_out": 256, "dense": 64, "post": (64, 4, 8), "drops": (0.2, 0.2)},
        **{"weights": (0.6, 0.4, 0.0, 1.0), "decays": (1e-3, 1e-4, 1e-5), "rate": 5e-3, "decay": 0.0, "batch": 64},
    },
    "mlmf": {
        **{"nets": (256, 32, 256), "text_out": 128, "post": (8, 4, 32), "drops": (0.3, 0.4), "rank": 3},
        **{"weights": (0.2, 1.0, 0.4, 0.8), "decays": (1e-4, 0.0, 1e-4), "rate": 1e-3, "decay": 5e-3, "batch": 128},
        "factor_learning_rate": 1e-3,
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_published_hyper_parameters(name) -> None:
    wanted = PUBLISHED[name]
    options, settings = resolve_settings(MODELS[name], preset="sims")
    assert tuple(options["widths"].values()) == wanted["nets"]
    assert tuple(options["unimodal_widths"].values()) == wanted["post"]
    assert (options["dropout"], options["unimodal_dropout"]) == wanted["drops"]
    assert tuple(options["loss_weights"].values()) == wanted["weights"]
    assert tuple(options["weight_decays"].values()) == wanted["decays"]
    for option in ("text_out", "dense", "rank", "factor_learning_rate"):
        assert options.get(option) == wanted.get(option)
    if name != "mlmf":
        assert options["fusion_dropout"] == wanted["drops"][1]
    found = (settings.learning_rate, settings.weight_decay, settings.batch_size)
    assert found == (wanted["rate"], wanted["decay"], wanted["batch"])
    assert (settings.patience, settings.real_loss, settings.select) == (8, "l1", "loss")
    MODELS[name].create({"text": 768, "audio": 33, "vision": 709}, INTENSITY, options)
