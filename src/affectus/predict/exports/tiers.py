"""What stands on the tiers of an annotation: one value for each stretch of time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

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
    """Return the tiers by name: transcript, words, emotion, polarity, intensity; the last three again by modality.

    Each speaker has tiers of its own (``emotion Ann``). Marks of a tier do not overlap: where utterances do, the later
    one stands on further tiers with a number (``emotion 2``), the same one for all that is said of it.
    """
    utterances = timed(analysis)
    layers = _layers(utterances)
    speakers = set(analysis.speakers)
    tiers: dict[str, list[Mark]] = {}

    def put(kind: str, one: Utterance, mark: Mark) -> None:
        names = _names(kind, one.speaker, speakers)
        for _ in range(layers[one.id]):
            next(names)
        name = next(name for name in names if name not in tiers or not _overlap(tiers[name][-1], mark))
        tiers.setdefault(name, []).append(mark)

    def add(kind: str, one: Utterance, text: str | None) -> None:
        if text and one.start is not None and one.end is not None:
            put(kind, one, Mark(one.start, one.end, text))

    for one in utterances:
        add("transcript", one, one.text)
    words = [(one, Mark(start, end, word)) for one in utterances for word, start, end in one.words if end > start]
    for one, mark in sorted(words, key=lambda pair: (pair[1].start, pair[1].end)):
        put("words", one, mark)
    for one in utterances:
        _add_opinion(add, "", one, one.opinion)
    for modality in analysis.modalities:
        for one in utterances:
            if modality in one.alone:
                _add_opinion(add, f"{modality} ", one, one.alone[modality])
    return tiers


def _layers(utterances: list[Utterance]) -> dict[str, int]:
    """Return by id on which layer of its speaker's each utterance stands: the first where none overlaps with it."""
    last: dict[str | None, list[Mark]] = {}
    found = {}
    for one in utterances:
        own, mark = last.setdefault(one.speaker or None, []), Mark(one.start or 0, one.end or 0, "")
        layer = next((i for i, before in enumerate(own) if not _overlap(before, mark)), len(own))
        own[layer : layer + 1] = [mark]
        found[one.id] = layer
    return found


def _overlap(before: Mark, after: Mark) -> bool:
    """Return whether two marks overlap, in the milliseconds of ELAN or the microseconds of Praat."""
    return any(round(after.start * unit) < round(before.end * unit) for unit in (1_000, 1_000_000))


def _names(kind: str, speaker: str | None, speakers: set[str]) -> Iterator[str]:
    """Yield the names of a speaker's tiers of one kind, layer by layer; none is a tier of a speaker called Ann 2."""
    yield f"{kind} {speaker}" if speaker else kind
    for number in count(2):
        other = f"{speaker} {number}" if speaker else str(number)
        if other not in speakers:
            yield f"{kind} {other}"


def _add_opinion(add: Adder, prefix: str, one: Utterance, said: Opinion) -> None:
    add(f"{prefix}emotion", one, said.emotion)
    add(f"{prefix}polarity", one, said.polarity)
    if said.intensity is not None:
        add(f"{prefix}intensity", one, f"{said.intensity:.2f}")
