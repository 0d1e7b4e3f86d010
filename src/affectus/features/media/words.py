"""A word and when it was said."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A spoken word.

    Attributes:
        text: as written, its punctuation included, without spaces around it.
        start: seconds from the start of the recording.
        end: likewise.
        probability: how sure the recogniser is, 0 to 1; None if the word was given.
    """

    text: str
    start: float
    end: float
    probability: float | None = None
