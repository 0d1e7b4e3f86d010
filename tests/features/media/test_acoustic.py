import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media import extras
from affectus.features.media.acoustic import AUDIO_COLUMNS, F0_RANGE, HOP, RATE, audio_features, frame_times

pytest.importorskip("librosa", reason="the extra 'media' is not installed")
pytest.importorskip("pyworld", reason="the extra 'media' is not installed")

COLUMN = {name: i for i, name in enumerate(AUDIO_COLUMNS)}


def voice(f0: float, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    """A voice-like sound: falling harmonics."""
    t = np.arange(int(RATE * seconds)) / RATE
    sound = sum(np.sin(2 * np.pi * f0 * k * t) / k for k in range(1, int(4000 / f0)))
    return (level * sound / np.abs(sound).max()).astype(np.float32)


def test_columns() -> None:
    assert len(AUDIO_COLUMNS) == 35
    assert len(set(AUDIO_COLUMNS)) == 35


@pytest.mark.parametrize("f0", [110.0, 220.0, 330.0])
def test_pitch_energy_and_chroma_of_a_known_voice(f0: float) -> None:
    found = audio_features(voice(f0))
    assert found.shape == (-(-RATE // HOP), 35)
    assert found.dtype == np.float32
    middle = found[5:-5]
    assert np.exp(middle[:, COLUMN["log_f0"]]) == pytest.approx(f0, rel=0.01)
    assert middle[:, COLUMN["voicing"]].mean() > 0.9
    pitch = {110.0: "A", 220.0: "A", 330.0: "E"}[f0]
    chroma = middle[:, COLUMN["chroma_C"] : COLUMN["chroma_B"] + 1]
    assert AUDIO_COLUMNS[COLUMN["chroma_C"] + int(chroma.mean(axis=0).argmax())] == f"chroma_{pitch}"
    rms = 20 * np.log10(np.sqrt(np.mean(voice(f0) ** 2)))
    assert middle[:, COLUMN["energy"]] == pytest.approx(rms, abs=0.5)


def test_twice_as_loud_is_six_decibels_and_nothing_else() -> None:
    # with noise in the bands that the voice leaves empty
    sound = voice(150, level=0.1) + 0.002 * np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    quiet, loud = audio_features(sound), audio_features(2 * sound)
    assert (loud - quiet)[:, COLUMN["energy"]] == pytest.approx(6.02, abs=0.01)
    assert loud[5:-5, COLUMN["mfcc_1"]] == pytest.approx(quiet[5:-5, COLUMN["mfcc_1"]], abs=0.1)
    assert loud[:, COLUMN["log_f0"]] == pytest.approx(quiet[:, COLUMN["log_f0"]], abs=0.01)


def test_silence_between_two_voices_is_bridged() -> None:
    found = audio_features(np.concatenate([voice(100), np.zeros(RATE, np.float32), voice(200)]))
    silent = found[40:55]
    assert silent[:, COLUMN["voicing"]].max() == 0
    assert silent[:, COLUMN["energy"]] == pytest.approx(-100)
    assert (np.diff(silent[:, COLUMN["log_f0"]]) > 0).all()
    assert np.log(100) < silent[0, COLUMN["log_f0"]] < silent[-1, COLUMN["log_f0"]] < np.log(200)


def test_frames_stand_where_the_sound_is() -> None:
    sound = np.zeros(10 * HOP, np.float32)
    sound[4 * HOP : 5 * HOP] = 0.5
    assert audio_features(sound)[:, COLUMN["energy"]].argmax() == 4
    assert frame_times(10, 1.0)[4] == pytest.approx([1 + 4 * 0.032, 1 + 5 * 0.032])


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 2048])
def test_any_length(count: int) -> None:
    found = audio_features(np.random.default_rng(0).normal(size=count).astype(np.float32) * 0.1)
    assert found.shape == (-(-count // HOP), 35)
    assert np.isfinite(found).all()


def test_without_a_voice_the_pitch_is_the_middle_of_the_range() -> None:
    found = audio_features(np.zeros(RATE, np.float32))
    assert np.exp(found[:, 0]) == pytest.approx(np.sqrt(F0_RANGE[0] * F0_RANGE[1]))
    assert found[:, COLUMN["chroma_C"] : COLUMN["chroma_B"] + 1].max() == 0


def test_bad_samples_count_as_zero() -> None:
    sound = voice(150)
    sound[100], sound[200], sound[300] = np.nan, np.inf, -np.inf
    assert np.isfinite(audio_features(sound)).all()


def test_other_rates_are_resampled() -> None:
    t = np.arange(44_100) / 44_100
    sound = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 20)) * 0.05
    found = audio_features(sound, rate=44_100)
    assert found.shape == (-(-RATE // HOP), 35)
    assert np.exp(np.median(found[:, 0])) == pytest.approx(150, rel=0.01)


def test_an_absent_package_is_named_with_its_command() -> None:
    with pytest.raises(AffectusError, match=r"Sound features need the package no_such_package\. Install it: pip"):
        extras.need("no_such_package", "Sound features")
