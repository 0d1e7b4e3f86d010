"""What is extracted from media, and how."""

import re
from dataclasses import asdict, dataclass
from enum import StrEnum

from affectus.errors import AffectusError, suggest, unknown_name
from affectus.features.encoders import PACKAGED as MINILM
from affectus.features.hub import check_name
from affectus.features.media.extractors import is_extractor, names_of
from affectus.features.media.recognition import PACKAGED as TINY
from affectus.features.media.segmentation import LONGEST, PAUSE
from affectus.vocabulary import AUDIO, TEXT, VISION

VERSION = 1
"""Rises when the same settings give other values, so that what was cached before is not used."""
NONE = "none"
SIMS = "sims"
FACES = "faces"
LARGEST, SPEAKING = "largest", "speaking"


class Segments(StrEnum):
    """Where utterances come from, if a manifest does not say."""

    AUTO = "auto"
    """Subtitles if there are any, else speech pauses, else stretches of even length."""
    PAUSES = "pauses"
    """Speech pauses, by voice activity."""
    EVEN = "even"
    """Stretches of even length."""
    WHOLE = "whole"
    """The whole file is one utterance."""


class TextLevel(StrEnum):
    """What becomes a vector of the text modality."""

    UTTERANCE = "utterance"
    """The whole utterance; for the contextual view."""
    WORDS = "words"
    """Each word, the mean of its tokens; for the sequence views."""
    TOKENS = "tokens"
    """Each token."""


@dataclass(frozen=True)
class Extraction:
    """What is extracted from media, and how.

    Attributes:
        text: text encoder (``minilm``, a local folder, a name on the hub) or registered extractor; ``none`` for no text
            features.
        text_level: utterance, words or tokens.
        audio: ``sims`` (35 columns), ``egemaps``, ``praat`` or another registered extractor, a speech encoder's folder
            or name on the hub; or ``none``.
        vision: ``faces`` or another registered extractor; or ``none``. True is ``faces``, False ``none``.
        fps: pictures per second that are looked at.
        face: whose face: ``largest``, ``speaking``, or the number of a track.
        recognizer: speech recogniser for what has no transcript; ``none`` for none.
        language: of the speech, a code such as ``en``; None lets a multilingual recogniser tell.
        segments: where utterances come from.
        pause: seconds of silence that end an utterance.
        longest: seconds; longer speech is cut.
        diarizer: name of a speaker diariser on the hub; None for none.
        aligned: pool every modality over the words.

    Raises:
        AffectusError: a value is none of the known ones or out of its range.
    """

    text: str = MINILM
    text_level: str = TextLevel.UTTERANCE.value
    audio: str = SIMS
    vision: str | bool = FACES
    fps: float = 10.0
    face: str = LARGEST
    recognizer: str = TINY
    language: str | None = None
    segments: str = Segments.AUTO.value
    pause: float = PAUSE
    longest: float = LONGEST
    diarizer: str | None = None
    aligned: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.vision, bool):
            object.__setattr__(self, "vision", FACES if self.vision else NONE)
        for name, modality in ((self.text, TEXT), (self.audio, AUDIO), (str(self.vision), VISION)):
            if name == NONE or is_extractor(name, modality):
                continue
            # what is no extractor may be a folder or a name on the hub, but for vision
            if modality == VISION:
                raise unknown_name("extractor of vision", name, [*names_of(VISION), NONE], where="--vision")
            kind = "text encoder" if modality == TEXT else "sound features"
            check_name(kind, name, [*names_of(modality), NONE])
        _one_of("--segments", self.segments, [str(one) for one in Segments])
        _one_of("--text-level", self.text_level, [str(one) for one in TextLevel])
        if self.face not in (LARGEST, SPEAKING) and not re.fullmatch(r"[1-9]\d*", self.face):
            raise AffectusError(
                "Unknown choice of a face", got=repr(self.face), expected="largest, speaking, or a face's number from 1"
            )
        for name, value, low, high in (
            ("--fps", self.fps, 0.1, 120.0),
            ("--pause", self.pause, 0.05, 60.0),
            ("--longest", self.longest, 1.0, 600.0),
        ):
            if not low <= value <= high:
                raise AffectusError(f"{name} is out of range", got=value, expected=f"{low:g} to {high:g}")
        if self.text == self.audio == self.vision == NONE:
            raise AffectusError("Nothing is to be extracted", remedy="Leave on one of text, audio and vision")

    @property
    def modalities(self) -> tuple[str, ...]:
        """What may be found; a file without a face or without sound lacks some of it."""
        wanted = {TEXT: self.text, AUDIO: self.audio, VISION: self.vision}
        return tuple(name for name, extractor in wanted.items() if extractor != NONE)

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain values."""
        return asdict(self)


def _one_of(option: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise AffectusError(
            f"Unknown {option} {value!r}", expected="one of: " + ", ".join(known), remedy=suggest(value, known)
        )
