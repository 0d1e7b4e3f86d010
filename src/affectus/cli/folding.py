"""The verb cross-validate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from affectus.cli.console import output
from affectus.cli.fitting import HEADLINE, SeedProgress, parse_names, parse_seeds
from affectus.files import json_text, write_json

if TYPE_CHECKING:
    from affectus.studies.folds import CrossValidated


def cross_validate(
    model: Annotated[str, typer.Argument(help="A model; `affectus models` lists them.")],
    corpus: Annotated[Path, typer.Argument(help="A corpus folder; its own splits are not regarded.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the folds' runs; unfinished ones go on.")],
    tasks: Annotated[str, typer.Option(help="What to predict, by commas; name:weight weighs its loss.")],
    folds: Annotated[int, typer.Option(help="Into how many parts the videos are dealt.")] = 5,
    valid_fraction: Annotated[
        float, typer.Option(help="Share of the videos outside a fold that choose its epoch and thresholds.")
    ] = 0.15,
    fold_seed: Annotated[int, typer.Option(help="Another seed deals the videos otherwise.")] = 0,
    modalities: Annotated[str | None, typer.Option(help="Which to use, by commas; default: all.")] = None,
    seeds: Annotated[str, typer.Option(help="How many seeds, or which: 5, or 3,7.")] = "1",
    preset: Annotated[str | None, typer.Option(help="A named set of options of the model.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the model or a training setting; repeatable."),
    ] = None,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Judge the mean of the seeds as one model.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON; - prints them.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no line per epoch.")] = False,
) -> None:
    """Judge a model on every video of a small corpus: each by models that never saw it, then pooled.

    Examples:

      affectus cross-validate linear CORPUS --tasks polarity --out CV/linear

      affectus cross-validate mtmm_es CORPUS --tasks polarity --folds 6 --seeds 3 --out CV/mtmm_es

      affectus compare CV/linear CV/mtmm_es --corpus CORPUS
    """
    from affectus.corpus import load_corpus
    from affectus.models import MODELS
    from affectus.studies.folds import cross_validate as train_folds
    from affectus.studies.folds import load_folds
    from affectus.training.config import parse_assignments
    from affectus.vocabulary import canonical_modality

    options, training = parse_assignments(set_ or [], MODELS[model])
    opened = load_corpus(corpus)
    chosen = parse_names(modalities)
    progress = SeedProgress(quiet)
    with progress.bar:
        train_folds(
            model,
            opened,
            tasks=parse_names(tasks) or [],
            out=out,
            folds=folds,
            valid_fraction=valid_fraction,
            fold_seed=fold_seed,
            modalities=[canonical_modality(name) for name in chosen] if chosen else None,
            seeds=parse_seeds(seeds),
            preset=preset,
            options=options,
            training=training,
            report=progress,
        )
    found = load_folds(out, opened, ensemble=ensemble)
    if json_file is not None and str(json_file) == "-":
        typer.echo(json_text(found.to_json()))
        return
    if json_file is not None:
        write_json(json_file, found.to_json())
    _print(found, model, folds)


def _print(found: "CrossValidated", model: str, folds: int) -> None:
    from affectus.evaluation.significance import figure_text

    facts = found.to_json()
    table = Table(
        title=f"{model}, {folds} folds: {facts['n']} utterances of {facts['videos']} videos, each judged unseen",
        title_justify="left",
        caption="Seeds " + ", ".join(map(str, found.seeds)) + (", averaged" if found.ensemble else ""),
        caption_justify="left",
    )
    table.add_column("metric")
    for heading in ("mean", "std"):
        table.add_column(heading, justify="right")
    for name in [name for name in found.metrics if name in HEADLINE] or found.metrics:
        table.add_row(name, *(figure_text(facts["metrics"][name][of]) for of in ("mean", "std")))
    output().print(table)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("cross-validate")(cross_validate)
