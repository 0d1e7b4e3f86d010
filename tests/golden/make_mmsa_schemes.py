"""Make mmsa_{mult,misa,self_mm,mmim,mlf_dnn,mtfn,mlmf}.safetensors: what MMSA's own models and trainers give.

MMSA is needed only here; make_mmsa_metrics.py says how to make an environment for it.

    mmsa-venv/bin/python tests/golden/make_mmsa_schemes.py

Each model is small, without dropout, and sees random batches without padding. Where a model reads its text through
BERT, a random one of one layer, frozen, makes the vectors that stand under ``input.text``. A file holds

    weight.*, buffer.*      of the model, but BERT's
    input.*, label          text, audio, vision (B, T, dim) and (B, 1); label.* of single modalities
    output, output.*        of the model, in evaluation mode
    loss, loss.*, grad.*    the trainer's loss, its parts and its gradients, in evaluation mode
    defect.*                what shows a defect; the tests say which

and, where the trainer does more than go down one gradient, what it gives in some epochs over two batches: ``run.*``.
"""

import contextlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from easydict import EasyDict
from MMSA.models.multiTask import MLF_DNN, MLMF, MTFN, SELF_MM
from MMSA.models.singleTask import MISA, MMIM, MULT
from MMSA.trains import ATIO
from safetensors.numpy import save_file
from transformers import BertConfig, BertModel, BertTokenizer

BATCH = 7
COMMON = {
    "train_mode": "regression", "num_classes": 1, "device": torch.device("cpu"), "dataset_name": "mosi",
    "KeyEval": "Loss", "early_stop": 1, "need_data_aligned": False, "cur_seed": 0, "learning_rate": 1e-3,
}  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]


def tiny_bert(folder, width):
    """Save a random BERT of one layer and a tiny vocabulary."""
    Path(folder, "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(Path(folder, "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        **{"vocab_size": len(WORDS), "hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 8, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    )
    BertModel(config).save_pretrained(folder)


def with_bert(build, args, width):
    """Build a model that reads text through BERT."""
    with tempfile.TemporaryDirectory() as folder:
        tiny_bert(folder, width)
        return build(EasyDict(args, pretrained=folder, transformers="bert", use_bert=True, use_finetune=False))


def tokens(count, steps):
    """Random token ids, their mask and their segments (B, 3, T), without padding."""
    ids = torch.randint(5, len(WORDS), (count, steps))
    return torch.stack([ids, torch.ones_like(ids), torch.zeros_like(ids)], dim=1).float()


def away_from_zero(model):
    """So that every part of the model counts."""
    for key, parameter in model.named_parameters():
        if key.endswith(("bias", "norm.weight", "norms.0.weight", "norms.1.weight")) and "bert" not in key:
            torch.nn.init.normal_(parameter, std=0.5)


def text_encoder(model):
    return next((part for name, part in model.named_children() if name in ("text_model", "bertmodel")), None)


def own_weights(model, prefix="weight"):
    encoder = text_encoder(model)
    inside = {id(parameter) for parameter in encoder.parameters()} if encoder is not None else set()
    found = {f"{prefix}.{key}": x for key, x in model.named_parameters() if id(x) not in inside}
    if prefix == "weight":
        found |= {
            f"buffer.{key}": x for key, x in model.named_buffers() if "model." not in key and "version" not in key
        }
    return found


def gradients(model):
    return {
        key.replace("weight.", "grad.", 1): x.grad.clone()
        for key, x in own_weights(model).items()
        if x.grad is not None and key.startswith("weight.")
    }


def clones(tensors):
    return {key: x.detach().clone() for key, x in tensors.items()}


def save(name, tensors, **facts):
    arrays = {key: np.ascontiguousarray(x.detach().numpy()) for key, x in tensors.items()}
    metadata = {key: json.dumps(fact) for key, fact in facts.items()}
    metadata["made_with"] = json.dumps({package: version(package) for package in ("MMSA", "torch", "transformers")})
    save_file(arrays, Path(__file__).with_name(f"mmsa_{name}.safetensors"), metadata=metadata)


def trainer_of(name, args):
    return ATIO().getTrain(EasyDict(args, model_name=name))


def features(steps, dims):
    return {name: torch.randn(BATCH, steps[name], dim) for name, dim in dims.items()}


def make_mult():
    torch.manual_seed(0)
    dims, steps = {"text": 6, "audio": 5, "vision": 4}, {"text": 6, "audio": 9, "vision": 4}
    args = EasyDict(
        COMMON, use_bert=False, dst_feature_dim_nheads=[8, 2], feature_dims=list(dims.values()), nlevels=2,
        attn_mask=True, conv1d_kernel_size_l=2, conv1d_kernel_size_a=3, conv1d_kernel_size_v=1,
        **{f"{name}_dropout": 0.0 for name in ("attn", "relu", "embed", "res", "output", "text")},
        attn_dropout_a=0.0, attn_dropout_v=0.0,
    )  # fmt: skip
    model = MULT(args)
    away_from_zero(model)
    model.eval()
    x, label = features(steps, dims), torch.rand(BATCH, 1) * 6 - 3
    found = model(*x.values())
    loss = torch.nn.L1Loss()(found["M"], label)
    loss.backward()
    # MMSA's loader pads with zeros, which its model attends to
    padded = {name: torch.cat([y, torch.zeros(BATCH, 5, y.shape[-1])], dim=1) for name, y in x.items()}
    with torch.no_grad():
        defect = model(*padded.values())["M"]
    save(
        "mult",
        {
            **own_weights(model), **gradients(model), **{f"input.{name}": y for name, y in x.items()},
            "label": label, "output": found["M"], "output.read": found["Feature_f"], "loss": loss,
            "defect.padded_output": defect,
        },
        positions=model.trans_l_with_a.embed_positions is not None,
    )  # fmt: skip


def make_misa():
    torch.manual_seed(1)
    dims, steps = {"text": 768, "audio": 5, "vision": 4}, {"text": 5, "audio": 5, "vision": 5}
    args = EasyDict(
        COMMON, feature_dims=list(dims.values()), dropout=0.0, rnncell="lstm", hidden_size=8, use_cmd_sim=True,
        diff_weight=0.1, sim_weight=0.3, recon_weight=1.0, reverse_grad_weight=0.8, sp_weight=1.0,
    )  # fmt: skip
    model = with_bert(MISA, args, dims["text"])
    away_from_zero(model)
    # a short feed-forward part instead of PyTorch's 2048
    layer = model.transformer_encoder.layers[0]
    layer.linear1, layer.linear2 = torch.nn.Linear(8, 12), torch.nn.Linear(12, 8)
    model.eval()
    text, label = tokens(BATCH, steps["text"]), torch.rand(BATCH, 1) * 6 - 3
    x = {name: y for name, y in features(steps, dims).items() if name != "text"}
    vectors = model.bertmodel(text)
    found = model(text, x["audio"], x["vision"])
    trainer = trainer_of("misa", args)
    trainer.model = SimpleNamespace(Model=model)
    parts = {
        "task": torch.nn.MSELoss()(found["M"], label), "difference": trainer.get_diff_loss(),
        "similarity": trainer.get_cmd_loss(), "reconstruction": trainer.get_recon_loss(),
    }  # fmt: skip
    # CMD adds up in place, so that its value must be taken before
    parts = {name: part * 1.0 for name, part in parts.items()}
    loss = (
        parts["task"]
        + args.diff_weight * parts["difference"]
        + args.sim_weight * parts["similarity"]
        + args.recon_weight * parts["reconstruction"]
    )
    loss.backward()
    # audio that goes on after the text: MMSA cuts it to the text's length
    longer = torch.cat([x["audio"], torch.randn(BATCH, 4, dims["audio"])], dim=1)
    with torch.no_grad():
        defect = model(text, longer, x["vision"])["M"]
    never = [key for key, y in own_weights(model).items() if key.startswith("weight.") and y.grad is None]
    save(
        "misa",
        {
            **own_weights(model), **gradients(model), "input.text": vectors,
            **{f"input.{name}": y for name, y in x.items()}, "label": label, "output": found["M"], "loss": loss,
            **{f"loss.{name}": part for name, part in parts.items()},
            "defect.longer_audio": longer, "defect.longer_output": defect,
        },
        without_gradient=sorted(key.removeprefix("weight.") for key in never),
    )  # fmt: skip


def batches_of(text, x, label, cuts):
    """Batches as MMSA's loader gives them."""
    for rows in cuts:
        yield {
            "text": text[rows], "audio": x["audio"][rows], "vision": x["vision"][rows],
            "labels": {"M": label[rows]}, "index": rows, "id": [str(int(row)) for row in rows],
            "audio_lengths": torch.full((len(rows),), x["audio"].shape[1]),
            "vision_lengths": torch.full((len(rows),), x["vision"].shape[1]),
        }  # fmt: skip


CUTS = [torch.tensor([0, 2, 4, 6, 8, 10]), torch.tensor([1, 3, 5, 7, 9, 11])]
SIX_TIMES_TWO = 12


def run_trainer(name, args, model, text, x, label, epochs, seen):
    """Let MMSA train for some epochs, without a choice of the best one; ``seen`` is called after each."""
    trainer, calls = trainer_of(name, args), []

    def test(*_, **__):
        calls.append(1)
        seen(trainer)
        # every epoch is better than the one before, until the last
        return {"Loss": 1.0 / len(calls) if len(calls) < epochs else 9.0}

    loader = {"train": list(batches_of(text, x, label, CUTS)), "valid": None}
    module = __import__(type(trainer).__module__, fromlist=["optim"])
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(type(trainer), "do_test", test):
        trainer.args.model_save_path = str(Path(folder, "model.pth"))
        patches = [mock.patch("torch.nn.init.xavier_normal_", lambda tensor: tensor)]
        if hasattr(module, "ReduceLROnPlateau"):
            patches.append(mock.patch.object(module, "ReduceLROnPlateau", mock.MagicMock()))
        for patch in patches:
            patch.start()
        try:
            trainer.do_train(model, loader)
        finally:
            for patch in patches:
                patch.stop()
    return trainer


def make_self_mm():
    torch.manual_seed(2)
    dims, steps = {"text": 12, "audio": 5, "vision": 4}, {"text": 5, "audio": 8, "vision": 6}
    args = EasyDict(
        COMMON, feature_dims=list(dims.values()), a_lstm_hidden_size=6, v_lstm_hidden_size=7, a_lstm_layers=1,
        v_lstm_layers=1, a_lstm_dropout=0.0, v_lstm_dropout=0.0, text_out=12, audio_out=5, video_out=6,
        post_fusion_dim=10, post_text_dim=8, post_audio_dim=4, post_video_dim=5, post_fusion_dropout=0.0,
        post_text_dropout=0.0, post_audio_dropout=0.0, post_video_dropout=0.0, H=3.0, excludeZero=True,
        train_samples=SIX_TIMES_TWO, update_epochs=1, save_labels=False,
        learning_rate_bert=1e-3, learning_rate_audio=5e-3, learning_rate_video=2e-3, learning_rate_other=1e-2,
        weight_decay_bert=0.0, weight_decay_audio=1e-3, weight_decay_video=1e-2, weight_decay_other=1e-4,
    )  # fmt: skip
    model = with_bert(SELF_MM, args, dims["text"])
    away_from_zero(model)
    text, label = tokens(SIX_TIMES_TWO, steps["text"]), torch.rand(SIX_TIMES_TWO, 1) * 6 - 3
    x = {name: torch.randn(SIX_TIMES_TWO, steps[name], dims[name]) for name in ("audio", "vision")}
    model.eval()
    vectors = model.text_model(text)
    full = {name: torch.full((SIX_TIMES_TWO,), steps[name]) for name in x}
    found = model(text, (x["audio"], full["audio"]), (x["vision"], full["vision"]))
    trainer = trainer_of("self_mm", args)
    labels = {name: label[:, 0] + torch.randn(SIX_TIMES_TWO) for name in ("text", "audio", "vision")}
    trainer.label_map |= labels | {"fusion": label[:, 0]}
    rows = torch.arange(SIX_TIMES_TWO)
    names = {"M": "fusion", "T": "text", "A": "audio", "V": "vision"}
    parts = {
        names[m]: trainer.weighted_loss(found[m], trainer.label_map[names[m]], indexes=rows, mode=names[m])
        for m in "MTAV"
    }
    loss = sum(parts.values())
    loss.backward()
    tensors = {
        **clones(own_weights(model)), **gradients(model), "input.text": vectors,
        **{f"input.{name}": y for name, y in x.items()}, "label": label,
        **{f"label.{name}": y for name, y in labels.items()},
        **{f"output.{names[m]}": found[m] for m in "MTAV"}, **{f"loss.{name}": part for name, part in parts.items()},
        "output.fused": found["Feature_f"], "loss": loss,
    }  # fmt: skip
    epochs = []
    run_trainer("self_mm", args, Held(model), text, x, label, 5, lambda t: epochs.append(clones(t.label_map)))
    for epoch, known in enumerate(epochs):
        tensors |= {f"run.label.{epoch}.{name}": y for name, y in known.items()}
    tensors |= {f"run.{key}": y for key, y in clones(own_weights(model)).items() if key.startswith("weight.")}
    save("self_mm", tensors)


class Held(torch.nn.Module):
    """A model within another, as MMSA's trainers want it."""

    def __init__(self, model):
        super().__init__()
        self.Model = model

    def forward(self, *arguments, **named):
        return self.Model(*arguments, **named)


def make_mmim():
    torch.manual_seed(3)
    dims, steps = {"text": 12, "audio": 5, "vision": 4}, {"text": 5, "audio": 8, "vision": 6}
    args = EasyDict(
        COMMON, feature_dims=list(dims.values()), add_va=True, d_vh=6, d_ah=7, d_vout=8, d_aout=12, n_layer=1,
        bidirectional=True, dropout_a=0.0, dropout_v=0.0, dropout_prj=0.0, d_prjh=10, cpc_layers=1,
        mmilb_mid_activation="ReLU", mmilb_last_activation="Tanh", cpc_activation="Tanh", mem_size=1, contrast=True,
        alpha=0.2, beta=0.3, grad_clip=1e9, optim="Adam", when=20, train_samples=SIX_TIMES_TWO,
        lr_main=1e-2, lr_bert=1e-3, lr_mmilb=5e-3, weight_decay_main=1e-3, weight_decay_bert=0.0,
        weight_decay_mmilb=1e-2,
    )  # fmt: skip
    model = with_bert(MMIM, args, dims["text"])
    away_from_zero(model)
    model.eval()
    text = tokens(SIX_TIMES_TWO, steps["text"])
    # enough of both signs in each batch for a covariance
    label = torch.rand(SIX_TIMES_TWO, 1) * 2.9 + 0.1
    label[[0, 2, 4, 1, 3, 5]] *= -1
    x = {name: torch.randn(SIX_TIMES_TWO, steps[name], dims[name]) for name in ("audio", "vision")}
    vectors = model.bertmodel(text)
    pairs = ("tv", "ta", "va")
    memory = {
        pair: {sign: [torch.tanh(torch.randn(6, width // 4))] for sign in ("pos", "neg")}
        for pair, width in zip(pairs, (8, 12, 12), strict=True)
    }
    full = {name: torch.full((SIX_TIMES_TWO,), steps[name]) for name in x}
    found = model(text, (x["audio"], full["audio"]), (x["vision"], full["vision"]), y=label, mem=memory)
    task = torch.nn.L1Loss()(found["M"], label)
    loss = task + args.alpha * found["nce"] - args.beta * found["lld"] - args.beta * found["H"]
    loss.backward()
    tensors = {
        **clones(own_weights(model)), **gradients(model), "input.text": vectors,
        **{f"input.{name}": y for name, y in x.items()}, "label": label,
        **{f"memory.{pair}.{sign}": memory[pair][sign][0] for pair in pairs for sign in ("pos", "neg")},
        **{f"remembered.{pair}.{sign}": found["pn_dic"][pair][sign] for pair in pairs for sign in ("pos", "neg")},
        "output": found["M"], "output.fused": found["Feature_f"], "loss": loss, "loss.task": task,
        "loss.nce": found["nce"], "loss.lld": found["lld"], "loss.entropy": found["H"],
    }  # fmt: skip
    # three batches in an epoch: from the third on the entropy counts
    CUTS.append(torch.tensor([0, 3, 4, 7, 8, 11]))
    run_trainer("mmim", args, model, text, x, label, 2, lambda _: None)
    CUTS.pop()
    tensors |= {f"run.{key}": y for key, y in clones(own_weights(model)).items() if key.startswith("weight.")}
    moved = [key for key, y in own_weights(model).items() if not torch.equal(y, tensors[key])]
    never = [key for key in own_weights(model) if key.startswith("weight.") and key not in moved]
    save("mmim", tensors, never_trained=sorted(key.removeprefix("weight.") for key in never))


MULTI = {
    "mlf_dnn": (MLF_DNN, {"post_fusion_dim": 6, "text_out": 5}),
    "mtfn": (MTFN, {"post_fusion_dim": 6, "text_out": 5}),
    "mlmf": (MLMF, {"rank": 3}),
}


def make_multi(name, seed):
    torch.manual_seed(seed)
    build, own = MULTI[name]
    dims, steps = {"text": 6, "audio": 5, "vision": 4}, {"text": 5, "audio": 1, "vision": 1}
    args = EasyDict(
        COMMON, feature_dims=list(dims.values()), hidden_dims=[8, 3, 4], dropouts=[0.0] * 3, post_dropouts=[0.0] * 4,
        post_text_dim=6, post_audio_dim=3, post_video_dim=4, M=0.6, T=0.2, A=0.8, V=0.7, factor_lr=5e-4,
        text_weight_decay=1e-3, audio_weight_decay=1e-4, video_weight_decay=1e-5, weight_decay=1e-2, **own,
    )  # fmt: skip
    args.dataset_name = "sims"
    model = build(args)
    away_from_zero(model)
    x = features(steps, dims)
    labels = {m: torch.rand(BATCH, 1) * 2 - 1 for m in "MTAV"}
    model.train()
    with torch.no_grad():
        trained = model(*x.values())["M"]
    model.eval()
    found = model(*x.values())
    loss = sum(args[m] * torch.nn.L1Loss()(found[m], labels[m]) for m in "MTAV")
    loss.backward()
    names = {"M": "fusion", "T": "text", "A": "audio", "V": "vision"}
    save(
        name,
        {
            **own_weights(model), **gradients(model), **{f"input.{key}": y for key, y in x.items()},
            **{f"label.{names[m]}": y for m, y in labels.items()}, "train_output": trained, "loss": loss,
            **{f"output.{names[m]}": found[m] for m in "MTAV"},
        },
        never_trained=without_rate(name, args, model),
    )  # fmt: skip


class _Enough(Exception):
    pass


def without_rate(name, args, model):
    """Names of the parameters that MMSA's trainer gives to its optimiser with a learning rate of 0, or not at all."""
    rates = {}

    def optimizer(groups, lr, **_):
        for group in groups:
            for parameter in group["params"]:
                rates[id(parameter)] = max(group.get("lr", lr), rates.get(id(parameter), 0.0))
        raise _Enough

    held = Held(model)
    trainer = trainer_of(name, args)
    module = __import__(type(trainer).__module__, fromlist=["optim"])
    with mock.patch.object(module, "optim", SimpleNamespace(Adam=optimizer)), contextlib.suppress(_Enough):
        trainer.do_train(held, {})
    return sorted(key for key, x in model.named_parameters() if x.requires_grad and not rates.get(id(x)))


if __name__ == "__main__":
    make_mult()
    make_misa()
    make_self_mm()
    make_mmim()
    for i, name in enumerate(MULTI):
        make_multi(name, 10 + i)
