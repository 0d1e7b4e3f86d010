"""Which parts of the reading of media are ready, where their models lie, and what mends what is missing."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from affectus.errors import AffectusError
from affectus.features.media.extras import ASR, MEDIA
from affectus.features.media.turns import INSTALL as SPEAKERS

TEXT = "pip install 'affectus[text]'"


@dataclass(frozen=True)
class Part:
    """A part and its state.

    Attributes:
        name: of the part.
        does: what it is for.
        ready: it can be used.
        optional: nothing that is done by default needs it.
        found: packages with their versions, and where its model lies.
        problem: what is missing; None if it is ready.
        remedy: the command that mends it; None if it is ready.
    """

    name: str
    does: str
    ready: bool
    optional: bool
    found: str
    problem: str | None = None
    remedy: str | None = None


def _text_model() -> Path:
    from affectus.features.encoders import packaged_weights

    return packaged_weights()


def _voice_model() -> Path:
    from affectus.features.media.voice import model_path

    return model_path()


def _face_model() -> Path:
    from affectus.features.media.faces.networks import model_file, model_parts

    model_parts()
    return model_file()


def _speech_model() -> Path:
    from affectus.features.media.recognition import PACKAGED, packaged_folder

    return packaged_folder(PACKAGED)


def _base_model() -> Path:
    from affectus.features.media.recognition import BASE, packaged_folder

    return packaged_folder(BASE)


def check_parts() -> list[Part]:
    """Look at every part; models are read to compare their SHA-256, but nothing is run and no network is asked."""
    return [
        _part("text", "vectors of words and sentences", {"transformers": "transformers"}, TEXT, _text_model),
        _part("media", "decoding of video and sound", {"av": "av"}, MEDIA),
        _part("sound", "acoustic features", {"librosa": "librosa", "pyworld": "pyworld-prebuilt"}, MEDIA),
        _part("voice", "where somebody speaks", {"onnxruntime": "onnxruntime"}, MEDIA, _voice_model),
        _part("faces", "faces and what they do", {"ai_edge_litert": "ai-edge-litert"}, MEDIA, _face_model),
        _part("speech", "speech recognition, English", {"faster_whisper": "faster-whisper"}, ASR, _speech_model),
        _part(
            "speech-base", "speech recognition, many languages", {"faster_whisper": "faster-whisper"}, ASR, _base_model,
            optional=True,
        ),
        _part("egemaps", "eGeMAPS; no commercial use", {"opensmile": "opensmile"}, "pip install 'affectus[egemaps]'",
              optional=True),
        _part("praat", "Praat's measures; GPL", {"parselmouth": "praat-parselmouth"}, "pip install 'affectus[praat]'",
              optional=True),
        _part("speakers", "speaker turns by a diariser", {"pyannote.audio": "pyannote.audio"}, SPEAKERS, optional=True),
    ]  # fmt: skip


def _part(
    name: str,
    does: str,
    packages: dict[str, str],
    install: str,
    model: Callable[[], Path] | None = None,
    *,
    optional: bool = False,
) -> Part:
    """Look at a part: its packages by module and by name, and the model that it needs."""
    found: list[str] = []
    for module, package in packages.items():
        if not _is_there(module):
            return Part(name, does, False, optional, ", ".join(found), f"{package} is not installed", install)
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(package)
    if model is not None:
        try:
            found.append(str(model()))
        except AffectusError as error:
            problem = error.what if error.where is None else f"{error.what} in {error.where}"
            return Part(name, does, False, optional, ", ".join(found), problem, error.remedy or install)
    return Part(name, does, True, optional, ", ".join(found))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False


def hub_folder() -> Path:
    """Return where models of the Hugging Face hub are kept."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def folder_bytes(folder: Path) -> int:
    """Return how many bytes the files in a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
