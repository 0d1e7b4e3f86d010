"""The option --cluster of the verbs that work on many machines."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectus.errors import AffectusError

if TYPE_CHECKING:
    from affectus.cluster import Cluster
    from affectus.parallel import Executor

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: local (default, started here), auto (the one that runs here) or HOST:PORT.",
    ),
]
PARQUET = "parquet"


def with_address(words: Sequence[str]) -> list[str]:
    """Return the words of a command with ``--cluster`` made ``--cluster=local`` where no address follows it.

    >>> with_address(["extract", "--cluster", "VIDEOS", "--out", "CORPUS"])
    ['extract', '--cluster=local', 'VIDEOS', '--out', 'CORPUS']
    >>> with_address(["extract", "VIDEOS", "--cluster", "10.0.0.7:6379"])
    ['extract', 'VIDEOS', '--cluster', '10.0.0.7:6379']
    """
    if "--cluster" not in words:  # as nearly always: the command line starts without what is for clusters
        return list(words)
    from affectus.cluster.session import is_address

    return [
        "--cluster=local" if word == "--cluster" and not is_address(after) else word
        for word, after in zip_longest(words, words[1:], fillvalue="")
    ]


def open_cluster(address: str | None, jobs: int = 1, threads: int = 1) -> "Cluster | None":
    """Return the cluster at an address, None for none.

    Args:
        address: what ``--cluster`` says.
        jobs: workers at most, if more than 1; else as many as there is room for.
        threads: cores of each.

    Raises:
        AffectusError: Ray is missing, or the address is none.
    """
    if address is None:
        return None
    from affectus.cluster import Cluster

    found = Cluster(address, jobs if jobs > 1 else None, threads)
    found.check()
    return found


def open_executor(
    address: str | None, out: Path, *, jobs: int = 1, threads: int = 1, stall: float | None = None
) -> "Executor | None":
    """Return what does work on the cluster at an address, None for none; ``out`` is on a disk that all machines see."""
    found = open_cluster(address, jobs, threads)
    if found is None:
        return None
    from affectus.cluster.executor import RayExecutor

    whole = out.resolve()
    return RayExecutor(found, whole.parent / f".{whole.name}.attempts", stall)


def check_format(format: str, other: str) -> bool:
    """Return whether a table is to be partitioned Parquet.

    Raises:
        AffectusError: the format is unknown.
    """
    if format not in (PARQUET, other):
        raise AffectusError(f"Unknown --format {format!r}", expected=f"{other} or {PARQUET}")
    return format == PARQUET
