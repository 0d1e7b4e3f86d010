"""Which utterances a run has seen, so that whatever judges it on one of them can say so.

Corpora that were split otherwise share utterances; neither their names nor their hashes tell.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from affectus.corpus import Corpus
from affectus.files import atomic_path
from affectus.models.storage import read_arrays
from affectus.vocabulary import Split

if TYPE_CHECKING:
    from affectus.training.loading import Run

FILE = "seen.safetensors"
SOURCE = "source"
"""Beside the splits: what the run had seen from which this one started."""
BLOCK = 1 << 15
"""Utterances whose words are read at once: a large corpus need not be in memory twice."""
Marks = npt.NDArray[np.int64]
_SAID = (
    (Split.TRAIN, "The models were trained on this split.", "the models were trained on"),
    (
        Split.VALID,
        "Epoch and thresholds were chosen on this split; the figures are better than on new data.",
        "epoch and thresholds were chosen on",
    ),
    (
        SOURCE,
        "The run from which this one started has seen this split.",
        "the run from which this one started has seen",
    ),
)
"""What is said of a part that was seen: of the whole split, of some of it."""


def marks(corpus: Corpus, rows: npt.NDArray[np.int64]) -> Marks:
    """Return a number for each of some utterances (n,), which in practice no other utterance has.

    It is made from id and video, and from what was said and when; of an utterance of which neither is known, from its
    features. Labels do not count, since corrected ones make no other utterance.
    """
    found: list[int] = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        lines = corpus.table.select("id", "video", "text", "start", "end")[block].iter_rows()
        found += (_mark(corpus, row, line) for row, line in zip(block.tolist(), lines, strict=True))
    return np.array(found, np.int64)


def _mark(corpus: Corpus, row: int, line: tuple[object, ...]) -> int:
    digest = hashlib.blake2b(repr(line).encode(), digest_size=8)
    if all(value is None for value in line[2:]):
        for features in corpus.features.values():
            if len(steps := features.values[features.offsets[row] : features.offsets[row + 1]]):
                digest.update(np.ascontiguousarray(steps, np.float32).tobytes())
                break
    return int.from_bytes(digest.digest(), "little", signed=True)


def write_seen(folder: Path, corpus: Corpus, source: Path | None = None) -> None:
    """Write what a run sees.

    Args:
        folder: of the run.
        corpus: that it learns from.
        source: the folder of the run that it starts from, if any.
    """
    arrays = {
        str(split): np.unique(marks(corpus, np.flatnonzero(corpus.splits == split)))
        for split in (Split.TRAIN, Split.VALID)
    }
    if source is not None and (before := read_seen(source)) is not None:
        arrays[SOURCE] = np.unique(np.concatenate(list(before.values())))
    with atomic_path(folder / FILE) as temporary:
        save_file(arrays, temporary)


def read_seen(folder: Path) -> Mapping[str, Marks] | None:
    """Return the marks of what a run saw, by split; None of a run that did not write them yet.

    Raises:
        AffectusError: the file is damaged.
    """
    path = folder / FILE
    return read_arrays(path) if path.is_file() else None


def notes_on_seen(run: "Run", corpus: Corpus, split: str | None) -> list[str]:
    """Say how much of a split a run has seen, a sentence each.

    Args:
        run: trained.
        corpus: to be judged on.
        split: of it; None for all.
    """
    seen = read_seen(run.folder)
    if seen is None:  # trained before this was written down: the split of the corpus of that name
        same = corpus.name == run.file.corpus.name
        return [whole for which, whole, _ in _SAID if same and split == which]
    asked = marks(corpus, corpus.rows(split))
    notes = []
    for which, whole, part in _SAID:
        count = int(np.isin(asked, seen.get(which, np.zeros(0, np.int64))).sum())
        if count == len(asked):
            notes.append(whole)
        elif count:
            notes.append(f"{count:,} of the {len(asked):,} utterances are among those that {part}.")
    return notes
