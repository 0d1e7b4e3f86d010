"""Verbs about corpora: import, corpus show, corpus check, corpus align, corpus join."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperCommand

from affectus.cli import embedded
from affectus.files import json_text

if TYPE_CHECKING:
    from affectus.corpus import Corpus
    from affectus.corpus.check import Report

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A corpus folder.", show_default=False)]
corpus_app = typer.Typer(help="Look at a corpus, check it, align it, join several.", no_args_is_help=True)


class ImportCommand(TyperCommand):
    """The import verb; its help lists the formats from the registry, which is slow to load and only needed there."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usual help, then one line and one example per format."""
        super().format_help(ctx, formatter)
        from affectus.corpus.readers import READERS

        table = Table(title="Formats", title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name in READERS:
            reader = READERS[name]
            table.add_row(name, f"{reader.summary}. Reads {reader.sources}.")
            for option, meaning in reader.options.items():
                table.add_row("", f"--{option.replace('_', '-')}: {meaning}.")
            table.add_row("", f"[dim]affectus import {reader.example}[/dim]")
        Console().print(table)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that draws a bar on a terminal and does nothing elsewhere."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


def _summary(corpus: "Corpus") -> dict[str, Any]:
    from affectus.corpus.storage import counts

    card = corpus.card
    return {
        "name": card.name,
        "source": card.source,
        "licence": card.licence,
        "language": card.language,
        "generated": card.generated,
        "word_aligned": card.word_aligned,
        "utterances": len(corpus),
        "splits": counts(corpus),
        "modalities": {
            name: {
                **card.modalities[name].model_dump(exclude_none=True),
                "steps": len(ragged.values),
                "missing": int((ragged.lengths == 0).sum()),
                "timed": ragged.times is not None,
            }
            for name, ragged in corpus.features.items()
        },
        "schemes": {scheme.name: scheme.model_dump(mode="json", exclude={"name"}) for scheme in card.schemes},
        "columns": corpus.table.columns,
        "notes": card.notes,
    }


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json_text(data) + "\n")


def _grid(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="", pad_edge=False, box=None)
    table.add_column(headers[0], style="bold")
    for header in headers[1:]:
        table.add_column(header, justify="right")
    return table


def _print_splits(console: Console, splits: dict[str, dict[str, int]]) -> None:
    table = _grid("Splits", "", "videos", "utterances")
    for split, count in splits.items():
        table.add_row(split, str(count["videos"]), str(count["utterances"]))
    console.print(table)


def _print_summary(corpus: "Corpus") -> None:
    console, data = Console(highlight=False), _summary(corpus)
    facts = [f"{data['utterances']} utterances", data["language"], "word-aligned" if data["word_aligned"] else None]
    facts += ["generated" if data["generated"] else None, f"licence: {data['licence']}"]
    console.print(f"[bold]{data['name']}[/bold]: " + ", ".join(fact for fact in facts if fact))
    _print_splits(console, data["splits"])
    if data["modalities"]:
        table = _grid("Modalities", "", "width", "steps", "missing", "made by")
        for name, entry in data["modalities"].items():
            table.add_row(name, str(entry["dim"]), str(entry["steps"]), str(entry["missing"]), entry.get("encoder", ""))
        console.print(table)
    table = _grid("Labels", "", "kind", "columns", "values")
    for name, scheme in data["schemes"].items():
        values = ", ".join(scheme["classes"]) or f"[{scheme['low']}, {scheme['high']}]"
        table.add_row(name, scheme["kind"], ", ".join(scheme["columns"]), values.replace("[", "\\["))
    console.print(table)
    for note in data["notes"]:
        console.print(f"- {note}", markup=False)


def show_corpus(corpus: "Corpus", as_json: bool, out: Path | None = None) -> None:
    """Print what a corpus holds, and where it was written."""
    if as_json:
        _print_json(_summary(corpus) if out is None else {**_summary(corpus), "out": str(out)})
        return
    _print_summary(corpus)
    if out is not None:
        Console(highlight=False, soft_wrap=True).print(f"Written to {out}", markup=False)


def import_source(
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="The source's format; listed below.")],
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="The files, or a folder.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="The corpus folder to write; one of the same source is replaced."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Which data set, if a file holds several; else the corpus's name.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="The column that holds the transcript.")] = None,
    split_name: Annotated[str | None, typer.Option(help="Put all utterances in this split.")] = None,
    splits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON with the videos of each split; overrides the source's.")
    ] = None,
    splits_key: Annotated[str | None, typer.Option(metavar="KEY", help="Which division in that JSON.")] = None,
    rename_splits: Annotated[
        str | None, typer.Option(metavar="OLD=NEW,...", help="Rename splits, all at once.")
    ] = None,
    valid_fraction: Annotated[
        float | None, typer.Option(metavar="F", help="Move this share of the training videos to valid.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the videos that --valid-fraction moves.")] = 0,
    signal: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN:rate=N", help="A modality from a manifest's signal files; repeatable."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="What made the source's token ids, for instance bert-base-uncased.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a data set in an outside format into a corpus folder."""
    from affectus.corpus.readers import import_corpus

    with _progress("Reading") as advance:
        corpus = import_corpus(
            format,
            sources,
            name=name,
            text_column=text_column,
            split_name=split_name,
            splits=splits,
            splits_key=splits_key,
            rename_splits=rename_splits,
            valid_fraction=valid_fraction,
            seed=seed,
            signals=signal or (),
            tokenizer=tokenizer,
            out=out,
            progress=advance,
        )
    show_corpus(corpus, as_json, out)


@corpus_app.command("show")
def show(folder: Folder, as_json: AsJson = False) -> None:
    """Print what a corpus holds: splits, modalities, labels, and what the reader noted.

    Example: affectus corpus show CORPUS
    """
    from affectus.corpus import load_corpus

    show_corpus(load_corpus(folder), as_json)


def _print_report(report: "Report") -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{report.name}[/bold]: {report.utterances} utterances, {report.without_text} without text")
    _print_splits(console, report.splits)
    if report.modalities:
        table = _grid("Modalities", "", "width", "steps", "length min/median/max", "missing", "NaN", "inf", "constant")
        for name, found in report.modalities.items():
            lengths = "/".join(f"{found.lengths[key]:g}" for key in ("min", "median", "max")) if found.lengths else "-"
            table.add_row(
                name,
                str(found.dim),
                str(found.steps),
                lengths,
                f"{found.missing} ({found.missing_rate:.1%})",
                str(found.nan),
                str(found.inf),
                f"{len(found.constant_columns)} columns",
            )
        console.print(table)
    table = _grid("Labels", "", "missing", "range", "mean", "below 0 / 0 / above 0, or classes")
    for column, label in report.labels.items():
        if label.classes is not None:
            spread, mean = "", ""
            shares = ", ".join(f"{name} {count}" for name, count in label.classes.items())
        elif label.low is not None and label.high is not None and label.mean is not None:
            spread, mean = f"{label.low:g} to {label.high:g}", f"{label.mean:.3f}"
            shares = f"{label.negative} / {label.zero} / {label.positive}"
        else:
            spread, mean, shares = "", "", "no label at all"
        table.add_row(column, f"{label.missing} ({label.missing_rate:.1%})", spread, mean, shares)
    console.print(table)
    for name, found in report.modalities.items():
        for entry in found.columns:
            more = ", ..." if entry.utterances > len(entry.examples) else ""
            title = f"{entry.column}" + (f" ({entry.name})" if entry.name else "")
            line = f"{name}, column {title}: {entry.nan} NaN, {entry.inf} inf in {entry.utterances} utterances: "
            console.print(line + ", ".join(entry.examples) + more, markup=False)
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    if not report.warnings:
        console.print("Nothing odd was found.")


@corpus_app.command("check")
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Look for what is odd or broken: exit code 0 with warnings, 2 if a file is damaged.

    Example: affectus corpus check CORPUS
    """
    from affectus.corpus.check import check_corpus
    from affectus.errors import AffectusError

    report = check_corpus(folder)
    if as_json:
        _print_json(report.as_dict())
    else:
        _print_report(report)
    if report.damaged:
        raise AffectusError(
            "Damaged files (their SHA-256 is not the card's)",
            where=folder,
            got=", ".join(report.damaged),
            remedy="Import the corpus again",
        )


@corpus_app.command("align")
def align(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The corpus folder to write.")],
    to: Annotated[str, typer.Option(help="words, or a modality whose steps have times.")] = "words",
    modalities: Annotated[str | None, typer.Option(help="Which to keep, as text,audio,...; default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pool every sequence over each word's interval, so that all modalities share one step per word.

    Examples:

      affectus corpus align CORPUS --out ALIGNED

      affectus corpus align CORPUS --to audio --modalities text,audio --out ALIGNED
    """
    from affectus.corpus import load_corpus, save_corpus
    from affectus.corpus.align import align_corpus
    from affectus.files import claim
    from affectus.vocabulary import canonical_modality

    kept = [canonical_modality(name) for name in modalities.split(",")] if modalities else None
    with claim(out), _progress("Aligning") as advance:
        corpus = align_corpus(load_corpus(folder), to, modalities=kept, progress=advance)
        save_corpus(corpus, out)
    show_corpus(corpus, as_json, out)


@corpus_app.command("join")
def join(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Corpus folders.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The corpus folder to write.")],
    name: Annotated[str | None, typer.Option(help="Of the new corpus; default: that of the first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put corpora of one form one after another, such as shards that were imported or extracted by themselves.

    Memory does not grow with the features. Labels, widths and encoders must be the same.

    Example: affectus corpus join SHARDS/0 SHARDS/1 --out CORPUS
    """
    from affectus.corpus.joining import join_corpora

    with _progress("Joining") as advance:
        corpus = join_corpora(folders, out, name=name, progress=advance)
    show_corpus(corpus, as_json, out)


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("import", cls=ImportCommand)(import_source)
    embedded.add_to(corpus_app)
    app.add_typer(corpus_app, name="corpus")
