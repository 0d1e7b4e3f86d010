"""Verbs that make features: features text, features encoder."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

features_app = typer.Typer(help="Make features from what a corpus holds.", no_args_is_help=True)


@features_app.command()
def text(
    corpus: Annotated[Path, typer.Argument(help="A corpus folder with transcripts.")],
    encoder: Annotated[
        str, typer.Option(help="minilm (packaged, no network), a local folder, or a name on the Hugging Face hub.")
    ] = "minilm",
    level: Annotated[
        str, typer.Option(help="utterance: one vector each, for the contextual view; tokens: one vector per token.")
    ] = "utterance",
    name: Annotated[str, typer.Option(help="Name of the modality; one of that name is replaced.")] = "text",
    out: Annotated[Path | None, typer.Option(help="Write another corpus folder instead of changing this one.")] = None,
    max_tokens: Annotated[int, typer.Option(min=3, help="Cut longer transcripts.")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Transcripts per pass.")] = 32,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add a text modality made from the transcripts by a transformer.

    Examples:

      affectus features text CORPUS --encoder minilm

      affectus features text CORPUS --encoder roberta-base --level tokens --out CORPUS-ROBERTA
    """
    from affectus.corpus import load_corpus, save_corpus
    from affectus.features.text import add_text_features

    console = Console(stderr=True)
    columns = (TextColumn("encoding"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as bar:
        task = bar.add_task("encoding", total=None)
        found = add_text_features(
            load_corpus(corpus),
            encoder,
            name=name,
            level=level,
            batch_size=batch_size,
            max_tokens=max_tokens,
            threads=threads,
            device=device,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        save_corpus(found, out or corpus)
    ragged, card = found.features[name], found.card.modalities[name]
    summary = {
        "corpus": str(out or corpus),
        "modality": name,
        "dim": card.dim,
        "encoder": card.encoder,
        "steps": len(ragged.values),
        "missing": int((ragged.lengths == 0).sum()),
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        typer.echo(
            f"Added {name}: {card.dim} numbers a step, {summary['steps']} steps, {summary['missing']} utterances "
            f"without ({card.encoder}). Written to {summary['corpus']}"
        )


@features_app.command()
def encoder(
    run: Annotated[Path, typer.Argument(help="A run that trained a text encoder.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    seed: Annotated[int | None, typer.Option(help="Whose model; default: the first seed's.")] = None,
) -> None:
    """Write a run's trained text encoder as a folder that makes text features of any corpus.

    Examples:

      affectus train mtmm_es MOSEI --tasks intensity --text-encoder minilm --set text_layers=2 --out RUN

      affectus features encoder RUN --out ENCODER

      affectus features text MOSI --encoder ENCODER
    """
    from affectus.training import load_run
    from affectus.training.encoder_export import export_encoder

    typer.echo(f"Wrote {export_encoder(load_run(run), out, seed=seed)}")


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.add_typer(features_app, name="features")
