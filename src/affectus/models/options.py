"""Options of models that may have a value of their own for each modality, and checks of numbers."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from affectus.errors import AffectusError, unknown_name
from affectus.models.base import check_share
from affectus.vocabulary import KNOWN_MODALITIES

Number = TypeVar("Number", int, float)


def modality_values(
    option: str,
    inputs: Iterable[str],
    value: Number,
    values: Mapping[str, Number] | None,
    check: Callable[[str, Number], object],
) -> dict[str, Number]:
    """Return a value for each modality: ``value``, but where the mapping names another.

    Args:
        option: name of the mapping.
        inputs: the model's modalities.
        value: for those that are not named.
        values: by modality. One that the papers know may be named though the model has it not, so that a preset fits
            any corpus.
        check: refuses a value, given its name.

    Raises:
        AffectusError: ``values`` is no mapping or names what is no modality, or a value is refused.

    >>> modality_values("kernels", ["text", "gaze"], 1, {"text": 5, "audio": 3}, check_size)
    {'text': 5, 'gaze': 1}
    """
    names = list(inputs)
    if values is not None and not isinstance(values, Mapping):
        raise AffectusError(
            f"The option {option!r} is no mapping",
            got=repr(values),
            expected=f"a value for some of the modalities, for instance {{{names[0]}: {value:g}}}",
        )
    for name, each in (values or {}).items():
        if name not in names and name not in KNOWN_MODALITIES:
            raise unknown_name("modality", str(name), names, where=f"the option {option!r}")
        check(f"{option}.{name}", each)
    return {name: (values or {}).get(name, value) for name in names}


def check_size(name: str, value: object) -> None:
    """Check that an option is a whole number from 1.

    Raises:
        AffectusError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AffectusError(f"The option {name!r} is no size", got=repr(value), expected="a whole number from 1")


def check_rate(name: str, value: object) -> None:
    """Check that an option is a share in [0, 1).

    Raises:
        AffectusError: it is not.
    """
    check_number(name, value)
    assert isinstance(value, int | float)
    check_share(name, value)


def check_number(name: str, value: object) -> None:
    """Check that an option is a number that is not below 0.

    Raises:
        AffectusError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise AffectusError(f"The option {name!r} is out of range", got=repr(value), expected="a number from 0")


def check_positive(name: str, value: object) -> None:
    """Check that an option is a number above 0.

    Raises:
        AffectusError: it is not.
    """
    check_number(name, value)
    if value == 0:
        raise AffectusError(f"The option {name!r} is out of range", got=value, expected="a number above 0")
