import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import affectus.studies.cells as cells_module
from affectus.errors import AffectusError
from affectus.files import read_json
from affectus.studies.cells import RUNS, Cell, StudyEvent, open_study, run_cells

SMALL = {"hidden": 4, "dense": 4}
QUICK = {"epochs": 2}
JOINT = Cell("joint", "mtmm_es", ("polarity", "emotions"), ("text",), SMALL, QUICK, seeds=(0, 1))
ALONE = Cell("alone", "mtmm_es", ("polarity",), ("text", "audio"), SMALL, QUICK, seeds=(0, 1))
LINEAR = Cell("linear", "linear", ("polarity",), seeds=2)
BROKEN = Cell("broken", "mtmm_es", ("polarity",), ("text",), {"hiden": 4}, QUICK)


def _weights(out: Path, cell: str, seed: int = 0) -> dict[str, np.ndarray]:
    return load_file(out / RUNS / cell / f"seed-{seed}" / "model.safetensors")


def test_cells_are_trained_told_of_and_not_trained_again(embedded: Path, tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    found = run_cells([JOINT, LINEAR], embedded, tmp_path / "out", report=events.append)
    assert list(found) == ["joint", "linear"]
    joint, linear = (found[name].run for name in found)
    assert joint is not None
    assert linear is not None
    assert (joint.seeds, joint.config.modalities, joint.config.options["hidden"]) == ((0, 1), ("text",), 4)
    assert linear.seeds == (0,)  # a closed-form fit has one
    shares = [e.share for e in events if e.cell == "joint"]
    assert shares == sorted(shares)
    assert shares[:2] == [0.25, 0.5]
    assert shares[-1] == 1.0
    ends = [(e.kind, e.cell, e.finished, e.total) for e in events if e.kind != "epoch"]
    assert ends == [("done", "joint", 1, 2), ("done", "linear", 2, 2)]
    events.clear()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / RUNS).rglob("*") if path.is_file()}
    again = run_cells([JOINT, LINEAR], embedded, tmp_path / "out", report=events.append)
    assert events == []
    assert again["joint"].run is not None
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / RUNS).rglob("*") if path.is_file()}


def test_more_seeds_are_added(embedded: Path, tmp_path: Path) -> None:
    run_cells([replace(JOINT, seeds=(0,))], embedded, tmp_path)
    events: list[StudyEvent] = []
    found = run_cells([JOINT], embedded, tmp_path, report=events.append)["joint"].run
    assert found is not None
    assert found.seeds == (0, 1)
    assert all("seed 1" in event.text for event in events if event.kind == "epoch")


def test_a_failed_cell_is_written_down_tried_again_and_the_rest_goes_on(embedded: Path, tmp_path: Path) -> None:
    found = run_cells([BROKEN, LINEAR], embedded, tmp_path)
    assert found["broken"].run is None
    assert "Unknown option 'hiden'" in str(found["broken"].failure)
    assert found["linear"].run is not None
    written = read_json(tmp_path / "cells.json")
    assert written["broken"]["state"] == "failed"
    assert "Did you mean 'hidden'" in written["broken"]["reason"]
    mended = run_cells([replace(BROKEN, options=SMALL), LINEAR], embedded, tmp_path)
    assert mended["broken"].run is not None
    assert read_json(tmp_path / "cells.json")["broken"]["state"] == "done"


def test_any_exception_of_a_model_is_a_failure(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cells_module.train

    def train(model: str, *arguments: object, **more: object) -> object:
        if model == "mtmm_es":
            raise RuntimeError("shapes\ndo not match")
        return real(model, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(cells_module, "train", train)
    found = run_cells([JOINT, LINEAR], embedded, tmp_path)
    assert found["joint"].failure == "RuntimeError: shapes do not match"
    assert found["linear"].run is not None


def test_a_stopped_study_goes_on(embedded: Path, tmp_path: Path) -> None:
    def stop(event: StudyEvent) -> None:
        if event.cell == "alone" and event.kind == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning may turn an interruption into SystemExit
        run_cells([JOINT, ALONE], embedded, tmp_path / "stopped", report=stop)
    assert list(read_json(tmp_path / "stopped" / "cells.json")) == ["joint"]
    events: list[StudyEvent] = []
    run_cells([JOINT, ALONE], embedded, tmp_path / "stopped", report=events.append)
    assert {event.cell for event in events} == {"alone"}
    assert events[-1].finished == 2
    run_cells([ALONE], embedded, tmp_path / "whole")
    for seed in (0, 1):
        whole, resumed = (_weights(tmp_path / name, "alone", seed) for name in ("whole", "stopped"))
        assert all(np.array_equal(resumed[name], values) for name, values in whole.items())


def test_processes_give_the_same_and_one_that_is_killed_takes_no_other_with_it(embedded: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(event: StudyEvent) -> None:
        victims = [child for child in multiprocessing.active_children() if child.name == "joint"]
        if event.cell == "joint" and event.kind == "epoch" and not killed and victims:
            killed.append(victims[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    long = replace(JOINT, training={"epochs": 300})
    found = run_cells([long, ALONE, BROKEN], embedded, tmp_path / "two", jobs=2, report=kill)
    assert killed
    assert found["joint"].failure == "Its process was ended by the signal SIGKILL"
    assert "Unknown option 'hiden'" in str(found["broken"].failure)
    run_cells([ALONE], embedded, tmp_path / "one")
    one, two = (_weights(tmp_path / name, "alone", 1) for name in ("one", "two"))
    assert all(np.allclose(two[name], values, atol=1e-5) for name, values in one.items())


def test_seeds_are_trained_side_by_side_where_cells_are_few(embedded: Path, tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    found = run_cells([JOINT], embedded, tmp_path, jobs=2, report=events.append)["joint"]
    assert found.failure is None
    assert found.run is not None
    assert found.run.seeds == (0, 1)
    assert {event.text.split(",")[0] for event in events if event.kind == "epoch"} == {"seed 0", "seed 1"}
    assert max(event.share for event in events) == 1.0


def test_names_of_cells(embedded: Path, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"Two cells of the study have one name: got linear"):
        run_cells([LINEAR, LINEAR], embedded, tmp_path)
    for name in ("", "a/b", "..", "Upper", "a b"):
        with pytest.raises(AffectusError, match="name of a cell cannot be a folder's"):
            Cell(name, "linear", ("polarity",))


def test_a_folder_holds_one_study(tmp_path: Path) -> None:
    out = tmp_path / "out"
    open_study(out, {"study": "one", "training": {"epochs": 2}})
    open_study(out, {"study": "one", "training": {"epochs": 2}})
    assert json.loads((out / "study.json").read_text())["study"] == "one"
    with pytest.raises(AffectusError, match=r"holds another study, which differs in 'training'.*Choose another --out"):
        open_study(out, {"study": "one", "training": {"epochs": 3}})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(AffectusError, match="holds something else than a study"):
        open_study(tmp_path / "mine", {"study": "one"})
