"""Commands that are killed, find no room, no permission, or another process in their folder."""

import datetime
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectus.cli.main import main
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.errors import AffectusError
from affectus.files import atomic_path, claim, lock_folder, read_json, scratch_folder, sweep, write_text

KILLS = Path(__file__).resolve().parents[1] / "benchmarks" / "kills.py"
SMALL = ["--set", "hidden=4", "--set", "dense=4", "--set", "epochs=2"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
here = pytest.mark.skipif(not KILLS.is_file(), reason="the benchmarks are not here")


def _kill(folder: Path, *arguments: str) -> dict[str, dict[str, float]]:
    for needed in ("optuna", "librosa", "pyworld", "sqlalchemy"):
        pytest.importorskip(needed)
    out = folder / "kills.json"
    done = subprocess.run(
        [sys.executable, str(KILLS), "--json", str(out), *arguments], capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, float]] = json.loads(out.read_text(encoding="utf-8"))
    return found


@linux
@here
def test_killed_commands_go_on(tmp_path: Path) -> None:
    found = _kill(tmp_path, "--kills", "6", "--seed", "3", "--brief")
    assert list(found) == ["train", "import", "extract", "benchmark", "tune"]
    assert sum(job["kills"] for job in found.values()) >= 6


@pytest.mark.slow
@linux
@here
def test_killed_commands_go_on_fifty_times_and_more(tmp_path: Path) -> None:
    found = _kill(tmp_path, "--kills", "60", "--seed", "0")
    assert sum(job["kills"] for job in found.values()) >= 60
    assert all(job["kills"] >= 10 for job in found.values())


@pytest.fixture
def folder(corpus: Corpus, tmp_path: Path) -> Path:
    save_corpus(corpus, tmp_path / "corpus")
    return tmp_path / "corpus"


def _bundle(path: Path) -> Path:
    count, rng = 200, np.random.default_rng(0)
    np.savez(
        path,
        id=np.array([f"u{i}" for i in range(count)]),
        video_id=np.array([f"v{i // 10}" for i in range(count)]),
        segment=np.arange(count) % 10,
        split_std=np.array(["train", "train", "valid", "test"])[np.arange(count) // 10 % 4],
        start=np.zeros(count),
        end=np.ones(count),
        text=np.array(["good"] * count),
        sentiment=rng.uniform(-3, 3, count),
        **{f"{name}_feat": rng.normal(size=(count, 20)) for name in ("text", "audio", "video")},
    )
    return path


def _texts(folder: Path) -> Path:
    """Write two texts, of which utterances can be made without a model."""
    folder.mkdir(exist_ok=True)
    for name, text in (("a", "Good film. It is short."), ("b", "Bad end. I hate it.")):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def _commands(corpus: Path, bundle: Path, out: Path) -> dict[str, list[str]]:
    return {
        "extract": [
            *("extract", str(_texts(bundle.parent / "texts")), "--text", "none", "--recognizer", "none"),
            *("--no-vision", "--cache", str(bundle.parent / "cache"), "--out", str(out)),
        ],
        "train": ["train", "mtmm_es", str(corpus), "--tasks", "polarity", *SMALL, "-q", "--out", str(out)],
        "import": ["import", "mosi-npz", str(bundle), "--out", str(out)],
        "benchmark": [
            *("benchmark", str(corpus), "--models", "mtmm_es", "--seeds", "1", "--set", "mtmm_es.hidden=4"),
            *("--set", "epochs=1", "--no-costs", "-q", "--out", str(out)),
        ],
        "tune": ["tune", "mtmm_es", str(corpus), "--trials", "1", *SMALL, "-q", "--out", str(out)],
    }


@pytest.fixture
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be read in this process, since another takes seconds to start."""
    from affectus.features.media import extraction
    from affectus.features.media.recording import Extractor
    from affectus.features.media.workers import Event, Task, read_task

    def run_tasks(tasks: Sequence[Task], settings: Any, *, threads: int, **_: Any) -> Iterator[Event]:
        extractor = Extractor(settings, threads=threads)
        for number, task in enumerate(tasks):
            yield read_task(extractor, number, task, lambda _: None)

    monkeypatch.setattr(extraction, "run_tasks", run_tasks)


@contextmanager
def _no_file_larger_than(size: int) -> Iterator[None]:
    """A full disk, as far as a process can tell: writing beyond a size fails with an error of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@linux
@pytest.mark.usefixtures("read_here")
@pytest.mark.parametrize("command", ["train", "import", "extract", "benchmark", "tune"])
def test_no_room_is_one_sentence_and_the_same_command_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    if command == "tune":
        pytest.importorskip("optuna")
    out = tmp_path / "out"
    arguments = _commands(folder, _bundle(tmp_path / "bundle.npz"), out)[command]
    with _no_file_larger_than(3000):
        assert main(arguments) == 2
    said = capsys.readouterr().err
    # SQLite takes this error of the system's for one of the disk
    expected = "error: Could not write" if command == "tune" else "No space left while writing"
    assert expected in " ".join(said.split())
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.part"))
    assert main(arguments) == 0
    if command in ("import", "extract"):
        assert len(load_corpus(out)) == {"import": 200, "extract": 4}[command]


@linux
def test_a_file_is_not_passed_over_because_there_is_no_room_for_it(tmp_path: Path) -> None:
    from affectus.features.media.extraction import extract
    from affectus.features.media.settings import Extraction

    texts, settings = _texts(tmp_path / "texts"), Extraction(text="none", vision="none", recognizer="none")
    rng = np.random.default_rng(0)
    (texts / "b.txt").write_text("".join(f"Say {rng.bytes(20).hex()}. " for _ in range(200)), encoding="utf-8")
    with _no_file_larger_than(4500), pytest.raises(AffectusError, match="No space left while writing"):
        extract(texts, settings, cache=tmp_path / "cache")
    found = extract(texts, settings, cache=tmp_path / "cache", jobs=0)
    assert (found.cached, found.skipped, len(found.corpus)) == (1, {}, 202)


@linux
def test_no_room_leaves_the_corpus_that_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = _commands(tmp_path, _bundle(tmp_path / "bundle.npz"), tmp_path / "out")["import"]
    assert main(arguments) == 0
    before = (tmp_path / "out" / "card.json").read_bytes()
    with _no_file_larger_than(3000):
        assert main(arguments) == 2
    assert (tmp_path / "out" / "card.json").read_bytes() == before
    assert len(load_corpus(tmp_path / "out")) == 200


@linux
def test_a_read_only_place_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    place = tmp_path / "place"
    place.mkdir()
    commands = _commands(folder, _bundle(tmp_path / "bundle.npz"), place / "out")
    script = f"import json, sys; from affectus.cli.main import main; c = {list(commands.values())!r}"
    call = [sys.executable, "-c", f"{script}; print(json.dumps([main(one) for one in c]))"]
    if os.geteuid() == 0:  # permissions do not bind root, a mount does
        mount = f'mount -t tmpfs -o ro none "{place}" && exec "$@"'
        call = ["unshare", "-m", "sh", "-c", mount, "sh", *call]
        if shutil.which("unshare") is None or subprocess.run([*call[:5], "sh", "true"], capture_output=True).returncode:
            pytest.skip("may not mount anything here")
    else:
        place.chmod(0o555)
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    place.chmod(0o755)
    assert json.loads(done.stdout.splitlines()[-1]) == [2] * len(commands), done.stderr
    assert done.stderr.count("error: No permission to write") == len(commands)
    assert "Traceback" not in done.stderr


@linux
@pytest.mark.usefixtures("read_here")
@pytest.mark.parametrize("command", ["train", "benchmark", "import", "extract"])
def test_two_processes_on_one_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    if command == "tune":
        pytest.importorskip("optuna")
    out = tmp_path / "out"
    arguments = _commands(folder, _bundle(tmp_path / "bundle.npz"), out)[command]
    with claim(out) if command in ("import", "extract") else lock_folder(out):
        assert main(arguments) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "error: Another affectus is writing in" in said
        assert said.count("error:") == 1
        assert not [path for path in out.rglob("*") if path.name != ".lock"]
    assert main(arguments) == 0


@linux
def test_two_searches_in_one_folder_share_its_trials(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    from affectus.studies import tuning

    arguments = _commands(folder, _bundle(tmp_path / "bundle.npz"), tmp_path / "out")["tune"]
    arguments[arguments.index("--trials") + 1] = "2"
    train, codes = tuning.train, []

    def meanwhile(*given: Any, **more: Any) -> Any:
        if not codes:  # the same command, while the first trains its first trial
            codes.append(0)
            codes.append(main(arguments))
        return train(*given, **more)

    monkeypatch.setattr(tuning, "train", meanwhile)
    assert main(arguments) == 0
    assert codes == [0, 0]
    trials = tuning.read_tuned(tmp_path / "out").trials
    assert [(trial["number"], trial["state"]) for trial in trials] == [(0, "complete"), (1, "complete")]


def test_a_trial_that_finds_no_room_is_trained_when_there_is_some(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    import affectus.models.storage
    from affectus.studies.tuning import read_tuned

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    arguments = _commands(folder, _bundle(tmp_path / "bundle.npz"), tmp_path / "out")["tune"]
    with monkeypatch.context() as patched:
        patched.setattr(affectus.models.storage, "save_file", full)
        assert main(arguments) == 2
    assert "error: No space left while writing" in " ".join(capsys.readouterr().err.split())
    assert main(arguments) == 0
    assert [(trial["number"], trial["state"]) for trial in read_tuned(tmp_path / "out").trials] == [(0, "complete")]


@linux
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_model_that_finds_no_room_has_not_failed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    out = tmp_path / "out"
    models = ["--models", "majority,mtmm_es", "--seeds", "1", "--view", "any"]
    small = ["--set", "mtmm_es.hidden=8", "--set", "epochs=1"]
    arguments = ["benchmark", str(folder), *models, *small, "--no-costs", "--jobs", jobs, "--out", str(out), "-q"]
    with _no_file_larger_than(8000):  # between what the two models keep
        assert main(arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "error: No space left while writing" in said
    assert said.count("error:") == 1
    assert all(cell["state"] == "done" for cell in read_json(out / "cells.json").values())
    assert main(arguments) == 0
    cells = read_json(out / "cells.json")
    assert {cell["state"] for cell in cells.values()} == {"done"}
    assert "mtmm_es" in [cell["cell"]["model"] for cell in cells.values()]


def _results(command: str, out: Path) -> dict[str, Any]:
    """Return what a command came to, but for what tells of times."""
    if command in ("import", "extract"):
        corpus = load_corpus(out)
        features = {name: ragged.values.tobytes() for name, ragged in corpus.features.items()}
        return {"rows": corpus.table.to_dicts(), "notes": corpus.card.notes, **features}
    if command == "tune":
        from affectus.studies.tuning import read_tuned

        return {str(trial["number"]): (trial["state"], trial["value"]) for trial in read_tuned(out).trials}
    runs = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("model.safetensors")}
    assert runs
    assert all(json.loads(path.read_text())["seconds"] >= 0 for path in out.rglob("result.json"))
    return runs


@pytest.mark.usefixtures("read_here")
@pytest.mark.parametrize("command", ["train", "import", "extract", "benchmark", "tune"])
def test_a_clock_that_is_set_back_changes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if command == "tune":
        pytest.importorskip("optuna")

    def run(name: str) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        out = tmp_path / name / "out"
        assert main(_commands(folder, _bundle(tmp_path / name / "bundle.npz"), out)[command]) == 0
        return _results(command, out)

    straight = run("straight")
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600.0
        return now[0]

    monkeypatch.setattr(time, "time", earlier)
    monkeypatch.setattr(time, "time_ns", lambda: int(earlier() * 1e9))
    if command == "tune":
        import optuna.storages._rdb.storage
        import optuna.study.study

        class Back(datetime.datetime):
            """Goes back an hour each time."""

            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Back":
                return cls.fromtimestamp(earlier(), tz)

        for module in (optuna.storages._rdb.storage, optuna.study.study):
            monkeypatch.setattr(module, "datetime", Back, raising=False)
    assert run("back") == straight


def _killed(code: str) -> None:
    """Run code in a process that ends as a killed one does."""
    ending = "import os; os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code) + "\n" + ending], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


@linux
def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    _killed(f"""
        from affectus.files import atomic_path
        held = atomic_path({str(tmp_path / "a.txt")!r})
        held.__enter__().write_text("half")
    """)
    assert len(list(tmp_path.glob(".a.txt.*.part"))) == 1
    with atomic_path(tmp_path / "b.txt") as temporary:
        temporary.write_text("whole")
        sweep(tmp_path)
        assert temporary.is_file()
        assert not list(tmp_path.glob(".a.txt.*.part"))
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


@linux
def test_a_folder_whose_replacement_was_killed_half_way_is_put_in_its_place(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_text(out / "text", "old")
    _killed(f"""
        import os, pathlib
        from affectus.files import atomic_path
        real, done = pathlib.Path.rename, []
        def rename(self, target):
            if done:
                os.kill(os.getpid(), 9)
            done.append(real(self, target))
        pathlib.Path.rename = rename
        with atomic_path({str(out)!r}) as temporary:
            temporary.mkdir()
            (temporary / "text").write_text("new")
    """)
    assert not out.exists()
    sweep(tmp_path)
    assert (out / "text").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@linux
def test_a_claim_leaves_nothing(tmp_path: Path) -> None:
    deep = tmp_path / "deep" / "er" / "out"
    with claim(deep), pytest.raises(AffectusError, match="Another affectus is writing"), claim(deep):
        raise AssertionError
    assert not (tmp_path / "deep").exists()
    with claim(tmp_path / "out"), claim(tmp_path / "out.txt"):
        write_text(tmp_path / "out", "text")
    with scratch_folder() as scratch:
        assert scratch.is_dir()
    assert not scratch.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
