"""The verb that tells what a recording expresses."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from affectus.cli.console import output
from affectus.files import json_text

if TYPE_CHECKING:
    from affectus.predict.results import Analysis  # slow to import

MOST_ROWS = 20
"""Of the table in the terminal; the files have all."""


def analyze(
    source: Annotated[Path, typer.Argument(help="A video, sound, text (.txt) or subtitle (.srt, .vtt) file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The folder to write; default: NAME-analysis where you are, unless it is of another file."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="default (ships with affectus), or a run folder.")] = "default",
    transcript: Annotated[
        str | None,
        typer.Option(
            help="Subtitles or a text of what is said; none; default: of its name beside it, else recognised."
        ),
    ] = None,
    turns: Annotated[Path | None, typer.Option(help="RTTM file: who speaks when.")] = None,
    diarizer: Annotated[str | None, typer.Option(help="Name of a speaker diariser on the hub.")] = None,
    recognizer: Annotated[
        str | None, typer.Option(help="tiny.en, base (packaged), any Whisper by name, or none; default: tiny.en.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Of the speech, a code such as en.")] = None,
    face: Annotated[
        str | None, typer.Option(help="largest, speaking, or the number of a face; default: largest.")
    ] = None,
    segments: Annotated[str | None, typer.Option(help="auto, pauses, even or whole; default: auto.")] = None,
    fps: Annotated[float | None, typer.Option(help="Pictures per second that are looked at; default: 10.")] = None,
    vision: Annotated[bool, typer.Option("--vision/--no-vision", help="Read faces.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each network.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Tell sentiment and emotion of a recording or text, utterance by utterance; nothing leaves this machine.

    Writes report.html, utterances.csv, result.json, subtitles with emotion (.vtt), an ELAN .eaf and a Praat TextGrid.

    Examples:

      affectus analyze clip.mp4

      affectus analyze talk.mp4 --transcript talk.srt --out talk-analysis

      affectus analyze letter.txt --json
    """
    from affectus.predict.analyze import analyze as find
    from affectus.report.analysis import PAGE, check_folder, write_analysis

    folder = out or Path(f"{source.stem}-analysis")
    check_folder(folder, None if out else source)
    options: dict[str, Any] = {
        "recognizer": recognizer,
        "language": language,
        "face": face,
        "segments": segments,
        "diarizer": diarizer,
        "fps": fps,
        "vision": None if vision else False,
    }
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("loading", total=1.0)
        analysis = find(
            source,
            model=model,
            transcript=transcript,
            turns=turns,
            threads=threads,
            report=lambda what, share: bar.update(task, description=what, completed=share),
            **{name: value for name, value in options.items() if value is not None},
        )
    written = write_analysis(analysis, folder, source=source)
    if as_json:
        typer.echo(json_text(analysis.to_json()))
        return
    screen = output()
    screen.print(_table(analysis))
    left = len(analysis.utterances) - MOST_ROWS
    if left > 0:
        screen.print(f"... and {left} more.", style="dim")
    for note in analysis.notes:
        screen.print(note, style="yellow", markup=False, soft_wrap=True)
    screen.print(analysis.notice, style="dim", soft_wrap=True)
    typer.echo(f"Report: {folder / PAGE} (and {', '.join(path.name for path in written if path.name != PAGE)})")


def _table(analysis: "Analysis") -> Table:
    """Return the first utterances: time, words, emotion, intensity, each modality's emotion."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("words", max_width=56)
    table.add_column("emotion", no_wrap=True)
    table.add_column("intensity", justify="right", no_wrap=True)
    modalities = analysis.modalities if len(analysis.modalities) > 1 else ()
    for name in modalities:
        table.add_column(name, no_wrap=True)
    for number, one in enumerate(analysis.utterances[:MOST_ROWS], start=1):
        said = one.opinion
        emotion = "–" if said.emotion is None else f"{said.emotion} {said.emotions.get(said.emotion, 0):.0%}"
        cells: list[str | Text] = [
            str(number) if one.start is None else f"{int(one.start) // 60}:{one.start % 60:04.1f}",
            Text(one.text or "–"),
            emotion,
            "–" if said.intensity is None else f"{said.intensity:+.1f}",
        ]
        for name in modalities:
            alone = one.alone.get(name)
            cells.append("–" if alone is None or alone.emotion is None else alone.emotion)
        table.add_row(*cells)
    return table


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(analyze)
