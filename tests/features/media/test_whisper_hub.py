from pathlib import Path

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media.recognition import load_recognizer
from affectus.features.media.whisper_hub import HubWhisper, load_hub_whisper

pytest.importorskip("faster_whisper", reason="the extra 'asr' is not installed")
pytest.importorskip("transformers", reason="the extra 'text' is not installed")


def test_times_are_kept_within_the_sound() -> None:
    def pipeline(sound: dict[str, object], **options: object) -> dict[str, object]:
        assert options["return_timestamps"] == "word"
        assert options["generate_kwargs"]["language"] == "de"  # type: ignore[index]
        return {"chunks": [{"text": " Guten", "timestamp": (0.1, 0.6)}, {"text": " Tag", "timestamp": (0.7, None)}]}

    found = HubWhisper(pipeline, "a test's", "de", 1).words(np.zeros(16_000, np.float32), 5.0)
    assert [(word.text, word.start, word.end) for word in found] == [("Guten", 5.1, 5.6), ("Tag", 5.7, 6.0)]


def test_a_folder_of_transformers_goes_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AffectusError, match=r"could not be loaded.*a Whisper, its weights as safetensors"):
        load_recognizer(str(tmp_path))
    with pytest.raises(AffectusError, match="could not be loaded"):
        load_hub_whisper(str(tmp_path), language=None, threads=1)
