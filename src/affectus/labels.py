"""Label schemes: what a corpus's label columns mean. Tasks are made from them (``affectus.objectives``)."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from affectus.vocabulary import SIX_EMOTIONS


class LabelKind(StrEnum):
    """The four kinds of label."""

    REAL = "real"
    """Numbers in a range, one or several per utterance (sentiment, emotion intensities, ratings)."""
    BINARY = "binary"
    """0 or 1."""
    ONE_OF_K = "one_of_k"
    """Exactly one of several classes; the column holds the class's name."""
    MULTI_LABEL = "multi_label"
    """Several columns of 0 or 1."""


class LabelScheme(BaseModel):
    """One kind of label of a corpus and the columns of the utterance table that hold it.

    A label may be missing (null) for any utterance. The scheme names that affectus's tasks know:

    - ``sentiment``: real, one column; negative below 0, range as in the source ([-3, 3], CH-SIMS [-1, 1]).
    - ``emotions``: real, in [0, high], or multi-label 0/1, columns among the six emotions; present if above 0.
    - ``emotion_class``: one of k, column ``emotion_class``.
    - ``ratings``: real, any columns.
    - ``sentiment_text``, ``sentiment_audio``, ``sentiment_vision``: real, the annotators saw one modality (CH-SIMS).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: LabelKind
    columns: tuple[str, ...]
    low: float | None = None
    """Smallest value that a real label may take."""
    high: float | None = None
    """Largest value that a real label may take."""
    classes: tuple[str, ...] = ()
    """The class names of a one-of-k scheme, in the order of their indices."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.columns:
            raise ValueError(f"the label scheme {self.name!r} names no column")
        if self.kind is LabelKind.ONE_OF_K and (len(self.classes) < 2 or len(self.columns) != 1):
            raise ValueError(f"the one-of-k scheme {self.name!r} needs one column and two classes or more")
        return self

    @property
    def size(self) -> int:
        """How many numbers one utterance's label takes in a batch (a class counts as one: its index)."""
        return len(self.columns)


def sentiment_scheme(low: float = -3.0, high: float = 3.0, *, modality: str | None = None) -> LabelScheme:
    """Return the scheme of a sentiment intensity, of all modalities together or of one alone."""
    name = "sentiment" if modality is None else f"sentiment_{modality}"
    return LabelScheme(name=name, kind=LabelKind.REAL, columns=(name,), low=low, high=high)


def emotions_scheme(high: float = 3.0, columns: tuple[str, ...] = SIX_EMOTIONS) -> LabelScheme:
    """Return the scheme of emotion intensities in [0, high], one column per emotion."""
    return LabelScheme(name="emotions", kind=LabelKind.REAL, columns=columns, low=0.0, high=high)


def emotion_class_scheme(classes: tuple[str, ...]) -> LabelScheme:
    """Return the scheme of exactly one emotion out of ``classes``."""
    return LabelScheme(name="emotion_class", kind=LabelKind.ONE_OF_K, columns=("emotion_class",), classes=classes)
