"""UFEN + MTFN against the paper's equations, written down once more in NumPy, one utterance at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.nn import multihead
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

DIMS = {"text": 6, "audio": 5, "vision": 4, "gaze": 3}
THREE = {"text": 6, "audio": 5, "vision": 4}
INTENSITY = make_tasks("intensity")


def build(dims=THREE, tasks=INTENSITY, **options):
    torch.manual_seed(0)
    sizes = {"dim": 8, "filters": [6], "ffn": 5, "heads": 2}
    return MODELS["ufen_mtfn"].create(dims, tasks, sizes | options).eval()


class Equations:
    """The equations of Cai et al. 2025 for one utterance without padding, from a model's parameters."""

    def __init__(self, model, heads=2):
        self.p = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
        self.names, self.heads = list(model.inputs), heads

    def linear(self, name, x):
        return x @ self.p[f"{name}.weight"].T + self.p.get(f"{name}.bias", 0.0)

    def gru(self, name, x, suffix):
        w, u = self.p[f"{name}.weight_ih_l0{suffix}"], self.p[f"{name}.weight_hh_l0{suffix}"]
        b, c = self.p[f"{name}.bias_ih_l0{suffix}"], self.p[f"{name}.bias_hh_l0{suffix}"]
        size = u.shape[1]
        h, states = np.zeros(size), []
        for step in x:
            i, g = w @ step + b, u @ h + c
            r, z = (1 / (1 + np.exp(-(i[k] + g[k]))) for k in (slice(0, size), slice(size, 2 * size)))
            n = np.tanh(i[2 * size :] + r * g[2 * size :])
            h = (1 - z) * n + z * h
            states.append(h)
        return np.array(states)

    def bigru(self, name, x):  # Eqs (2), (3)
        return np.concatenate([self.gru(name, x, ""), self.gru(name, x[::-1], "_reverse")[::-1]], axis=1)

    def conv(self, name, x):  # Eq. (4)
        weight, bias = self.p[f"{name}.layer.weight"], self.p[f"{name}.layer.bias"]
        padded = np.pad(x, ((1, 1), (0, 0)))
        y = np.array([sum(weight[:, :, k] @ padded[t + k] for k in range(3)) + bias for t in range(len(x))])
        return np.maximum(y, 0)

    def attention(self, name, x, y, heads):  # Eqs (9) to (11)
        q, k, v = self.linear(f"{name}.query", x), self.linear(f"{name}.key", y), self.linear(f"{name}.value", y)
        d = q.shape[1] // heads
        found = []
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            scores = q[:, part] @ k[:, part].T / np.sqrt(d)
            weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            found.append(weights @ v[:, part])
        return self.linear(f"{name}.out", np.concatenate(found, axis=1))

    def norm(self, name, x):
        mean, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-5) * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def block(self, name, x, memory):  # Eqs (14), (15)
        n = self.norm(f"{name}.norm", x + self.attention(f"{name}.attention", x, memory, self.heads))
        inner = np.maximum(self.linear(f"{name}.feed_forward.0", n), 0)
        return n + self.linear(f"{name}.feed_forward.3", inner)

    def __call__(self, features):
        said, x = {}, {}
        for name in self.names:
            ufen = f"extract.{name}"
            y = self.bigru(f"{ufen}.recurrent.layer", features[name])
            total = 0.0
            for layer in range(2):
                y = self.conv(f"{ufen}.convolutions.{layer}", y)
                gated = y * self.attention(f"{ufen}.gates.{layer}", y, y, 1)  # Eq. (5)
                total = total + self.linear(f"{ufen}.unpooling.{layer}", gated)  # Eqs (6), (7)
            said[name] = self.linear(f"unimodal_heads.{name}.layers.intensity", total.mean(axis=0))  # Eq. (8)
            x[name] = self.linear(f"project.{name}", total)
        pairs = [(a, b) for i, a in enumerate(self.names) for b in self.names[i + 1 :]]
        pairs = [pair for a, b in pairs for pair in ((a, b), (b, a))]
        tokens = []
        for number, (i, j) in enumerate(pairs):
            found = self.attention(f"cross_modal.attention.{number}", x[i], x[j], self.heads)
            tokens.append(self.norm(f"cross_modal.norms.{number}", found).mean(axis=0))  # Eq. (12)
        tokens = np.array(tokens)  # Eq. (13)
        said["fused"] = self.linear("fused_heads.layers.intensity", tokens.reshape(-1))  # Eq. (16)
        encoded = self.block("encoder", tokens, tokens)
        decoded = self.block("decoder", tokens, encoded)
        said["reconstructed"] = self.linear("reconstructed_heads.layers.intensity", decoded.reshape(-1))  # Eq. (16)
        return said


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("view", [View.UNALIGNED, View.ALIGNED])
def test_equals_the_equations(count, view) -> None:
    """A padded batch gives for each utterance what the equations give for it alone; and the loss is Eqs (17), (18)."""
    dims = dict(list(DIMS.items())[:count])
    model, batch = build(dims), make_batch(view, dims=dims, lengths=(4, 1, 6))
    output = model(batch)
    losses = model.losses(output, batch)
    equations = Equations(model)
    errors: dict[str, list[float]] = {}
    for row in range(3):
        features = {name: batch.features[name][row, batch.masks[name][row]].double().numpy() for name in dims}
        said = equations(features)
        assert set(said) == {*dims, "fused", "reconstructed"}
        for head, expected in said.items():
            got = output.extras.get(f"prediction.{head}.intensity", output.predictions["intensity"])[row]
            np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-5)
            errors.setdefault(head, []).append((expected[0] - batch.labels["sentiment"][row, 0].item()) ** 2)
    for head, squares in errors.items():
        name = "intensity" if head == "reconstructed" else f"intensity.{head}"
        np.testing.assert_allclose(losses.pop(name).item(), np.mean(squares), rtol=1e-4)
    assert not losses


def test_attention_sees_more_than_one_key() -> None:
    """Every real query spreads its weight over all real keys, and moving one key's value moves every query."""
    model = build()
    batch = make_batch(View.UNALIGNED, lengths=(4, 6))
    assert not [name for name in model(batch).extras if name.startswith("attention.")]
    model.keep_attention = True
    extras = model(batch).extras
    pairs = [name for name in extras if name.startswith("attention.")]
    assert len(pairs) == 6
    for name in pairs:
        _, query, key = name.split(".")
        weights = extras[name]
        assert weights.shape == (2, batch.features[query].shape[1], batch.features[key].shape[1])
        real = batch.masks[query].unsqueeze(2) & batch.masks[key].unsqueeze(1)
        assert (weights[real] > 0.01).all()
        assert (weights[~real] == 0).all()
        assert (weights.amax(dim=-1)[batch.masks[query]] < 0.9).all()
    # the output differs from what attention to the first key alone would give
    one_key = replace(batch, masks=batch.masks | {"audio": batch.masks["audio"] & (torch.arange(7) == 0)})
    assert not torch.allclose(model(batch).predictions["intensity"], model(one_key).predictions["intensity"])


def test_published_sizes() -> None:
    model = MODELS["ufen_mtfn"].create({"text": 768, "audio": 5, "vision": 20}, INTENSITY)
    assert model.extract["text"].recurrent.layer.hidden_size == 64
    assert [c.layer.out_channels for c in model.extract["audio"].convolutions] == [64, 64]
    assert model.fused_heads.layers["intensity"].in_features == 768
    assert model.reconstructed_heads.layers["intensity"].in_features == 768
    assert len(model.cross_modal.pairs) == 6
    assert {a.heads for a in model.cross_modal.attention} == {4}
    assert {g.heads for g in model.extract["vision"].gates} == {1}
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    assert {m.dropout for m in model.modules() if isinstance(m, multihead.MultiHeadAttention)} == {0.2}


def test_table_2() -> None:
    entry = MODELS["ufen_mtfn"]
    rows = {"mosi": (5e-3, 32, 30, 8), "mosei": (1e-4, 32, 50, 8), "sims": (5e-3, 16, 50, 8)}
    for preset, (rate, batch, epochs, patience) in rows.items():
        _, settings = resolve_settings(entry, preset=preset)
        found = (settings.learning_rate, settings.batch_size, settings.epochs, settings.patience)
        assert found == (rate, batch, epochs, patience)
        assert settings.select == "task_loss"
        assert settings.optimizer == "adam"
    assert resolve_settings(entry)[1] == resolve_settings(entry, preset="mosi")[1]


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("unpool", ["linear", "interpolate"])
@pytest.mark.parametrize("conv", ["stacked", "parallel"])
def test_depth(layers, unpool, conv) -> None:
    model = build(layers=layers, unpool=unpool, conv=conv, filters=list(range(5, 5 + layers)))
    entering = [c.layer.in_channels for c in model.extract["text"].convolutions]
    assert entering == ([8] * layers if conv == "parallel" else [8, 5, 6, 7][:layers])
    halvings = [1] * layers if conv == "parallel" else range(1, layers + 1)
    assert model.extract["text"].factors == ([2**n for n in halvings] if unpool == "interpolate" else [1] * layers)
    batch = make_batch(View.UNALIGNED, lengths=(9, 1, 4))
    expected = model(batch).predictions["intensity"]
    for extra in (1, 4):
        got = model(repad(batch, extra, torch.nan)).predictions["intensity"]
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_one_self_attention_for_all_layers() -> None:
    names = [name for name, _ in build(shared_attention=True).named_parameters()]
    assert not [name for name in names if ".gates.1" in name]
    assert [name for name in names if ".gates.0" in name]
    assert [name for name, _ in build().named_parameters() if ".gates.1" in name]


ABLATIONS = {
    "self_attention": ".gates.",
    "convolution": ".convolutions.",
    "recurrent": ".recurrent.",
    "cross_modal": "cross_modal.",
    "encoder_decoder": "coder.",
}


@pytest.mark.parametrize("switch", ABLATIONS)
def test_each_removal_of_table_9_removes_its_part(switch) -> None:
    whole = {name for name, _ in build().named_parameters()}
    without = {name for name, _ in build(**{switch: False}).named_parameters()}
    part = ABLATIONS[switch]
    assert any(part in name for name in whole)
    assert not any(part in name for name in without)


def test_all_removals_together_leave_a_model() -> None:
    model = build(multi_task=False, **dict.fromkeys(ABLATIONS, False))
    batch = make_batch(View.UNALIGNED)
    output = model(batch)
    assert set(model.losses(output, batch)) == {"intensity"}
    assert output.extras["fused"].shape == (4, 24)


def test_without_cross_modal_attention_there_is_a_token_for_each_modality() -> None:
    assert build(cross_modal=False)(make_batch(View.UNALIGNED)).extras["fused"].shape == (4, 24)
    assert build()(make_batch(View.UNALIGNED)).extras["fused"].shape == (4, 48)


class TestHeads:
    """Which heads there are, what they learn, and how they weigh."""

    batch = make_batch(View.UNALIGNED)

    def losses(self, tasks=INTENSITY, batch=None, **options):
        model = build(tasks=tasks, **options)
        batch = self.batch if batch is None else batch
        return model.losses(model(batch), batch)

    def test_every_head_tells_every_task(self) -> None:
        tasks = make_tasks("polarity", "intensity", "emotions", "emotion_class")
        found = self.losses(tasks)
        heads = ("", ".text", ".audio", ".vision", ".fused")
        assert set(found) == {f"{task.name}{head}" for task in tasks for head in heads}

    @pytest.mark.parametrize(
        ("subtasks", "expected"),
        [
            (None, {"text", "audio", "vision", "fused"}),
            (["text", "vision"], {"text", "vision", "fused"}),
            ("text", {"text", "fused"}),
            ([], {"fused"}),
        ],
    )
    def test_subtasks_of_table_8(self, subtasks, expected) -> None:
        found = self.losses(subtasks=subtasks)
        assert set(found) == {"intensity", *(f"intensity.{head}" for head in expected)}

    def test_without_multi_task_one_head_is_left(self) -> None:
        assert set(self.losses(multi_task=False)) == {"intensity"}

    def test_without_the_encoder_decoder_the_fused_head_predicts(self) -> None:
        model = build(encoder_decoder=False)
        output = model(self.batch)
        assert torch.equal(output.predictions["intensity"], output.extras["prediction.fused.intensity"])
        assert set(model.losses(output, self.batch)) == {"intensity", *(f"intensity.{name}" for name in THREE)}

    def test_loss_weights(self) -> None:
        plain = self.losses()
        literal = self.losses(loss_weights={"fused": 3, "reconstructed": 3, "audio": 0.5})
        factors = {"intensity": 3.0, "intensity.fused": 3.0, "intensity.audio": 0.5}
        for name, loss in plain.items():
            torch.testing.assert_close(literal[name], factors.get(name, 1.0) * loss)

    def test_a_missing_modality_has_no_part_in_its_own_loss(self) -> None:
        batch = make_batch(View.UNALIGNED)
        batch = replace(batch, masks={name: mask.clone() for name, mask in batch.masks.items()})
        for row, name in enumerate(THREE):
            batch.masks[name][row] = False
        model = build()
        output = model(batch)
        losses = model.losses(output, batch)
        for row, name in enumerate(THREE):
            there = torch.arange(4) != row
            error = output.extras[f"prediction.{name}.intensity"] - batch.labels["sentiment"]
            torch.testing.assert_close(losses[f"intensity.{name}"], error[there].square().mean())

    def test_own_labels(self) -> None:
        """Where the corpus has them a head learns its modality's label; one that is missing costs nothing."""
        tasks = make_tasks("intensity", "polarity")
        own = torch.tensor([[-1.0], [torch.nan], [2.0], [-0.5]])
        batch = make_batch(View.UNALIGNED)
        batch = replace(batch, labels=batch.labels | {"sentiment_text": own})
        joint, found = self.losses(tasks, batch), self.losses(tasks, batch, unimodal_labels="own")
        assert {name for name in joint if joint[name] != found[name]} == {"intensity.text", "polarity.text"}
        model = build(tasks=tasks)
        said = model(batch).extras["prediction.text.intensity"]
        kept = [0, 2, 3]
        torch.testing.assert_close(found["intensity.text"], (said - own)[kept].square().mean())
        said = model(batch).extras["prediction.text.polarity"][kept]
        expected = torch.nn.functional.cross_entropy(said, torch.tensor([0, 1, 0]))
        torch.testing.assert_close(found["polarity.text"], expected)


def test_an_utterance_of_one_modality_is_told_by_it() -> None:
    model = build()
    batch = make_batch(View.UNALIGNED).without("audio", "vision")
    before = model(batch).predictions["intensity"]
    after = model(replace(batch, features=batch.features | {"text": batch.features["text"] * 2})).predictions[
        "intensity"
    ]
    assert not torch.isclose(before, after).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv": "stack"}, r"Unknown value of the option 'conv'.*Did you mean 'stacked'"),
        ({"unpool": "max"}, "Unknown value of the option 'unpool'"),
        ({"unimodal_labels": "both"}, "Unknown value of the option 'unimodal_labels'"),
        ({"attention_dropout": 1.0}, "'attention_dropout' is out of range"),
        ({"dropout": -0.1}, "'dropout' is out of range"),
        ({"dim": 9}, r"'dim' does not fit.*dim=9.*an even number that the heads divide"),
        ({"dim": 10, "heads": 4}, r"'dim' does not fit.*heads=4"),
        ({"filters": [3, 4, 5]}, r"'filters' does not fit 2 layers.*\[3, 4, 5\]"),
        ({"filters": [0]}, "'filters' does not fit 2 layers"),
        ({"kernels": [3, 2]}, r"A kernel has no middle.*\[3, 2\].*odd"),
        ({"filters": [3, 4], "shared_attention": True}, "One self-attention cannot serve"),
        ({"subtasks": ["text", "vison"]}, r"Unknown modality 'vison'.*Did you mean 'vision'"),
        ({"subtasks": ["text"], "multi_task": False}, "The options contradict each other"),
        ({"loss_weights": {"fussed": 3}}, r"Unknown head 'fussed'.*Did you mean 'fused'"),
        ({"loss_weights": {"fused": 0}}, "weight of the head 'fused' must be a positive number"),
        ({"loss_weights": {"fused": True}}, "weight of the head 'fused' must be a positive number"),
        ({"loss_weights": [3]}, "'loss_weights' is no mapping"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(AffectusError, match=message):
        build(**options)


@pytest.mark.parametrize("name", ["fused", "reconstructed"])
def test_a_modality_may_not_bear_a_heads_name(name) -> None:
    with pytest.raises(AffectusError, match=rf"A modality has the name of a head.*{name}"):
        build({"text": 4, name: 3})


def test_options_of_the_command_line() -> None:
    """Lists and mappings arrive as YAML makes them."""
    given = {"filters": [8, 4], "subtasks": ["text"], "loss_weights": {"fused": 3}}
    options, _ = resolve_settings(MODELS["ufen_mtfn"], options=given)
    model = MODELS["ufen_mtfn"].create(THREE, INTENSITY, options | {"dim": 8, "heads": 2})
    assert model.head_weights == {"text": 1.0, "fused": 3.0, "reconstructed": 1.0}
    with pytest.raises(AffectusError, match=r"'filters'.*has the wrong type.*tuple"):
        resolve_settings(MODELS["ufen_mtfn"], options={"filters": "wide"})
    assert resolve_settings(MODELS["ufen_mtfn"], options={"filters": 8})[0]["filters"] == (8,)
