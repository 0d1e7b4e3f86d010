"""MFN against MMSA's code with the same weights, against its equations by loops, and where it must differ."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.nn.stepping import in_step
from affectus.objectives import RealLoss
from affectus.testing import make_batch, make_tasks, repad
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
NAMES = ("attention", "candidate", "retain", "update")
# as in the script that made the golden values
SMALL = {
    **{"widths": {"text": 6, "audio": 3, "vision": 4}, "memory": 5, "hidden": 2},
    **{"attention": 4, "candidate": 5, "retain": 7, "update": 8, "dense": 9, "dropout": 0.0},
    **{f"{name}_dropout": 0.0 for name in NAMES},
}
KINDS = ("weight", "bias")
SHORT = {"text": "l", "audio": "a", "vision": "v"}


def build(inputs=THREE, **options):
    torch.manual_seed(0)
    return MODELS["mfn"].create(inputs, INTENSITY, SMALL | options).eval()


LAYERS = {
    **{"attention.0": "att1_fc1", "attention.3": "att1_fc2"},
    **{"memory.candidate.0": "att2_fc1", "memory.candidate.3": "att2_fc2"},
    **{"memory.retain_in": "gamma1_fc1", "memory.retain_out": "gamma1_fc2"},
    **{"memory.update_in": "gamma2_fc1", "memory.update_out": "gamma2_fc2"},
    **{"dense": "out_fc1", "heads.layers.intensity": "out_fc2"},
}
PLACES = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in LAYERS.items() for kind in KINDS} | {
    f"system.layers.{ours}.layer.{name}_l0": f"lstm_{short}.{name}"
    for ours, short in SHORT.items()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
}


@pytest.fixture
def pair(mmsa):
    golden = mmsa("mfn")
    model = build(golden.inputs)
    golden.copy(model, PLACES)
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


def test_padding_changes_mmsa_and_not_us(pair) -> None:
    """MMSA's LSTMs and its memory go on over the zeros that its loader appends."""
    golden, model = pair
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


def by_loops(model, features, masks):
    """Zadeh et al. 2018 for one utterance and one step after the other, without what is missing."""
    cells = {}
    for name, layer in model.system.layers.items():
        cells[name] = nn.LSTMCell(layer.layer.input_size, layer.layer.hidden_size)
        cells[name].load_state_dict({key.removesuffix("_l0"): x for key, x in layer.layer.state_dict().items()})
    found = []
    for b in range(len(next(iter(masks.values())))):
        state = {name: (torch.zeros(cell.hidden_size),) * 2 for name, cell in cells.items()}
        u = torch.zeros(model.memory.retain_out.out_features)
        for t in range(next(iter(masks.values())).shape[1]):
            if not any(mask[b, t] for mask in masks.values()):
                continue
            before = [pair[1] for pair in state.values()]
            for name, cell in cells.items():
                if masks[name][b, t]:
                    state[name] = cell(features[name][b, t], state[name])
            c = torch.cat([*before, *(pair[1] for pair in state.values())])
            attended = torch.softmax(model.attention[3](torch.relu(model.attention[0](c))), dim=0) * c
            both = torch.cat([attended, u])
            retain = torch.sigmoid(model.memory.retain_out(torch.relu(model.memory.retain_in(both))))
            update = torch.sigmoid(model.memory.update_out(torch.relu(model.memory.update_in(both))))
            u = retain * u + update * model.memory.candidate(attended)
        last = torch.cat([*(pair[0] for pair in state.values()), u])
        found.append(model.heads(torch.relu(model.dense(last)))["intensity"])
    return torch.stack(found)


@pytest.mark.parametrize("view", [View.ALIGNED, View.UNALIGNED])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_equals_its_equations_with_anything_missing(view, count) -> None:
    inputs = dict(list({**THREE, "gaze": 3}.items())[:count])
    model = build(inputs)
    batch = make_batch(view, dims=inputs, lengths=(3, 6, 2, 4, 5), missing=0.4, seed=3)
    batch.masks["text"][1, 2] = False
    features, masks = in_step(batch.features, batch.masks, view)
    got = model(repad(batch, 2, torch.nan)).predictions["intensity"]
    torch.testing.assert_close(got, by_loops(model, features, masks))


# config_regression.json, in MMSA's names; hidden_dims are text, audio, vision
PUBLISHED = {
    "mosi": {
        **{"hidden_dims": [256, 32, 256], "memsize": 400, "fit": (128, 2e-3, 0.0), "out": (128, 0.0)},
        **{"NN1": (32, 0.2), "NN2": (64, 0.0), "gamma1": (256, 0.7), "gamma2": (32, 0.5)},
    },
    "mosei": {
        **{"hidden_dims": [128, 32, 128], "memsize": 128, "fit": (64, 5e-4, 1e-4), "out": (128, 0.5)},
        **{"NN1": (128, 0.2), "NN2": (128, 0.5), "gamma1": (256, 0.7), "gamma2": (256, 0.0)},
    },
    "sims": {
        **{"hidden_dims": [64, 16, 64], "memsize": 64, "fit": (32, 1e-3, 0.0), "out": (64, 0.7)},
        **{"NN1": (128, 0.2), "NN2": (128, 0.0), "gamma1": (64, 0.2), "gamma2": (64, 0.7)},
    },
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    wanted = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["mfn"], preset=preset)
    model = MODELS["mfn"].create(THREE, INTENSITY, options)
    assert [layer.width for layer in model.system.layers.values()] == wanted["hidden_dims"]
    memory = model.memory
    assert memory.retain_out.out_features == wanted["memsize"]
    assert (model.attention[0].out_features, model.attention[2].p) == wanted["NN1"]
    assert (memory.candidate[0].out_features, memory.candidate[2].p) == wanted["NN2"]
    assert (memory.retain_in.out_features, memory.dropouts[0]) == wanted["gamma1"]
    assert (memory.update_in.out_features, memory.dropouts[1]) == wanted["gamma2"]
    assert (model.dense.out_features, model.drop.p) == wanted["out"]
    assert model.attention[0].in_features == 2 * sum(wanted["hidden_dims"])  # windowsize
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == wanted["fit"]
    assert (settings.optimizer, settings.real_loss, settings.patience, settings.clip) == ("adam", "l1", 8, None)


@pytest.mark.parametrize("name", ["dropout", *(f"{name}_dropout" for name in NAMES)])
def test_bad_dropouts(name) -> None:
    with pytest.raises(AffectusError, match=f"The option '{name}' is out of range"):
        build(**{name: 1.0})


def test_bad_widths() -> None:
    with pytest.raises(AffectusError, match=r"Unknown modality 'sound'"):
        build(widths={"sound": 3})
