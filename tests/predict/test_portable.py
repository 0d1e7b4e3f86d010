"""A run as an ONNX file or a program of torch.export: what it says is what the run says."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affectus.api import train
from affectus.batches import Scaler
from affectus.cli.main import main
from affectus.corpus import Corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.models.base import Model
from affectus.nn.tracing import plain
from affectus.predict import predict_table
from affectus.predict.portable import (
    Format,
    PortableFile,
    PortableNetwork,
    check_file,
    choose_format,
    export_run,
    predict_inputs,
    random_inputs,
    trace,
    write_program,
)
from affectus.testing import Case, cases
from affectus.training import Run

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

NETWORKS = [replace(case, tasks=("polarity", "emotions")) for case in cases() if issubclass(case.entry.build, Model)]


def network(case: Case) -> PortableNetwork:
    generator = np.random.default_rng(0)
    shift = {name: generator.normal(size=dim).astype(np.float32) for name, dim in case.dims.items()}
    factor = {name: generator.uniform(0.5, 2, size=dim).astype(np.float32) for name, dim in case.dims.items()}
    model = case.build()
    assert isinstance(model, Model)
    built = PortableNetwork([model], case.chosen_tasks, case.view, Scaler(shift, factor)).eval()
    for parameter in built.parameters():
        parameter.requires_grad_(False)
    return built


def check(case: Case, kinds: tuple[Format, ...], folder: Path) -> None:
    built = network(case)
    program = trace(built)
    for kind in kinds:
        path = folder / f"network.{kind}"
        write_program(program, built, kind, path)
        assert check_file(built, kind, path)["largest_difference"] < 1e-4


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_what_is_exported_says_what_affectus_says(case: Case) -> None:
    built, generator = network(case), np.random.default_rng(0)
    for length, missing in ((1, 0.0), (7, 0.4)):
        inputs = random_inputs(built, 3, length, generator, missing=missing)
        expected = predict_inputs(built, inputs)
        with plain(), torch.no_grad():
            found = built({name: torch.from_numpy(x) for name, x in inputs.items()})
        for task, values in expected.items():
            real = inputs["mask"] if "mask" in inputs else slice(None)
            np.testing.assert_allclose(found[task].numpy()[real], values[real], atol=1e-5)


def test_a_network_over_sequences_is_exported(tmp_path: Path) -> None:
    """One for all where it is quick, so that a shape that an export may not look at is found at once."""
    case = next(case for case in NETWORKS if str(case) == "blanchard-unaligned")
    check(replace(case, tasks=("polarity",)), (Format.TORCH_EXPORT,), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_every_network_is_exported(case: Case, tmp_path: Path) -> None:
    if case.entry.kinds == frozenset({"real"}):
        case = replace(case, tasks=("intensity",))
    check(case, (Format.ONNX, Format.TORCH_EXPORT), tmp_path)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_embedded(videos=12)


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("portable") / "run"
    training = {"epochs": 1, "record_epochs": False}
    small = {"dim": 8, "attention_dim": 4}
    return train("hazarika_sa", corpus, tasks=["emotions"], options=small, training=training, out=out)


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("files") / "model.onnx"
    assert main(["export", str(run.folder), "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_the_file_says_of_a_corpus_what_the_run_says(run: Run, corpus: Corpus, exported: Path) -> None:
    table = predict_table(run, corpus, split="test")
    video = table["video"][0]
    expected = table.filter(table["video"] == video)
    rows = [corpus.table["id"].to_list().index(name) for name in expected["id"]]
    inputs = {"mask": np.ones((1, len(rows)), bool)}
    for name, ragged in corpus.features.items():
        x = np.zeros((1, len(rows), ragged.dim), np.float32)
        there = ragged.lengths[rows] > 0
        for i, row in enumerate(rows):
            if there[i]:
                x[0, i] = np.asarray(ragged.values[ragged.step_index(np.array([row]))]).mean(axis=0)
        inputs |= {name: x, f"{name}_mask": there[None]}
    said = PortableFile(exported, Format.ONNX)(inputs)
    columns = [c for c in expected.columns if c.startswith("emotions.")]
    np.testing.assert_allclose(said["emotions"][0], expected.select(columns).to_numpy(), atol=1e-4)


@pytest.mark.slow
def test_the_json_names_what_goes_in_and_comes_out(run: Run, exported: Path) -> None:
    said = json.loads(exported.with_name("model.onnx.json").read_text())
    assert (said["model"], said["seeds"], said["view"]) == ("hazarika_sa", [0], "contextual")
    inputs = {entry["name"]: entry["shape"] for entry in said["inputs"]}
    assert inputs["text"] == ["batch", "utterances", run.file.inputs["text"]]
    assert inputs["mask"] == ["batch", "utterances"]
    emotions = next(entry for entry in said["outputs"] if entry["name"] == "emotions")
    assert len(emotions["values"]) == len(emotions["thresholds"]["weighted_f1"]) == 7
    assert said["check"]["largest_difference"] < 1e-4
    session = PortableFile(exported, Format.ONNX).session
    assert {given.name for given in session.get_inputs()} == set(inputs)


@pytest.mark.slow
def test_a_program_of_torch_export(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.pt2"
    command = ["export", str(run.folder), "--format", "torch-export", "--seed", "0", "--no-check", "--out", str(out)]
    assert main(command) == 0
    assert "Not compared" in capsys.readouterr().out
    program = torch.export.load(out).module()
    inputs = {"mask": torch.ones(1, 1, dtype=torch.bool)}
    for name, dim in run.file.inputs.items():
        inputs |= {name: torch.randn(1, 1, dim), f"{name}_mask": torch.ones(1, 1, dtype=torch.bool)}
    assert program(inputs)["emotions"].shape == (1, 1, 7)


def test_a_file_that_says_something_else_is_not_left(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = np.full((3, 40, 7), 0.5, np.float32)
    monkeypatch.setattr("affectus.predict.portable.trace", lambda network: None)
    monkeypatch.setattr("affectus.predict.portable.write_program", lambda *given: given[-1].write_bytes(b""))
    monkeypatch.setattr(
        "affectus.predict.portable.PortableFile",
        lambda path, kind: lambda inputs: {"emotions": said[: len(inputs["mask"]), : inputs["mask"].shape[1]]},
    )
    with pytest.raises(AffectusError, match="says something else of 'emotions' than the run"):
        export_run(run, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "name", "expected"),
    [
        (None, "w.onnx", Format.ONNX),
        (None, "w.pt2", Format.TORCH_EXPORT),
        (None, "w.bin", Format.ONNX),
        ("torch-export", "w.PT2", Format.TORCH_EXPORT),
        ("torch-export", "w.bin", Format.TORCH_EXPORT),
    ],
)
def test_the_ending_names_the_format(format: str | None, name: str, expected: Format) -> None:
    assert choose_format(format, Path(name)) is expected


def test_an_ending_of_the_other_format_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w.onnx"
    out.write_bytes(b"mine")
    assert main(["export", str(run.folder), "--format", "torch-export", "--out", str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "got w.onnx for torch-export; expected a name that ends in .pt2. Leave --format out to write onnx." in said
    assert out.read_bytes() == b"mine"
    with pytest.raises(AffectusError, match=r"got w\.pt2 for onnx; expected a name that ends in \.onnx"):
        export_run(run, tmp_path / "w.pt2", format="onnx")


def test_what_cannot_be_exported(run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AffectusError, match=r"no such seed.*7.*one of: 0"):
        export_run(run, tmp_path / "x.onnx", seed=7)
    with pytest.raises(AffectusError, match="Unknown format 'tflite'"):
        export_run(run, tmp_path / "x.onnx", format="tflite")
    linear = train("linear", corpus, tasks=["intensity"], out=tmp_path / "linear")
    with pytest.raises(AffectusError, match="'linear' is no network"):
        export_run(linear, tmp_path / "x.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(AffectusError, match=r"need the package onnxscript.*affectus\[export\]"):
        export_run(run, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


AFTER_TRAINING = """
import sys
from pathlib import Path
from affectus import train
from affectus.corpus.embedded import make_embedded
from affectus.predict.portable import export_run

folder = Path(sys.argv[1])
run = train("mtmm_es", make_embedded(videos=12), tasks=["polarity"], training={"epochs": 1}, out=folder / "run")
export_run(run, folder / "model.pt2", check=False)
"""


def test_a_network_is_exported_by_the_process_that_trained_it(tmp_path: Path) -> None:
    """Where PyTorch's compiler has not been imported yet."""
    command = [sys.executable, "-W", "ignore", "-c", AFTER_TRAINING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.pt2").is_file()
