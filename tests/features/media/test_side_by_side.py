"""Pictures that are read while sound is heard: the same result, and an end if the sound fails."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectus.features.media.recording import Extractor, Source
from affectus.features.media.settings import Extraction
from affectus.features.media.words import Word

for module in ("av", "onnxruntime", "silero_vad", "librosa", "pyworld", "ai_edge_litert"):
    pytest.importorskip(module, reason="the extra 'media' is not installed")

SAMPLE = Path(__file__).parents[3] / "examples" / "sample.mp4"


class Recognizer:
    """Hears one word in each piece, or fails."""

    identity = "a test's"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def words(self, samples: np.ndarray, begin: float = 0.0) -> list[Word]:
        if self.fails:
            raise RuntimeError("deaf")
        return [Word("word", begin, begin + 0.4)]


def read(side_by_side: bool, report: Any, *, fails: bool = False, fps: float = 3.0) -> Any:
    extractor = Extractor(Extraction(text="none", fps=fps), side_by_side=side_by_side)
    extractor.__dict__["_recognizer"] = Recognizer(fails)
    return extractor.read(Source(SAMPLE, "a"), report)


def test_the_result_is_the_same_and_what_is_done_never_falls() -> None:
    told: list[tuple[str, float]] = []
    apart = read(False, lambda what, share: None)
    beside = read(True, lambda what, share: told.append((what, share)))
    assert beside.table.equals(apart.table)
    assert beside.card.notes == apart.card.notes
    assert set(beside.features) == {"audio", "vision"}
    for name, ragged in apart.features.items():
        assert np.array_equal(beside.features[name].values, ragged.values)
        assert np.array_equal(beside.features[name].offsets, ragged.offsets)
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert {"describing sound", "reading faces"} <= {what for what, _ in told}


def test_if_the_sound_fails_the_pictures_are_not_read_to_their_end() -> None:
    seen: list[str] = []

    def report(what: str, share: float) -> None:
        seen.append(what)
        if what == "reading faces":
            time.sleep(0.2)  # so that the sound fails long before

    with pytest.raises(RuntimeError, match="deaf"):
        read(True, report, fails=True, fps=10.0)
    assert seen.count("reading faces") < 20
