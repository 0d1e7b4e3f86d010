"""The verb that writes a corpus's features in an outside format."""

from pathlib import Path
from typing import Annotated

import typer

from affectus.cli.console import output
from affectus.files import json_text


def export_features(
    corpus: Annotated[Path, typer.Argument(help="A corpus folder.")],
    format: Annotated[str, typer.Option("--format", help="mmsa: MMSA's feature pickle.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")],
    view: Annotated[
        str | None, typer.Option(help="aligned or unaligned; default: aligned if the corpus is word-aligned.")
    ] = None,
    drop_unlabelled: Annotated[
        bool, typer.Option("--drop-unlabelled", help="Leave out utterances without a sentiment label.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write features and labels for another program; `affectus import mmsa FILE` reads them back.

    Examples:

      affectus export-features CORPUS --format mmsa --out unaligned_50.pkl

      affectus export-features CORPUS --format mmsa --view aligned --drop-unlabelled --out aligned_50.pkl
    """
    from affectus.corpus import load_corpus
    from affectus.corpus.writers import export_features as write

    found = write(load_corpus(corpus), format, out, view=view, drop_unlabelled=drop_unlabelled)
    if as_json:
        typer.echo(json_text(found.to_json()))
        return
    counts = ", ".join(f"{count} {split}" for split, count in found.utterances.items())
    shapes = ", ".join(f"{name} {steps} x {width}" for name, (steps, width) in found.shapes.items())
    typer.echo(f"Wrote {sum(found.utterances.values())} utterances ({counts}), {found.view}, {shapes}: {found.path}")
    for note in found.notes:
        output().print(note, style="yellow", markup=False, soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("export-features")(export_features)
