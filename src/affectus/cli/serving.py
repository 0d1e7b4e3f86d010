"""The verb serve."""

from pathlib import Path
from typing import Annotated

import typer

from affectus.errors import AffectusError

PORT = 8765


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = PORT,
    folder: Annotated[
        Path | None, typer.Option(help="Where recordings, features and results are kept; default: the user's data.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A run's folder; default: the model that ships.")] = None,
    open_: Annotated[
        list[Path] | None,
        typer.Option("--open", metavar="FOLDER", help="Runs, corpora and manifests below may be opened; repeatable."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at. Beyond this machine only with a token, which is then made.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A name by which other machines call this one (with --host); repeatable."),
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="AFFECTUS_TOKEN", help="What a client must know.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Analyses at once, each in a process.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each network in each process.")] = 1,
    queue: Annotated[int, typer.Option(min=1, help="Most analyses that wait; more are refused.")] = 8,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest upload.")] = 2048,
    max_minutes: Annotated[float, typer.Option(min=0.01, help="Longest recording.")] = 120.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Serve a page on this machine: drop a recording, watch what it expresses.

    Nothing leaves the machine, and no other one can reach the page unless --host says so.

    Examples:

      affectus serve

      affectus serve --open runs --open corpora --workers 2

      affectus serve --host 0.0.0.0 --name lab.example --no-browser
    """
    try:
        from affectus.app.running import Serving, run
    except ImportError as error:
        raise AffectusError(
            f"The page needs the package {error.name}", remedy="Install it: pip install 'affectus[serve]'"
        ) from None

    run(
        Serving(
            folder=folder, model=model, roots=tuple(open_ or ()), host=host, port=port, names=tuple(name or ()),
            token=token, workers=workers, threads=threads, queue=queue, max_mb=max_mb, max_minutes=max_minutes,
            browser=browser,
        ),
        typer.echo,
    )  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(serve)
