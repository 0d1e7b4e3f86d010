"""An analysis made by hand: two speakers, three utterances, one of which has no words."""

import pytest

from affectus.predict.results import Analysis, Opinion, Utterance
from affectus.vocabulary import SEVEN_EMOTIONS


def opinion(intensity: float, emotion: str, share: float = 0.7) -> Opinion:
    rest = (1 - share) / 6
    polarity = "positive" if intensity > 0.2 else "negative" if intensity < -0.2 else "neutral"
    return Opinion(
        intensity=intensity,
        polarity=polarity,
        polarities={name: 0.8 if name == polarity else 0.1 for name in ("negative", "neutral", "positive")},
        emotion=emotion,
        emotions={name: share if name == emotion else rest for name in SEVEN_EMOTIONS},
    )


@pytest.fixture
def analysis() -> Analysis:
    first = Utterance(
        id="clip[0]", recording="clip", start=0.5, end=2.0, speaker="Ann", text='I "love" it & <you>',
        opinion=opinion(1.5, "happiness"),
        alone={"text": opinion(2.0, "happiness"), "audio": opinion(-0.8, "anger")},
        present={"happiness": 0.9}, attention={"clip[1]": 0.25},
        words=(("I", 0.5, 0.7), ('"love"', 0.7, 1.2)),
    )  # fmt: skip
    second = Utterance(
        id="clip[1]", recording="clip", start=1.8, end=3.0, speaker="Bo", text="No.", opinion=opinion(-1.2, "anger"),
        alone={"text": opinion(-1.2, "anger")}, attention={"clip[0]": 0.5},
    )  # fmt: skip
    third = Utterance(
        id="clip[2]", recording="clip", start=4.0, end=5.0, speaker=None, text=None, opinion=opinion(0.0, "none"),
        alone={"audio": opinion(0.0, "none")},
    )  # fmt: skip
    return Analysis("media/clip.mp4", (first, second, third), "model, sha256 0", duration=6.0, notes=("A note.",))


@pytest.fixture
def text_analysis() -> Analysis:
    lines = [("It was wonderful.", 1.4, "happiness"), ("Then it rained.", -0.6, "sadness")]
    utterances = tuple(
        Utterance(
            id=f"letter[{i}]", recording="letter", start=None, end=None, speaker=None, text=text,
            opinion=opinion(value, emotion), alone={"text": opinion(value, emotion)},
        )
        for i, (text, value, emotion) in enumerate(lines)
    )  # fmt: skip
    return Analysis("letter.txt", utterances, "model, sha256 0", media="text")
