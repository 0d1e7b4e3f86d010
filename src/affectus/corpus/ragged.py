"""Sequences of different lengths in one array: values one after another, and where each begins."""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
CHUNK_BYTES = 1 << 22
"""Values that are looked at in one go, so that an array larger than memory never is in memory as a whole."""


class Parts:
    """Arrays one after another, read as one, a slice at a time, so that what lies on disk need not be copied.

    Args:
        parts: (steps, width) arrays of one width, one at least; read as the widest of their types.
    """

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        self._parts = [part for part in parts if len(part)] or list(parts[:1])
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.dtype = np.result_type(*(part.dtype for part in self._parts))
        self._length = int(self._ends[-1])
        self.shape = (self._length, *parts[0].shape[1:])
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape))
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: slice) -> npt.NDArray[Any]:
        begin, end, _ = index.indices(len(self))
        pieces = []
        for part, last in zip(self._parts, self._ends.tolist(), strict=True):
            first = last - len(part)
            if begin < last and end > first:
                pieces.append(part[max(begin - first, 0) : end - first])
        return np.concatenate([np.zeros((0, *self.shape[1:]), self.dtype), *pieces])


@dataclass(frozen=True, eq=False)
class Ragged:
    """Feature sequences of N utterances.

    Attributes:
        values: (steps, dim) float; the steps of utterance 0, then those of utterance 1, and so on. May be a memory map.
        offsets: (N + 1,) int64; utterance i owns ``values[offsets[i]:offsets[i + 1]]``. Nothing there means that the
            utterance lacks this modality.
        times: (steps, 2) float64 or None; begin and end of each step in seconds from the start of the recording.
    """

    values: FloatArray
    offsets: IntArray
    times: FloatArray | None = field(default=None)

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ValueError(f"values have shape {self.values.shape}; expected (steps, dim)")
        if self.offsets.ndim != 1 or len(self.offsets) == 0 or self.offsets[0] != 0:
            raise ValueError("offsets must be one-dimensional and start at 0")
        if self.offsets[-1] != len(self.values) or np.any(np.diff(self.offsets) < 0):
            raise ValueError(f"offsets must rise to the number of steps {len(self.values)}, got {self.offsets[-1]}")
        if self.times is not None and self.times.shape != (len(self.values), 2):
            raise ValueError(f"times have shape {self.times.shape}; expected {(len(self.values), 2)}")

    @classmethod
    def from_sequences(
        cls,
        sequences: Iterable[npt.ArrayLike | None],
        dim: int,
        *,
        times: Iterable[npt.ArrayLike | None] | None = None,
    ) -> Self:
        """Join one (T, dim) array per utterance; None or an empty array means missing.

        >>> ragged = Ragged.from_sequences([[[1.0, 2.0]], None], dim=2)
        >>> ragged.lengths.tolist()
        [1, 0]
        """
        empty = np.zeros((0, dim), np.float32)
        parts = [empty if s is None else np.asarray(s, dtype=np.float32).reshape(-1, dim) for s in sequences]
        joined_times = None
        if times is not None:
            time_parts = [np.zeros((0, 2)) if t is None else np.asarray(t, np.float64).reshape(-1, 2) for t in times]
            joined_times = np.concatenate([np.zeros((0, 2)), *time_parts])
        offsets = np.concatenate([[0], np.cumsum([len(p) for p in parts], dtype=np.int64)]).astype(np.int64)
        return cls(np.concatenate([empty, *parts]), offsets, joined_times)

    @classmethod
    def from_rows(cls, rows: npt.ArrayLike, present: npt.NDArray[np.bool_] | None = None) -> Self:
        """Make sequences of length one from an (N, dim) array; rows that are not ``present`` become missing."""
        values = np.asarray(rows, dtype=np.float32)
        if present is None:
            present = np.ones(len(values), bool)
        return cls(values[present], np.concatenate([[0], np.cumsum(present, dtype=np.int64)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> FloatArray:
        """Return the (T, dim) sequence of one utterance, a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def dim(self) -> int:
        """Size of one feature vector."""
        return int(self.values.shape[1])

    @property
    def lengths(self) -> IntArray:
        """(N,) number of steps per utterance; 0 where the modality is missing."""
        lengths: IntArray = self.offsets[1:] - self.offsets[:-1]
        return lengths

    def step_index(self, rows: npt.NDArray[np.integer]) -> IntArray:
        """Return the positions in ``values`` of all steps of the given utterances, in their order."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        index: IntArray = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
        return index

    def release(self) -> None:
        """Let the system take back the pages of a memory map that were read; the next look reads them again.

        They stay in the system's cache as long as there is room, but no longer count as this process's memory.
        """
        mapped = getattr(self.values, "_mmap", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def row_chunks(self, rows: npt.NDArray[np.integer], size: int = CHUNK_BYTES) -> Iterator[npt.NDArray[np.integer]]:
        """Cut rows into runs, in their order, whose values take up to ``size`` bytes; one row alone may take more."""
        step = max(self.dim * self.values.dtype.itemsize, 1)
        ends = np.cumsum(self.lengths[rows]) * step
        begin = 0
        while begin < len(rows):
            done = int(ends[begin - 1]) if begin else 0
            end = max(int(np.searchsorted(ends, done + size, side="right")), begin + 1)
            yield rows[begin:end]
            begin = end

    def take(self, rows: npt.NDArray[np.integer]) -> "Ragged":
        """Return the sequences of the given utterances, copied, in the given order."""
        index = self.step_index(rows)
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64)
        return Ragged(self.values[index], offsets, None if self.times is None else self.times[index])
