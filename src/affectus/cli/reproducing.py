"""The verb reproduce."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from affectus.cli.console import choose_jobs, output
from affectus.cli.fitting import parse_names, parse_seeds
from affectus.errors import unknown_name
from affectus.files import json_text, write_json, write_text

if TYPE_CHECKING:
    from affectus.studies.cells import StudyEvent

PAPERS = {"akhtar2019": "akhtar2019_mtmm_es_mosei", "cai2025": "cai2025_ufen_mtfn_mosi"}
"""The papers that can be repeated, each with an experiment whose model ``--set`` is about."""


class StudyProgress:
    """A bar over the cells of a study with the time left, and one line per cell; lines alone where nobody watches."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task: Any = None
        self.started = time.monotonic()
        self.shares: dict[str, float] = {}
        self.done_before = self.finished = 0

    def say(self, text: str) -> None:
        """Show what is done besides training."""
        if not self.quiet and not self.console.is_terminal:
            self.console.print(text, soft_wrap=True, markup=False)
        elif self.task is not None:
            self.bar.update(self.task, description=text[:60])

    def __call__(self, event: "StudyEvent") -> None:
        """Show an epoch, or a cell that has ended."""
        if self.task is None or event.finished < self.finished:
            # the first word of a study: what it finds finished took no time of this call
            self.started, self.shares = time.monotonic(), {}
            self.done_before = event.finished - (event.kind != "epoch")
            self.task = self.bar.add_task("training", total=event.total, left="")
        self.finished = event.finished
        self.shares[event.cell] = event.share
        completed = min(float(event.total), self.done_before + sum(self.shares.values()))
        left = time_left(time.monotonic() - self.started, completed - self.done_before, event.total - completed)
        number = min(event.finished + (event.kind == "epoch"), event.total)
        shown = f"cell {number} of {event.total}  {event.cell}"
        self.bar.update(self.task, completed=completed, description=f"{shown}  {event.text}"[:90], left=left)
        if not self.quiet and event.kind != "epoch":
            failed = f"  failed: {event.text}" if event.kind == "failed" else ""
            self.console.print(f"{shown}{failed}  {left}".rstrip(), soft_wrap=True, markup=False)


def time_left(seconds: float, done: float, left: float) -> str:
    """Return how long the rest will take if it goes on like this, in words; nothing while it cannot be told.

    >>> time_left(60, 2, 4)
    'about 2 min left'
    """
    if done <= 0 or left <= 0:
        return ""
    rest = seconds / done * left
    return f"about {rest / 60:.0f} min left" if rest >= 90 else f"about {rest:.0f} s left"


def reproduce(
    paper: Annotated[str, typer.Argument(help="Which paper: " + ", ".join(PAPERS) + ".")],
    corpus: Annotated[list[Path], typer.Option("--corpus", help="A corpus folder; repeatable.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the runs; a stopped study in it goes on. Default: runs/PAPER."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="How many seeds, or which: 5, or 3,7. Default: 5.")] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            "--tables",
            "--table",
            help="Which parts, by commas; akhtar2019: claims, 2, 3, 4, 7, 5.5, cost; cai2025: claims, comparison (or "
            "3, 4, 5), 7, 8, 9, 10. Default: all.",
        ),
    ] = None,
    systems: Annotated[
        str | None, typer.Option(help="The other systems to compare with, by commas. Default: all that can be trained.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A training setting, or an option of the paper's model, to change; repeatable.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs trained side by side, each in its own process; default: 1.", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    page: Annotated[Path | None, typer.Option(help="Write the page to this file too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Repeat a paper's tables on your corpus: published, oracle and honest side by side, and whether its claims hold.

    Examples:

      affectus reproduce akhtar2019 --corpus CORPUS

      affectus reproduce akhtar2019 --corpus CORPUS --seeds 5 --jobs 2 --tables claims,4 --out STUDY

      affectus reproduce akhtar2019 --corpus A --corpus B --page results.md

      affectus reproduce cai2025 --corpus CORPUS --table 9 --seeds 5

      affectus reproduce cai2025 --corpus CORPUS --set text_encoder=minilm --set text_layers=2 --set epochs=4
    """
    from affectus.models import MODELS
    from affectus.studies import akhtar2019, cai2025
    from affectus.studies.published import load_experiment
    from affectus.training.config import parse_assignments
    from affectus.vocabulary import check_device

    if paper not in PAPERS:
        raise unknown_name("paper", paper, PAPERS)
    check_device(device)
    folder = out or Path("runs") / paper
    options, training = parse_assignments(set_ or [], MODELS[load_experiment(PAPERS[paper]).model])
    jobs = choose_jobs(jobs, threads=threads, many=not quiet and device != "cuda")
    progress = StudyProgress(quiet)
    with progress.bar:
        found = {"akhtar2019": akhtar2019, "cai2025": cai2025}[paper].reproduce(
            corpus,
            out=folder,
            seeds=parse_seeds(seeds) if seeds else None,
            jobs=jobs,
            threads=threads,
            device=device,
            tables=parse_names(tables),
            systems=parse_names(systems),
            options=options,
            training=training,
            command=_command(paper, corpus, seeds, tables, systems, set_ or []),
            report=progress,
            say=progress.say,
        )
    text, data = found.markdown(), found.to_json()
    write_json(folder / f"{paper}.json", data)
    write_text(folder / f"{paper}.tex", found.latex())
    write_text(folder / f"{paper}.md", text)
    if page is not None:
        write_text(page, text)
    if as_json:
        typer.echo(json_text(data))
        return
    console = output()
    for heading, notes, sections in found.parts:
        console.print(heading, style="bold")
        for note in notes:
            console.print(note, markup=False)
        for section in sections:
            if section.title == "Do the claims hold?":
                console.print(section.text[-1].replace("**", ""), markup=False)
    typer.echo(f"Wrote {folder / paper}.md, .json and .tex" + (f", and {page}" if page else ""))


def _command(
    paper: str, corpora: list[Path], seeds: str | None, tables: str | None, systems: str | None, changes: list[str]
) -> str:
    """Return the command for the page, with the names of the corpora's folders: no path of a machine stands in it."""
    words = ["affectus", "reproduce", paper]
    for corpus in corpora:
        words += ["--corpus", corpus.resolve().name]
    for option, value in (("--seeds", seeds), ("--tables", tables), ("--systems", systems)):
        words += [option, value] if value else []
    for change in changes:
        words += ["--set", change]
    return shlex.join(words)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(reproduce)
