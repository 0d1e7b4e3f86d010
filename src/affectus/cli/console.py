"""Where the verbs print their tables."""

import sys

from rich.console import Console

PIPE_WIDTH = 160


def output() -> Console:
    """Return the console of standard output; wide where nobody watches, so that a pipe or a log folds no name."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
