"""Damaged media end in a result or in one clear sentence: no crash, no hang, no file left behind.

A file of which nothing comes for ``STALL_SECONDS`` (300) counts as a hang. What the process writes elsewhere, into the
folder of temporary files, has to be gone as well.
"""

import importlib.util
import re
import time
from pathlib import Path
from typing import Any

import pytest

from affectus.corpus import load_corpus
from affectus.features.media.recording import Source
from affectus.features.media.settings import Extraction
from affectus.features.media.workers import STALL_SECONDS, Task, run_tasks

for module in ("av", "onnxruntime", "silero_vad", "librosa", "pyworld", "ai_edge_litert"):
    pytest.importorskip(module, reason="the extra 'media' is not installed")


def _helper() -> Any:
    spec = importlib.util.spec_from_file_location("damage", Path(__file__).with_name("damage.py"))
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _survives(folder: Path, make_media: Any, count: int, seed: int, settings: Extraction) -> dict[str, list[str]]:
    """Read damaged files in a guarded process; return the endings by kind of damage."""
    (folder / "in").mkdir()
    (folder / "temporary").mkdir()
    files = list(_helper().damaged(folder / "in", make_media, count, seed))
    assert len(files) == count
    before = {path: path.read_bytes() for _, path in files}
    tasks = [Task(Source(path, path.stem), folder / "out" / path.stem) for _, path in files]
    began, slowest, endings = time.monotonic(), 0.0, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "temporary"))
        for event in run_tasks(tasks, settings, jobs=1):
            if event.done or event.error is not None:
                endings[event.number] = event.error
                slowest, began = max(slowest, time.monotonic() - began), time.monotonic()
    assert set(endings) == set(range(count))
    assert slowest < STALL_SECONDS
    found: dict[str, list[str]] = {}
    for number, (kind, path) in enumerate(files):
        error = endings[number]
        out = tasks[number].folder
        if error is None:
            corpus = load_corpus(out)
            assert len(corpus) >= 1
            assert all((ragged.values == ragged.values).all() for ragged in corpus.features.values())
        else:
            assert "the process that read it ended" not in error, f"{path.name}: {error}"
            assert "nothing came of it" not in error, f"{path.name}: {error}"
            assert re.fullmatch(r"[A-Z][^\n]*\.", error), error
            assert not out.exists()
        found.setdefault(kind, []).append(error or "result")
    # nothing is left behind, and nothing was changed
    assert list((folder / "temporary").iterdir()) == []
    assert {path: path.read_bytes() for path in (folder / "in").iterdir()} == before
    if (folder / "out").is_dir():
        assert {path.name for path in (folder / "out").iterdir()} == {
            tasks[number].folder.name for number, error in endings.items() if error is None
        }
    return found


def test_twenty_damaged_files(tmp_path: Path, make_media: Any) -> None:
    settings = Extraction(text="none", recognizer="none")
    found = _survives(tmp_path, make_media, 20, 0, settings)
    assert found["no sound"] == ["result"]
    assert found["no pictures"] == ["result"]
    assert found["8k"] == ["result"]
    assert found["one pixel"] == ["result"]
    assert found["variable rate"] == ["result"]
    assert "The file is empty" in found["empty"][0]


@pytest.mark.slow
def test_two_hundred_damaged_files(tmp_path: Path, make_media: Any) -> None:
    pytest.importorskip("faster_whisper", reason="the extra 'asr' is not installed")
    found = _survives(tmp_path, make_media, 200, 1, Extraction(text="none"))
    assert all(len(endings) == 10 for endings in found.values())
