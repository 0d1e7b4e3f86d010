"""What a user says of the signals that a manifest names: ``--signal ecg=COLUMN:rate=64``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from affectus.corpus.storage import check_modality_name
from affectus.errors import AffectusError, suggest, unknown_name
from affectus.vocabulary import canonical_modality

KEYS = ("rate", "channels", "time", "source_rate")


@dataclass(frozen=True)
class Signal:
    """A modality that is read from signals.

    Attributes:
        modality: its name.
        column: the column of the manifest that names each utterance's file.
        rate: steps per second of the modality; None for the files' own rate.
        channels: which columns or channels of the files; None for all.
        time: the CSV column with the seconds from the start of the recording; None for one that is called so.
        source_rate: samples per second of a CSV without such a column.
    """

    modality: str
    column: str
    rate: float | None = None
    channels: tuple[str, ...] | None = None
    time: str | None = None
    source_rate: float | None = None


def parse_signals(texts: Iterable[str]) -> dict[str, Signal]:
    """Read ``NAME[=COLUMN][:key=value]...``, the keys being ``rate``, ``channels`` (by +), ``time``, ``source_rate``.

    >>> parse_signals(["ecg=polar_file:rate=64:channels=ECG+RESP"])["polar_file"].channels
    ('ECG', 'RESP')

    Returns:
        By the column of the manifest, which is ``NAME_signal`` if none is given.

    Raises:
        AffectusError: a text is not of this form, or two are about one modality.
    """
    found: dict[str, Signal] = {}
    for text in texts:
        head, *rest = text.split(":")
        name, _, column = head.partition("=")
        modality = canonical_modality(name)
        check_modality_name(modality, where=f"--signal {text!r}")
        column = column.strip() or f"{name.strip().lower()}_signal"
        if column in found or any(signal.modality == modality for signal in found.values()):
            raise AffectusError("Two --signal are about one modality or column", got=repr(text))
        signal = Signal(modality, column)
        for part in rest:
            key, equals, value = part.partition("=")
            if key.strip() not in KEYS:
                raise unknown_name("key", key.strip(), KEYS, where=f"--signal {text!r}")
            if not equals or not value.strip():
                raise AffectusError("The key has no value", where=f"--signal {text!r}", got=repr(part))
            signal = _with_key(signal, key.strip(), value.strip(), text)
        found[column] = signal
    return found


def _with_key(signal: Signal, key: str, value: str, text: str) -> Signal:
    if key == "time":
        return replace(signal, time=value)
    if key == "channels":
        return replace(signal, channels=tuple(part.strip() for part in value.split("+") if part.strip()))
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise AffectusError(
            f"The key {key!r} has a wrong value", where=f"--signal {text!r}", got=repr(value), expected="a rate above 0"
        )
    return replace(signal, rate=number) if key == "rate" else replace(signal, source_rate=number)


def columns_of(signals: Mapping[str, Signal], columns: Iterable[str]) -> dict[str, Signal]:
    """Return the signal of each column of a manifest that names some: those asked for, and every ``<modality>_signal``.

    Raises:
        AffectusError: a column that was asked for is not there.
    """
    columns = list(columns)
    for column in signals:
        if column not in columns:
            raise AffectusError(
                f"There is no column {column!r}, which --signal names",
                got="the columns " + ", ".join(columns),
                remedy=suggest(column, columns),
            )
    plain = {
        column: Signal(canonical_modality(column.removesuffix("_signal")), column)
        for column in columns
        if column.endswith("_signal") and column != "_signal"
    }
    return {column: signals.get(column) or plain[column] for column in columns if column in plain or column in signals}
