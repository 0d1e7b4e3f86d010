"""What describes sound: affectus's own columns, eGeMAPS, Praat's measures, or a speech encoder by name."""

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.features.hub import ask_for, check_name, is_here
from affectus.features.media.acoustic import AUDIO_COLUMNS, F0_RANGE, FRAME_RATE, RATE, audio_features
from affectus.features.media.extractors import SoundFeatures, create_extractor, is_extractor, names_of
from affectus.features.media.extras import need
from affectus.files import sha256
from affectus.threads import torch_threads
from affectus.vocabulary import AUDIO

FloatArray = npt.NDArray[np.float32]

_STEP: Final = 0.01
"""Seconds from one frame to the next of eGeMAPS and Praat."""
_SHORTEST: Final = 0.1
"""Seconds; shorter sound is filled with silence, since no period of a low voice fits into it."""


def load_sound_features(name: str = "sims", *, threads: int = 1) -> SoundFeatures:
    """Load what describes sound.

    Args:
        name: of a registered extractor, a local folder of a speech encoder, or its name on the hub.
        threads: of a speech encoder.

    Raises:
        AffectusError: the extra is absent, or there is no such encoder.
    """
    if is_extractor(name, AUDIO):
        found: SoundFeatures = create_extractor(name, threads=threads)
        return found
    check_name("sound features", name, names_of(AUDIO))
    return SpeechEncoder(name, threads=threads)


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


class Egemaps:
    """The 25 low-level descriptors of eGeMAPSv02 (Eyben et al. 2016) every 10 ms, by openSMILE.

    openSMILE may not be used commercially, so it is an extra.

    Raises:
        AffectusError: opensmile is absent.
    """

    def __init__(self) -> None:
        opensmile = need("opensmile", "eGeMAPS features", install="pip install 'affectus[egemaps]'")
        self._smile: Any = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02,
            feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
            num_workers=1,
        )
        self.identity = f"openSMILE {opensmile.__version__}: eGeMAPSv02, low-level descriptors"
        self.columns: list[str] | None = list(self._smile.feature_names)
        self.dim = len(self.columns)
        self.rate = 1 / _STEP

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Return (T, 25)."""
        found = self._smile.process_signal(_filled(samples), RATE).to_numpy()
        return _clean(found[: _frames(samples)])


class Praat:
    """Measures of Praat every 10 ms: pitch, intensity, harmonics-to-noise ratio, three formants and their widths.

    Praat is under the GPL, so it is an extra. ``f0`` is in Hz, 0 where there is no voice; ``intensity`` and ``hnr`` are
    in dB, the latter -200 without a voice; formants and widths are in Hz, 0 where there is none.

    Raises:
        AffectusError: parselmouth is absent.
    """

    def __init__(self) -> None:
        self._praat = need("parselmouth", "Praat's measures", install="pip install 'affectus[praat]'")
        self.identity = f"Praat {self._praat.PRAAT_VERSION}"
        self.columns: list[str] | None = [
            "f0",
            "intensity",
            "hnr",
            "f1",
            "f2",
            "f3",
            "f1_width",
            "f2_width",
            "f3_width",
        ]
        self.dim = len(self.columns)
        self.rate = 1 / _STEP

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Return (T, 9)."""
        count = _frames(samples)
        sound = self._praat.Sound(_filled(samples).astype(np.float64), RATE)
        moments = (np.arange(count) + 0.5) * _STEP
        pitch = sound.to_pitch_ac(time_step=_STEP, pitch_floor=F0_RANGE[0], pitch_ceiling=F0_RANGE[1])
        intensity = sound.to_intensity(F0_RANGE[0], _STEP)
        harmonicity = sound.to_harmonicity_cc(_STEP, F0_RANGE[0])
        formants = sound.to_formant_burg(_STEP, 5.0, 5500.0)
        columns = [
            _at(moments, pitch.xs(), pitch.selected_array["frequency"]),
            _at(moments, intensity.xs(), intensity.values[0]),
            _at(moments, harmonicity.xs(), harmonicity.values[0]),
            *([formants.get_value_at_time(n, t) for t in moments] for n in (1, 2, 3)),
            *([formants.get_bandwidth_at_time(n, t) for t in moments] for n in (1, 2, 3)),
        ]
        return _clean(np.array(columns).T.reshape(count, self.dim))


class SpeechEncoder:
    """The last layer of a speech encoder of transformers (wav2vec 2.0, HuBERT, WavLM, Whisper's encoder ...).

    Args:
        name: a local folder, or a name on the Hugging Face hub.
        threads: of torch.

    Raises:
        AffectusError: transformers is absent, there is no such model, or it encodes no sound at 16 kHz.
    """

    def __init__(self, name: str, *, threads: int = 1) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise AffectusError(
                "Speech encoders need the package transformers", remedy="Install it: pip install 'affectus[text]'"
            )
        import torch
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging

        from affectus.nn.matmul import adopt

        local = Path(name).is_dir()
        if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1):
            raise AffectusError("There is no folder of a speech encoder", where=name)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        here = local or is_here(name, "config.json", "preprocessor_config.json")
        try:
            if not here:
                ask_for(name)
            self._prepare: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
                name, local_files_only=here, trust_remote_code=False
            )
            # weights in another form than safetensors would be a pickle
            model: Any = AutoModel.from_pretrained(
                name, local_files_only=here, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
            if model.config.is_encoder_decoder:
                model = model.get_encoder()
        except Exception as error:
            # transformers, the hub's client and safetensors raise types of their own
            raise AffectusError(
                f"The speech encoder {name!r} could not be loaded",
                got=" ".join(str(error).split())[:160],
                expected="sims, egemaps, praat, a folder of a speech encoder, or its name on the Hugging Face hub",
                remedy="Look whether its files are whole" if here else "Check the name and the network",
            ) from None
        if getattr(self._prepare, "sampling_rate", None) != RATE:
            raise AffectusError(
                f"The speech encoder {name!r} does not hear sound at 16 kHz",
                got=getattr(self._prepare, "sampling_rate", "no feature extractor of sound"),
            )
        self._model, self._threads = adopt(model).eval(), threads
        weights = Path(name) / "model.safetensors"
        self.identity = f"{Path(name).name}, sha256 {sha256(weights)[:16]}" if weights.is_file() else name
        self.columns: list[str] | None = None
        self.dim = int(model.config.hidden_size)
        # a second more gives so many steps more
        self.rate = float(len(self(np.zeros(2 * RATE, np.float32))) - len(self(np.zeros(RATE, np.float32)))) or 1.0

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Return (T, dim)."""
        import torch

        given = self._prepare(_filled(samples), sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode(), torch_threads(self._threads):
            states = self._model(**given).last_hidden_state[0].float().numpy()
        # Whisper's encoder always hears 30 s: what lies behind the sound is cut off
        if hasattr(self, "rate"):
            states = states[: max(round(len(samples) / RATE * self.rate), 1)]
        return _clean(states)


def _frames(samples: FloatArray) -> int:
    return max(-(-len(samples) // round(RATE * _STEP)), 1) if len(samples) else 0


def _filled(samples: FloatArray) -> FloatArray:
    return np.pad(samples, (0, max(round(RATE * _SHORTEST) - len(samples), 0)))


def _at(moments: npt.NDArray[Any], times: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the value nearest in time to each moment."""
    if not len(times):
        return np.zeros(len(moments))
    right = np.searchsorted(times, moments).clip(1, max(len(times) - 1, 1))
    near = np.where(moments - times[right - 1] <= times[right % len(times)] - moments, right - 1, right)
    return values[near.clip(0, len(times) - 1)]  # type: ignore[no-any-return]


def _clean(values: npt.NDArray[Any]) -> FloatArray:
    found: FloatArray = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    return found
