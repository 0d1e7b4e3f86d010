"""MMIM against MMSA's model and MMSA's trainer with its two passes, and where it must differ."""

import math
from dataclasses import replace

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.mmim import contrast, half_log_determinant
from affectus.objectives import RealLoss
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
THEIRS = {"text_audio": "ta", "text_vision": "tv", "vision_audio": "va"}
GOLDEN = {
    **{"widths": {"audio": 7, "vision": 6}, "encoded_widths": {"audio": 12, "vision": 8}, "dense": 10},
    **{"contrast_weight": 0.2, "information_weight": 0.3, "all_pairs": True, "variant": "released"},
}
CUTS = ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11], [0, 3, 4, 7, 8, 11])


def build(inputs=THREE, tasks=INTENSITY, **options):
    torch.manual_seed(0)
    sizes = {"hidden": 6, "encoded": 8, "dense": 7, "dropout": 0.0}
    return MODELS["mmim"].create(inputs, tasks, sizes | options).eval()


def places():
    found = {}
    for kind in ("weight", "bias"):
        for name, theirs in (("audio", "acoustic_enc"), ("vision", "visual_enc")):
            found[f"encoders.{name}.layer.{kind}"] = f"{theirs}.linear_1.{kind}"
            for part in ("ih_l0", "hh_l0", "ih_l0_reverse", "hh_l0_reverse"):
                found[f"encoders.{name}.recurrent.layer.{kind}_{part}"] = f"{theirs}.rnn.{kind}_{part}"
        for ours, theirs in THEIRS.items():
            for part, net in (("mean", "mlp_mu"), ("logvar", "mlp_logvar")):
                found |= {f"gaussians.{ours}.{part}.{i}.{kind}": f"mi_{theirs}.{net}.{i}.{kind}" for i in (0, 2)}
        found |= {f"predict.{name}.{kind}": f"cpc_z{name[0]}.net.{kind}" for name in THREE}
        found |= {f"fusion.{2 * i - 1}.{kind}": f"fusion_prj.linear_{i}.{kind}" for i in (1, 2)}
        found[f"heads.layers.intensity.{kind}"] = f"fusion_prj.linear_3.{kind}"
    return found


@pytest.fixture
def pair(mmsa):
    golden = mmsa("mmim")
    model = build(golden.inputs, **GOLDEN)
    golden.copy(model, places())
    for ours, theirs in THEIRS.items():
        for part in ("weight", "bias"):
            getattr(model.projections[ours], part).copy_(golden[f"weight.mi_{theirs}.entropy_prj.0.{part}"])
    model.stage = "main"
    return golden, model


def remember(model, golden):
    """What MMSA has in its memory, in ours: the positive ones, then the negative ones."""
    signs = ("pos", "neg")
    parts = [torch.cat([torch.ones(6, 1), -torch.ones(6, 1)])]
    parts += [torch.cat([golden[f"memory.{THEIRS[pair]}.{sign}"] for sign in signs]) for pair in model.gaussians]
    model.memory.push(torch.cat(parts, dim=1))
    model._seen = 2


def test_equals_mmsa(pair) -> None:
    """Output, each bound, the gradients of the second pass's loss, and what is remembered."""
    golden, model = pair
    remember(model, golden)
    batch = golden.batch()
    model.train()
    output = model(batch)
    torch.testing.assert_close(output.predictions["intensity"], golden["output"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.extras["fused"], golden["output.fused"], atol=1e-5, rtol=1e-5)
    losses = model.losses(output, batch)
    expected = {
        "intensity": golden["loss.task"],
        "contrast": 0.2 * golden["loss.nce"],
        "likelihood": -0.3 * golden["loss.lld"],
        "entropy": -0.3 * golden["loss.entropy"],
    }
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sum(losses.values()), golden["loss"], atol=1e-5, rtol=1e-5)
    sum(losses.values()).backward()
    golden.check_gradients(model, places())
    model.on_batch_end(output, batch)
    kept = torch.split(model.memory.values, model._parts, dim=1)
    for features, pair_ in zip(kept[1:], model.gaussians, strict=True):
        for sign, here in (("pos", kept[0][:, 0] > 0), ("neg", kept[0][:, 0] < 0)):
            theirs = golden[f"remembered.{THEIRS[pair_]}.{sign}"]
            torch.testing.assert_close(features[here], theirs, atol=1e-5, rtol=1e-5)


def test_trains_as_mmsas_trainer_does(pair) -> None:
    """Two epochs of two passes over three batches, with an optimiser each: every weight at the end."""
    golden, model = pair
    whole = golden.batch()
    (stage,) = model.stages()
    settings = {"bound": {"lr": 5e-3, "weight_decay": 1e-2}, "main": {"lr": 1e-2, "weight_decay": 1e-3}}
    optimizers = {
        part.name: torch.optim.Adam(
            [{"params": group.parameters} for group in part.groups.values()], **settings[part.name]
        )
        for part in stage.passes
    }
    assert list(optimizers) == ["bound", "main"]
    model.train()
    seen = []
    for epoch in range(2):
        for name, optimizer in optimizers.items():
            model.stage = name
            for rows in CUTS:
                batch = whole.map(lambda x, rows=rows: x[rows])
                output = model(batch)
                losses = model.losses(output, batch)
                seen.append(set(losses))
                model.zero_grad()
                sum(losses.values()).backward()
                model.on_batch_end(output, batch)
                optimizer.step()
        model.on_epoch_end(epoch)
    second = {"intensity", "contrast", "likelihood"}
    assert seen == 2 * ([{"likelihood"}] * 3 + [second, second, second | {"entropy"}])
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, golden[f"run.weight.{places()[name]}"], atol=1e-4, rtol=1e-3)


def test_what_mmsa_never_trains(pair) -> None:
    """Its projections have a gradient in the pass whose optimiser does not know them, and none in the other."""
    golden, released = pair
    idle = {f"mi_{theirs}.entropy_prj.0.{kind}" for theirs in THEIRS.values() for kind in ("weight", "bias")}
    assert set(golden.facts["never_trained"]) == idle == golden.unused(places())
    assert not [name for name, _ in released.named_parameters() if name.startswith("projections")]
    model = build()
    learned = {id(p) for group in model.stages()[0].groups.values() for p in group.parameters}
    assert all(id(parameter) in learned for parameter in model.projections.parameters())
    assert len(list(model.projections.parameters())) == 4


def test_the_likelihood_has_its_variance() -> None:
    """Without it a larger variance is better whatever the data; with it there is a best one."""
    x, y = torch.zeros(50, 6), torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    for normalised in (True, False):
        gaussian = build().gaussians["text_audio"]
        for net in (gaussian.mean, gaussian.logvar):
            for parameter in net.parameters():
                torch.nn.init.zeros_(parameter)
        found = []
        for logvar in (-2.0, 0.0, 2.0, 6.0):
            torch.nn.init.constant_(gaussian.logvar[2].bias, logvar)
            found.append(float(gaussian(x, y, normalised=normalised).mean().detach()))
        if normalised:
            assert found.index(max(found)) == 1  # that of the data
            density = torch.distributions.Normal(0.0, math.exp(3.0)).log_prob(y).sum(dim=-1).mean()
            assert found[-1] == pytest.approx(float(density) + 4 * math.log(2 * math.pi), rel=1e-4)
        else:
            assert found == sorted(found)


def test_contrast_by_hand() -> None:
    x, predicted = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    half = math.sqrt(0.5)
    rows = [(1.0, half), (0.0, half)]  # cosines of each x with each prediction
    own = (rows[0][0], rows[1][1])
    expected = -sum(o - math.log(sum(math.exp(c) for c in row)) for o, row in zip(own, rows, strict=True)) / 2
    assert contrast(x, predicted).item() == pytest.approx(expected, rel=1e-5)
    zero = torch.zeros(2, 2, requires_grad=True)
    contrast(zero, predicted).backward()
    assert zero.grad.isfinite().all()


def test_log_determinant() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 3)
    covariance = torch.cov(x.T, correction=0)
    torch.testing.assert_close(half_log_determinant(x), 0.5 * torch.logdet(covariance), atol=1e-5, rtol=1e-5)
    flat = torch.cat([x[:, :2], x[:, :1]], dim=1).requires_grad_()  # a covariance without an inverse
    half_log_determinant(flat).backward()
    assert flat.grad.isfinite().all()


class TestEntropy:
    """Which utterances make it."""

    def whole(self, model, labels, batches=2):
        batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * len(labels))
        batch = replace(batch, labels=batch.labels | {"sentiment": torch.tensor(labels).unsqueeze(1)})
        model.train()
        model.stage = "main"
        for _ in range(batches - 1):
            model.on_batch_end(model(batch), batch)
        output = model(batch)
        return model, output, batch, model.losses(output, batch)

    def test_is_that_of_both_groups_with_what_is_remembered(self) -> None:
        labels = [1.0, 2.0, 3.0, -1.0, -2.0, -3.0, 0.0]
        model, output, _, losses = self.whole(build(information_weight=0.5), labels)
        total = 0.0
        for name in ("audio", "vision"):
            features = model.projections[f"text_{name}"](output.extras[f"encoded.{name}"])
            for rows in (slice(0, 3), slice(3, 6)):
                twice = torch.cat([features[rows], features[rows]])
                total = total + 0.5 * half_log_determinant(twice)
        torch.testing.assert_close(losses["entropy"], -0.5 * total)

    def test_a_group_too_small_for_a_covariance_has_no_part(self) -> None:
        """Two dimensions need three members; MMSA's loss is not a number there."""
        _, _, _, losses = self.whole(build(), [1.0, -1.0])
        assert losses["entropy"].isfinite()
        assert losses["entropy"] == 0
        _, _, _, losses = self.whole(build(), [1.0, 2.0, -1.0])
        assert losses["entropy"].isfinite()
        assert losses["entropy"] != 0

    def test_needs_a_full_memory(self) -> None:
        labels = [1.0, 2.0, 3.0, -1.0, -2.0, -3.0]
        for batches in (1, 2, 3):
            _, _, _, losses = self.whole(build(memory_batches=2), labels, batches)
            assert ("entropy" in losses) is (batches == 3)
            _, _, _, losses = self.whole(build(memory_batches=1, variant="released"), labels, batches)
            assert ("entropy" in losses) is (batches == 3)

    def test_is_remembered_between_epochs_unless_as_released(self) -> None:
        labels = [1.0, 2.0, 3.0, -1.0, -2.0, -3.0]
        for variant, kept in (("paper", 12), ("released", 0)):
            model, *_ = self.whole(build(variant=variant, memory_batches=2), labels, 4)
            assert len(model.memory.values) == 12
            model.on_epoch_end(0)
            assert len(model.memory.values) == kept

    def test_the_oldest_goes(self) -> None:
        model, _, batch, _ = self.whole(build(memory_batches=2), [1.0, -1.0, 2.0])
        first = model.memory.values.clone()
        for scale in (2.0, 3.0):
            other = replace(batch, features={name: scale * x for name, x in batch.features.items()})
            model.on_batch_end(model(other), other)
        assert len(model.memory.values) == 6
        assert not any(torch.equal(row, old) for row in model.memory.values for old in first)
        assert model.memory.stored[:, 0].tolist() == [2, 2, 2, 1, 1, 1]

    def test_every_kind_of_task_has_groups(self) -> None:
        model = build(tasks=make_tasks())
        batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 24)
        model.train()
        model.stage = "main"
        model.on_batch_end(model(batch), batch)
        output = model(batch)
        assert model.losses(output, batch)["entropy"] != 0
        assert model._values == 2 + 1 + 7 + 3

    def test_a_missing_modality_has_no_features(self) -> None:
        model = build()
        batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 4).without("vision")
        model.train()
        model.stage = "main"
        model.on_batch_end(model(batch), batch)
        _, audio, vision = torch.split(model.memory.values, model._parts, dim=1)
        assert torch.isnan(vision).all()
        assert not torch.isnan(audio).any()
        assert model.losses(model(batch), batch)["entropy"].isfinite()


def test_a_missing_modality_has_no_part_in_the_bounds() -> None:
    model = build()
    model.stage = "main"
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(3,) * 6)
    there = torch.arange(6) < 4
    half = replace(batch, masks=batch.masks | {"vision": batch.masks["vision"] & there[:, None]})
    four = batch.map(lambda x: x[:4])
    for name, pair_ in (("vision", "text_vision"), ("audio", "text_audio")):
        rows = half if name == "audio" else four
        whole = batch if name == "audio" else half
        known = torch.ones(len(rows.mask), dtype=torch.bool)
        model._pairs = {pair_: ("text", name)}
        got = model._likelihood(model(whole), torch.ones(6, dtype=torch.bool))
        torch.testing.assert_close(got, model._likelihood(model(rows), known))


def test_the_first_pass_learns_the_gaussians_alone() -> None:
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE)
    model.train()
    model.stage = "bound"
    losses = model.losses(model(batch), batch)
    assert set(losses) == {"likelihood"}
    losses["likelihood"].backward()
    with_gradient = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"gaussians"}
    model.on_batch_end(model(batch), batch)
    assert len(model.memory.values) == 0


def test_passes() -> None:
    model = build(bound_share=0.5)
    (stage,) = model.stages()
    first, second = stage.passes
    assert (first.name, first.share, first.trains_text) == ("bound", 0.5, False)
    assert (second.name, second.trains_text) == ("main", True)
    parts = [{id(p) for group in part.groups.values() for p in group.parameters} for part in stage.passes]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {id(p) for p in model.parameters()}
    assert [part.name for part in build({"text": 6}).stages()[0].passes] == ["main"]
    assert [part.name for part in build(information_weight=0.0).stages()[0].passes] == ["main"]


@pytest.mark.parametrize(("every", "count"), [(False, {1: 0, 2: 1, 3: 2, 4: 3}), (True, {1: 0, 2: 1, 3: 3, 4: 6})])
def test_pairs(every, count) -> None:
    for modalities, pairs in count.items():
        inputs = dict(list({**THREE, "gaze": 3}.items())[:modalities])
        assert len(build(inputs, all_pairs=every).gaussians) == pairs
    assert list(build({"audio": 5, "vision": 4}).gaussians) == ["audio_vision"]


def test_the_trained_model_remembers_nothing() -> None:
    model = build()
    batch = make_batch(View.UNALIGNED, dims=THREE)
    model.train()
    model.on_batch_end(model(batch), batch)
    other = build()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.memory.stored, model.memory.stored)
    model.stage = "done"
    assert len(model.memory.values) == 0


def test_padding_changes_nothing(pair) -> None:
    golden, model = pair
    got = model(repad(golden.batch(), 3, torch.nan)).predictions["intensity"]
    torch.testing.assert_close(got, golden["output"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", ["first", "mean", "recurrent"])
def test_how_the_text_is_read(text) -> None:
    model = build(text=text)
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(4,))
    changed = batch.features["text"].clone()
    changed[:, 2] += 1.0
    other = replace(batch, features=batch.features | {"text": changed})
    same = torch.equal(model(batch).predictions["intensity"], model(other).predictions["intensity"])
    assert same is (text == "first")
    assert ("text" in model.encoders) is (text == "recurrent")


@pytest.mark.parametrize("preset", ["mosi", "mosei", "sims"])
def test_published_hyper_parameters(preset) -> None:
    options, settings = resolve_settings(MODELS["mmim"], preset=preset)
    wanted = {
        **{"hidden": 16, "encoded": 16, "dense": 128, "dropout": 0.1, "contrast_weight": 0.1, "text": "first"},
        **{"information_weight": 0.1, "memory_batches": 1, "all_pairs": False, "variant": "paper"},
        "bound_share": 0.5 if preset == "mosei" else 1.0,
    }
    assert {name: options[name] for name in wanted} == wanted
    assert (settings.learning_rate, settings.weight_decay, settings.batch_size) == (1e-3, 1e-4, 32)
    assert (settings.text_learning_rate, settings.text_weight_decay, settings.text_layers) == (5e-5, 1e-4, -1)
    assert settings.text_encoder == ("bert-base-chinese" if preset == "sims" else "bert-base-uncased")
    assert (settings.clip, settings.clip_by, settings.patience, settings.real_loss) == (1.0, "norm", 8, "l1")
    assert settings.select == "task_loss"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "cls"}, "Unknown value of the option 'text'"),
        ({"variant": "mmsa"}, "Unknown value of the option 'variant'"),
        ({"dropout": 1.0}, "'dropout' is out of range"),
        ({"contrast_weight": -1.0}, "'contrast_weight' is out of range"),
        ({"information_weight": -1.0}, "'information_weight' is out of range"),
        ({"memory_batches": 0}, "'memory_batches' is no size"),
        ({"bound_share": 0.0}, r"'bound_share' is out of range.*above 0, at most 1"),
        ({"bound_share": 1.5}, "'bound_share' is out of range"),
        ({"widths": {"vison": 3}}, r"Unknown modality 'vison'.*Did you mean 'vision'"),
        ({"encoded_widths": {"audio": 0}}, r"'encoded_widths\.audio' is no size"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)
