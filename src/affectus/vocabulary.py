"""The words of the field and of its commands: modalities, splits, emotions, views and devices, with their names."""

from collections.abc import Iterable
from enum import StrEnum

from affectus.errors import AffectusError, suggest, unknown_name

TEXT, AUDIO, VISION = "text", "audio", "vision"
KNOWN_MODALITIES = (TEXT, AUDIO, VISION)
"""The modalities that the papers know, in the order in which affectus always lists them."""

MODALITY_ALIASES = {
    "t": TEXT, "l": TEXT, "language": TEXT, "words": TEXT,
    "a": AUDIO, "acoustic": AUDIO, "speech": AUDIO,
    "v": VISION, "video": VISION, "visual": VISION, "image": VISION,
}  # fmt: skip


class Split(StrEnum):
    """A part of a corpus: models learn from ``train``, are selected on ``valid`` and judged on ``test``."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


SPLIT_ALIASES = {
    "train": Split.TRAIN, "training": Split.TRAIN, "standard_train_fold": Split.TRAIN,
    "valid": Split.VALID, "validation": Split.VALID, "dev": Split.VALID, "val": Split.VALID,
    "standard_valid_fold": Split.VALID,
    "test": Split.TEST, "testing": Split.TEST, "standard_test_fold": Split.TEST,
}  # fmt: skip


class Emotion(StrEnum):
    """The six basic emotions in the order of Akhtar et al. 2019, then *none*."""

    ANGER = "anger"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPINESS = "happiness"
    SADNESS = "sadness"
    SURPRISE = "surprise"
    NONE = "none"


SIX_EMOTIONS = tuple(emotion.value for emotion in Emotion if emotion is not Emotion.NONE)
SEVEN_EMOTIONS = tuple(emotion.value for emotion in Emotion)

EMOTION_ALIASES = {
    "angry": Emotion.ANGER, "disgusted": Emotion.DISGUST, "fearful": Emotion.FEAR, "happy": Emotion.HAPPINESS,
    "joy": Emotion.HAPPINESS, "sad": Emotion.SADNESS, "surprised": Emotion.SURPRISE, "neutral": Emotion.NONE,
    "no_class": Emotion.NONE,
}  # fmt: skip


class View(StrEnum):
    """How a model looks at a corpus.

    ``contextual``: a sample is a video, its steps are utterances. ``unaligned``: a sample is an utterance, each
    modality keeps its own length. ``aligned``: a sample is an utterance, all modalities share one step per word.
    """

    CONTEXTUAL = "contextual"
    UNALIGNED = "unaligned"
    ALIGNED = "aligned"


DEVICES = ("auto", "cpu", "cuda")
"""What a run may be trained on; ``auto`` takes a GPU if there is one."""


def canonical_emotion(name: str) -> str:
    """Return affectus's name of an emotion (``joy`` and ``happy`` become ``happiness``); unknown names stay."""
    lowered = name.strip().lower()
    return str(EMOTION_ALIASES.get(lowered, lowered))


def canonical_modality(name: str) -> str:
    """Return affectus's name of a modality (``v``, ``visual`` and ``video`` become ``vision``); unknown names stay."""
    lowered = name.strip().lower()
    return MODALITY_ALIASES.get(lowered, lowered)


def canonical_split(name: str) -> str:
    """Return ``train``, ``valid`` or ``test`` for a source's name of a split.

    Raises:
        AffectusError: the name is not a known split.
    """
    try:
        return str(SPLIT_ALIASES[name.strip().lower()])
    except KeyError:
        raise AffectusError(
            f"Unknown split {name!r}",
            expected="one of train, valid, test (dev, val and the SDK's standard_*_fold are aliases)",
            remedy=suggest(name, SPLIT_ALIASES),
        ) from None


def canonical_view(name: str) -> View:
    """Return the view of a name.

    Raises:
        AffectusError: there is none of this name.
    """
    if name not in list(View):
        raise unknown_name("view", name, View)
    return View(name)


def check_device(name: str) -> None:
    """Check the name of a device.

    Raises:
        AffectusError: it is none of :data:`DEVICES`.
    """
    if name not in DEVICES:
        raise unknown_name("device", str(name), DEVICES)


def order_modalities(names: Iterable[str]) -> tuple[str, ...]:
    """Order modality names: text, audio, vision, then every other one by name.

    >>> order_modalities(["gaze", "vision", "text"])
    ('text', 'vision', 'gaze')
    """
    names = set(names)
    known = tuple(name for name in KNOWN_MODALITIES if name in names)
    return known + tuple(sorted(names - set(known)))
