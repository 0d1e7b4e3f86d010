"""docs/how-to/add-a-model.md, followed word by word in a folder of its own: no network, nothing is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from affectus import registry
from affectus.corpus import load_corpus
from affectus.errors import AffectusError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "add-a-model.md"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks() -> list[tuple[str, str, str]]:
    return [match.groups() for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]  # type: ignore[misc]


@pytest.fixture(scope="module")
def package(blocks: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the page's files, importable as an installed package is: with its metadata beside it."""
    folder = tmp_path_factory.mktemp("package")
    for _, title, text in blocks:
        if title:
            (folder / title).write_text(text, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    information = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _run(package: Path, *command: str) -> str:
    paths = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _type(package: Path, texts: list[str]) -> str:
    """Run the commands and return what they said."""
    said = ""
    for command in "".join(texts).strip().splitlines():
        assert command.startswith("affectus ")
        said += _run(package, sys.executable, "-m", "affectus", *command.split()[1:])
    return said


def test_every_file_stands_on_the_page(package: Path) -> None:
    for name in ("gated.py", "pyproject.toml", "test_gated.py", "gated_extras.py", "gated_features.py"):
        assert (package / name).is_file(), name
    included = tomllib.loads((package / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert included["include"] == ["gated.py", "gated_extras.py", "gated_features.py"]


def test_the_commands_of_the_page_work(blocks: list[tuple[str, str, str]], package: Path) -> None:
    rng = np.random.default_rng(0)
    with (package / "data.jsonl").open("w", encoding="utf-8") as file:
        for row in range(30):
            audio = rng.normal(size=4).round(3).tolist()
            video, split = f"v{row // 3}", ("train", "train", "valid", "test", "train")[row // 3 % 5]
            line = {"id": f"u{row}", "video": video, "split": split, "sentiment": audio[0], "audio": audio}
            file.write(json.dumps(line) + "\n")
    said = _type(package, [text for language, _, text in blocks if language == "bash" and "extract" not in text])
    assert "A gate for each modality" not in said or "hidden" in said
    assert "width of what is heard" in said
    assert "Trained gated, seeds 0" in said
    assert "Median of the absolute errors." in said
    assert (package / "run-imported" / "seed-0" / "model.safetensors").is_file()


def test_the_extractors_of_the_page_work(blocks: list[tuple[str, str, str]], package: Path) -> None:
    for module in ("av", "onnxruntime", "silero_vad", "librosa", "pyworld", "ai_edge_litert"):
        pytest.importorskip(module, reason="the extra 'media' is not installed")
    shutil.copy(PAGE.parents[2] / "examples" / "sample.mp4", package / "clip.mp4")
    said = _type(package, [text for language, _, text in blocks if language == "bash" and "extract" in text])
    said += _type(package, ["affectus extract --help"])
    assert "mean red, green and blue of each picture" in said
    corpus = load_corpus(package / "heard")
    assert corpus.modalities == ("audio", "vision")
    assert corpus.card.modalities["audio"].encoder == "loudness 1"
    assert corpus.card.modalities["vision"].feature_names == ["red", "green", "blue"]
    assert (corpus.features["audio"].lengths > 0).all()
    pictures = corpus.features["vision"].values
    assert len(pictures) > 10
    assert 0 <= pictures.min() < pictures.max() <= 1


@pytest.mark.slow
def test_the_model_keeps_the_contract(package: Path) -> None:
    said = _run(package, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gated.py")
    assert int(re.findall(r"(\d+) passed", said)[0]) >= 30


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("mine", "no_such_module", "affectus.fruits")
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken] if group == "affectus.fruits" else [])
    fruit: registry.Registry[int] = registry.Registry("fruit")
    fruit.add("apple", 1)
    with pytest.raises(AffectusError, match=r"A package's entry point in 'affectus\.fruits' cannot be loaded"):
        fruit.names()
    with pytest.raises(AffectusError, match="no_such_module"):
        fruit["apple"]
