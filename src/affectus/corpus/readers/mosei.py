"""What the three CMU-MOSEI readers share: the label columns and their names in affectus."""

from collections.abc import Iterable

from affectus.labels import LabelScheme, emotions_scheme, sentiment_scheme
from affectus.vocabulary import canonical_emotion

LABELS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
"""The SDK's order of CMU-MOSEI's labels; sentiment in [-3, 3], emotions in [0, 3]."""


def label_name(name: str) -> str:
    """Return affectus's name of a label column (``happy`` becomes ``happiness``)."""
    return "sentiment" if name == "sentiment" else canonical_emotion(name)


def label_range(name: str) -> tuple[float, float]:
    """Return the smallest and largest value of a label."""
    return (-3.0, 3.0) if name == "sentiment" else (0.0, 3.0)


def schemes(names: Iterable[str] = LABELS) -> list[LabelScheme]:
    """Return the label schemes of the given label columns (the source's names or affectus's)."""
    present = {label_name(name) for name in names}
    found = [sentiment_scheme()] if "sentiment" in present else []
    columns = tuple(column for column in emotions_scheme().columns if column in present)
    return [*found, emotions_scheme(columns=columns)] if columns else found
