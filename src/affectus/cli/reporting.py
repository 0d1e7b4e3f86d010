"""The verb that writes reports."""

from pathlib import Path
from typing import Annotated

import typer

from affectus.cli.console import open_runs


def report(
    runs: Annotated[list[Path], typer.Argument(help="One or more run folders, which stand side by side.")],
    corpus: Annotated[Path, typer.Option("--corpus", help="A corpus folder.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")],
    split: Annotated[str, typer.Option(help="Which split to judge on.")] = "test",
    protocol: Annotated[str, typer.Option(help="By which rules; `affectus protocols` explains them.")] = "akhtar2019",
    video: Annotated[
        str | None, typer.Option(help="Whose utterances and attention to show; default: the longest of up to twelve.")
    ] = None,
) -> None:
    """Write one self-contained HTML page.

    Figures, classes, curves, matrices, calibration, thresholds, attention over a video, each modality by itself, a map
    of the fused representation, and the utterances that two runs tell differently.

    Examples:

      affectus report RUN --corpus CORPUS --out report.html

      affectus report SINGLE MULTI --corpus CORPUS --split valid --out single-against-multi.html

      affectus report PLAIN BALANCED --corpus CORPUS --protocol cai2025 --out report.html
    """
    from affectus.report import write_report
    from affectus.vocabulary import canonical_split

    write_report(open_runs(runs), corpus, out, split=canonical_split(split), protocol=protocol, video=video)
    typer.echo(f"Wrote the report to {out}")


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(report)
