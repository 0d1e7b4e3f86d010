"""Training with a compiled network: the results of the network as it is, for any length, or one sentence before."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from affectus.api import evaluate, train
from affectus.cli.main import main
from affectus.corpus import Corpus, save_corpus
from affectus.errors import AffectusError
from affectus.models import MODELS, Model, ModelOutput
from affectus.nn.gru import LastGRU
from affectus.nn.lstm import LSTM
from affectus.nn.normalization import MaskedBatchNorm, _over_all
from affectus.testing import Case, cases
from affectus.training import compiling, load_run
from affectus.training.compiling import RECURRENT, check_compile, compiled
from affectus.training.config import Compile, RunConfig, TrainingSettings
from affectus.vocabulary import View

CPU = torch.device("cpu")
NETWORKS = {case.model: case for case in cases() if issubclass(MODELS[case.model].build, Model)}
COMPILED = [case for name, case in NETWORKS.items() if name not in RECURRENT]
OPTIONS = {"hidden": 8, "dense": 6, "dropout": 0.0, "input_dropout": 0.0, "recurrent_dropout": 0.0}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: g++")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the compiler run what it traced as it stands, which takes no time to make."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")


def _lengths(step: int) -> tuple[int, ...]:
    drawn = torch.randint(2, 9, (4 + step % 3,), generator=torch.Generator().manual_seed(step))
    return tuple(drawn.tolist())


def _train(case: Case, mode: Compile, steps: int) -> tuple[list[float], list[int], Model]:
    """Train a few steps; the losses, the graphs after each step, and the model."""
    from torch._dynamo.utils import counters

    model = case.build(dropout=False)
    assert isinstance(model, Model)
    model.train()
    model.stage = model.stages()[-1].name
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses, graphs = [], []
    counters.clear()
    with compiled(model, mode, CPU) as network:
        for step in range(steps):
            batch = case.batch(seed=step, lengths=_lengths(step))
            output: ModelOutput = (network or model)(batch)
            loss = torch.stack(list(model.losses(output, batch).values())).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            model.on_batch_end(output, batch)
            losses.append(loss.item())
            graphs.append(counters["stats"]["unique_graphs"])
    return losses, graphs, model


def _same(case: Case, steps: int) -> list[int]:
    expected, none, plain = _train(case, Compile.OFF, steps)
    found, graphs, model = _train(case, Compile.DEFAULT, steps)
    assert not any(none)
    assert found == pytest.approx(expected, rel=1e-4)
    assert model.state_dict().keys() == plain.state_dict().keys()
    for name, values in plain.state_dict().items():
        if isinstance(values, torch.Tensor):
            # NaN: a row of a table that was not seen
            torch.testing.assert_close(model.state_dict()[name], values, rtol=1e-3, atol=1e-4, equal_nan=True)
    return graphs


@pytest.mark.parametrize("name", ["teney"])
def test_any_length_is_compiled_once(name: str, traced: None) -> None:
    methods = [(LSTM, "last"), (LastGRU, "forward"), (MaskedBatchNorm, "forward")]
    before = [vars(kind)[method] for kind, method in methods]
    graphs = _same(NETWORKS[name], 3)
    assert graphs[0] > 0
    assert graphs == [graphs[0]] * 3
    assert [vars(kind)[method] for kind, method in methods] == before


def test_compiled_code_that_fails_is_one_sentence() -> None:
    model = NETWORKS["hazarika_sa"].build()
    assert isinstance(model, Model)
    with (
        pytest.raises(AffectusError, match=r"A step of the compiled network failed.*AssertionError: expected.*another"),
        compiled(model, Compile.DEFAULT, CPU),
    ):
        raise AssertionError("\nexpected size 4==4, stride 108==96\nmore")


COMMAND = """CppCompileError: C++ compile error

Command:
g++ k.main.cpp -O3 -include {header} -o k.o

Output:
k.main.cpp:3:10: {complaint}
compilation terminated.
"""


def test_what_the_cpp_compiler_says_is_told() -> None:
    text = COMMAND.format(header="x.h", complaint="fatal error: omp.h: No such file or directory")
    model = NETWORKS["hazarika_sa"].build()
    assert isinstance(model, Model)
    with (
        pytest.raises(AffectusError, match=r"C\+\+ compile error: omp.h: No such file or directory\. Leave compile"),
        compiled(model, Compile.DEFAULT, CPU),
    ):
        raise RuntimeError(text)


def test_a_header_that_a_killed_compiler_left_in_part_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = tmp_path / "precompiled_headers" / "c1.h"
    left = header.with_name("c1.h.gch")
    header.parent.mkdir()
    left.write_text("a part")
    text = COMMAND.format(header=header, complaint="fatal error: cannot read PCH file: No such file or directory")
    calls = []

    def compiler(graph: Any, inputs: Any) -> Any:
        calls.append(left.exists())
        if left.exists():
            raise RuntimeError(text)
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", compiler)
    model = NETWORKS["hazarika_sa"].build()
    assert isinstance(model, Model)
    with compiled(model, Compile.DEFAULT, CPU) as network:
        assert network is not None
        network(NETWORKS["hazarika_sa"].batch())
    assert calls[:2] == [True, False]
    left.write_text("a part")
    with (
        pytest.raises(AffectusError, match="Run the command again, or leave compile out"),
        compiled(model, Compile.DEFAULT, CPU),
    ):
        raise RuntimeError(text)  # as from the gradient's code
    assert header.parent.exists()
    assert not left.exists()


def test_normalisation_as_on_a_gpu_is_compiled_as_a_whole(traced: None) -> None:
    torch.manual_seed(0)
    norms = [MaskedBatchNorm(3).norm for _ in range(2)]
    x, mask = torch.randn(4, 3), torch.tensor([True, False, True, True])
    whole = torch.compile(_over_all, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(norms[0], x, mask), _over_all(norms[1], x, mask))
    torch.testing.assert_close(norms[0].state_dict(), norms[1].state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_every_other_network_too(case: Case, traced: None) -> None:
    graphs = _same(case, 4)
    assert graphs == [graphs[0]] * 4


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["hazarika_sa", "mtmm_es"])
def test_what_is_really_compiled_says_the_same(name: str) -> None:
    assert _same(NETWORKS[name], 4)[0] > 0


def _runs(corpus: Corpus, out: Path, training: dict[str, Any]) -> list[Path]:
    """Train with and without; the folders of the first seed."""
    found = []
    settings = {"epochs": 3, "learning_rate": 0.01, "batch_size": 8, **training}
    for mode in ("off", "default"):
        run = train(
            "mtmm_es", corpus, tasks=["polarity", "intensity"], out=out / mode, options=OPTIONS, device="cpu",
            training={**settings, "compile": mode},
        )  # fmt: skip
        found.append(run.seed_folder(0))
    return found


def _check_runs(folders: list[Path]) -> None:
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[0].items():
        np.testing.assert_allclose(weights[1][name], values, atol=1e-4, err_msg=name)
    rows = [[json.loads(line) for line in (f / "history.jsonl").read_text().splitlines()] for f in folders]
    for one, other in zip(*rows, strict=True):
        assert other["train.loss"] == pytest.approx(one["train.loss"], abs=1e-4)


def test_a_run_is_that_of_the_network_as_it_is(corpus: Corpus, tmp_path: Path, traced: None) -> None:
    folders = _runs(corpus, tmp_path, {"weighing": "pcgrad"})
    _check_runs(folders)
    run = load_run(folders[1].parent)
    assert run.config.training.compile is Compile.DEFAULT
    assert np.isfinite(evaluate(run, corpus, split="test").mean("intensity.mae"))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("training", [{"weighing": "pcgrad"}, {"precision": "bf16"}], ids=["surgery", "bf16"])
def test_a_run_that_is_really_compiled(training: dict[str, Any], corpus: Corpus, tmp_path: Path) -> None:
    folders = _runs(corpus, tmp_path, training)
    if training.get("precision") is None:
        _check_runs(folders)
        return
    losses = [json.loads((f / "history.jsonl").read_text().splitlines()[-1])["train.loss"] for f in folders]
    assert losses[1] == pytest.approx(losses[0], abs=0.02)


@pytest.mark.slow
def test_a_text_encoder_is_compiled_with_the_model(
    spoken: Corpus, tiny_encoder: Path, tmp_path: Path, traced: None
) -> None:
    text = {"text_encoder": str(tiny_encoder), "text_layers": 2, "text_learning_rate": 0.01, "epochs": 2}
    losses = []
    for mode in ("off", "default"):
        run = train(
            "mtmm_es", spoken, tasks=["polarity"], out=tmp_path / mode, options=OPTIONS, device="cpu",
            training={**text, "compile": mode},
        )  # fmt: skip
        losses.append(json.loads((run.seed_folder(0) / "history.jsonl").read_text().splitlines()[-1])["train.loss"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


@pytest.mark.slow
def test_a_run_goes_on_where_it_was(corpus: Corpus, tmp_path: Path, traced: None) -> None:
    settings: dict[str, Any] = {
        "tasks": ["polarity"], "options": OPTIONS, "device": "cpu",
        "training": {"epochs": 4, "batch_size": 8, "compile": "default", "patience": None},
    }  # fmt: skip
    whole = train("mtmm_es", corpus, out=tmp_path / "whole", **settings)

    def stop(event: Any) -> None:
        if event.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        train("mtmm_es", corpus, out=tmp_path / "parts", report=stop, **settings)
    again = train("mtmm_es", corpus, out=tmp_path / "parts", **settings)
    expected, found = (load_file(run.seed_folder(0) / "model.safetensors") for run in (whole, again))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
    with pytest.raises(AffectusError, match=r"holds another run, which differs in .*'compile'.*compile=off"):
        train("mtmm_es", corpus, out=tmp_path / "parts", **{**settings, "training": {"epochs": 4}})


def _config(model: str = "mtmm_es", view: View = View.CONTEXTUAL, **training: Any) -> RunConfig:
    return RunConfig(
        model=model,
        view=view,
        tasks=("polarity",),
        modalities=("text",),
        seeds=(0,),
        options={},
        training=TrainingSettings.model_validate({"compile": "default", **training}),
    )


@pytest.mark.parametrize(
    ("config", "named", "match"),
    [
        (_config("mfn", View.UNALIGNED), {}, "'mfn' cannot be compiled.*a recurrence from end to end"),
        (_config(), {"workers": 2}, "'mtmm_es' cannot be compiled.*several workers train it together.*or --devices"),
        (_config(), {"stacked": True}, "'mtmm_es' cannot be compiled.*its seeds are trained as one.*or --stacked"),
        (_config(compile="reduce-overhead", pad_to=20), {}, "cannot be 'reduce-overhead'.*a training on the cpu"),
    ],
)
def test_what_cannot_work_is_refused(config: RunConfig, named: dict[str, Any], match: str) -> None:
    with pytest.raises(AffectusError, match=match):
        check_compile(config, CPU, **{"workers": 1, "stacked": False, **named})


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (_config(compile="reduce-overhead"), r"'reduce-overhead'.*'contextual', pad_to=None"),
        (_config("mult", View.UNALIGNED, compile="reduce-overhead", pad_to=20), r"'reduce-overhead'.*'unaligned'"),
        (_config(compile="reduce-overhead", pad_to=20, accumulate=2), r"'reduce-overhead'.*accumulate=2"),
        (_config(compile="reduce-overhead", pad_to=20, weighing="pcgrad"), r"'reduce-overhead'.*weighing=pcgrad"),
        (_config(compile="reduce-overhead", pad_to=20), "PyTorch cannot compile a network here.*no Triton"),
    ],
)
def test_graphs_need_one_shape_and_a_compiler(config: RunConfig, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(AffectusError, match=match):
        check_compile(config, torch.device("cuda"), workers=1, stacked=False)


def test_a_machine_that_cannot_compile_is_one_sentence(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_corpus(corpus, tmp_path / "corpus")
    arguments = ["train", "mtmm_es", str(tmp_path / "corpus"), "--tasks", "polarity", "-q", "--device", "cpu"]
    arguments += ["--set", "compile=true", "--out", str(tmp_path / "run")]

    def broken(*_: Any) -> Any:
        raise RuntimeError("\nPython.h: No such file\nand much more")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "PyTorch cannot compile a network here" in told
    assert "and much more" not in told
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert main(arguments) == 2
    assert "no C++ compiler" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(AffectusError, match="not trained by gradient, so there is no network to compile"):
        train("svm", corpus, tasks=["polarity"], out=tmp_path / "run", training={"compile": "default"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [(False, Compile.OFF), ("off", Compile.OFF), (True, Compile.DEFAULT), ("reduce-overhead", Compile.REDUCE_OVERHEAD)],
)
def test_yaml_says_off_as_false(given: object, expected: Compile) -> None:
    assert TrainingSettings.model_validate({"compile": given}).compile is expected


def test_an_unknown_way_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"'compile'.*'fast'.*'off', 'default' or 'reduce-overhead'"):
        train("mtmm_es", corpus, tasks=["polarity"], out=tmp_path / "run", training={"compile": "fast"})
    assert not (tmp_path / "run").exists()
