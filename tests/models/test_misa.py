"""MISA against MMSA's code with the same weights, its losses by hand, and where it must differ."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.misa import central_moment_discrepancy, squared_overlap
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = make_tasks("intensity")
THREE = {"text": 6, "audio": 5, "vision": 4}
MMSA_WEIGHTS = {"difference_weight": 0.1, "similarity_weight": 0.3, "reconstruction_weight": 1.0}


def build(inputs=THREE, tasks=INTENSITY, **options):
    torch.manual_seed(0)
    sizes = {"dim": 8, "ffn": 12, "dropout": 0.0, "encoder_dropout": 0.0}
    return MODELS["misa"].create(inputs, tasks, sizes | options).eval()


def columns(weight):
    """MMSA lines its codes up as text, vision, audio."""
    return torch.cat([weight.split(8, dim=1)[i] for i in (0, 2, 1, 3, 5, 4)], dim=1)


def places():
    found = {"heads.layers.intensity.weight": "fusion.fusion_layer_3.weight"}
    found["heads.layers.intensity.bias"] = "fusion.fusion_layer_3.bias"
    found["fusion.0.weight"] = ("fusion.fusion_layer_1.weight", columns)
    found["fusion.0.bias"] = "fusion.fusion_layer_1.bias"
    layer = "transformer_encoder.layers.0"
    for i, part in enumerate(("query", "key", "value")):
        rows = slice(8 * i, 8 * i + 8)
        found[f"encoder.attention.{part}.weight"] = (f"{layer}.self_attn.in_proj_weight", rows)
        if part != "key":
            found[f"encoder.attention.{part}.bias"] = (f"{layer}.self_attn.in_proj_bias", rows)
    for kind in ("weight", "bias"):
        found[f"encoder.attention.out.{kind}"] = f"{layer}.self_attn.out_proj.{kind}"
        found |= {f"encoder.norms.{i}.{kind}": f"{layer}.norm{i + 1}.{kind}" for i in (0, 1)}
        found[f"encoder.feed_forward.0.{kind}"] = f"{layer}.linear1.{kind}"
        found[f"encoder.feed_forward.3.{kind}"] = f"{layer}.linear2.{kind}"
        found[f"shared.{kind}"] = f"shared.shared_1.{kind}"
        for name, short in (("text", "t"), ("audio", "a"), ("vision", "v")):
            found[f"project.{name}.0.{kind}"] = f"project_{short}.project_{short}.{kind}"
            found[f"project.{name}.2.{kind}"] = f"project_{short}.project_{short}_layer_norm.{kind}"
            number = 3 if name == "audio" else 1
            found[f"private.{name}.{kind}"] = f"private_{short}.private_{short}_{number}.{kind}"
            found[f"reconstruct.{name}.{kind}"] = f"recon_{short}.recon_{short}_1.{kind}"
            if name == "text":
                continue
            found[f"readers.{name}.norm.{kind}"] = f"{short}layer_norm.{kind}"
            for ours, theirs in (("first", "rnn1"), ("second", "rnn2")):
                for part in ("ih_l0", "hh_l0", "ih_l0_reverse", "hh_l0_reverse"):
                    found[f"readers.{name}.{ours}.layer.{kind}_{part}"] = f"{short}{theirs}.{kind}_{part}"
    return found


@pytest.fixture
def pair(mmsa):
    golden = mmsa("misa")
    model = build(golden.inputs, **MMSA_WEIGHTS)
    golden.copy(model, places())
    return golden, model


def test_equals_mmsa(pair) -> None:
    """Output, each loss, and the gradients of all together."""
    golden, model = pair
    batch = golden.batch()
    output = model(batch)
    torch.testing.assert_close(output.predictions["intensity"], golden["output"], atol=1e-5, rtol=1e-5)
    losses = model.losses(output, batch)
    assert set(losses) == {"intensity", "difference", "similarity", "reconstruction"}
    for name, loss in losses.items():
        theirs = golden["loss.task"] if name == "intensity" else golden[f"loss.{name}"] * MMSA_WEIGHTS[f"{name}_weight"]
        torch.testing.assert_close(loss, theirs, atol=1e-5, rtol=1e-5)
    total = sum(losses.values())
    torch.testing.assert_close(total, golden["loss"], atol=1e-5, rtol=1e-5)
    total.backward()
    golden.check_gradients(model, places())


def test_what_mmsa_never_trains_is_not_here(pair) -> None:
    """A discriminator without a loss, and the normalisation of a text LSTM that is not there."""
    golden, model = pair
    idle = {"sp_discriminator.sp_discriminator_layer_1.weight", "sp_discriminator.sp_discriminator_layer_1.bias"}
    idle |= {"tlayer_norm.weight", "tlayer_norm.bias"}
    assert set(golden.facts["without_gradient"]) == idle
    assert golden.unused(places()) == idle
    batch = golden.batch()
    sum(model.losses(model(batch), batch).values()).backward()
    assert all(parameter.grad is not None and (parameter.grad != 0).any() for parameter in model.parameters())


def test_audio_is_heard_to_its_end(pair) -> None:
    """MMSA reads as many steps of the audio as the text has tokens: what comes after changes nothing there."""
    golden, model = pair
    torch.testing.assert_close(golden["defect.longer_output"], golden["output"])
    batch = golden.batch()
    longer = golden["defect.longer_audio"]
    masks = batch.masks | {"audio": torch.ones(longer.shape[:2], dtype=torch.bool)}
    heard = model(replace(batch, features=batch.features | {"audio": longer}, masks=masks)).predictions["intensity"]
    assert (heard - golden["output"]).abs().max() > 1e-3


def test_padding_changes_nothing(pair) -> None:
    golden, model = pair
    batch = repad(golden.batch(), 4, torch.nan)
    output = model(batch)
    torch.testing.assert_close(output.predictions["intensity"], golden["output"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sum(model.losses(output, batch).values()), golden["loss"], atol=1e-5, rtol=1e-5)


class TestLosses:
    """The formulas, written once more in NumPy."""

    torch.manual_seed(0)
    x, y = torch.rand(6, 3), torch.rand(6, 3)
    some = torch.tensor([True, False, True, True, True, False])
    others = torch.tensor([True, True, True, False, False, True])

    def test_central_moments(self) -> None:
        x, y = self.x[self.some].numpy(), self.y[self.others].numpy()
        expected = np.linalg.norm(x.mean(0) - y.mean(0))
        for k in (2, 3):
            expected += np.linalg.norm(((x - x.mean(0)) ** k).mean(0) - ((y - y.mean(0)) ** k).mean(0))
        got = central_moment_discrepancy(self.x, self.y, self.some, self.others, 3)
        np.testing.assert_allclose(got.item(), expected, rtol=1e-5)
        assert central_moment_discrepancy(self.x, self.x, self.some, self.some, 5) == 0
        assert central_moment_discrepancy(self.x, self.y, self.some, self.some & False, 5) == 0

    def test_overlap(self) -> None:
        x, y = self.x[self.some].numpy(), self.y[self.some].numpy()
        x, y = (z - z.mean(0) for z in (x, y))
        x, y = (z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-6) for z in (x, y))
        expected = ((x.T @ y) ** 2).mean()
        np.testing.assert_allclose(squared_overlap(self.x, self.y, self.some).item(), expected, rtol=1e-5)
        assert squared_overlap(self.x, self.y, self.some & False) == 0

    def test_equal_samples_have_a_gradient(self) -> None:
        """The distance has none where it is 0, and a batch of one has no moments."""
        x = self.x.clone().requires_grad_()
        one = torch.tensor([True] + [False] * 5)
        loss = central_moment_discrepancy(x, x.detach(), self.some, self.some, 5)
        loss = loss + central_moment_discrepancy(x, self.y, one, one, 5) + squared_overlap(x, self.y, one)
        (grad,) = torch.autograd.grad(loss, x)
        assert grad.isfinite().all()


def test_a_missing_modality_has_no_part_in_its_losses() -> None:
    model = build(tasks=INTENSITY)
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 6)
    whole = model.losses(model(batch), batch)
    without = batch.without("audio")
    two = model.losses(model(without), without)
    assert two["similarity"] > 0
    assert two["difference"] < whole["difference"]
    # an utterance that has one modality alone
    lone = batch.without("audio", "vision")
    one = model.losses(model(lone), lone)
    assert one["similarity"] == 0
    assert one["reconstruction"] > 0


def test_an_utterance_without_a_label_has_no_part() -> None:
    model = build(tasks=make_tasks("intensity", "polarity"))
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 6)
    hidden = batch.labels["sentiment"].clone()
    hidden[4:] = torch.nan
    half = replace(batch, labels=batch.labels | {"sentiment": hidden})
    four = batch.map(lambda x: x[:4])
    expected = model.losses(model(four), four)
    got = model.losses(model(half), half)
    for name, loss in expected.items():
        torch.testing.assert_close(got[name], loss)


@pytest.mark.parametrize("text", ["mean", "first", "recurrent"])
def test_how_the_text_is_read(text) -> None:
    model = build(text=text)
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(4,))
    moved = []
    for step in range(4):
        x = batch.features["text"].clone()
        x[:, step] += 1.0
        other = replace(batch, features=batch.features | {"text": x})
        moved.append(bool((model(other).predictions["intensity"] != model(batch).predictions["intensity"]).any()))
    assert moved == ([True, False, False, False] if text == "first" else [True] * 4)
    assert ("text" in model.readers) is (text == "recurrent")


def test_a_weight_of_nothing_leaves_its_loss_and_its_layers_out() -> None:
    model = build(reconstruction_weight=0.0, similarity_weight=0.0)
    batch = make_batch(View.UNALIGNED, dims=THREE)
    assert set(model.losses(model(batch), batch)) == {"intensity", "difference"}
    assert not [name for name, _ in model.named_parameters() if name.startswith("reconstruct")]


PUBLISHED = {
    "mosi": (16, 0.2, 0.1, 0.3, 1.0, 0.8, "bert-base-uncased"),
    "mosei": (64, 0.5, 0.3, 0.8, 1.0, 0.8, "bert-base-uncased"),
    "sims": (64, 0.0, 0.3, 1.0, 0.8, 1.0, "bert-base-chinese"),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    options, settings = resolve_settings(MODELS["misa"], preset=preset)
    names = ("dropout", "difference_weight", "similarity_weight", "reconstruction_weight")
    found = (settings.batch_size, *(options[name] for name in names), settings.clip, settings.text_encoder)
    assert found == PUBLISHED[preset]
    assert (options["dim"], options["moments"], options["text"], options["heads"]) == (128, 5, "mean", 2)
    assert (settings.accumulate, settings.clip_by, settings.patience, settings.weight_decay) == (2, "value", 8, 0.0)
    assert (settings.learning_rate, settings.text_learning_rate, settings.text_layers) == (1e-4, 1e-4, -1)
    assert (settings.select, settings.real_loss) == ("task_loss", "mse")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "cls"}, "Unknown value of the option 'text'"),
        ({"dim": 7}, r"'dim' does not fit.*dim=7, heads=2"),
        ({"dropout": 1.0}, "'dropout' is out of range"),
        ({"encoder_dropout": -1}, "'encoder_dropout' is out of range"),
        ({"hidden": 0}, "'hidden' is no size"),
        ({"similarity_weight": -1.0}, "'similarity_weight' is out of range"),
        ({"difference_weight": float("inf")}, "'difference_weight' is out of range"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)
