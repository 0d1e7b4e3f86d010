"""The command as a shell sees it: told to end, and with a standard output that is poor, closed or full."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from affectus.corpus import Corpus, save_corpus
from affectus.nn import kernels

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
LONG = ["--tasks", "polarity", *(f"--set={x}" for x in ("hidden=4", "dense=4", "epochs=5000", "patience=5000"))]
COMMAND = [sys.executable, "-m", "affectus"]
SENTENCES = {
    signal.SIGINT: "Interrupted. Run the same command again to go on.\n",
    signal.SIGTERM: "Ended by SIGTERM. Run the same command again to go on.\n",
}


@pytest.fixture
def folder(corpus: Corpus, tmp_path: Path) -> Path:
    save_corpus(corpus, tmp_path / "corpus")
    return tmp_path / "corpus"


def _processes(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(state[2]) == group and state[0] != "Z":
                found.append(int(entry.name))
    return found


def _ended(arguments: Sequence[str | Path], number: signal.Signals, when: Callable[[Any], bool]) -> None:
    """Send a signal to a command and its workers, as a terminal does, and look at what is said and what is left."""
    # tests in the background ignore it, and so would it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    try:
        until = time.monotonic() + 120
        while not when(process):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        os.killpg(process.pid, number)
        said = process.communicate(timeout=60)[1]
        assert (process.returncode, said) == (128 + number, SENTENCES[number])
        until = time.monotonic() + 20
        while _processes(process.pid):
            assert time.monotonic() < until, "a worker goes on"
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _any(paths: Iterable[Path]) -> bool:
    return any(True for _ in paths)


@linux
@pytest.mark.parametrize("number", SENTENCES)
def test_a_training_ends_in_one_sentence(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    call = ["train", "bc_lstm", folder, *LONG, "--quiet", "--out", out]
    _ended(call, number, lambda _: _any(out.glob("seed-*/*")))


@linux
def test_seeds_side_by_side_end_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call = ["train", "bc_lstm", folder, *LONG, "--quiet", "--out", out]
    call += ["--seeds", "2", "--jobs", "2"]
    _ended(call, signal.SIGINT, lambda process: len(_processes(process.pid)) > 2)


@linux
def test_a_command_ends_in_one_sentence_while_modules_are_imported(folder: Path, tmp_path: Path) -> None:
    for number, seconds in enumerate((0.2, 0.9)):
        begun = time.monotonic()
        call = ["train", "bc_lstm", folder, *LONG, "--quiet", "--out", tmp_path / str(number)]
        _ended(call, signal.SIGINT, lambda _, at=begun + seconds: time.monotonic() > at)


@linux
def test_workers_of_an_extraction_end_with_it(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.txt").write_text("good\n" * 200)
    call = ["extract", tmp_path, "--out", tmp_path / "out", "--jobs", "2", "--no-cache"]
    _ended(call, signal.SIGINT, lambda process: len(_processes(process.pid)) > 2)


def _run(arguments: Sequence[str | Path], shell: str = "", **environment: str) -> Any:
    """Run a command, with what a shell does with its output."""
    line = ["sh", "-c", f'"$@" {shell}', "sh", *COMMAND, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, env=os.environ | environment, check=False)


@linux
@pytest.mark.skipif(not hasattr(kernels._starter(), "argtypes"), reason="PyTorch's threads are not GNU's OpenMP's")
@pytest.mark.parametrize(
    ("said", "count"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "30000000000")]
)
def test_threads_that_wait_sleep_soon(said: dict[str, str], count: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = clean | {"OMP_DISPLAY_ENV": "verbose", **said}
    shown = subprocess.run([*COMMAND, "models", "tfn"], capture_output=True, text=True, env=environment).stderr
    assert f"GOMP_SPINCOUNT = '{count}'" in shown


@linux
def test_ctrl_c_is_the_way_to_end_the_page(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    # tests in the background ignore it, and so would it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*COMMAND, "serve", "--folder", str(tmp_path / "kept"), "--port", "0", "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline(), process.stdout.readline()]
            assert "Press Ctrl+C to end" in said[-1]
            time.sleep(1.0)  # until it serves
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


@linux
def test_output_in_ascii_says_all(folder: Path) -> None:
    named = folder.rename(folder.with_name("Größe 😀"))
    done = _run(["corpus", "show", named], PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    done = _run(["corpus", "show", named, "--json"], PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    json.loads(done.stdout.decode("ascii"))
    done = _run(["corpus", "show", named / "nowhere"], PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    done = _run(["metrics"], LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")


@linux
def test_a_reader_that_goes_is_no_matter() -> None:
    done = _run(["metrics", "--json"], "| head -c 1")
    assert done.returncode == 0
    assert done.stderr == b""


@linux
def test_output_that_is_closed_is_no_matter() -> None:
    done = _run(["metrics"], ">&-")
    assert (done.returncode, done.stderr) == (0, b"")
    done = _run(["corpus", "show", "nowhere"], "2>&-")
    assert (done.returncode, done.stdout) == (2, b"")


@linux
@pytest.mark.parametrize("call", [["metrics"], ["metrics", "--json"], ["--version"], ["--help"]])
def test_output_that_is_full_is_one_sentence(call: list[str]) -> None:
    done = _run(call, "> /dev/full")
    assert done.returncode == 2
    assert done.stderr == b"error: Standard output could not be written: No space left on device.\n"


def test_letters_that_ascii_lacks_are_written_as_json_does() -> None:
    look = "import sys; from affectus.__main__ import _open_streams as f; f(); print(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", look, "é😀"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert done.stdout.decode().strip() == "\\u00e9\\ud83d\\ude00"
    assert json.loads(f'"{done.stdout.decode().strip()}"') == "é😀"
