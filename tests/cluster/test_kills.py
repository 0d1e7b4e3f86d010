"""Workers of Ray Train and of Ray Tune that are killed, and drivers that are: what comes out is that of quiet days."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from affectus.cli.main import main
from affectus.cluster.session import Cluster
from affectus.cluster.training import train_together
from affectus.cluster.tuning import search_on
from affectus.studies.tuning import Tuned, tune

pytestmark = pytest.mark.slow
TRAINER, TRIAL = "RayTrainWorker", "ImplicitFunc"
"""What Ray calls the processes of a training and of a trial."""


def in_background(call: Callable[[], Any]) -> Callable[[], Any]:
    """Begin something in a thread and return what waits for its result."""
    said: list[Any] = []

    def run() -> None:
        try:
            said.append((True, call()))
        except BaseException as error:
            said.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(300)
        assert said, "it did not come to an end"
        if not said[0][0]:
            raise said[0][1]
        return said[0][1]

    return result


def history(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "seed-0" / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_training_goes_on_from_its_last_epoch_when_a_worker_is_killed(
    nodes: Any, embedded: Path, tmp_path: Path, kill_worker: Callable[..., bool]
) -> None:
    def training(name: str) -> Path:
        wanted: dict[str, Any] = {"tasks": ["polarity"], "training": {"epochs": 20, "patience": None, "batch_size": 4}}
        train_together(Cluster(nodes.address), "lf_dnn", embedded, out=tmp_path / name, workers=2, **wanted)
        return tmp_path / name

    undisturbed = training("undisturbed")
    for place in (0, 1):  # the one that writes, or the other
        name = f"killed-{place}"
        result = in_background(lambda name=name: training(name))
        checkpoint = tmp_path / name / "seed-0" / "resume.ckpt"
        assert kill_worker(TRAINER, checkpoint.is_file, place=place), "no worker was killed"
        assert not (tmp_path / name / "seed-0" / "result.json").is_file(), "it was over before"
        killed = result()
        assert history(killed) == history(undisturbed)
        assert len(history(killed)) == 20
        for file in ("model.safetensors", "valid.safetensors", "epochs.safetensors"):
            assert (killed / "seed-0" / file).read_bytes() == (undisturbed / "seed-0" / file).read_bytes()
    assert not list(tmp_path.glob(".*.ray"))


SEARCH: dict[str, Any] = {
    "tasks": ["polarity"],
    "only": ["learning_rate"],
    "training": {"epochs": 40, "patience": None},
}


def search(nodes: Any, corpus: Path, out: Path) -> Tuned:
    found = search_on(Cluster(nodes.address, workers=1))
    return tune("lf_dnn", corpus, trials=3, out=out, search=found, prune=False, **SEARCH)


def shown(found: Tuned) -> list[tuple[Any, ...]]:
    return [(trial["number"], trial["state"], trial["value"], trial["settings"]) for trial in found.trials]


def begun(out: Path, number: int) -> Callable[[], bool]:
    """Return what tells whether a trial is being trained."""
    return lambda: (out / "trials" / f"{number:04d}" / "run" / "seed-0").is_dir()


def test_a_trial_whose_worker_is_killed_is_repeated_and_has_one_result(
    nodes: Any, embedded: Path, tmp_path: Path, kill_worker: Callable[..., bool]
) -> None:
    undisturbed = search(nodes, embedded, tmp_path / "undisturbed")
    out = tmp_path / "killed"
    result = in_background(lambda: search(nodes, embedded, out))
    for number in (0, 2):
        assert kill_worker(TRIAL, begun(out, number)), "no worker was killed"
    assert shown(result()) == shown(undisturbed)
    assert [trial["state"] for trial in undisturbed.trials] == ["complete"] * 3


def test_a_trial_that_brings_down_every_worker_is_listed_and_the_others_go_on(
    nodes: Any, embedded: Path, tmp_path: Path, kill_worker: Callable[..., bool]
) -> None:
    out = tmp_path / "killed"
    result = in_background(lambda: search(nodes, embedded, out))
    for _ in range(3):
        assert kill_worker(TRIAL, begun(out, 1)), "no worker was killed"
    found = result()
    assert [trial["state"] for trial in found.trials] == ["complete", "failed", "complete"]
    assert found.trials[1]["reason"] == "The worker that had it ended, 3 times."
    assert Counter(trial["number"] for trial in found.trials) == {0: 1, 1: 1, 2: 1}


def begin(words: list[str]) -> subprocess.Popen[bytes]:
    """Begin a command in a process of its own."""
    command = [sys.executable, "-m", "affectus", *words]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(driver: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not ready() and time.monotonic() < until:
        assert driver.poll() is None, "it was over before"
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def states(out: Path) -> dict[str, str]:
    """Return how each cell of a study ended, as far as is written down."""
    path = out / "runs" / "cells.json" if (out / "runs" / "cells.json").is_file() else out / "cells.json"
    return {name: cell["state"] for name, cell in json.loads(path.read_text()).items()} if path.is_file() else {}


def test_a_search_whose_driver_is_killed_goes_on(nodes: Any, embedded: Path, tmp_path: Path) -> None:
    words = ["tune", "lf_dnn", str(embedded), "--tasks", "polarity", "--only", "learning_rate", "--set", "epochs=40"]
    words += ["--trials", "3", "--no-prune", "--quiet", "--cluster", nodes.address, "--jobs", "2", "--out"]
    out = tmp_path / "killed"
    driver = begin([*words, str(out)])
    kill_when(driver, begun(out, 1))
    assert main([*words, str(out)]) == 0
    assert main([*words, str(tmp_path / "undisturbed")]) == 0
    ours, theirs = (
        json.loads((tmp_path / name / "trials.json").read_text())["trials"] for name in ("killed", "undisturbed")
    )
    assert [trial["state"] for trial in ours] == ["complete"] * 3
    # the third is drawn after the others, or while they are trained: what they gave then is not the same
    assert ours[:2] == theirs[:2]


def test_a_benchmark_whose_driver_is_killed_goes_on(nodes: Any, embedded: Path, tmp_path: Path) -> None:
    words = [
        "benchmark",
        str(embedded),
        "--models",
        "lf_dnn,tfn,lmf",
        "--seeds",
        "1",
        "--tasks",
        "polarity",
        "--no-costs",
    ]
    words += ["--set", "epochs=10", "--quiet", "--cluster", nodes.address, "--jobs", "1", "--out"]
    out = tmp_path / "killed"
    driver = begin([*words, str(out)])
    kill_when(driver, lambda: "done" in states(out).values())
    before = states(out)
    assert main([*words, str(out)]) == 0
    after = states(out)
    assert len(before) < len(after)
    assert set(after.values()) == {"done"}
    assert main([*words, str(tmp_path / "undisturbed")]) == 0
    for run in (tmp_path / "undisturbed").glob("**/seed-0/valid.safetensors"):
        ours = out / run.relative_to(tmp_path / "undisturbed")
        assert ours.read_bytes() == run.read_bytes(), run
