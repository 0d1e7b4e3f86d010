"""A corpus whose features are larger than what a process may allocate is checked, trained on and judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "larger_than_memory.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux sets them")
@pytest.mark.skipif(not BENCHMARK.is_file(), reason="the benchmarks are not here")
def test_features_are_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    call = [sys.executable, BENCHMARK, "--gigabytes", "1", "--limit", "384", "--work", tmp_path, "--json", out]
    subprocess.run(call, check=True, timeout=3600)
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["features_mib"] > 900
    for job in ("check", "aligned", "contextual"):
        assert figures[job]["peak_mib"] - figures[job]["before_mib"] < 0.3 * figures["features_mib"]
