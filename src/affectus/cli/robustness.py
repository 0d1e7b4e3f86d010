"""The verb robustness."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from affectus.cli.console import output
from affectus.cli.fitting import parse_names
from affectus.errors import AffectusError
from affectus.files import json_text, write_json

if TYPE_CHECKING:
    from affectus.evaluation import Robustness


def robustness(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One or more run folders.")],
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus folder, which comes last.")],
    split: Annotated[str, typer.Option(help="Which split to judge on.")] = "test",
    protocol: Annotated[str, typer.Option(help="By which rules; `affectus protocols` explains them.")] = "akhtar2019",
    corruptions: Annotated[
        str | None, typer.Option(help="Which, by commas: missing, noise, frames, bursts, shuffled; default: all.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Which figures to show, by commas; default: the main ones.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Repetitions of each corruption.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the corruptions' random numbers.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Write a page (.html) or every figure (.csv).")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure as JSON; - prints it.")] = None,
) -> None:
    """Judge runs while their modalities are missing, noisy, interrupted or another's.

    Each corruption is done to every modality by itself and to all at once; the table shows the area under each curve.

    Examples:

      affectus robustness RUN CORPUS --split test

      affectus robustness PLAIN DROPOUT CORPUS --corruptions missing,noise --out robustness.html --json robustness.json
    """
    from affectus.corpus import load_corpus
    from affectus.evaluation import measure_robustness
    from affectus.report.robustness import check_out, choose_metrics, run_labels, write_robustness
    from affectus.training import load_run
    from affectus.vocabulary import canonical_split

    if out is not None:
        check_out(out)
    opened = [load_run(run) for run in runs]
    folders = [run.folder.resolve() for run in opened]
    if len(set(folders)) < len(folders):
        raise AffectusError("A run is given twice", got=", ".join(map(str, runs)))
    data = load_corpus(corpus)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Robustness] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        for run in opened:
            task = bar.add_task(run.folder.name, total=None)
            found.append(
                measure_robustness(
                    run,
                    data,
                    split=canonical_split(split),
                    protocol=protocol,
                    corruptions=parse_names(corruptions),
                    draws=draws,
                    seed=seed,
                    threads=threads,
                    report=lambda done, total, task=task: bar.update(task, completed=done, total=total),  # type: ignore[misc]
                )
            )
    run_labels(found)
    wanted = choose_metrics(found, parse_names(metrics))
    if json_file is not None and str(json_file) != "-":
        write_json(json_file, [one.to_json() for one in found])
    if out is not None:
        write_robustness(found, out, metrics=wanted)
    if json_file is not None and str(json_file) == "-":
        typer.echo(json_text([one.to_json() for one in found]))
        return
    _print_areas(found, wanted)
    if out is not None:
        typer.echo(f"Wrote {out}")


def _print_areas(found: "list[Robustness]", metrics: list[str]) -> None:
    from affectus.report.robustness import area_rows, run_labels

    first, rows = found[0], area_rows(found, metrics)
    table = Table(
        title=f"Area under the curve, {first.corpus}, {first.split} ({first.n} utterances), {first.draws} draws",
        title_justify="left",
        caption="An area is the mean of a figure over the levels of a corruption; ↑ more is better, ↓ less.",
        caption_justify="left",
    )
    table.add_column("corruption")
    table.add_column("of")
    for row in rows[: len(metrics)]:
        for label in run_labels(found):
            table.add_column(f"{row.metric} {'↑' if row.higher else '↓'}\n{label}", justify="right")
    table.add_row("none", "", *(_figure(value) for row in rows[: len(metrics)] for value in row.clean))
    before = ""
    for start in range(0, len(rows), len(metrics)):
        of_curve = rows[start : start + len(metrics)]
        corruption = of_curve[0].corruption
        if corruption != before:
            table.add_section()
        cells = [_figure(value) for row in of_curve for value in row.areas]
        table.add_row(corruption if corruption != before else "", of_curve[0].target, *cells)
        before = corruption
    console = output()
    console.print(table)
    for note in dict.fromkeys(note for one in found for note in one.notes):
        console.print(note, style="yellow", markup=False)


def _figure(value: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    mean, spread = value
    return f"{mean:.3f}" if math.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(robustness)
