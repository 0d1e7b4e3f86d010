"""Graph-MFN against MMSA's code with the same weights, against the graph by loops, and where it must differ."""

from dataclasses import replace

import pytest
import torch

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.graph_mfn import DynamicFusionGraph, LinearChain
from affectus.objectives import RealLoss
from affectus.testing import Case, make_batch, make_tasks, repad, run_check
from affectus.training.config import resolve_settings
from affectus.vocabulary import View

INTENSITY = tuple(replace(task, loss=RealLoss.L1) for task in make_tasks("intensity"))
THREE = {"text": 6, "audio": 5, "vision": 4}
NAMES = ("candidate", "retain", "update")
# as in the script that made the golden values
SMALL = {
    **{"widths": {"text": 6, "audio": 3, "vision": 4}, "inner": 7, "memory": 5, "hidden": 2},
    **{"candidate": 6, "retain": 7, "update": 8, "dense": 9, "dropout": 0.0},
    **{f"{name}_dropout": 0.0 for name in NAMES},
}
KINDS = ("weight", "bias")
SHORT = {"text": "l", "audio": "a", "vision": "v"}


def build(inputs=THREE, **options):
    torch.manual_seed(0)
    return MODELS["graph_mfn"].create(inputs, INTENSITY, SMALL | options).eval()


NODES = {"text+audio": "01", "text+vision": "02", "audio+vision": "12", "text+audio+vision": "012"}
CHAINS = {"graph.top": "graph_mfn.t_network"} | {
    f"graph.networks.{ours}": f"graph_mfn.networks.{theirs}" for ours, theirs in NODES.items()
}
LAYERS = {
    **{f"{ours}.layers.0": f"{theirs}.0" for ours, theirs in CHAINS.items()},
    **{f"{ours}.layers.1": f"{theirs}.1.0" for ours, theirs in CHAINS.items()},
    **{f"graph.efficacy.layers.{i}": f"graph_mfn.efficacy_model.{part}" for i, part in enumerate(("0", "1.0", "2"))},
    **{f"singletons.{ours}": f"{short}_transform" for ours, short in SHORT.items()},
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
    golden = mmsa("graph_mfn")
    model = build(golden.inputs)
    golden.copy(model, PLACES)
    return golden, model


def test_equals_mmsa(pair) -> None:
    """Outputs, loss and gradients, those too of the weights that MMSA's optimiser never sees."""
    golden, model = pair
    batch = golden.batch()
    output = model(batch)
    torch.testing.assert_close(output.predictions["intensity"], golden["output"], atol=1e-5, rtol=1e-5)
    loss = model.losses(output, batch)["intensity"]
    torch.testing.assert_close(loss, golden["loss"], atol=1e-5, rtol=1e-5)
    loss.backward()
    golden.check_gradients(model, PLACES)
    assert golden.unused(PLACES) == set()


def test_mmsa_neither_trains_nor_saves_the_nodes_and_we_do(mmsa) -> None:
    golden = mmsa("graph_mfn")
    nodes = {name for name in golden.group("weight") if ".networks." in name}
    assert len(nodes) == 16
    assert set(golden.facts["not_in_state"]) == nodes
    assert set(golden.group("weight")) - set(golden.facts["trained"]) == nodes
    model = build()
    ours = {name for name, theirs in PLACES.items() if theirs in nodes}
    assert ours <= set(model.state_dict())
    (stage,) = model.stages()
    trained = {id(parameter) for group in stage.groups.values() for parameter in group.parameters}
    assert {id(model.get_parameter(name)) for name in ours} <= trained


def test_padding_changes_mmsa_and_not_us(pair) -> None:
    """MMSA's LSTMs and its memory go on over the zeros that its loader appends."""
    golden, model = pair
    short = golden.batch()
    short = replace(
        short,
        features={name: x[:, :3] for name, x in short.features.items()},
        masks={name: x[:, :3] for name, x in short.masks.items()},
    )
    assert (golden["padded_output"] - golden["truncated_output"]).abs().max() > 0.05
    for value in (0.0, torch.nan):
        got = model(repad(short, 2, value)).predictions["intensity"]
        torch.testing.assert_close(got, golden["truncated_output"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("count", "edges"), [(1, 1), (2, 5), (3, 19), (4, 65)])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_the_graph_by_loops(count, edges, sigmoid) -> None:
    """Each node sees all of its subsets, the top sees every node; edges as the article counts them."""
    torch.manual_seed(0)
    widths = dict(list({"text": 4, "audio": 2, "vision": 3, "gaze": 1}.items())[:count])
    graph = DynamicFusionGraph(widths, 5, sigmoid=sigmoid)
    x = {name: torch.randn(2, width) for name, width in widths.items()}
    got, efficacies = graph(x)
    assert efficacies.shape == (2, edges)
    for row in range(2):
        weights = chain(graph.efficacy, torch.cat([x[name][row] for name in widths]))
        weights = torch.sigmoid(weights) if sigmoid else weights
        torch.testing.assert_close(efficacies[row], weights)
        outputs, used = {frozenset([name]): x[name][row] for name in widths}, 0
        order = [frozenset([name]) for name in widths]
        for size in range(2, count + 1):
            for bits in sorted(
                (tuple(i for i in range(count) if number >> i & 1) for number in range(2**count)),
            ):
                if len(bits) == size:
                    names = [list(widths)[i] for i in bits]
                    parts = [part for part in order if part < set(names)]
                    seen = [outputs[part] * weights[used + i] for i, part in enumerate(parts)]
                    used += len(parts)
                    outputs[frozenset(names)] = chain(graph.networks["+".join(names)], torch.cat(seen))
                    order.append(frozenset(names))
        seen = [outputs[part] * weights[used + i] for i, part in enumerate(order)]
        torch.testing.assert_close(got[row], chain(graph.top, torch.cat(seen)))


def chain(layers, x):
    for layer in layers.layers:
        x = layer(x)
    return x


def test_layers_with_nothing_between_them_are_one() -> None:
    torch.manual_seed(0)
    layers, x = LinearChain(4, 9, 3, 2), torch.randn(5, 4, requires_grad=True)
    ours, expected = layers(x), chain(layers, x)
    torch.testing.assert_close(ours, expected)
    inputs, weights = (x, *layers.parameters()), torch.randn(5, 2)
    found = torch.autograd.grad((ours * weights).sum(), inputs)
    for a, b in zip(found, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_efficacies_of_each_step() -> None:
    for efficacies in ("linear", "sigmoid"):
        model = build(efficacies=efficacies)
        batch = make_batch(View.ALIGNED, dims=THREE, lengths=(3, 5))
        found = model(batch).extras["efficacies"]
        assert found.shape == (2, 5, 19)
        assert (found[0, 3:] == 0).all()
        real = torch.cat([found[0, :3], found[1]])
        assert (real != 0).all()
        assert ((real > 0) & (real < 1)).all() == (efficacies == "sigmoid")


@pytest.mark.parametrize("check", ["gradients", "padding", "missing_modality", "modalities"])
def test_sigmoid_efficacies_keep_the_contract(check) -> None:
    run_check(Case("graph_mfn", View.ALIGNED, options={"efficacies": "sigmoid"}), check)


# config_regression.json, in MMSA's names; hidden_dims are text, audio, vision
PUBLISHED = {
    "mosi": {
        **{"hidden_dims": [256, 32, 256], "memsize": 300, "inner": 64, "fit": (32, 2e-3, 5e-3)},
        **{"NN": (32, 0.0), "gamma1": (128, 0.5), "gamma2": (64, 0.5), "out": (256, 0.0)},
    },
    "mosei": {
        **{"hidden_dims": [64, 16, 64], "memsize": 300, "inner": 128, "fit": (64, 2e-3, 1e-3)},
        **{"NN": (32, 0.5), "gamma1": (64, 0.0), "gamma2": (256, 0.7), "out": (128, 0.7)},
    },
    "sims": {
        **{"hidden_dims": [256, 32, 256], "memsize": 64, "inner": 128, "fit": (64, 5e-4, 1e-3)},
        **{"NN": (256, 0.5), "gamma1": (32, 0.2), "gamma2": (32, 0.7), "out": (256, 0.2)},
    },
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_hyper_parameters(preset) -> None:
    wanted = PUBLISHED[preset]
    options, settings = resolve_settings(MODELS["graph_mfn"], preset=preset)
    model = MODELS["graph_mfn"].create(THREE, INTENSITY, options)
    assert [layer.width for layer in model.system.layers.values()] == wanted["hidden_dims"]
    memory = model.memory
    assert memory.retain_out.out_features == wanted["memsize"]
    assert model.graph.top.layers[1].out_features == wanted["inner"]
    assert {chain.layers[0].out_features for chain in model.graph.networks.values()} == {100}
    assert (memory.candidate[0].out_features, memory.candidate[2].p) == wanted["NN"]
    assert (memory.retain_in.out_features, memory.dropouts[0]) == wanted["gamma1"]
    assert (memory.update_in.out_features, memory.dropouts[1]) == wanted["gamma2"]
    assert (model.dense.out_features, model.drop.p) == wanted["out"]
    assert (settings.batch_size, settings.learning_rate, settings.weight_decay) == wanted["fit"]
    assert (settings.optimizer, settings.real_loss, settings.patience, settings.clip) == ("adam", "l1", 8, None)


@pytest.mark.parametrize("name", ["dropout", *(f"{name}_dropout" for name in NAMES)])
def test_bad_dropouts(name) -> None:
    with pytest.raises(AffectusError, match=f"The option '{name}' is out of range"):
        build(**{name: 1.0})


def test_bad_options() -> None:
    with pytest.raises(AffectusError, match=r"Unknown value of the option 'efficacies'.*Did you mean 'sigmoid'"):
        build(efficacies="sigmod")
    with pytest.raises(AffectusError, match=r"'widths\.audio' is no size"):
        build(widths={"audio": 0})
