"""Where the verbs print their tables."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from affectus.training import Run

PIPE_WIDTH = 160


def output() -> Console:
    """Return the console of standard output; wide where nobody watches, so that a pipe or a log folds no name."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def open_runs(folders: Iterable[Path]) -> "list[Run]":
    """Open runs that are to be used as they are, and say on standard error which of them have seeds to train yet."""
    from affectus.training import load_run

    opened = [load_run(folder) for folder in folders]
    for run in opened:
        if run.unfinished:
            errors = Console(stderr=True, highlight=False)
            errors.print(run.unfinished, style="yellow", markup=False, soft_wrap=True)
    return opened
