"""The examples run as they stand."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_ecg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ecg.py", "--work", str(tmp_path / "ecg"), "--videos", "60"])
    runpy.run_path(str(EXAMPLES / "ecg.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    figures = {line.partition(":")[0]: float(line.split("weighted_accuracy ")[1].split()[0]) for line in lines}
    # the heart was made from the emotions, so it must help
    assert figures["linear on ecg"] > 0.6
    assert figures["linear on text and ecg"] > figures["linear on text"]
