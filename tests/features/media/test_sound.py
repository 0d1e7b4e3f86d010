from pathlib import Path

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media.sound import load_sound_features


def voice(f0: float = 150.0, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(16_000 * seconds)) / 16_000
    return (0.05 * sum(np.sin(2 * np.pi * f0 * k * t) / k for k in range(1, 20))).astype(np.float32)


def test_praat_measures_a_known_voice() -> None:
    pytest.importorskip("parselmouth", reason="the extra 'praat' is not installed")
    praat = load_sound_features("praat")
    found = praat(np.concatenate([voice(150), np.zeros(16_000, np.float32)]))
    assert found.shape == (200, 9)
    assert found[10:90, 0] == pytest.approx(150, rel=0.01)
    assert found[120:, 0].max() == 0
    assert found[50, 1] > found[150, 1] + 40
    assert found[10:90, 2].min() > 10
    assert praat(voice(seconds=0.01)).shape == (1, 9)


def test_egemaps() -> None:
    pytest.importorskip("opensmile", reason="the extra 'egemaps' is not installed")
    egemaps = load_sound_features("egemaps")
    found = egemaps(voice(220))
    assert found.shape[1] == egemaps.dim == 25
    assert len(found) == pytest.approx(100, abs=8)
    assert egemaps.columns is not None
    pitch = egemaps.columns.index("F0semitoneFrom27.5Hz_sma3nz")
    assert np.median(found[:, pitch]) == pytest.approx(12 * np.log2(220 / 27.5), abs=0.3)
    assert egemaps(voice(seconds=0.01)).shape[1] == 25


def test_a_speech_encoder_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra 'text' is not installed")
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    encoder = load_sound_features(str(tmp_path))
    assert (encoder.dim, encoder.rate) == (16, 50.0)
    assert encoder.identity.startswith(f"{tmp_path.name}, sha256 ")
    assert encoder(voice(seconds=2.0)).shape == (99, 16)
    assert len(encoder(voice(seconds=0.01))) >= 1


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"Unknown sound features 'egemap'.* Did you mean 'egemaps'\?"):
        load_sound_features("egemap")
    pytest.importorskip("transformers", reason="the extra 'text' is not installed")
    with pytest.raises(AffectusError, match="There is no folder of a speech encoder"):
        load_sound_features("./absent")
    with pytest.raises(AffectusError, match="could not be loaded"):
        load_sound_features(str(tmp_path))
