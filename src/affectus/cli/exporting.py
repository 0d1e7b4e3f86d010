"""Verbs that write for other programs: a run as a network, a corpus's features in an outside format."""

from pathlib import Path
from typing import Annotated

import typer

from affectus.cli.console import open_runs, output
from affectus.files import json_text


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write; FILE.json explains it.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="onnx, or torch-export (for torch.export.load); default: torch-export for .pt2, onnx for all else.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Whose model; default: the mean of all seeds.")] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare the file with the run on random features.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print what FILE.json says.")] = False,
) -> None:
    """Write a trained network as one file for other programs, scaling and probabilities included.

    Batch and lengths stay free, and any modality may be missing. The file is compared with the run before it is put in
    its place.

    Examples:

      affectus export RUN --out model.onnx

      affectus export RUN --seed 0 --out model.pt2
    """
    from affectus.predict.portable import CHECKED_LENGTHS, export_run
    from affectus.training import load_run

    # one seed is whole by itself
    opened = open_runs([run])[0] if seed is None else load_run(run)
    found = export_run(opened, out, format=format, seed=seed, check=check)
    if as_json:
        typer.echo(json_text(found.description))
        return
    names = [entry["name"] for entry in found.description["inputs"]]
    told = [entry["name"] for entry in found.description["outputs"]]
    typer.echo(f"Wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {', '.join(names)} in, {', '.join(told)} out")
    if found.difference is None:
        typer.echo("Not compared with the run.")
    else:
        typer.echo(
            f"Compared with the run on {found.description['check']['batches']} batches of 1 to {CHECKED_LENGTHS[-1]} "
            f"steps, with and without modalities: it differs by {found.difference:.1e} at most."
        )
    typer.echo(f"What goes in and comes out, and the thresholds: {found.sidecar}")


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
    """Add the verbs to the command line."""
    app.command()(export)
    app.command("export-features")(export_features)
