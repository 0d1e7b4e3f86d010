"""The command line as a whole: help, version, and how bad input ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import affectus
from affectus.cli.console import choose_jobs
from affectus.cli.main import app, main


def verbs(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every verb: ``("corpus", "show")``."""
    children = getattr(command or get_command(app), "commands", None)
    if children is None:
        yield path
    for name, child in (children or {}).items():
        yield from verbs(child, (*path, name))


VERBS = list(verbs())


@pytest.fixture(autouse=True)
def _called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["affectus"])  # the usage line names the program


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_and_an_example(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    shown = capsys.readouterr().out
    called = f"affectus {' '.join(verb)}"
    lines = [" ".join(line.split()).removeprefix("Example: ") for line in shown.splitlines()]
    assert any(line.startswith(f"Usage: {called}") for line in lines)
    assert any(line.startswith(called) for line in lines)


@pytest.mark.parametrize("help_option", ["--help", "-h"])
def test_the_help_lists_every_verb(help_option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([help_option]) == 0
    shown = capsys.readouterr().out
    for verb in VERBS:
        assert verb[0] in shown


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = capsys.readouterr()
    assert "Usage: affectus" in shown.out + shown.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"affectus {affectus.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["corpus", "shwo"],
        ["evaluate"],
        ["predict", "run", "corpus"],
        ["train", "--no-such-option"],
        ["train", "mtmm_es", "corpus", "--jobs", "many"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Error" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["corpus", "show", "nowhere"], "There is no corpus folder in nowhere"),
        (["corpus", "check", "nowhere"], "There is no corpus folder in nowhere"),
        (["train"], "No model is given"),
        (["train", "mtmm_es", "nowhere", "--tasks", "polarity", "--out", "run"], "There is no corpus folder"),
        (["evaluate", "nowhere", "nowhere"], "There is no"),
        (["predict", "nowhere", "nowhere", "--out", "said.csv"], "There is no"),
        (["models", "mtmm"], "Unknown model 'mtmm'"),
        (["metrics", "maee"], "Did you mean 'mae'?"),
        (["import", "mosi", "nowhere", "--out", "corpus"], "Unknown format 'mosi'"),
        (["import", "mosi-npz", "nowhere.npz", "--out", "corpus"], "There is no file in nowhere.npz"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_exits_with_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == [], "bad input has left something behind"


def test_metrics_are_json_where_a_range_has_no_bound(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    assert main(["metrics", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out, parse_constant=refuse)}
    assert found["mae"]["range"] == [0.0, None]
    assert found["pearson"]["range"] == [-1.0, 1.0]


def test_room_for_more_processes_is_told_in_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affectus.cli.console.usable_cores", lambda: 8)
    assert choose_jobs(None, threads=1, many=True) == 1
    assert capsys.readouterr().err == ""  # nobody watches
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert choose_jobs(None, threads=2, many=True) == 1
    said = capsys.readouterr()
    assert "Runs are trained one after another; --jobs 4 trains as many at once" in said.err
    assert said.out == ""
    assert (choose_jobs(3, threads=1, many=True), choose_jobs(1, threads=1, many=True)) == (3, 1)
    assert choose_jobs(None, threads=1, many=False) == 1
    assert choose_jobs(None, threads=8, many=True) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["benchmark", "CORPUS", "--out", "OUT"],
        ["tune", "tfn", "CORPUS", "--out", "OUT"],
        ["reproduce", "cai2025", "--corpus", "CORPUS", "--out", "OUT"],
    ],
    ids=lambda words: words[0],
)
def test_verbs_with_many_runs_tell_of_jobs(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("affectus.cli.console.usable_cores", lambda: 8)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for more, told in (([], True), (["--jobs", "1"], False), (["-q"], False)):
        assert main([*words, *more]) == 2  # there is no such corpus
        assert ("--jobs 8 trains" in " ".join(capsys.readouterr().err.split())) is told


def test_the_module_runs_as_the_command_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "affectus", "corpus", "show", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: There is no corpus folder")


def test_the_command_line_starts_without_torch() -> None:
    look = "import sys, affectus.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_a_training_that_is_told_to_end_is_not_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exceptions = pytest.importorskip("lightning.pytorch.utilities.exceptions")

    def ends(**_: object) -> None:
        raise exceptions.SIGTERMException

    monkeypatch.setattr("affectus.cli.main.app", ends)
    assert main(["train"]) == 143
    assert "Ended by SIGTERM. Run the same command again to go on." in capsys.readouterr().err
