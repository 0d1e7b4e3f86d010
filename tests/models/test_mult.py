"""MulT against MMSA's code with the same weights, and where it must differ."""

from dataclasses import replace

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.nn.transformer import sinusoids
from affectus.objectives import RealLoss
from affectus.testing import make_batch, make_tasks, repad, take
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
DROPS = ("attention", "relu", "residual", "embedding", "text", "output")
NODROP = {f"{name}_dropout": 0.0 for name in DROPS}
SHORT = {"text": "l", "audio": "a", "vision": "v"}


def build(inputs=THREE, **options):
    torch.manual_seed(0)
    sizes = {"dim": 8, "heads": 2, "layers": 2}
    return MODELS["mult"].create(inputs, INTENSITY, NODROP | sizes | options).eval()


def places(layers=2, memory=3):
    """Our parameters by the names of MMSA's."""
    found = {f"project.{name}.layer.weight": f"proj_{short}.weight" for name, short in SHORT.items()}
    nets = {f"memory.{name}": (f"trans_{short}_mem", memory) for name, short in SHORT.items()}
    nets |= {f"cross.{x}_{y}": (f"trans_{SHORT[x]}_with_{SHORT[y]}", layers) for x in SHORT for y in SHORT if x != y}
    width = {ours: 16 if ours.startswith("memory") else 8 for ours in nets}
    for ours, (theirs, count) in nets.items():
        d = width[ours]
        parts = {"query": slice(0, d), "key": slice(d, 2 * d), "value": slice(2 * d, 3 * d)}
        for i in range(count):
            mine, other = f"{ours}.blocks.{i}", f"{theirs}.layers.{i}"
            for part, rows in parts.items():
                found[f"{mine}.attention.{part}.weight"] = (f"{other}.self_attn.in_proj_weight", rows)
                if part != "key":
                    found[f"{mine}.attention.{part}.bias"] = (f"{other}.self_attn.in_proj_bias", rows)
            for kind in ("weight", "bias"):
                found[f"{mine}.attention.out.{kind}"] = f"{other}.self_attn.out_proj.{kind}"
                found[f"{mine}.feed_forward.0.{kind}"] = f"{other}.fc1.{kind}"
                found[f"{mine}.feed_forward.3.{kind}"] = f"{other}.fc2.{kind}"
                for norm in (0, 1):
                    found[f"{mine}.norms.{norm}.{kind}"] = f"{other}.layer_norms.{norm}.{kind}"
        found |= {f"{ours}.norm.{kind}": f"{theirs}.layer_norm.{kind}" for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
        found |= {f"residual.0.{kind}": f"proj1.{kind}", f"residual.3.{kind}": f"proj2.{kind}"}
        found[f"heads.layers.intensity.{kind}"] = f"out_layer.{kind}"
    return found


@pytest.fixture
def pair(mmsa):
    golden = mmsa("mult")
    model = build(golden.inputs, kernel=2, kernels={"audio": 3, "vision": 1}, positions=False)
    golden.copy(model, places())
    return golden, model


def test_equals_mmsa(pair) -> None:
    """Outputs, loss and gradients; steps of three lengths, so that the mask of the future counts."""
    golden, model = pair
    batch = golden.batch()
    output = model(batch)
    torch.testing.assert_close(output.predictions["intensity"], golden["output"], atol=1e-5, rtol=1e-5)
    loss = model.losses(output, batch)["intensity"]
    torch.testing.assert_close(loss, golden["loss"], atol=1e-5, rtol=1e-5)
    loss.backward()
    golden.check_gradients(model, places())
    assert golden.unused(places()) == set()


def test_padding_changes_mmsa_and_not_us(pair) -> None:
    """MMSA attends to the zeros that its loader appends, and reads off the last of them."""
    golden, model = pair
    assert (golden["defect.padded_output"] - golden["output"]).abs().max() > 0.1
    for value in (0.0, torch.nan):
        got = model(repad(golden.batch(), 5, value)).predictions["intensity"]
        torch.testing.assert_close(got, golden["output"], atol=1e-5, rtol=1e-5)


def test_mmsa_has_no_positions_and_the_paper_has(mmsa) -> None:
    assert mmsa("mult").facts["positions"] is False
    for preset in ("mosi", "mosei", "sims"):
        assert resolve_settings(MODELS["mult"], preset=preset)[0]["positions"] is False
    assert resolve_settings(MODELS["mult"])[0]["positions"] is True


@pytest.mark.parametrize("causal", [True, False])
def test_positions_tell_the_order(causal) -> None:
    """Without positions and without a mask the order of the other modality's steps is lost."""
    batch = make_batch(View.ALIGNED, dims=THREE, lengths=(5,))
    turned = replace(batch, features=batch.features | {"audio": batch.features["audio"].flip(1)})
    for positions in (True, False):
        model = build(positions=positions, causal=causal)
        # what the audio itself becomes is another matter: the text and what it finds in the audio
        x, lengths = model.project["text"](batch.features["text"], torch.tensor([5]))
        found = [
            model.cross["text_audio"].attend(x, lengths, *model.project["audio"](b.features["audio"], lengths))
            for b in (batch, turned)
        ]
        assert torch.allclose(*found, atol=1e-5) is (not positions and not causal)


def test_sinusoids() -> None:
    found = sinusoids(2, 5)
    expected = [[1.0, 1e-4], [2.0, 2e-4]]
    for t, angles in enumerate(expected):
        wanted = [*(torch.tensor(angles).sin().tolist()), *(torch.tensor(angles).cos().tolist()), 0.0]
        torch.testing.assert_close(found[t], torch.tensor(wanted))
    assert sinusoids(3, 2).isfinite().all()


def test_a_step_sees_no_further_than_the_difference_of_the_lengths() -> None:
    """Step t of 3 sees steps 0 to t + 2 of 5, whatever the batch is padded to."""
    model = build()
    x, y = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    cross = model.cross["text_audio"]
    lengths = torch.tensor([3]), torch.tensor([5])
    expected = cross.attend(x, lengths[0], y, lengths[1])
    for s in range(5):
        other = y.clone()
        other[:, s] += 1.0
        changed = (cross.attend(x, lengths[0], other, lengths[1]) != expected).any(dim=-1)[0]
        assert changed.tolist() == [s <= t + 2 for t in range(3)]
    padded = torch.cat([y, torch.randn(1, 4, 8)], dim=1)
    torch.testing.assert_close(cross.attend(x, lengths[0], padded, lengths[1]), expected)


def test_masked_steps_within_a_sequence_leave_no_trace() -> None:
    model = build(kernel=2)
    batch = make_batch(View.UNALIGNED, dims=THREE, lengths=(4,))
    expected = model(batch).predictions["intensity"]
    for name in THREE:
        x, mask = batch.features[name], batch.masks[name]
        gap = torch.full_like(x[:, :2], torch.nan)
        features = batch.features | {name: torch.cat([x[:, :2], gap, x[:, 2:]], dim=1)}
        masks = batch.masks | {name: torch.cat([mask[:, :2], torch.zeros(1, 2, dtype=torch.bool), mask[:, 2:]], dim=1)}
        got = model(replace(batch, features=features, masks=masks)).predictions["intensity"]
        torch.testing.assert_close(got, expected)


def test_a_sequence_shorter_than_the_kernel_keeps_one_step() -> None:
    model = build(kernel=5)
    batch = make_batch(View.ALIGNED, dims=THREE, lengths=(2, 7))
    assert model(batch).predictions["intensity"].isfinite().all()
    alone = model(take(batch, 0)).predictions["intensity"]
    torch.testing.assert_close(alone[0], model(batch).predictions["intensity"][0])


def test_what_attends_to_a_missing_modality_keeps_what_it_has() -> None:
    model = build()
    x, lengths = torch.randn(2, 3, 8), torch.tensor([3, 3])
    y = torch.randn(2, 4, 8)
    cross = model.cross["text_audio"]
    got = cross.attend(x, lengths, y, torch.tensor([4, 0]))
    other = cross.attend(x, lengths, y + 1, torch.tensor([4, 0]))
    assert torch.equal(got[1], other[1])
    assert not torch.equal(got[0], other[0])
    # the attention gives nothing, not even its biases
    h = cross._enter(x)
    for block in cross.blocks:
        h = h + block.feed_forward(block.norms[1](h))
    torch.testing.assert_close(got[1], cross.norm(h)[1])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_streams(count) -> None:
    inputs = dict(list({**THREE, "gaze": 3}.items())[:count])
    model = build(inputs)
    assert len(model.cross) == count * (count - 1)
    assert len(model.memory["text"].blocks) == 3
    width = max(count - 1, 1) * 8
    assert model.memory["text"].norm.normalized_shape == (width,)
    fused = model(make_batch(View.UNALIGNED, dims=inputs)).extras["fused"]
    assert fused.shape == (4, count * width)


# hyper-parameters of config_regression.json, in MMSA's names
PUBLISHED = {
    "mosi": {
        **{"dim": 50, "heads": 10, "layers": 4, "text": 5, "audio": 5, "vision": 5, "text_drop": 0.5, "out": 0.5},
        **{"attn": (0.3, 0.2, 0.0), "embed": 0.2, "res": 0.0, "batch": 16, "rate": 2e-3, "plateau": 5},
    },
    "mosei": {
        **{"dim": 30, "heads": 6, "layers": 4, "text": 5, "audio": 1, "vision": 3, "text_drop": 0.3, "out": 0.5},
        **{"attn": (0.4, 0.0, 0.0), "embed": 0.0, "res": 0.0, "batch": 4, "rate": 5e-4, "plateau": 20},
    },
    "sims": {
        **{"dim": 50, "heads": 10, "layers": 2, "text": 5, "audio": 1, "vision": 1, "text_drop": 0.3, "out": 0.1},
        **{"attn": (0.2, 0.1, 0.0), "embed": 0.1, "res": 0.2, "batch": 16, "rate": 2e-3, "plateau": 10},
    },
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    wanted = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["mult"], preset=preset)
    model = MODELS["mult"].create({"text": 7, "audio": 5, "vision": 4}, INTENSITY, options)
    assert len(model.cross["text_audio"].blocks) == wanted["layers"]
    for (name, convolution), drop in zip(model.project.items(), wanted["attn"], strict=True):
        assert convolution.layer.kernel_size == (wanted[name],)
        assert convolution.layer.out_channels == wanted["dim"]
        other = "audio" if name == "text" else "text"
        # the dropout of the weights is that of the modality which is attended to
        for net in (model.cross[f"{other}_{name}"], model.memory[name]):
            attention = net.blocks[0].attention
            assert (attention.heads, attention.dropout) == (wanted["heads"], drop)
            assert net.drop.p == wanted["embed"]
            assert net.blocks[0].drop.p == wanted["res"]
            assert net.blocks[0].feed_forward[2].p == 0.0
    assert (model.text_drop.p, model.residual[2].p) == (wanted["text_drop"], wanted["out"])
    assert (settings.batch_size, settings.learning_rate) == (wanted["batch"], wanted["rate"])
    assert (settings.accumulate, settings.clip, settings.clip_by, settings.patience) == (8, 0.6, "value", 8)
    assert (settings.plateau, settings.plateau_factor, settings.real_loss) == (wanted["plateau"], 0.1, "l1")
    assert settings.weight_decay == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 9}, r"'dim' does not fit.*dim=9, heads=2"),
        ({"text_dropout": 1.0}, "'text_dropout' is out of range"),
        ({"relu_dropout": -0.1}, "'relu_dropout' is out of range"),
        ({"kernels": {"vison": 3}}, r"Unknown modality 'vison'.*Did you mean 'vision'"),
        ({"kernels": {"text": 0}}, r"'kernels\.text' is no size.*0.*a whole number from 1"),
        ({"kernels": 3}, r"'kernels' is no mapping.*3.*\{text: 1\}"),
        ({"attention_dropouts": {"audio": 1}}, r"'attention_dropouts\.audio' is out of range"),
        ({"attention_dropouts": {"audio": "a"}}, r"'attention_dropouts\.audio' is out of range.*a number from 0"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)
