"""The verb compare."""

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from affectus.cli.console import open_runs, output
from affectus.cli.fitting import parse_names
from affectus.files import json_text, write_json, write_text


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, or folders of cross-validate; every other one is held against the first."),
    ],
    corpus: Annotated[Path, typer.Option("--corpus", help="A corpus folder.")],
    split: Annotated[str, typer.Option(help="Which split to judge on.")] = "test",
    metrics: Annotated[str | None, typer.Option(help="Which figures, by commas; default: the main ones.")] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="By whose rules sentiment intensity is judged, as in `affectus evaluate`; akhtar2019 clips nothing."
        ),
    ] = "akhtar2019",
    draws: Annotated[int, typer.Option(help="Draws of the bootstrap over videos.")] = 10_000,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Compare the means of the seeds as one model.")] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write JSON, - prints it: a list with an object per metric and run, of the keys metric, first, second "
            "(the runs), first_mean, second_mean, difference (second minus first), interval, p_videos, "
            "p_videos_corrected, p_seeds, effect, better, undefined_draws; null where undefined.",
        ),
    ] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="Write a LaTeX table.")] = None,
) -> None:
    """Say whether one run is better than another: paired bootstrap over videos, t-test over seeds, Holm's correction.

    Examples:

      affectus compare SINGLE MULTI --corpus CORPUS --split test

      affectus compare A B C --corpus CORPUS --metrics polarity.accuracy --latex table.tex

      affectus compare CV/linear CV/mtmm_es --corpus CORPUS
    """
    from affectus.corpus import load_corpus
    from affectus.errors import AffectusError
    from affectus.evaluation.significance import NOTHING, compare_runs, figure_text, interval_text, to_latex
    from affectus.studies.folds import FOLDS_FILE, compare_folds, load_folds
    from affectus.training.seen import notes_on_seen
    from affectus.vocabulary import canonical_split

    opened = load_corpus(corpus)
    wanted = parse_names(metrics)
    if any((run / FOLDS_FILE).is_file() for run in runs):
        if protocol != "akhtar2019":
            raise AffectusError(
                "Folders of cross-validate are compared by the rules of akhtar2019 alone",
                got=f"--protocol {protocol}",
                remedy="Leave --protocol out",
            )
        notes: list[str] = []
        systems = [load_folds(run, opened, ensemble=ensemble) for run in runs]
        found = compare_folds(systems, metrics=wanted, draws=draws)
        judged = "all videos, each judged unseen"
    else:
        held = open_runs(runs)
        where = canonical_split(split)
        notes = [f"{run.folder.name}: {note}" for run in held for note in notes_on_seen(run, opened, where)]
        found = compare_runs(
            held,
            opened,
            split=where,
            metrics=wanted,
            draws=draws,
            ensemble=ensemble,
            protocol=protocol,
        )
        judged = f"split {split}"
    if latex is not None:
        write_text(latex, to_latex(found, [f"{opened.name}, {judged}, protocol {protocol}", *notes]))
    rows = [difference.to_json() for difference in found]
    if json_file is not None and str(json_file) != "-":
        write_json(json_file, rows)
    if json_file is not None and str(json_file) == "-":
        typer.echo(json_text(rows))
        for note in notes:
            typer.echo(note, err=True)
        return
    title = f"Against {found[0].first}, {judged}, protocol {protocol}, {draws} draws of videos"
    table = Table(title=title, title_justify="left")
    for heading in ("metric", "run", "first", "second", "difference", "95 % interval", "p", "p (Holm)", "better"):
        table.add_column(heading, justify="left" if heading in ("metric", "run") else "right")
    for d in found:
        table.add_row(
            d.metric,
            d.second,
            figure_text(d.first_mean),
            figure_text(d.second_mean),
            figure_text(d.difference, "+"),
            interval_text(d.interval),
            figure_text(d.p_videos),
            figure_text(d.p_videos_corrected),
            d.better,
        )
    console = output()
    console.print(table)
    for note in notes:
        console.print(note, style="yellow", markup=False)
    for d in found:
        if math.isnan(d.difference):
            note = "a model predicts a constant, or the labels are; there is nothing to compare"
            console.print(f"{NOTHING} {d.metric} of {d.second}: undefined for a seed of one of the two ({note}).")
        elif d.undefined_draws:
            console.print(f"{d.metric} of {d.second}: {d.undefined_draws} draws in which it is undefined are left out.")
    console.print(
        "p: bootstrap over videos; Holm: corrected for all rows of this table. The t-test over seeds and Cohen's d "
        "are in --json: they say whether the training differs, not whether new videos would show it.",
        style="dim",
    )


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(compare)
