"""CSV files as sources: columns checked by name, numbers checked by value, errors that name file and row."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from affectus.corpus.readers.base import TEXT_FILE, check_file
from affectus.errors import AffectusError, suggest
from affectus.vocabulary import SPLIT_ALIASES


@dataclass(frozen=True)
class CsvTable:
    """A CSV file, all of it text until a column is asked for as numbers.

    Attributes:
        path: the file.
        frame: its columns, all of them strings; an empty cell is null.
    """

    path: Path
    frame: pl.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, column: object) -> bool:
        return column in self.frame.columns

    def where(self, index: int, column: str) -> str:
        """Return the place of a cell as errors name it; the header is row 1."""
        return f"{self.path}, row {index + 2}, column {column!r}"

    def require(self, columns: Sequence[str]) -> None:
        """Check that the columns are there.

        Raises:
            AffectusError: names the first that is not, and the nearest that is.
        """
        check_columns(self.frame.columns, columns, self.path)

    def strings(self, column: str, *, filled: bool = False) -> pl.Series:
        """Return a column as text.

        Raises:
            AffectusError: ``filled`` is asked for and a cell is empty.
        """
        values = self.frame[column]
        if filled and values.null_count():
            index = int(values.is_null().arg_max() or 0)
            raise AffectusError("The cell is empty", where=self.where(index, column), expected="a value")
        return values

    def numbers(
        self, column: str, low: float | None = None, high: float | None = None, *, filled: bool = False
    ) -> pl.Series:
        """Return a column as float64, null where a cell is empty or says ``nan``.

        Raises:
            AffectusError: a cell is no number or is out of range, or is empty though ``filled`` is asked for.
        """
        text = self.strings(column, filled=filled).str.strip_chars()
        values = text.cast(pl.Float64(), strict=False)
        no_number = values.is_null() & text.is_not_null() & (text != "")
        if no_number.any():
            index = int(no_number.arg_max() or 0)
            raise AffectusError(
                "The cell is no number", where=self.where(index, column), got=repr(text[index]), expected="a number"
            )
        values = values.fill_nan(None)
        beyond = values.is_infinite()
        if low is not None:
            beyond |= values < low - 1e-6
        if high is not None:
            beyond |= values > high + 1e-6
        if beyond.any():
            index = int(beyond.arg_max() or 0)
            expected = "a finite number" if low is None or high is None else f"a number in [{low:g}, {high:g}]"
            raise AffectusError(
                "The value is out of range", where=self.where(index, column), got=values[index], expected=expected
            )
        return values

    def choice(self, column: str, meaning: dict[str, str]) -> pl.Series:
        """Return a column whose values are all keys of ``meaning`` (whatever their case), as what these mean.

        Raises:
            AffectusError: a cell is empty or holds another value.
        """
        lowered = self.strings(column, filled=True).str.strip_chars().str.to_lowercase()
        unknown = ~lowered.is_in(list(meaning))
        if unknown.any():
            index = int(unknown.arg_max() or 0)
            raise AffectusError(
                "The value is unknown",
                where=self.where(index, column),
                got=repr(lowered[index]),
                expected="one of: " + ", ".join(meaning),
                remedy=suggest(lowered[index], meaning),
            )
        return lowered.replace_strict(meaning, return_dtype=pl.String())


def check_columns(present: Iterable[str], needed: Sequence[str], path: Path) -> None:
    """Check that every needed column is present.

    Raises:
        AffectusError: names the first that is not, and the nearest that is.
    """
    present = list(present)
    for column in needed:
        if column not in present:
            raise AffectusError(
                f"There is no column {column!r}",
                where=path,
                got="the columns " + ", ".join(present),
                remedy=suggest(column, present) or "Check that the format is the right one",
            )


def read_csv(path: Path, needed: Sequence[str] = ()) -> CsvTable:
    """Read a CSV file with a header, UTF-8.

    Raises:
        AffectusError: it is absent, empty, of another kind, cut off, not UTF-8, or lacks a needed column.
    """
    check_file(path, TEXT_FILE)
    try:
        frame = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise AffectusError(
            "Not a whole CSV file", where=path, got=reason, remedy="Check its quotes and commas"
        ) from None
    frame = frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})
    table = CsvTable(path, frame)
    table.require(needed)
    if len(frame) == 0:
        raise AffectusError("The file has a header and no rows", where=path)
    return table


def split_of_file(path: Path) -> str | None:
    """Return the split that a file's name says, None if it says none.

    >>> split_of_file(Path("dev_sent_emo.csv")), split_of_file(Path("words.csv"))
    ('valid', None)
    """
    for part in re.split(r"[^a-z]+", path.stem.lower()):
        if part in SPLIT_ALIASES:
            return str(SPLIT_ALIASES[part])
    return None


def segment_numbers(names: Sequence[str]) -> list[int | None]:
    """Return the numbers of clips from their names, all None if one is no number.

    >>> segment_numbers(["0004", "0010"]), segment_numbers(["0004", "b"])
    ([4, 10], [None, None])
    """
    if all(name.isdecimal() for name in names):
        return [int(name) for name in names]
    return [None] * len(names)
