"""Numeric signals of whole recordings (CSV, EDF, BDF): read, brought to one rate, cut to utterances.

Resampling. A signal of a constant rate goes through a polyphase filter (``scipy.signal.resample_poly``), which takes
out what the new rate cannot carry before samples are dropped. A signal whose times are uneven is first interpolated
linearly onto a grid of its median rate. Samples that are not there (empty cells, NaN, gaps of more than ``GAP`` usual
intervals) do not leak into their neighbours: the filter sees a straight line in their place, and steps that lie in a
gap are NaN.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus.readers.base import TEXT_FILE, check_file
from affectus.corpus.readers.signals import Signal
from affectus.errors import AffectusError, suggest

FloatArray = npt.NDArray[np.float64]
TIME_NAMES = ("time", "times", "seconds", "time_s", "t")
"""Headers that mean a time column, whatever their case."""
EVEN = 0.25
"""Times count as even if none is further from its place than this share of the interval: clocks are often rounded."""
GAP = 5.0
"""A pause of more than so many median intervals is a gap."""
LARGEST_FACTOR = 10_000
"""Of the ratio of two rates, written as a fraction."""


@dataclass(frozen=True, eq=False)
class Channel:
    """One column of a recording.

    Attributes:
        name: as the file calls it.
        values: (n,) NaN where nothing was measured.
        rate: samples per second; the median one if the times are uneven.
        times: (n,) seconds, rising; None if the samples are even.
    """

    name: str
    values: FloatArray
    rate: float
    times: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """A whole file.

    Attributes:
        path: of the file.
        channels: at least one.
        first: time of the first sample, in seconds from the start of the recording.
    """

    path: Path
    channels: tuple[Channel, ...]
    first: float = 0.0

    @property
    def names(self) -> list[str]:
        """The channels' names."""
        return [channel.name for channel in self.channels]

    @property
    def own_rate(self) -> float | None:
        """The rate that all channels have; None if they differ or are uneven."""
        rates = {channel.rate if channel.times is None else None for channel in self.channels}
        return rates.pop() if len(rates) == 1 else None

    def resampled(self, rate: float) -> FloatArray:
        """Return (steps, channels); step k stands at ``first + k / rate`` seconds."""
        columns = [_resample(channel, rate) for channel in self.channels]
        steps = min(map(len, columns))
        return np.stack([column[:steps] for column in columns], axis=1)


def steps_of(start: float | None, end: float | None, first: float, rate: float, steps: int) -> slice:
    """Return the steps whose times lie in [start, end); one at least if the interval lies within the recording.

    >>> steps_of(1.0, 2.0, 0.0, 4.0, 100), steps_of(0.30, 0.31, 0.0, 4.0, 100), steps_of(30.0, 31.0, 0.0, 4.0, 100)
    (slice(4, 8, None), slice(1, 2, None), slice(0, 0, None))
    """
    low = 0 if start is None else int(np.ceil((start - first) * rate - 1e-6))
    high = steps if end is None else int(np.ceil((end - first) * rate - 1e-6))
    if high <= low and start is not None and end is not None:
        low = round(((start + end) / 2 - first) * rate)
        high = low + 1
    low, high = max(low, 0), min(high, steps)
    return slice(low, high) if high > low else slice(0, 0)


def _resample(channel: Channel, rate: float) -> FloatArray:
    values = channel.values if channel.times is None else _even(channel.values, channel.times, channel.rate)
    known = np.isfinite(values)
    if not known.any():
        return np.full(int(np.ceil(len(values) * rate / channel.rate)), np.nan)
    place = np.arange(len(values))
    filled = values if known.all() else np.interp(place, place[known], values[known])
    ratio = Fraction(rate / channel.rate).limit_denominator(LARGEST_FACTOR)
    if ratio != 1:
        # SciPy's filters take 60 MB and half a second to import, and few corpora need them
        from scipy.signal import resample_poly

        filled = resample_poly(filled, ratio.numerator, ratio.denominator, padtype="edge")
    if known.all():
        return np.asarray(filled, np.float64)
    # a step is known if a sample is that lies nearer to it than to the steps beside it (or is the nearest)
    centre = np.arange(len(filled)) * channel.rate / rate
    half = max(0.5 * channel.rate / rate, 0.5)
    counts = np.concatenate([[0], np.cumsum(known)])
    low = np.clip(np.ceil(centre - half), 0, len(known)).astype(np.int64)
    high = np.clip(np.floor(centre + half) + 1, 0, len(known)).astype(np.int64)
    return np.where(counts[np.maximum(high, low)] > counts[low], filled, np.nan)


def _even(values: FloatArray, times: FloatArray, rate: float) -> FloatArray:
    """Interpolate uneven samples onto a grid that begins at the first of them."""
    known = np.isfinite(values)
    grid = times[0] + np.arange(int(np.floor((times[-1] - times[0]) * rate + 1e-6)) + 1) / rate
    if not known.any():
        return np.full(len(grid), np.nan)
    at, seen = times[known], values[known]
    right = np.clip(np.searchsorted(at, grid), 0, len(at) - 1)
    left = np.clip(right - 1, 0, None)
    far = np.minimum(np.abs(grid - at[left]), np.abs(at[right] - grid)) > 0.5 / rate
    lost = far & ((at[right] - at[left] > GAP / rate) | (grid < at[0]) | (grid > at[-1]))
    return np.where(lost, np.nan, np.interp(grid, at, seen))


def read_recording(path: Path, signal: Signal) -> Recording:
    """Read a file.

    Raises:
        AffectusError: it is absent, damaged or of an unknown kind, a cell is no number, the times do not rise, a
            channel is not there, or its rate is not known.
    """
    if not path.is_file():
        raise AffectusError("There is no file", where=path)
    if path.suffix.lower() in (".edf", ".bdf"):
        recording = _read_edf(path)
    elif path.suffix.lower() == ".csv":
        recording = _read_csv(path, signal)
    else:
        raise AffectusError("The signal file is of an unknown kind", where=path, expected=".csv, .edf or .bdf")
    if signal.channels is None:
        return recording
    for name in signal.channels:
        if recording.names.count(name) != 1:
            raise _no_such_channel(name, recording.names, path)
    return replace(recording, channels=tuple(recording.channels[recording.names.index(n)] for n in signal.channels))


def _no_such_channel(name: str, names: list[str], path: Path) -> AffectusError:
    return AffectusError(
        f"There is no channel {name!r}" if name not in names else f"Two channels are called {name!r}",
        where=path,
        got="the channels " + ", ".join(names),
        remedy=suggest(name, names) if name not in names else None,
    )


def _read_csv(path: Path, signal: Signal) -> Recording:
    check_file(path, TEXT_FILE)
    try:
        frame = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AffectusError("Not a whole CSV file", where=path, got=str(error).splitlines()[0]) from None
    frame = frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})
    if all(_is_number(name) for name in frame.columns):
        raise AffectusError(
            "The CSV file has no header", where=path, got=", ".join(frame.columns), expected="a name for each column"
        )
    if len(frame) == 0:
        raise AffectusError("The file has a header and no rows", where=path)
    if signal.time is not None and signal.time not in frame.columns:
        raise AffectusError(
            f"There is no time column {signal.time!r}",
            where=path,
            got="the columns " + ", ".join(frame.columns),
            remedy=suggest(signal.time, frame.columns),
        )
    clock = signal.time or next((name for name in frame.columns if name.lower() in TIME_NAMES), None)
    wanted = [name for name in frame.columns if name != clock]
    for name in signal.channels or ():
        if name not in wanted:
            raise _no_such_channel(name, wanted, path)
    if signal.channels is not None:
        wanted = [name for name in wanted if name in signal.channels]
    if not wanted:
        raise AffectusError("The CSV file has no column but the time", where=path)
    values = {name: _numbers(frame, name, path) for name in wanted}
    if clock is None:
        if signal.source_rate is None:
            raise AffectusError(
                "The rate of the signal is not known, for there is no time column",
                where=path,
                got="the columns " + ", ".join(frame.columns),
                remedy=f"Give it: --signal {signal.modality}={signal.column}:source_rate=256",
            )
        return Recording(path, tuple(Channel(name, values[name], signal.source_rate) for name in wanted))
    times = _numbers(frame, clock, path)
    _check_times(times, clock, path)
    rate = _even_rate(times) if len(times) > 1 else signal.source_rate or signal.rate or 1.0
    if rate is not None:
        return Recording(path, tuple(Channel(name, values[name], rate) for name in wanted), float(times[0]))
    rate = float(1 / np.median(np.diff(times)))
    return Recording(path, tuple(Channel(name, values[name], rate, times) for name in wanted), float(times[0]))


def _numbers(frame: pl.DataFrame, column: str, path: Path) -> FloatArray:
    """Return a column as numbers, NaN where a cell is empty."""
    text = frame[column].str.strip_chars()
    values = text.cast(pl.Float64(), strict=False)
    wrong = values.is_null() & text.is_not_null() & (text != "")
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise AffectusError(
            "The cell is no number",
            where=f"{path}, row {row + 2}, column {column!r}",
            got=repr(text[row]),
            expected="a number",
        )
    return values.fill_null(float("nan")).to_numpy()


def _check_times(times: FloatArray, column: str, path: Path) -> None:
    bad = ~np.isfinite(times)
    bad[1:] |= ~(np.diff(times) > 0)
    if bad.any():
        row = int(bad.argmax())
        raise AffectusError(
            "The times do not rise",
            where=f"{path}, row {row + 2}, column {column!r}",
            got=f"{times[row]:g}" + (f" after {times[row - 1]:g}" if row else ""),
            expected="seconds from the start of the recording, each above the one before",
        )


def _even_rate(times: FloatArray) -> float | None:
    """Return the samples per second; None if the times are uneven."""

    def furthest(rate: float) -> float:
        return float(np.abs((times - times[0]) * rate - np.arange(len(times))).max())

    rate = float((len(times) - 1) / (times[-1] - times[0]))
    off = furthest(rate)
    if off >= EVEN:
        return None
    # the ends of a rounded clock give a rate that is a little off; a whole number that fits as well is meant
    return float(round(rate)) if rate > 0.5 and furthest(round(rate)) <= max(2 * off, 1e-6) else rate


def _read_edf(path: Path) -> Recording:
    try:
        from edfio import read_bdf, read_edf
    except ImportError:
        raise AffectusError(
            "Reading EDF needs the package edfio", where=path, remedy="Install it with: pip install 'affectus[signals]'"
        ) from None
    try:
        with warnings.catch_warnings():
            # edfio reads a file that is cut off and warns
            warnings.simplefilter("error")
            file = read_bdf(path) if path.suffix.lower() == ".bdf" else read_edf(path, lazy_load_data=False)
            whole = file.is_continuous
            channels = tuple(
                Channel(signal.label, np.array(signal.data, np.float64), float(signal.sampling_frequency))
                for signal in file.signals
            )
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AffectusError("Not a whole EDF file", where=path, got=reason) from None
    if not whole:
        raise AffectusError(
            "The EDF file is discontinuous (EDF+D), so that its samples have no constant rate",
            where=path,
            remedy="Export it as a CSV file with a time column",
        )
    if not channels or not all(len(channel.values) and channel.rate > 0 for channel in channels):
        raise AffectusError("The EDF file holds no signal", where=path)
    return Recording(path, channels)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def cut_signals(
    signal: Signal,
    files: Sequence[Path | None],
    starts: Sequence[float | None],
    ends: Sequence[float | None],
    places: Sequence[str],
) -> tuple[list[FloatArray | None], list[FloatArray | None], float, list[str], list[str]]:
    """Read each utterance's part of its file.

    Args:
        signal: what to read.
        files: per utterance the file of its recording, or None.
        starts: per utterance, seconds from the start of the recording; None for the start of the file.
        ends: likewise; None for its end.
        places: per utterance where the manifest names the file, for errors.

    Returns:
        Per utterance (steps, channels) and (steps, 2) times, None where it has no file or lies outside of it; the rate;
        the channels; what was found, one sentence each.

    Raises:
        AffectusError: a file cannot be read, has other channels than those before it, or another rate though none
            is given.
    """
    sequences: list[FloatArray | None] = []
    times: list[FloatArray | None] = []
    rate = signal.rate
    names: list[str] | None = None
    last: tuple[Recording, FloatArray] | None = None
    source_rates: set[str] = set()
    read: set[Path] = set()
    outside = 0
    for path, start, end, place in zip(files, starts, ends, places, strict=True):
        if path is None:
            sequences.append(None)
            times.append(None)
            continue
        if last is None or last[0].path != path:
            # utterances of a recording stand together more often than not, so one file is kept
            recording = read_recording(path, signal)
            names = recording.names if names is None else names
            if recording.names != names:
                raise AffectusError(
                    "The signal file has other channels than those before it",
                    where=f"{place}, {path.name}",
                    got=", ".join(recording.names),
                    expected=", ".join(names),
                    remedy=f"Choose some that all have: --signal {signal.modality}={signal.column}:channels=A+B",
                )
            own = recording.own_rate
            rate = own if rate is None else rate
            if rate is None or (signal.rate is None and own != rate):
                raise AffectusError(
                    "The signals have several rates or uneven times, so the rate of the modality must be given",
                    where=f"{place}, {path.name}",
                    remedy=f"Give it: --signal {signal.modality}={signal.column}:rate=64",
                )
            source_rates |= {"uneven" if c.times is not None else f"{c.rate:g} Hz" for c in recording.channels}
            last = recording, recording.resampled(rate)
            read.add(path)
        assert rate is not None
        recording, values = last
        part = steps_of(start, end, recording.first, rate, len(values))
        outside += part.stop == part.start
        begin = recording.first + np.arange(part.start, part.stop) / rate
        sequences.append(values[part])
        times.append(np.stack([begin, begin + 1 / rate], axis=1))
    if rate is None or names is None:
        raise AffectusError(f"The column {signal.column!r} names no file", remedy="Fill or remove it")
    notes = [
        f"{signal.modality}: cut from {len(read)} files ({', '.join(sorted(source_rates))}), {rate:g} steps per second."
    ]
    if outside:
        notes.append(f"{signal.modality}: {outside} utterances lie outside of their file and lack it.")
    return sequences, times, rate, names, notes
