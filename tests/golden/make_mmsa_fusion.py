"""Make mmsa_{ef_lstm,lf_dnn,tfn,lmf,mfn,graph_mfn}.safetensors: what MMSA's own models give, with their weights.

MMSA is needed only here; make_mmsa_metrics.py says how to make an environment for it.

    mmsa-venv/bin/python tests/golden/make_mmsa_fusion.py

Each model is small, without dropout, and sees one random batch without padding. A file holds

    weight.*, buffer.*      of the model; buffers as they are after one training batch
    input.*, label          text, audio, vision (B, T, dim) and (B, 1)
    output, loss, grad.*    in evaluation mode; the gradients of the L1 loss
    train_output            in training mode, by the statistics of the batch
    truncated_output        of the first three steps alone, where the model allows it
    padded_output           of the first three steps followed by zeros, as MMSA's loader pads

and, in its metadata, the versions, the names of the parameters that MMSA's trainer gives to its optimiser, and those
that the model's state does not hold. mmsa_align.safetensors holds what MMSA's alignment makes of ten steps.
"""

import contextlib
import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from easydict import EasyDict
from MMSA.models.singleTask import EF_LSTM, LF_DNN, LMF, MFN, TFN, Graph_MFN
from MMSA.models.subNets import AlignSubNet
from MMSA.trains import ATIO
from safetensors.numpy import save_file

DIMS, STEPS, BATCH = {"text": 6, "audio": 5, "vision": 4}, 5, 7
NETWORKS = ("NN1Config", "NN2Config", "NNConfig", "gamma1Config", "gamma2Config", "outConfig")
COMMON = {
    "feature_dims": list(DIMS.values()), "seq_lens": STEPS, "train_mode": "regression", "num_classes": 1,
    "device": torch.device("cpu"), "dataset_name": "mosi", "KeyEval": "Loss", "early_stop": 1,
    "learning_rate": 1e-3, "factor_lr": 1e-3, "weight_decay": 0.0,
}  # fmt: skip
MODELS = {
    "ef_lstm": (EF_LSTM, {"hidden_dims": 8, "num_layers": 2, "dropout": 0.0}),
    "lf_dnn": (LF_DNN, {"hidden_dims": [8, 3, 4], "text_out": 5, "post_fusion_dim": 6, "dropouts": [0.0] * 4}),
    "tfn": (TFN, {"hidden_dims": [8, 3, 4], "text_out": 5, "post_fusion_dim": 6, "dropouts": [0.0] * 4}),
    "lmf": (LMF, {"hidden_dims": [8, 3, 4], "rank": 3, "dropouts": [0.0] * 4}),
    "mfn": (
        MFN,
        {"hidden_dims": [6, 3, 4], "memsize": 5, "windowsize": 2}
        | {name: {"drop": 0.0, "shapes": 4 + i} for i, name in enumerate(NETWORKS)},
    ),
    "graph_mfn": (
        Graph_MFN,
        {"hidden_dims": [6, 3, 4], "memsize": 5, "inner_node_dim": 7}
        | {name: {"drop": 0.0, "shapes": 4 + i} for i, name in enumerate(NETWORKS)},
    ),
}
MEANS = ("lf_dnn", "tfn", "lmf")
"""Models that MMSA's loader gives the means of audio and vision."""


class _Enough(Exception):
    pass


def trained_by_mmsa(name, args, model):
    """Names of the parameters that MMSA's trainer gives to its optimiser."""
    given = []

    def optimizer(groups, **settings):
        for group in list(groups):
            given.extend(group["params"] if isinstance(group, dict) else [group])
        raise _Enough

    trainer = ATIO().getTrain(EasyDict(args, model_name=name))
    module = __import__(type(trainer).__module__, fromlist=["optim"])
    with mock.patch.object(module, "optim", SimpleNamespace(Adam=optimizer)), contextlib.suppress(_Enough):
        trainer.do_train(model, {})
    places = {id(parameter) for parameter in given}
    return [key for key, parameter in model.named_parameters() if id(parameter) in places]


def all_weights(model):
    """Every parameter by name, those too that the model does not know of."""
    found = dict(model.named_parameters())
    if hasattr(model, "graph_mfn"):
        for node, network in model.graph_mfn.networks.items():
            for key, parameter in network.named_parameters():
                found[f"graph_mfn.networks.{''.join(map(str, node))}.{key}"] = parameter
    return found


def run(name, model, inputs):
    given = dict(inputs)
    if name in MEANS:
        given |= {key: given[key].mean(dim=1, keepdim=True) for key in ("audio", "vision")}
    return model(given["text"], given["audio"], given["vision"])["M"]


def make(name, seed):
    build, own = MODELS[name]
    args = EasyDict(COMMON | own)
    torch.manual_seed(seed)
    model = build(args)
    weights = all_weights(model)
    for parameter in weights.values():
        # far from zero, so that every part of the model counts
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5 if parameter.dim() == 1 else 1.5 * parameter.shape[-1] ** -0.5)
    inputs = {key: torch.randn(BATCH, STEPS, dim) for key, dim in DIMS.items()}
    label = torch.rand(BATCH, 1) * 6 - 3
    model.train()
    with torch.no_grad():
        train_output = run(name, model, inputs)
    model.eval()
    output = run(name, model, inputs)
    loss = torch.nn.L1Loss()(output, label)
    loss.backward()
    tensors = {
        "output": output, "train_output": train_output, "loss": loss, "label": label,
        **{f"input.{key}": x for key, x in inputs.items()},
        **{f"weight.{key}": x for key, x in weights.items()},
        **{f"buffer.{key}": x for key, x in model.named_buffers()},
        **{f"grad.{key}": x.grad for key, x in weights.items() if x.grad is not None},
    }  # fmt: skip
    with torch.no_grad():
        some = {key: x[:, :3] for key, x in inputs.items()}
        zeros = {key: torch.cat([x, torch.zeros(BATCH, STEPS - 3, x.shape[-1])], dim=1) for key, x in some.items()}
        tensors["padded_output"] = run(name, model, zeros)
        if name != "ef_lstm":
            tensors["truncated_output"] = run(name, model, some)
    metadata = {
        "made_with": made_with(),
        "trained": json.dumps(trained_by_mmsa(name, args, model)),
        "not_in_state": json.dumps(sorted(set(weights) - set(model.state_dict()))),
    }
    save(name, tensors, metadata)


def made_with():
    return json.dumps({package: version(package) for package in ("MMSA", "torch")})


def save(name, tensors, metadata):
    arrays = {key: np.ascontiguousarray(x.detach().numpy()) for key, x in tensors.items()}
    save_file(arrays, Path(__file__).with_name(f"mmsa_{name}.safetensors"), metadata=metadata)


def make_align():
    torch.manual_seed(0)
    args = EasyDict(feature_dims=list(DIMS.values()), seq_lens=[5, 10, 7])
    inputs = {key: torch.randn(2, steps, dim) for (key, dim), steps in zip(DIMS.items(), args.seq_lens, strict=True)}
    found = AlignSubNet(args, "avg_pool")(*inputs.values())
    tensors = {f"input.{key}": x for key, x in inputs.items()}
    tensors |= {f"output.{key}": x for key, x in zip(DIMS, found, strict=True)}
    save("align", tensors, {"made_with": made_with()})


if __name__ == "__main__":
    for i, name in enumerate(MODELS):
        make(name, i)
    make_align()
