"""What every reader shares: its registration, its options, and the splits that a user may set on import."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from affectus.corpus.corpus import Corpus
from affectus.registry import Registry


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say about a source; a reader uses the options that its registration names.

    Attributes:
        name: which data set of a file that holds several (``mfn``: mmmo, pom, youtube), or the corpus's name.
        text_column: which column holds the transcript.
        split_name: put all rows in this split.
    """

    name: str | None = None
    text_column: str | None = None
    split_name: str | None = None


ReadFunction = Callable[[Sequence[Path], ReadOptions], Corpus]


@dataclass(frozen=True)
class Reader:
    """An outside format.

    Attributes:
        read: from the source files to a corpus.
        summary: what it reads, in one line, for ``affectus import --help`` and the docs.
        sources: what the source paths are, in words (``one .npz file``).
        options: per option that this format uses, what it means here.
        example: the arguments after ``affectus import``.
    """

    read: ReadFunction
    summary: str
    sources: str
    options: Mapping[str, str] = field(default_factory=dict)
    example: str = ""


READERS: Registry[Reader] = Registry("reader")


def register_reader(
    name: str, *, summary: str, sources: str, options: Mapping[str, str] | None = None, example: str = ""
) -> Callable[[ReadFunction], ReadFunction]:
    """Return a decorator that registers a reading function as the reader of the format ``name``."""

    def decorate(function: ReadFunction) -> ReadFunction:
        READERS.add(name, Reader(function, summary, sources, options or {}, example))
        return function

    return decorate
