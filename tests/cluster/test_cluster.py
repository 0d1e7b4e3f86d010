"""Many machines: a real Ray cluster of two nodes on this one, with workers, nodes and drivers that are killed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from affectus.api import train
from affectus.cli.main import main
from affectus.cluster.executor import RayExecutor
from affectus.cluster.session import Cluster
from affectus.errors import AffectusError, WriteError
from affectus.files import claim, explain_os_error, write_text
from affectus.parallel import Alive, Ended, Here
from affectus.predict.parts import predict_parts
from affectus.studies.cells import Cell, run_cells
from affectus.studies.tuning import read_tuned, tune

TASK = ["polarity"]


@pytest.fixture
def here(nodes: Any) -> Cluster:
    """The cluster, as the command line names it."""
    import ray

    # workers have no such module: its classes go with the work
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return Cluster(nodes.address)


@dataclass(frozen=True)
class Killing:
    """Work that writes a file per item; some items bring their worker down, hang, or raise."""

    out: Path
    seconds: float = 0.2

    def open(self) -> Callable[[str, Alive], None]:
        def one(item: str, alive: Alive) -> None:
            with (self.out / f"{item}.tries").open("a") as stream:
                stream.write("x")
            time.sleep(self.seconds)
            if item == "wrong":
                raise AffectusError("It cannot be read", where=item)
            if item == "deadly" or (item == "once" and (self.out / "once.tries").read_text() == "x"):
                os.kill(os.getpid(), signal.SIGKILL)
            if item == "hangs":
                time.sleep(600)
            write_text(self.out / item, item)

        return one

    def done(self, item: str) -> bool:
        return (self.out / item).is_file()


def test_every_item_has_one_result_though_workers_and_a_node_are_killed(
    here: Cluster, nodes: Any, second: Any, tmp_path: Path
) -> None:
    names = [f"item{i:02d}" for i in range(12)]
    items = ["once", "deadly", "hangs", "wrong", *names]
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    ended: list[Ended] = []
    for one in RayExecutor(here, scratch, stall=2.0).run(Killing(out), items):
        ended.append(one)
        if len(ended) == 4:
            nodes.remove_node(second)  # what it had is done by the other
            nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    assert Counter(items[one.number] for one in ended) == Counter(items)
    failures = {items[one.number]: one.error for one in ended if one.error}
    assert failures == {
        "deadly": "The worker that had it ended, 3 times.",
        "hangs": "Nothing came of it for 2 seconds.",
        "wrong": "It cannot be read in wrong.",
    }
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".tries") == sorted(["once", *names])
    assert (out / "deadly.tries").read_text() == "xxx"
    assert (out / "wrong.tries").read_text() == "x"  # that it cannot be read is a result, too
    assert not scratch.exists()


def test_the_executor_of_this_process_ends_alike(tmp_path: Path) -> None:
    ended = list(Here().run(Killing(tmp_path, 0.0), ["a", "wrong", "b"]))
    assert [(one.number, one.error) for one in ended] == [(0, None), (1, "It cannot be read in wrong."), (2, None)]


@dataclass(frozen=True)
class Full(Killing):
    """Work that finds no room."""

    def open(self) -> Callable[[str, Alive], None]:
        def one(item: str, alive: Alive) -> None:
            raise explain_os_error(OSError(errno.ENOSPC, "full"), Path(item))

        return one


def test_work_ends_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"No space left while writing in a\. Free some space"):
        list(Here().run(Full(tmp_path), ["a", "b"]))


@pytest.mark.slow
def test_work_of_a_cluster_ends_where_nothing_can_be_written(here: Cluster, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"No space left while writing in .\. Free some space"):
        list(RayExecutor(here, tmp_path / "scratch").run(Full(tmp_path), ["a", "b"]))


def test_two_commands_do_not_train_into_one_folder(
    here: Cluster, embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "lf_dnn", str(embedded), "--tasks", "polarity", "--cluster", here.address, "--workers", "2"]
    with claim(tmp_path / "run"):
        assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "error: Another affectus is writing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


DRIVER = """
import sys
from pathlib import Path
from affectus.cluster.executor import RayExecutor
from affectus.cluster.session import Cluster
from affectus.predict.parts import predict_parts
run, corpus, out, scratch, address = sys.argv[1:]
predict_parts(run, corpus, out, utterances=8, executor=RayExecutor(Cluster(address), Path(scratch)))
"""


def test_a_driver_that_is_killed_goes_on_and_parts_are_those_of_one_machine(
    here: Cluster, embedded: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train("linear", embedded, tasks=["polarity", "intensity"], out=run)
    rows, count = predict_parts(run, embedded, tmp_path / "alone", utterances=8)
    words = [str(run), str(embedded), str(tmp_path / "parts"), str(tmp_path / "scratch"), here.address]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *words], start_new_session=True)
    until = time.monotonic() + 120
    while not list((tmp_path / "parts").glob("*.parquet")) and time.monotonic() < until:
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*.parquet")}
    assert 0 < len(before) < count
    again = RayExecutor(here, tmp_path / "scratch")
    assert predict_parts(run, embedded, tmp_path / "parts", utterances=8, executor=again) == (rows, count)
    for name, when in before.items():
        assert (tmp_path / "parts" / name).stat().st_mtime_ns == when, "what was done is done anew"
    alone, parts = (pl.read_parquet(tmp_path / name / "*.parquet") for name in ("alone", "parts"))
    assert parts.equals(alone)
    assert len(parts) == parts["id"].n_unique() == rows
    assert json.loads((tmp_path / "parts" / "_parts.json").read_text())["failures"] == {}


@pytest.mark.slow
def test_cells_of_a_study_are_trained_and_a_failure_is_written_down(
    here: Cluster, embedded: Path, tmp_path: Path
) -> None:
    cells = [
        Cell("linear", "linear", ("polarity",)),
        Cell("wrong", "linear", ("polarity",), options={"C": -1}),
        Cell("net", "lf_dnn", ("polarity",), training={"epochs": 2}),
    ]
    executor = RayExecutor(here, tmp_path / "scratch")
    told: list[Any] = []
    there = run_cells(cells, embedded, tmp_path / "there", report=told.append, executor=executor)
    alone = run_cells(cells, embedded, tmp_path / "alone")
    assert {event.cell: event.kind for event in told} == {"linear": "done", "wrong": "failed", "net": "done"}
    assert there["wrong"].failure == alone["wrong"].failure
    for name in ("linear", "net"):
        runs = [found[name].run for found in (there, alone)]
        ours, theirs = ((one.folder / "seed-0" / "valid.safetensors").read_bytes() for one in runs if one is not None)
        assert ours == theirs


@pytest.mark.slow
def test_a_search_on_a_cluster_is_the_search_of_one_machine(here: Cluster, embedded: Path, tmp_path: Path) -> None:
    more = ["--tasks", "polarity", "--only", "C", "--quiet"]
    one = ["tune", "linear", str(embedded), *more, "--out"]
    assert main([*one, str(tmp_path / "alone"), "--trials", "3"]) == 0
    # begun on one machine, it goes on with the cluster
    assert main([*one, str(tmp_path / "there"), "--trials", "1"]) == 0
    from affectus.cluster.tuning import search_on

    found = tune(
        *("linear", embedded),
        trials=3,
        out=tmp_path / "there",
        tasks=TASK,
        only=["C"],
        search=search_on(Cluster(here.address, workers=1)),
    )
    alone = read_tuned(tmp_path / "alone")
    assert [trial["state"] for trial in found.trials] == ["complete"] * 3
    assert [trial["settings"] for trial in found.trials] == [trial["settings"] for trial in alone.trials]
    assert [trial["value"] for trial in found.trials] == [trial["value"] for trial in alone.trials]
    assert (tmp_path / "there" / "best.yaml").is_file()
    assert not list((tmp_path / "there" / "trials").glob("*/run"))


@pytest.mark.slow
def test_two_workers_train_what_one_trains(here: Cluster, embedded: Path, tmp_path: Path) -> None:
    words = ["lf_dnn", str(embedded), "--tasks", "polarity", "--set", "epochs=3", "--quiet"]
    words += ["--set", "dropout=0", "--set", "fusion_dropout=0"]  # each worker draws its own
    assert main(["train", *words, "--out", str(tmp_path / "alone")]) == 0
    cluster = ["--cluster", here.address, "--workers", "2"]
    assert main(["train", *words, *cluster, "--out", str(tmp_path / "together")]) == 0
    rows = {
        name: [json.loads(line) for line in (tmp_path / name / "seed-0" / "history.jsonl").read_text().splitlines()]
        for name in ("alone", "together")
    }
    assert len(rows["alone"]) == len(rows["together"]) == 3
    losses = {name: np.array([row["valid.loss"] for row in found]) for name, found in rows.items()}
    assert losses["together"] == pytest.approx(losses["alone"], rel=1e-4)
    assert not list(tmp_path.glob(".together*"))


def write_sound(path: Path, pitch: float) -> None:
    """Write two seconds of a tone."""
    steps = np.arange(2 * 16_000) / 16_000
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16_000)
        stream.writeframes((np.sin(2 * np.pi * pitch * steps) * 8_000).astype("<i2").tobytes())


@pytest.mark.slow
def test_extraction_on_a_cluster_is_that_of_one_machine(
    here: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for number in range(3):
        write_sound(sounds / f"{number}.wav", 110.0 * (number + 1))
    (sounds / "broken.wav").write_bytes(b"no sound")
    one = ["extract", str(sounds), "--text", "none", "--recognizer", "none", "--no-vision", "--format", "parquet"]
    for name, more in (("alone", []), ("there", ["--cluster", here.address])):
        where = ["--out", str(tmp_path / name), "--cache", str(tmp_path / f"cache-{name}")]
        assert main([*one, *where, *more, "--json"]) == 0
        assert [Path(path).name for path in json.loads(capsys.readouterr().out)["passed_over"]] == ["broken.wav"]
    alone, there = (pl.read_parquet(tmp_path / name / "*.parquet") for name in ("alone", "there"))
    assert len(there) == 3
    assert there.equals(alone)
