import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media import voice
from affectus.features.media.segmentation import split_long
from affectus.features.media.voice import speech_probabilities, speech_stretches

DATA = Path(os.environ.get("AFFECTUS_DATA", "../shared/data"))


def test_speech_is_found_and_noise_is_not() -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'media' is not installed")
    av = pytest.importorskip("av", reason="the extra 'media' is not installed")
    assert av
    from affectus.features.media.decoding import audio_blocks

    clip = DATA / "cremad_clips" / "1001_DFA_ANG_XX.wav"
    if not clip.is_file():
        pytest.skip("AFFECTUS_DATA is not there")
    speech = np.concatenate(list(audio_blocks(clip)))
    noise = np.random.default_rng(0).normal(size=48_000).astype(np.float32) * 0.01
    sound = np.concatenate([noise, speech, noise])
    whole = speech_probabilities([sound])
    assert whole.shape == (-(-len(sound) // 512),)
    pieces = speech_probabilities(np.array_split(sound, 37))
    assert pieces == pytest.approx(whole, abs=1e-5)
    stretches = speech_stretches(whole)
    assert len(stretches) == 1
    begin, end = stretches[0]
    assert 3.0 < begin < 3.6
    assert 4.4 < end < 5.3
    assert speech_probabilities([]).shape == (0,)


def test_stretches_join_over_short_pauses_and_drop_clicks() -> None:
    probabilities = np.zeros(200, np.float32)
    probabilities[20:60] = probabilities[65:100] = 0.9  # a pause of 5 frames, 0.16 s
    probabilities[150:153] = 0.9  # a click
    assert len(speech_stretches(probabilities, pause=0.3, pad=0)) == 1
    begin, end = speech_stretches(probabilities, pause=0.3, pad=0)[0]
    assert (begin, end) == pytest.approx((20 * 0.032, 100 * 0.032))
    assert len(speech_stretches(probabilities, pause=0.1, pad=0)) == 2
    padded = speech_stretches(probabilities, pause=0.1, pad=1.0)
    assert padded[0][1] == pytest.approx(padded[1][0])  # neither reaches into the other
    assert padded[0][0] == 0


def test_long_speech_is_cut_where_it_is_quietest() -> None:
    probabilities = np.ones(1000, np.float32)
    probabilities[440:446] = 0.2
    found = split_long([(0.0, 32.0)], probabilities, 20.0)
    assert found[0][1] == found[1][0] == pytest.approx(443 * 0.032, abs=0.1)
    flat = split_long([(0.0, 30.0)], np.ones(1000, np.float32), 8.0)
    assert flat == [(0.0, 7.5), (7.5, 15.0), (15.0, 22.5), (22.5, 30.0)]


def test_an_unknown_model_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("silero_vad", reason="the extra 'media' is not installed")
    monkeypatch.setattr(voice, "_SHA256", "0" * 64)
    with pytest.raises(AffectusError, match="The model of voice activity is not the known one"):
        voice.model_path()
    monkeypatch.setattr(voice.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AffectusError, match="Voice activity needs the package silero-vad"):
        voice.model_path()


def test_onnxruntime_reports_nothing(tmp_path: Path) -> None:
    """Its telemetry leaves a file of the session beside what it sends."""
    pytest.importorskip("onnxruntime", reason="the extra 'media' is not installed")
    script = "import affectus, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []
