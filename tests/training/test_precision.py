"""Training in bfloat16: every network can, weights and losses stay in single precision, and so does what is judged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from affectus.api import evaluate, train
from affectus.cli.main import main
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.errors import AffectusError
from affectus.models import MODELS, Model
from affectus.nn.lstm import LSTM
from affectus.nn.precision import in_full, single
from affectus.testing import Case, cases
from affectus.training import build_config, load_run
from affectus.training.config import Precision
from affectus.training.mixed import check_precision, run_model

SMALL = {"hidden": 8, "dense": 6}
NETWORKS = [case for case in cases() if issubclass(MODELS[case.model].build, Model)]
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn_rnn_layer"}


class Products(TorchDispatchMode):
    """Counts products by the kind of number."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            kind = next(x.dtype for x in reversed(args) if isinstance(x, Tensor))
            self.counts[kind] = self.counts.get(kind, 0) + 1
        return func(*args, **(kwargs or {}))


def _step(case: Case, precision: Precision) -> tuple[dict[str, Tensor], list[Tensor], dict[torch.dtype, int]]:
    """Take a step of gradient descent; the losses, the weights after it, and the products forward."""
    model = case.build(dropout=False)
    assert isinstance(model, Model)
    model.train()
    model.stage = model.stages()[-1].name
    batch = case.batch(unlabelled=0.1)
    with Products() as products:
        output = run_model(model, batch, precision)
    losses = model.losses(output, batch)
    torch.stack(list(losses.values())).sum().backward()
    model.on_batch_end(output, batch)
    assert all(x.dtype is torch.float32 for x in output.predictions.values())
    assert all(p.grad is None or p.grad.dtype is torch.float32 for p in model.parameters())
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    return losses, list(model.parameters()), products.counts


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_every_network_trains_in_bfloat16(case: Case) -> None:
    losses, before, _ = _step(case, Precision.FP32)
    found, after, products = _step(case, Precision.BF16)
    assert products.get(torch.bfloat16, 0) > 0
    assert found.keys() == losses.keys()
    for name, loss in losses.items():
        assert found[name].dtype is torch.float32
        torch.testing.assert_close(found[name], loss, rtol=0.02, atol=0.02)
    assert all(p.dtype is torch.float32 and p.isfinite().all() for p in after)
    # the way a step goes, in all, is that of single precision
    start = list(case.build(dropout=False).parameters())  # type: ignore[union-attr]
    ways = [torch.cat([(a - b).flatten() for a, b in zip(x, start, strict=True)]) for x in (before, after)]
    assert F.cosine_similarity(*ways, dim=0) > 0.95


def test_what_is_written_out_runs_in_single_precision() -> None:
    torch.manual_seed(0)
    layer, mask = LSTM(4, 3), torch.ones(2, 40, dtype=torch.bool)
    x = torch.randn(2, 40, 4)
    expected = layer(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x, mask), expected)
        assert layer(x.bfloat16(), mask).dtype is torch.float32
        assert in_full(torch.mm, x[0].bfloat16(), x[1].T).dtype is torch.float32
        assert torch.mm(x[0], x[1].T).dtype is torch.bfloat16
    assert single(x.double()).dtype is torch.float64


def test_a_run_in_bfloat16(corpus: Corpus, tmp_path: Path) -> None:
    save_corpus(corpus, tmp_path / "corpus")
    arguments = ["train", "mtmm_es", str(tmp_path / "corpus"), "--tasks", "polarity,intensity", "-q", "--device", "cpu"]
    arguments += ["--set", "epochs=8", "--set", "learning_rate=0.01", "--set", "hidden=8", "--set", "dense=6"]
    for name in Precision:
        assert main([*arguments, "--set", f"precision={name}", "--out", str(tmp_path / name)]) == 0
    read = load_corpus(tmp_path / "corpus")
    runs = [load_run(tmp_path / name) for name in Precision]
    assert runs[1].config.training.precision is Precision.BF16
    plain, mixed = (load_file(run.seed_folder(0) / "model.safetensors") for run in runs)
    assert all(values.dtype == plain[name].dtype for name, values in mixed.items())
    assert any(not np.array_equal(values, plain[name]) for name, values in mixed.items())
    # what is judged after an epoch is what the finished run says, in single precision
    result = json.loads((runs[1].seed_folder(0) / "result.json").read_text())
    rows = [json.loads(line) for line in (runs[1].seed_folder(0) / "history.jsonl").read_text().splitlines()]
    assert rows[result["best_epoch"]]["valid.intensity.mae"] == pytest.approx(
        result["valid"]["intensity.mae"], abs=1e-6
    )
    errors = [evaluate(run, read, split="test").mean("intensity.mae") for run in runs]
    assert errors[1] == pytest.approx(errors[0], abs=0.1)


def test_a_text_encoder_is_trained_in_bfloat16(spoken: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    training = {"text_encoder": str(tiny_encoder), "text_layers": 2, "text_learning_rate": 0.01, "epochs": 2}
    losses = []
    for name in Precision:
        run = train(
            "mtmm_es", spoken, tasks=["polarity"], out=tmp_path / name, options=SMALL, device="cpu",
            training={**training, "precision": name},
        )  # fmt: skip
        losses.append(json.loads((run.seed_folder(0) / "history.jsonl").read_text().splitlines()[-1])["train.loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.05)


@pytest.mark.parametrize("model", ["linear", "svm", "random_forest", "majority"])
def test_what_is_no_network_is_refused(corpus: Corpus, tmp_path: Path, model: str) -> None:
    with pytest.raises(AffectusError, match=f"'{model}' is not trained by gradient.*Leave precision out"):
        train(model, corpus, tasks=["polarity"], out=tmp_path / "run", training={"precision": "bf16"})
    assert not (tmp_path / "run").exists()
    train(model, corpus, tasks=["polarity"], out=tmp_path / "run", training={"precision": "fp32"})


@pytest.mark.parametrize("model", ["linear", "svm", "random_forest", "majority", "c_mkl"])
def test_what_trains_networks_is_refused_for_other_models(
    corpus: Corpus, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = rf"The model '{model}' is not trained by gradient, so the setting 'epochs' would do nothing\. Leave it"
    with pytest.raises(AffectusError, match=sentence):
        train(model, corpus, tasks=["polarity"], out=tmp_path / "run", training={"epochs": 3, "scale": "max"})
    save_corpus(corpus, tmp_path / "corpus")
    config = tmp_path / "config.yaml"
    config.write_text("tasks: [polarity]\ntraining: {batch_size: 8}\n")
    words = ["train", model, str(tmp_path / "corpus"), "--out", str(tmp_path / "run")]
    assert main([*words, "--config", str(config), "--set", "learning_rate=0.1"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "the settings 'batch_size', 'learning_rate' would do nothing. Leave them out, or choose" in said
    assert not (tmp_path / "run").exists()
    kept = {"scale": "max", "balanced": True, "record_epochs": False}
    assert build_config(model, corpus, tasks=["polarity"], training=kept).training.balanced


def test_seeds_as_one_model_need_single_precision(corpus: Corpus, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"options": SMALL, "seeds": 2, "tasks": ["polarity"], "out": tmp_path / "run"}
    with pytest.raises(AffectusError, match="the setting 'precision' needs each by itself"):
        train("mtmm_es", corpus, training={"epochs": 1, "precision": "bf16"}, stacked=True, **settings)
    with pytest.raises(AffectusError, match=r"'precision'.*'fp16'.*'fp32' or 'bf16'"):
        train("mtmm_es", corpus, training={"precision": "fp16"}, **settings)
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_one_sentence(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AffectusError, match=r"PyTorch finds no GPU here.*--device cpu"):
        train("mtmm_es", corpus, tasks=["polarity"], out=tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda _: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    check_precision(Precision.FP32, torch.device("cuda"))
    with pytest.raises(AffectusError, match=r"no bfloat16.*Tesla T4"):
        check_precision(Precision.BF16, torch.device("cuda"))
