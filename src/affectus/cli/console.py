"""Where the verbs print their tables."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from affectus.threads import usable_cores

if TYPE_CHECKING:
    from affectus.training import Run

PIPE_WIDTH = 160


def output() -> Console:
    """Return the console of standard output; wide where nobody watches, so that a pipe or a log folds no name."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def choose_jobs(jobs: int | None, *, threads: int, many: bool) -> int:
    """Return how many processes train: what is asked, else one; in a terminal say then that there is room for more.

    Args:
        jobs: what ``--jobs`` says; None if it is not given.
        threads: of each process.
        many: there are several runs that processes of this machine could train side by side.
    """
    if jobs is None and many and sys.stderr.isatty() and (room := usable_cores() // threads) > 1:
        said = (
            f"Runs are trained one after another; --jobs {room} trains as many at once as this machine has cores for."
        )
        Console(stderr=True, highlight=False).print(said, style="dim", markup=False, soft_wrap=True)
    return jobs or 1


def open_runs(folders: Iterable[Path]) -> "list[Run]":
    """Open runs that are to be used as they are, and say on standard error which of them have seeds to train yet."""
    from affectus.training import load_run

    opened = [load_run(folder) for folder in folders]
    for run in opened:
        if run.unfinished:
            errors = Console(stderr=True, highlight=False)
            errors.print(run.unfinished, style="yellow", markup=False, soft_wrap=True)
    return opened
