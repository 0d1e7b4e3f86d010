"""NumPy archives as sources: arrays by name, their shapes checked, nothing unpickled."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.corpus.readers.base import NPZ, check_file
from affectus.errors import AffectusError, suggest

Array = npt.NDArray[Any]


class Bundle:
    """The arrays of an ``.npz`` file.

    Args:
        path: the file; it is read with ``allow_pickle=False``.

    Raises:
        AffectusError: it is absent, empty, truncated or of another kind.
    """

    def __init__(self, path: Path) -> None:
        check_file(path, NPZ)
        self.path = path
        try:
            self._arrays = np.load(path, allow_pickle=False)
            self.keys: tuple[str, ...] = tuple(self._arrays.files)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> AffectusError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return AffectusError("Not a whole .npz archive", where=self.path, got=reason, remedy="Fetch the file again")

    def __contains__(self, key: object) -> bool:
        return key in self.keys

    def array(
        self, key: str, *, ndim: int, rows: int | None = None, columns: int | None = None, numeric: bool = False
    ) -> Array:
        """Return an array.

        Args:
            key: its name.
            ndim: how many dimensions it must have.
            rows: how long it must be, if known.
            columns: how wide it must be, if known.
            numeric: it must hold numbers.

        Raises:
            AffectusError: it is absent or damaged, or has another shape or type.
        """
        if key not in self.keys:
            raise AffectusError(
                f"There is no array {key!r}",
                where=self.path,
                got="the arrays " + ", ".join(self.keys) if self.keys else "an empty archive",
                remedy=suggest(key, self.keys) or "Check that the format is the right one",
            )
        try:
            array: Array = self._arrays[key]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
            raise self._broken(error) from None
        wanted = ["any"] * ndim
        if rows is not None:
            wanted[0] = str(rows)
        if columns is not None:
            wanted[1] = str(columns)
        fits = array.ndim == ndim and all(w in ("any", str(n)) for w, n in zip(wanted, array.shape, strict=True))
        if not fits:
            shape = "(" + ", ".join(wanted) + ")"
            raise AffectusError(
                f"The array {key!r} has the wrong shape", where=self.path, got=array.shape, expected=shape
            )
        if numeric and array.dtype.kind not in "fiub":
            raise AffectusError(f"The array {key!r} holds no numbers", where=self.path, got=array.dtype)
        return array

    def strings(self, key: str, *, rows: int | None = None) -> list[str]:
        """Return an array of strings (or of whole numbers, as strings)."""
        return [str(value) for value in self.array(key, ndim=1, rows=rows).tolist()]


def check_range(
    values: Array, low: float, high: float, *, label: str, where: Path | str, ids: Sequence[str] | None = None
) -> None:
    """Check that all labels lie in a range; NaN means missing.

    Args:
        values: (N,) labels.
        low: the smallest that a label may be.
        high: the largest that a label may be.
        label: what they are called.
        where: the file.
        ids: the utterances' names; without them the error names the row, the first being 0.

    Raises:
        AffectusError: names the first label that does not.
    """
    beyond = (values < low - 1e-6) | (values > high + 1e-6)
    if beyond.any():
        row = int(np.argmax(beyond))
        raise AffectusError(
            f"Label {label!r} out of range",
            where=f"{where}, row {row}" if ids is None else f"{where}, utterance {ids[row]!r}",
            got=values[row],
            expected=f"a number in [{low:g}, {high:g}]",
        )
