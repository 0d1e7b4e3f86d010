"""The verb tune."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from affectus.cli.clustering import ClusterOption, open_cluster
from affectus.cli.console import choose_jobs, output
from affectus.cli.fitting import parse_names, parse_seeds
from affectus.files import json_text, write_json

if TYPE_CHECKING:
    from affectus.studies.tuning import TrialEvent, Tuned

SHOWN = 5
"""Trials in the table, the best ones."""


def tune(
    model: Annotated[str, typer.Argument(help="A model; `affectus models` lists them.")],
    corpus: Annotated[
        Path, typer.Argument(help="A corpus folder with a valid split; its test split is not looked at.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="How many in all; those that are there count.")] = 30,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The study's folder, which processes may share. Default: runs/tune/MODEL-CORPUS."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="What to predict, by commas. Default: the corpus's main task.")
    ] = None,
    modalities: Annotated[str | None, typer.Option(help="Which to use, by commas; default: all.")] = None,
    metric: Annotated[str | None, typer.Option(help="The figure on valid, such as intensity.pearson.")] = None,
    seeds: Annotated[str, typer.Option(help="Of each trial, whose mean counts: how many, or which.")] = "1",
    preset: Annotated[str | None, typer.Option(help="A named set of options of the model to start from.")] = None,
    view: Annotated[
        str | None, typer.Option(help="contextual, unaligned or aligned; default: the model's own.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option("--text-encoder", help="Make the text from transcripts, as for `affectus train`.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option or a setting that stays fixed; repeatable."),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search", metavar="KEY=RANGE", help="Search LOW..HIGH, log:LOW..HIGH or A,B,C of a key; repeatable."
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="Search these keys alone, by commas.")] = None,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="Give up trials that fall behind the median of the others.")
    ] = True,
    study_seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the study; default: 1.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cluster: ClusterOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every trial as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line per trial.")] = False,
) -> None:
    """Search a model's settings on valid, and write the best as a configuration for `affectus train --config`.

    Examples:

      affectus tune lf_dnn CORPUS --trials 50

      affectus tune mtmm_es CORPUS --trials 50 --jobs 4 --tasks polarity --set epochs=20 --out STUDY

      affectus tune tfn CORPUS --trials 20 --only learning_rate,hidden --search hidden=8..64 --out STUDY
    """
    from affectus.models import MODELS
    from affectus.studies.tuning import parse_axis
    from affectus.studies.tuning import tune as search_settings
    from affectus.training.config import parse_assignments
    from affectus.vocabulary import canonical_modality, canonical_view, check_device

    check_device(device)
    chosen_view = None if view is None else canonical_view(view)
    options, training = parse_assignments(set_ or [], MODELS[model])
    if text_encoder is not None:
        training["text_encoder"] = text_encoder
    chosen = parse_names(modalities)
    many = not quiet and trials > 1 and cluster is None and device != "cuda"
    jobs = choose_jobs(jobs, threads=threads, many=many)
    machines = open_cluster(cluster, jobs, threads)
    search_there = None
    if machines is not None:
        from affectus.cluster.tuning import search_on

        search_there = search_on(machines)
    found = search_settings(
        model,
        corpus,
        trials=trials,
        out=out or Path("runs") / "tune" / f"{model}-{corpus.resolve().name}",
        tasks=parse_names(tasks),
        modalities=[canonical_modality(name) for name in chosen] if chosen else None,
        seeds=parse_seeds(seeds),
        view=chosen_view,
        preset=preset,
        options=options,
        training=training,
        space=dict(parse_axis(text) for text in search or []),
        only=parse_names(only),
        metric=metric,
        prune=prune,
        study_seed=study_seed,
        jobs=jobs,
        threads=threads,
        device=device,
        report=None if quiet else _TrialLines(),
        search=search_there,
    )
    write_json(found.out / "trials.json", found.to_json())
    if as_json:
        typer.echo(json_text(found.to_json()))
        return
    _print(found)
    if found.best is not None:
        typer.echo(f"Use them with: affectus train {corpus} --config {found.config} --out RUN")


class _TrialLines:
    """One line per trial."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)

    def __call__(self, event: "TrialEvent") -> None:
        """Show a trial that ended."""
        value = f"{event.value:.4f}" if event.value is not None else event.state
        best = f"  best {event.best:.4f}" if event.best is not None else ""
        why = f"  {event.reason}" if event.reason else ""
        line = f"trial {event.number}  {value}{best}  ({event.finished} of {event.total} done){why}"
        self.console.print(line, soft_wrap=True, markup=False)


def _print(found: "Tuned") -> None:
    complete = [trial for trial in found.trials if trial["state"] == "complete"]
    complete.sort(key=lambda trial: trial["value"] if found.lower else -trial["value"])
    states = [trial["state"] for trial in found.trials]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    table = Table(title=f"{found.metric} on valid; trials: {counted}", title_justify="left")
    table.add_column("trial")
    table.add_column(found.metric, justify="right")
    table.add_column("settings")
    for trial in complete[:SHOWN]:
        settings = ", ".join(f"{key}={_short(value)}" for key, value in trial["settings"].items())
        table.add_row(str(trial["number"]), f"{trial['value']:.4f}", settings)
    console = output()
    console.print(table)
    if found.best is None:
        return
    best = found.best["value"]
    if found.left_out:
        told = ", ".join(f"{key}={_short(value)}" for key, value in found.left_out.items())
        first = f"No trial has the published settings, since {told} is not searched. The best gave {best:.4f}."
    elif found.published is not None:
        first = f"The published settings (trial 0) gave {found.published:.4f}, the best {best:.4f}."
    else:
        first = f"The published settings (trial 0) gave nothing, the best {best:.4f}."
    console.print(
        f"{first} It is the best of {len(complete)} on valid, so it looks better than it is: judge it on test.",
        markup=False,
        soft_wrap=True,
    )


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(tune)
