"""Workers of Ray Train and of Ray Tune that are killed, and drivers that are: what comes out is that of quiet days."""

import json
import os
import resource
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
import torch

from affectus.cli.main import main
from affectus.cluster.session import Cluster
from affectus.cluster.training import train_together
from affectus.cluster.tuning import search_on
from affectus.errors import WriteError
from affectus.files import lock_folder
from affectus.studies.tuning import Tuned, tune

pytestmark = pytest.mark.slow
TRAINER, TRIAL = "RayTrainWorker", "ImplicitFunc"
"""What Ray calls the processes of a training and of a trial."""


Workers = Callable[[str], list[int]]
"""Lists the cluster's processes of a title."""


def wait_for(ready: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)


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
        assert len(history(killed)) == 20
        assert same_run(killed, undisturbed)
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


def test_a_trial_that_finds_no_room_is_repeated_when_there_is_some(
    nodes: Any, embedded: Path, tmp_path: Path, find_workers: Workers
) -> None:
    undisturbed = search(nodes, embedded, tmp_path / "undisturbed")
    out = tmp_path / "full"
    result = in_background(lambda: search(nodes, embedded, out))
    wait_for(begun(out, 1))
    for worker in find_workers(TRIAL):
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (3000, 3000))
    with pytest.raises(WriteError, match="No space left while writing"):
        result()
    assert shown(search(nodes, embedded, out)) == shown(undisturbed)


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
    def come() -> bool:
        assert driver.poll() is None, "it was over before"
        return ready()

    wait_for(come)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def same_run(ours: Path, theirs: Path) -> bool:
    """Return whether two runs of one seed are the same, byte for byte but for the time they took."""
    files = ("model.safetensors", "valid.safetensors", "epochs.safetensors")
    same = [(ours / "seed-0" / name).read_bytes() == (theirs / "seed-0" / name).read_bytes() for name in files]
    return all(same) and history(ours) == history(theirs)


def training_words(nodes: Any, corpus: Path, *, epochs: int = 40) -> list[str]:
    words = ["train", "lf_dnn", str(corpus), "--tasks", "polarity", "--quiet", "--set", f"epochs={epochs}"]
    words += ["--set", "patience=null", "--set", "batch_size=4"]
    return [*words, "--cluster", nodes.address, "--workers", "2", "--out"]


def test_a_training_whose_driver_is_killed_goes_on(
    nodes: Any, embedded: Path, tmp_path: Path, find_workers: Workers
) -> None:
    words, out = training_words(nodes, embedded), tmp_path / "killed"
    driver = begin([*words, str(out)])
    kill_when(driver, (out / "seed-0" / "resume.ckpt").is_file)
    wait_for(lambda: not find_workers(TRAINER), 30.0)  # none lives on without its driver
    assert not (out / "seed-0" / "result.json").exists(), "it was over before"
    state = torch.load(out / "seed-0" / "resume.ckpt", weights_only=True)["callbacks"]
    before = next(found["history"] for found in state.values() if "history" in found)
    assert 0 < len(before) < 40
    assert main([*words, str(out)]) == 0
    rows = [json.loads(line) for line in (out / "seed-0" / "history.jsonl").read_text().splitlines()]
    assert rows[: len(before)] == before, "epochs that were trained are trained anew"  # with the seconds they took
    assert main([*words, str(tmp_path / "undisturbed")]) == 0
    assert same_run(out, tmp_path / "undisturbed")
    # another, and at once again, while workers of the driver that is gone may still write
    out = tmp_path / "again"
    driver = begin([*words, str(out)])
    kill_when(driver, (out / "seed-0" / "resume.ckpt").is_file)
    orphans = find_workers(TRAINER)
    assert main([*words, str(out)]) == 0
    assert not set(orphans) & set(find_workers(TRAINER))
    assert same_run(out, tmp_path / "undisturbed")
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def test_workers_wait_for_one_that_was_believed_dead(
    nodes: Any, embedded: Path, tmp_path: Path, find_workers: Workers
) -> None:
    out = tmp_path / "out"
    words = [*training_words(nodes, embedded, epochs=2), str(out)]
    with lock_folder(out):
        result = in_background(lambda: main(words))
        wait_for(lambda: len(find_workers(TRAINER)) == 2)
        time.sleep(8)
        assert not (out / "run.json").exists()
    assert result() == 0
    assert len(history(out)) == 2


def test_a_worker_without_room_ends_the_others_and_the_command_goes_on(
    nodes: Any, embedded: Path, tmp_path: Path, find_workers: Workers, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [*training_words(nodes, embedded), str(out)]
    result = in_background(lambda: main(words))
    wait_for((out / "seed-0" / "resume.ckpt").is_file)
    lock = str(out / ".lock")
    first = [pid for pid in find_workers(TRAINER) if lock in map(os.path.realpath, Path(f"/proc/{pid}/fd").iterdir())]
    assert len(first) == 1, "one worker holds the run"
    resource.prlimit(first[0], resource.RLIMIT_FSIZE, (3000, 3000))  # a full disk, as far as it can tell
    assert result() == 2
    said = capsys.readouterr().err
    assert "error: No space left while writing" in said
    assert said.count("error:") == 1
    assert main(words) == 0
    assert len(history(out)) == 40


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
