"""What every writer of an outside format shares: its registration and what it tells of a file that it wrote."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectus.corpus.corpus import Corpus
from affectus.errors import unknown_name
from affectus.registry import Registry
from affectus.vocabulary import View


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        path: where it lies.
        view: of its arrays.
        utterances: per split.
        shapes: per modality (steps, width), padding counted in.
        notes: what the format cannot hold and what a reader of the file must know, one sentence each.
    """

    path: Path
    view: View
    utterances: dict[str, int]
    shapes: dict[str, tuple[int, int]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``affectus export-features --json`` prints."""
        return {
            "out": str(self.path),
            "view": str(self.view),
            "utterances": self.utterances,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "notes": list(self.notes),
        }


WriteFunction = Callable[[Corpus, Path, View, bool], Export]
"""From the corpus, the file, the view, and whether unlabelled utterances are left out."""


@dataclass(frozen=True)
class Writer:
    """An outside format.

    Attributes:
        write: from a corpus to a file.
        summary: what it writes, in one line.
    """

    write: WriteFunction
    summary: str


WRITERS: Registry[Writer] = Registry("writer")


def register_writer(name: str, *, summary: str) -> Callable[[WriteFunction], WriteFunction]:
    """Return a decorator that registers a writing function as the writer of the format ``name``."""

    def decorate(function: WriteFunction) -> WriteFunction:
        WRITERS.add(name, Writer(function, summary))
        return function

    return decorate


def export_features(
    corpus: Corpus,
    format: str,
    out: str | Path,
    *,
    view: View | str | None = None,
    drop_unlabelled: bool = False,
) -> Export:
    """Write a corpus's features and labels in an outside format.

    Args:
        corpus: to write.
        format: a registered writer.
        out: the file; an existing one is replaced.
        view: aligned or unaligned; None for aligned if the corpus is word-aligned, else unaligned.
        drop_unlabelled: leave out the utterances without the label that the format is about.

    Raises:
        AffectusError: the format is unknown or cannot hold the corpus, or the file cannot be written.
    """
    writer = WRITERS[format]
    if view is None:
        view = View.ALIGNED if corpus.card.word_aligned else View.UNALIGNED
    if view not in (View.ALIGNED, View.UNALIGNED):
        raise unknown_name("view of exported features", str(view), [View.ALIGNED, View.UNALIGNED])
    return writer.write(corpus, Path(out), View(view), drop_unlabelled)
