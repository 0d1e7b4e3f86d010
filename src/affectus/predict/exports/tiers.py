"""What stands on the tiers of an annotation: one value for each stretch of time."""

from collections.abc import Callable
from dataclasses import dataclass

from affectus.predict.results import Analysis, Opinion, Utterance

Adder = Callable[[str, Utterance, str | None], None]


@dataclass(frozen=True)
class Mark:
    """A stretch of time and what stands there; seconds."""

    start: float
    end: float
    text: str


def timed(analysis: Analysis) -> list[Utterance]:
    """Return the utterances that have times, in their order, those without length left out."""
    found = [one for one in analysis.utterances if one.start is not None and one.end is not None]
    return sorted(
        (one for one in found if (one.end or 0) > (one.start or 0)), key=lambda one: (one.start or 0, one.end or 0)
    )


def tiers_of(analysis: Analysis) -> dict[str, list[Mark]]:
    """Return the tiers by name: each speaker's transcript, words, emotion, polarity, intensity; again by modality."""
    utterances = timed(analysis)
    tiers: dict[str, list[Mark]] = {}

    def add(name: str, one: Utterance, text: str | None) -> None:
        if text and one.start is not None and one.end is not None:
            tiers.setdefault(name, []).append(Mark(one.start, one.end, text))

    for one in utterances:
        add(f"transcript {one.speaker}" if one.speaker else "transcript", one, one.text)
    words = [Mark(start, end, word) for one in utterances for word, start, end in one.words if end > start]
    if words:
        tiers["words"] = words
    for one in utterances:
        _add_opinion(add, "", one, one.opinion)
    for modality in analysis.modalities:
        for one in utterances:
            if modality in one.alone:
                _add_opinion(add, f"{modality} ", one, one.alone[modality])
    return tiers


def _add_opinion(add: Adder, prefix: str, one: Utterance, said: Opinion) -> None:
    add(f"{prefix}emotion", one, said.emotion)
    add(f"{prefix}polarity", one, said.polarity)
    if said.intensity is not None:
        add(f"{prefix}intensity", one, f"{said.intensity:.2f}")
