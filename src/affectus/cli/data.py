"""Verbs about corpora: import, corpus show, corpus check, corpus align."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
