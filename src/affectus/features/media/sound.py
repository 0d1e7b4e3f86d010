"""What describes sound: affectus's own columns, or others by name."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from affectus.features.media.acoustic import AUDIO_COLUMNS, FRAME_RATE, audio_features

FloatArray = npt.NDArray[np.float32]


class SoundFeatures(Protocol):
    """Anything that turns sound into frames."""

    identity: str
    """Name and, where known, the version."""
    columns: list[str] | None
    """Names of the columns, where they have any."""
    dim: int
    """Number of columns."""
    rate: float
    """Frames per second."""

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Return (T, dim) of up to 30 s of sound at 16 kHz; frame t begins at ``t / rate`` seconds."""
        ...


class Sims:
    """The 33 columns of CH-SIMS, energy and voicing."""

    def __init__(self) -> None:
        self.identity = "affectus acoustic: CH-SIMS's 33 columns with F0 by WORLD, energy, voicing"
        self.columns: list[str] | None = list(AUDIO_COLUMNS)
        self.dim = len(AUDIO_COLUMNS)
        self.rate = FRAME_RATE

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Return (T, 35)."""
        return audio_features(samples)


def load_sound_features(name: str, *, threads: int = 1) -> SoundFeatures:
    """Load what describes sound: ``sims``."""
    return Sims()
