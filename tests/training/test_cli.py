import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.cli.main import main
from affectus.corpus import Corpus, save_corpus
from affectus.errors import AffectusError
from affectus.predict import write_predictions
from affectus.predict.parts import predict_parts

SMALL = ["--set", "hidden=8", "--set", "dense=6", "--set", "learning_rate=1e-2"]


@pytest.fixture
def folder(corpus: Corpus, tmp_path: Path) -> Path:
    save_corpus(corpus, tmp_path / "corpus")
    return tmp_path / "corpus"


def test_three_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    train = ["train", "mtmm_es", str(folder), "--tasks", "polarity,emotions,intensity", "--seeds", "2", "--out", run]
    assert main([*train, "--set", "epochs=3", *SMALL]) == 0
    assert "epoch   3" in capsys.readouterr().err
    figures = tmp_path / "figures.json"
    assert main(["evaluate", run, str(folder), "--split", "test", "--json", str(figures)]) == 0
    assert "majority" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert found["protocol"] == "akhtar2019"
    assert found["n"] == sum(1 for split in pl.read_parquet(folder / "utterances.parquet")["split"] if split == "test")
    for name in ("polarity.accuracy", "intensity.mae", "emotions.weighted_accuracy", "emotions7.weighted_f1"):
        assert len(found["metrics"][name]["values"]) == 2
    assert found["metrics"]["emotions.anger.weighted_f1"]["mean"] is not None
    table = tmp_path / "predictions.parquet"
    assert main(["predict", run, str(folder), "--out", str(table), "--attention"]) == 0
    predictions = pl.read_parquet(table)
    assert len(predictions) == len(pl.read_parquet(folder / "utterances.parquet"))
    assert predictions["attention.text.audio"].list.len().min() >= 2
    assert (
        (predictions["polarity.negative.probability"] + predictions["polarity.positive.probability"]) - 1
    ).abs().max() < 1e-5


def test_the_command_that_is_named_can_be_given(
    make_corpus: Callable[..., Corpus], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make_corpus()
    save_corpus(corpus.select(np.flatnonzero(corpus.splits != "test")), tmp_path / "corpus")
    run = str(tmp_path / "run")
    assert main(["train", "linear", str(tmp_path / "corpus"), "--tasks", "polarity", "--out", run]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"Judge it with: affectus evaluate {run} {tmp_path / 'corpus'} --split valid"
    assert main(line.split()[4:]) == 0


def test_a_config_file_does_the_same(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: mtmm_es\ntasks: [polarity]\noptions: {hidden: 8, dense: 6}\n"
        "training: {epochs: 2, learning_rate: 0.01}\nseeds: 2\n"
    )
    assert main(["train", str(folder), "--config", str(config), "--out", str(tmp_path / "a"), "-q"]) == 0
    train = ["train", "mtmm_es", str(folder), "--tasks", "polarity", "--seeds", "2", "--set", "epochs=2", *SMALL, "-q"]
    assert main([*train, "--out", str(tmp_path / "b")]) == 0
    first, second = (json.loads((tmp_path / name / "run.json").read_text()) for name in "ab")
    assert first == second


@pytest.mark.slow
def test_kill_9_and_again(folder: Path, tmp_path: Path) -> None:
    arguments = ["train", "mtmm_es", str(folder), "--tasks", "polarity", *SMALL, "--set", "epochs=60"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = (
        "import affectus.training.callbacks as c; c.CHECKPOINT_SECONDS = 0.0;"
        "import sys; from affectus.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "killed")],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "killed" / "seed-0" / "resume.ckpt"
    deadline = time.monotonic() + 60
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main([*arguments, "--out", str(tmp_path / "killed"), "-q"]) == 0
    assert main([*arguments, "--out", str(tmp_path / "whole"), "-q"]) == 0
    killed, whole = ((tmp_path / name / "seed-0" / "model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "mtmm", "CORPUS", "--tasks", "polarity", "--out", "RUN"], "Did you mean 'mtmm_es'"),
        (["train", "mtmm_es", "CORPUS", "--out", "RUN"], "No --tasks is given"),
        (["train", "mtmm_es", "CORPUS", "--tasks", "polarity"], "No --out is given"),
        (["train", "mtmm_es", "nowhere", "--tasks", "polarity", "--out", "RUN"], "There is no corpus folder"),
        (["train", "mtmm_es", "CORPUS", "--tasks", "polarity", "--out", "RUN", "--set", "hidden"], "not of the form"),
        (["train", "mtmm_es", "CORPUS", "--tasks", "polarity", "--out", "RUN", "--set", "x=1"], "Unknown setting 'x'"),
        (["train", "mtmm_es", "CORPUS", "--tasks", "polarity", "--out", "RUN", "--seeds", "x"], "seeds are not right"),
        (["train", "mtmm_es", "CORPUS", "--tasks", "polarity", "--out", "RUN", "--device", "tpu"], "Unknown device"),
        (["train", "mtmm_es", "CORPUS", "--config", "no.yaml", "--out", "RUN"], "There is no configuration file"),
        (["evaluate", "RUN", "CORPUS"], "There is no run folder"),
        (["predict", "RUN", "CORPUS", "--out", "x.parquet"], "There is no run folder"),
        (["models", "mtmm"], "Did you mean 'mtmm_es'"),
    ],
)
def test_bad_input_exits_with_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    places = {"CORPUS": str(folder), "RUN": str(tmp_path / "run"), "nowhere": str(tmp_path / "nowhere")}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in " ".join(said.split())
    assert "Traceback" not in said
    assert said.count("error:") == 1
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import affectus.models.storage as storage

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full)
    run = tmp_path / "run"
    assert main(["train", "mtmm_es", str(folder), "--tasks", "polarity", "--out", str(run), *SMALL, "-q"]) == 2
    assert "No space left while writing" in " ".join(capsys.readouterr().err.split())
    assert not list(run.rglob("*.part"))
    assert not list(run.rglob("model.safetensors"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers through /proc")
def test_workers_end_with_a_killed_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "mtmm_es", str(folder), "--tasks", "polarity", *SMALL, "--set", "epochs=5000", "--seeds", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "affectus", *arguments, "--jobs", "2", "--out", str(out), "-q"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("seed-*/best.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_an_unfinished_run_says_so_wherever_it_is_used(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # what an export writes is tested elsewhere
    monkeypatch.setattr("affectus.predict.portable.trace", lambda network: None)
    monkeypatch.setattr("affectus.predict.portable.write_program", lambda *given: given[-1].write_bytes(b""))
    run, parts = str(tmp_path / "run"), str(tmp_path / "parts")
    train = ["train", "mtmm_es", str(folder), "--tasks", "polarity", "--seeds", "3", "--set", "epochs=1", *SMALL, "-q"]
    assert main([*train, "--out", run]) == 0
    verbs = [
        ["predict", run, str(folder), "--out", str(tmp_path / "said.csv")],
        ["predict", run, str(folder), "--format", "parquet", "--out", parts],
        ["export", run, "--no-check", "--out", str(tmp_path / "network.pt2")],
        ["evaluate", run, str(folder)],
        ["evaluate", run, str(folder), "--json", "-"],
        ["report", run, "--corpus", str(folder), "--out", str(tmp_path / "report.html")],
        ["compare", run, str(tmp_path / "copy"), "--corpus", str(folder), "--draws", "100", "--json", "-"],
    ]
    shutil.copytree(run, tmp_path / "copy")
    capsys.readouterr()
    assert main(verbs[3]) == 0
    assert capsys.readouterr().err == ""
    shutil.rmtree(tmp_path / "run" / "seed-1")
    told = f"2 of 3 seeds of the run {run} are trained: 0, 2. The same `affectus train` goes on with the rest."
    for verb in verbs:
        assert main(verb) == 0
        said = capsys.readouterr()
        assert said.err.splitlines() == [told], verb
        if verb == verbs[4]:
            assert json.loads(said.out)["notes"] == [told]
    assert told in (tmp_path / "report.html").read_text()
    # one seed by itself is whole
    assert main(["export", run, "--no-check", "--seed", "2", "--out", str(tmp_path / "network.pt2")]) == 0
    assert capsys.readouterr().err == ""
    assert main([*train, "--out", run]) == 0
    assert main(verbs[0]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["said.csv", "--attention"], "lists, which CSV does not hold: got said.csv; expected a name that ends in .pa"),
        (["said.xlsx"], "got said.xlsx; expected a name that ends in .parquet, .csv or .jsonl"),
        (["said"], "A folder of Parquet files is written with --format parquet"),
        (["said.csv", "--format", "parquet"], "a folder of Parquet files: got a name that ends in .csv"),
        (["said.jsonl", "--cluster=local"], "a folder of Parquet files: got a name that ends in .jsonl"),
        (["said.parquet", "--format", "file", "--cluster=local"], "A cluster writes parts, not one file"),
    ],
)
def test_where_predictions_cannot_go_is_seen_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    out = tmp_path / arguments[0]
    assert main(["predict", "no-run", "no-corpus", "--out", str(out), *arguments[1:]]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_predictions_are_written_as_the_ending_says(tmp_path: Path) -> None:
    table = pl.DataFrame({"id": ["a"], "polarity": ["negative"]})
    lists = table.with_columns(pl.Series("attention.text.audio", [[0.5, 0.5]], dtype=pl.List(pl.Float32)))
    for ending, read in ((".parquet", pl.read_parquet), (".CSV", pl.read_csv), (".jsonl", pl.read_ndjson)):
        write_predictions(table, tmp_path / f"said{ending}")
        assert read(tmp_path / f"said{ending}").equals(table)
    write_predictions(lists, tmp_path / "lists.jsonl")
    assert pl.read_ndjson(tmp_path / "lists.jsonl")["attention.text.audio"].to_list() == [[0.5, 0.5]]
    with pytest.raises(AffectusError, match="lists, which CSV does not hold"):
        write_predictions(lists, tmp_path / "lists.csv")
    with pytest.raises(AffectusError, match="does not say in which format"):
        write_predictions(table, tmp_path / "said.txt")
    with pytest.raises(AffectusError, match="is a folder of Parquet files"):
        predict_parts("no-run", "no-corpus", tmp_path / "parts.csv")
    assert not {"lists.csv", "said.txt", "parts.csv"} & {path.name for path in tmp_path.iterdir()}


def test_an_ensemble_is_marked_as_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    train = ["train", "mtmm_es", str(folder), "--tasks", "polarity", "--seeds", "2", "--set", "epochs=1", *SMALL, "-q"]
    assert main([*train, "--out", run]) == 0
    figures, shown = [], []
    for more in ([], ["--ensemble"]):
        capsys.readouterr()
        assert main(["evaluate", run, str(folder), "--json", str(tmp_path / "figures.json"), *more]) == 0
        shown.append(capsys.readouterr().out)
        figures.append(json.loads((tmp_path / "figures.json").read_text()))
    assert [found["ensemble"] for found in figures] == [False, True]
    assert "Ensemble of mtmm_es" in shown[1]
    assert "Seeds 0, 1, averaged" in shown[1]
    assert "nsemble" not in shown[0]
    assert "averaged" not in shown[0]
