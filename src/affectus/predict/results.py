"""What an analysis tells: of every utterance an opinion of all modalities together, and of each by itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

NOTICE = (
    "This measures what is expressed, as annotators of other recordings would call it; it does not tell what a person "
    "feels or thinks."
)
"""Stands in every result that people read."""
OPPOSED = 1 / 3
"""Two modalities disagree if one's balance is at least this and another's at most its negative."""


@dataclass(frozen=True)
class Opinion:
    """What is said of an utterance.

    Attributes:
        intensity: of sentiment, -3 (very negative) to 3; None if the model does not tell.
        polarity: the likeliest of ``polarities``; None if the model does not tell.
        polarities: probability of each, summing to 1.
        emotion: the likeliest of ``emotions``; None if the model does not tell.
        emotions: probability of each. Of a model that tells one of several they sum to 1.
    """

    intensity: float | None = None
    polarity: str | None = None
    polarities: Mapping[str, float] = field(default_factory=dict)
    emotion: str | None = None
    emotions: Mapping[str, float] = field(default_factory=dict)

    @property
    def balance(self) -> float | None:
        """Probability of positive less that of negative, -1 to 1; a third of the intensity if the model has no such.

        >>> Opinion(polarities={"negative": 0.2, "neutral": 0.3, "positive": 0.5}).balance
        0.3
        """
        if "positive" in self.polarities and "negative" in self.polarities:
            return self.polarities["positive"] - self.polarities["negative"]
        return None if self.intensity is None else self.intensity / 3


@dataclass(frozen=True)
class Utterance:
    """One utterance of an analysed recording.

    Attributes:
        id: unique within the analysis.
        recording: the file or part of it that it belongs to.
        start: seconds; None where the source has no times (text).
        end: seconds.
        speaker: None if unknown.
        text: what was said; None if there is no transcript.
        opinion: of all modalities together.
        alone: per modality that is there, its own opinion.
        present: per emotion the probability that annotators of opinion videos would mark it, several at once; empty if
            the model does not tell.
        attention: weights of the other utterances of the recording, by their ids; empty if the model has none.
        words: (word, start, end) in seconds, where known.
    """

    id: str
    recording: str
    start: float | None
    end: float | None
    speaker: str | None
    text: str | None
    opinion: Opinion
    alone: Mapping[str, Opinion] = field(default_factory=dict)
    present: Mapping[str, float] = field(default_factory=dict)
    attention: Mapping[str, float] = field(default_factory=dict)
    words: tuple[tuple[str, float, float], ...] = ()

    @property
    def spread(self) -> float | None:
        """Largest difference between the balances of two modalities, 0 to 2; None if there are not two."""
        values = [one.balance for one in self.alone.values() if one.balance is not None]
        return max(values) - min(values) if len(values) > 1 else None

    @property
    def disagree(self) -> bool:
        """Whether one modality leans to positive and another to negative, both clearly (:data:`OPPOSED`)."""
        values = [one.balance for one in self.alone.values() if one.balance is not None]
        return len(values) > 1 and max(values) >= OPPOSED and min(values) <= -OPPOSED


@dataclass(frozen=True)
class Analysis:
    """What was found in a recording, or in several.

    Attributes:
        source: the file, as it was given.
        utterances: in the order of time within each recording.
        model: what it was found with: name and hash.
        duration: seconds; None where there is none.
        media: ``video``, ``audio`` or ``text``.
        seconds: how long each stage took.
        notes: what could not be read, and why, one sentence each.
        notice: what the numbers are, and are not.
    """

    source: str
    utterances: tuple[Utterance, ...]
    model: str
    duration: float | None = None
    media: str = "video"
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    notice: str = NOTICE

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that any utterance has an opinion of, text, audio, vision first."""
        from affectus.vocabulary import order_modalities

        return order_modalities({name for one in self.utterances for name in one.alone})

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, in the order in which they first speak."""
        return tuple(dict.fromkeys(one.speaker for one in self.utterances if one.speaker))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        found = asdict(self)
        found["utterances"] = [
            {**asdict(one), "spread": one.spread, "disagree": one.disagree} for one in self.utterances
        ]
        return found
