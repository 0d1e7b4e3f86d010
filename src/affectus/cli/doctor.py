"""The verb doctor: what is ready, what is missing, and the command that mends it."""

import json
import os
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import affectus
from affectus.cli.console import output

if TYPE_CHECKING:
    from affectus.features.media.readiness import Part


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Tell which parts are ready, where models and caches lie, what is missing and the command that mends it.

    Nothing is installed, run or fetched. The exit code is 1 if a part that is used by default is missing.

    Examples:

      affectus doctor
    """
    from affectus.features.media.cache import cache_folder
    from affectus.features.media.readiness import check_parts, folder_bytes, hub_folder

    parts = [*check_parts(), _kernels()]
    folders = {"features extracted before": cache_folder(), "models of the Hugging Face hub": hub_folder()}
    sizes = {what: folder_bytes(folder) if folder.is_dir() else 0 for what, folder in folders.items()}
    missing = [part for part in parts if not part.ready and not part.optional]
    if as_json:
        said = {
            "affectus": affectus.__version__,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "parts": [asdict(part) for part in parts],
            "folders": {what: {"path": str(path), "bytes": sizes[what]} for what, path in folders.items()},
        }
        typer.echo(json.dumps(said, indent=1))
    else:
        table = Table(
            title=f"affectus {affectus.__version__}, Python {platform.python_version()}", title_justify="left"
        )
        for heading in ("part", "for", "state", "found, or what mends it"):
            table.add_column(heading, overflow="fold")
        for part in parts:
            state = "ready" if part.ready else "not installed" if part.optional else "missing"
            style = "green" if part.ready else "dim" if part.optional else "red"
            said_of = part.found if part.ready else f"{part.problem}. {part.remedy}"
            table.add_row(part.name, part.does, f"[{style}]{state}[/]", said_of.replace("[", r"\["))
        console = output()
        console.print(table)
        for what, folder in folders.items():
            console.print(f"{what}: {folder} ({sizes[what] / 1e6:.1f} MB)", markup=False)
        if missing:
            console.print(f"{len(missing)} of the parts used by default are missing.", style="red")
    raise typer.Exit(1 if missing else 0)


def _kernels() -> "Part":
    """Look at the compiled recurrences, without which everything works, but training takes longer."""
    from affectus.features.media.readiness import Part
    from affectus.nn.kernels import NONE, in_use, level

    what = ("kernels", "faster training, compiled")
    if level() != NONE:
        return Part(*what, ready=True, optional=True, found=f"for {in_use()}")
    remedy = "With a C compiler (or after `pip install ziglang`), on x86-64: python -m affectus.nn.kernels"
    return Part(*what, ready=False, optional=True, found="", problem="not compiled, or not for here", remedy=remedy)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(doctor)
