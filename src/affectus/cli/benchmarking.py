"""The verb benchmark."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectus.cli.clustering import ClusterOption, open_executor
from affectus.cli.console import choose_jobs, output
from affectus.cli.fitting import parse_names, parse_seeds
from affectus.cli.reproducing import StudyProgress
from affectus.errors import AffectusError
from affectus.files import json_text, write_json, write_text

if TYPE_CHECKING:
    from affectus.studies.benchmarking.plan import Changes


def benchmark(
    corpora: Annotated[
        list[Path], typer.Argument(metavar="CORPUS...", help="A corpus folder; with --cross two or more.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of runs and tables; a stopped benchmark in it goes on.")],
    models: Annotated[
        str, typer.Option(help="Which models, by commas, or all that fit. Baselines are always in.")
    ] = "all",
    seeds: Annotated[str, typer.Option(help="How many seeds, or which: 5, or 3,7.")] = "5",
    cross: Annotated[bool, typer.Option("--cross", help="Train on each corpus, judge on all of them.")] = False,
    tasks: Annotated[
        str | None, typer.Option(help="What to predict, by commas. Default: the corpus's main task.")
    ] = None,
    modalities: Annotated[str | None, typer.Option(help="Which to use, by commas; default: all.")] = None,
    view: Annotated[
        str | None,
        typer.Option(help="contextual, unaligned, aligned, or any: each model its own. Default: the corpus's own."),
    ] = None,
    rank_by: Annotated[
        str | None, typer.Option("--rank-by", help="The figure that ranks, such as intensity.pearson.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="By which rules to judge. Default: those of the field on this data set.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which split to judge. Default: test, else valid.")] = None,
    text_encoder: Annotated[
        str | None, typer.Option("--text-encoder", help="Make the text from transcripts, as for `affectus train`.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A training setting of every model, or MODEL.KEY=VALUE for one model; repeatable.",
        ),
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs/--no-costs", help="Measure the peak memory of each model, which takes some epochs.")
    ] = True,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs trained side by side, each in its own process; default: 1.", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cluster: ClusterOption = None,
    page: Annotated[Path | None, typer.Option(help="Write the Markdown to this file too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train every model on a corpus, judge all alike, and write one table: Markdown, LaTeX, HTML and JSON.

    Examples:

      affectus benchmark CORPUS --models all --seeds 5 --out DIR

      affectus benchmark CORPUS --models tfn,lmf,mult --seeds 3 --set epochs=20 --set tfn.hidden=64 --out DIR

      affectus benchmark --cross CORPUS CORPUS --models lf_dnn --seeds 5 --out DIR
    """
    from affectus.studies import benchmarking
    from affectus.studies.benchmarking.plan import split_changes
    from affectus.vocabulary import canonical_modality, canonical_split, check_device

    check_device(device)
    if len(corpora) > 1 and not cross:
        raise AffectusError(
            "Several corpora are given", got=len(corpora), expected="one", remedy="Judge them across with --cross"
        )
    assignments = [*(set_ or []), *([f"text_encoder={text_encoder}"] if text_encoder else [])]
    changes = split_changes(assignments)
    chosen = parse_names(modalities)
    jobs = choose_jobs(jobs, threads=threads, many=not quiet and cluster is None and device != "cuda")
    kinds = {
        "models": None if models == "all" else parse_names(models),
        "seeds": parse_seeds(seeds),
        "tasks": parse_names(tasks),
        "modalities": [canonical_modality(name) for name in chosen] if chosen else None,
        "view": view,
        "protocol": protocol,
        "rank_by": rank_by,
        "split": canonical_split(split) if split else None,
        "changes": changes,
        "jobs": jobs,
        "threads": threads,
        "device": device,
        "executor": open_executor(cluster, out, jobs=jobs, threads=threads),
        "command": _command(corpora, cross, models, seeds, tasks, modalities, view, rank_by, protocol, split, changes),
    }
    progress = StudyProgress(quiet)
    with progress.bar:
        if cross:
            found = benchmarking.cross(corpora, out=out, report=progress, say=progress.say, **kinds)  # type: ignore[arg-type]
        else:
            found = benchmarking.benchmark(
                corpora[0],
                out=out,
                costs=costs,
                report=progress,
                say=progress.say,
                **kinds,  # type: ignore[arg-type]
            )
    text, data, name = found.markdown(), found.to_json(), "cross" if cross else "benchmark"
    write_json(out / f"{name}.json", data)
    write_text(out / f"{name}.tex", found.latex())
    write_text(out / f"{name}.html", found.html())
    write_text(out / f"{name}.md", text)
    if page is not None:
        write_text(page, text)
    if as_json:
        typer.echo(json_text(data))
        return
    console = output()
    for _, notes, sections in found.parts:
        for note in notes:
            console.print(note, markup=False, soft_wrap=True)
        for section in sections[:1]:
            for line in (*section.text, *(grid.markdown() for grid in section.grids)):
                console.print(line.replace("**", ""), markup=False, soft_wrap=True)
    typer.echo(f"Wrote {out / name}.md, .tex, .html and .json" + (f", and {page}" if page else ""))


def _command(
    corpora: list[Path],
    cross: bool,
    models: str,
    seeds: str,
    tasks: str | None,
    modalities: str | None,
    view: str | None,
    rank_by: str | None,
    protocol: str | None,
    split: str | None,
    changes: "Changes",
) -> str:
    """Return the command for the page, with the names of the corpora's folders: no path of a machine stands in it."""
    words = ["affectus", "benchmark", *(["--cross"] if cross else []), *(path.resolve().name for path in corpora)]
    for option, value in (
        ("--models", models),
        ("--seeds", seeds),
        ("--tasks", tasks),
        ("--modalities", modalities),
        ("--view", view),
        ("--rank-by", rank_by),
        ("--protocol", protocol),
        ("--split", split),
    ):
        words += [option, value] if value else []
    for change in changes.shown():
        words += ["--set", change]
    return shlex.join(words)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(benchmark)
