"""Verb that makes a corpus of media files: extract."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperCommand

from affectus.cli.clustering import ClusterOption, check_format, open_executor
from affectus.errors import AffectusError
from affectus.files import json_text, valid_text

if TYPE_CHECKING:
    from affectus.features.media.extraction import Extracted, Written
    from affectus.features.media.extraction import Progress as Step


SHOWN_NOTES = 5
"""So many of the card's notes are printed."""


class ExtractCommand(TyperCommand):
    """The extract verb; its help lists the extractors, whose registry is slow to load and only needed there."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usual help, then one line per extractor."""
        super().format_help(ctx, formatter)
        from affectus.features.media.extractors import EXTRACTORS, names_of
        from affectus.vocabulary import KNOWN_MODALITIES

        table = Table(title="Extractors", title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for modality in KNOWN_MODALITIES:
            for name in names_of(modality):
                table.add_row(f"--{modality}", name, EXTRACTORS[name].summary)
        Console().print(table)


def extract(
    source: Annotated[
        Path, typer.Argument(help="A media file, subtitles, a text, a folder of such, or a manifest (.csv).")
    ],
    out: Annotated[Path, typer.Option("--out", help="The corpus folder to write, or that of the parts.")],
    manifest: Annotated[
        Path | None,
        typer.Option(help="CSV with path, start, end, text, speaker, split and labels; paths are relative to it."),
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Subtitles or a text of the one file; default: of its name, beside it.")
    ] = None,
    segments: Annotated[
        str, typer.Option(help="Utterances: auto (subtitles, else pauses), pauses, even or whole.")
    ] = "auto",
    recognizer: Annotated[
        str, typer.Option(help="tiny.en or base (packaged), a Whisper's size, folder or name on the hub; none.")
    ] = "tiny.en",
    language: Annotated[str | None, typer.Option(help="Of the speech: en, de, zh ...; default: let it tell.")] = None,
    text: Annotated[
        str, typer.Option(help="An extractor listed below, a folder or a name on the hub; none.")
    ] = "minilm",
    text_level: Annotated[str, typer.Option(help="A vector per utterance, words or tokens.")] = "utterance",
    audio: Annotated[
        str, typer.Option(help="An extractor listed below, a speech encoder's folder or name on the hub; none.")
    ] = "sims",
    vision: Annotated[str, typer.Option(help="An extractor listed below; none.")] = "faces",
    no_vision: Annotated[bool, typer.Option("--no-vision", help="The same as --vision none.")] = False,
    fps: Annotated[float, typer.Option(help="Pictures a second that are looked at.")] = 10.0,
    face: Annotated[str, typer.Option(help="Whose: largest, speaking, or a face's number from 1.")] = "largest",
    turns: Annotated[Path | None, typer.Option(help="RTTM file: who speaks when in the one file.")] = None,
    diarizer: Annotated[str | None, typer.Option(help="Name of a speaker diariser on the hub.")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="Pool everything over words: one step per word.")] = False,
    pause: Annotated[float, typer.Option(help="Seconds of silence that end an utterance.")] = 0.4,
    longest: Annotated[float, typer.Option(help="Seconds; longer speech is cut.")] = 12.0,
    jobs: Annotated[int, typer.Option(min=1, help="Files read at once, in processes.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each model in each process.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder of what was read before; default: the user's.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither take nor keep anything there.")] = False,
    format: Annotated[
        str,
        typer.Option("--format", help="corpus, or parquet: a folder of part-00000.parquet ..., a row per utterance."),
    ] = "corpus",
    cluster: ClusterOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a corpus of videos, sound files or transcripts.

    What was read before, with the same settings, is taken from the cache, so an extraction that was stopped goes on. A
    file that cannot be read is passed over with its reason.

    Examples:

      affectus extract clip.mp4 --out CORPUS

      affectus extract VIDEOS --out CORPUS --jobs 2

      affectus extract labelled.csv --out CORPUS --text-level words --aligned

      affectus extract VIDEOS --out PARTS --format parquet --cluster 10.0.0.7:6379
    """
    from affectus.corpus import save_corpus
    from affectus.features.media.extraction import extract as run
    from affectus.features.media.extraction import extract_parts
    from affectus.features.media.settings import NONE, Extraction
    from affectus.features.media.workers import STALL_SECONDS
    from affectus.files import claim

    in_parts = check_format(format, "corpus")
    if cluster is not None and no_cache:
        raise AffectusError(
            "On a cluster the cache is where machines put what they read",
            got="--no-cache",
            remedy="Leave it out, or name a folder with --cache",
        )
    executor = open_executor(cluster, out, jobs=jobs, threads=threads, stall=STALL_SECONDS)

    settings = Extraction(
        text=text,
        text_level="words" if aligned and text_level == "utterance" else text_level,
        audio=audio,
        vision=NONE if no_vision else vision,
        fps=fps,
        face=face,
        recognizer=recognizer,
        language=language,
        segments=segments,
        pause=pause,
        longest=longest,
        diarizer=diarizer,
        aligned=aligned,
    )
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    bars = Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal)
    with claim(out), bars as bar:
        task = bar.add_task("looking", total=1.0)

        def report(step: "Step") -> None:
            bar.update(
                task,
                completed=step.share,
                description=valid_text(f"{step.done}/{step.total} {step.path.name}: {step.what}"),
            )
            if step.error is not None and not as_json:
                passed_over = valid_text(f"passed over {step.path.name}: {step.error}")
                console.print(passed_over, style="yellow", markup=False)

        common: dict[str, Any] = {
            "manifest": manifest,
            "transcript": transcript,
            "turns": turns,
            "jobs": jobs,
            "threads": threads,
            "cache": cache,
            "use_cache": not no_cache,
            "report": report,
            "executor": executor,
        }
        if in_parts:
            written = extract_parts(source, out, settings, **common)
        else:
            found = run(source, settings, **common)
            save_corpus(found.corpus, out)
    if in_parts:
        _print_parts(written, as_json)
        return
    summary = _summary(found, out)
    if as_json:
        typer.echo(json_text(summary))
        return
    corpus = found.corpus
    parts = [f"{name} {ragged.dim} ({int((ragged.lengths > 0).sum())})" for name, ragged in corpus.features.items()]
    before = f", {found.cached} of them read before" if found.cached else ""
    typer.echo(
        f"{len(corpus)} utterances of {corpus.table['video'].n_unique()} recordings{before}; "
        f"columns (utterances with them): {', '.join(parts) or 'none'}."
    )
    if found.skipped:
        typer.echo(f"{len(found.skipped)} files were passed over; the card's notes say why.")
    notes = [note for note in corpus.card.notes if " was passed over: " not in note]
    for note in notes[:SHOWN_NOTES]:
        typer.echo(f"- {note}")
    if len(notes) > SHOWN_NOTES:
        typer.echo(f"- and {len(notes) - SHOWN_NOTES} notes more, which affectus corpus show prints.")
    typer.echo(f"Written to {out}")


def _print_parts(written: "Written", as_json: bool) -> None:
    if as_json:
        summary = {
            "out": str(written.out),
            "parts": written.parts,
            "recordings": written.recordings,
            "utterances": written.utterances,
            "cached": written.cached,
            "passed_over": {str(path): reason for path, reason in written.skipped.items()},
        }
        typer.echo(json_text(summary))
        return
    before = f", {written.cached} of them read before" if written.cached else ""
    typer.echo(f"{written.utterances} utterances of {written.recordings} recordings{before}, in {written.parts} parts.")
    if written.skipped:
        typer.echo(f"{len(written.skipped)} files were passed over; _parts.json says why.")
    typer.echo(f"Written to {written.out}")


def _summary(found: "Extracted", out: Path) -> dict[str, object]:
    corpus = found.corpus
    return {
        "corpus": str(out),
        "recordings": corpus.table["video"].n_unique(),
        "utterances": len(corpus),
        "modalities": {
            name: {"dim": ragged.dim, "steps": len(ragged.values), "missing": int((ragged.lengths == 0).sum())}
            for name, ragged in corpus.features.items()
        },
        "cached": found.cached,
        "passed_over": {str(path): reason for path, reason in found.skipped.items()},
        "notes": corpus.card.notes,
    }


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(cls=ExtractCommand)(extract)
