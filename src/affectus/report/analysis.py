"""An analysis as one HTML page: player, timeline, transcript, moments of disagreement; and as a folder of files."""

import base64
import mimetypes
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from affectus import __version__
from affectus.errors import AffectusError
from affectus.features.media.playing import is_played, write_copy
from affectus.files import atomic_path, explain_os_error, read_json
from affectus.predict.exports import CSV, JSON, TIMED, write_exports
from affectus.predict.results import Analysis, Utterance
from affectus.report.charts import text_number
from affectus.report.rendering import page_environment, page_style
from affectus.vocabulary import SEVEN_EMOTIONS, Emotion

PAGE = "report.html"
EMBEDDED_BYTES = 6_000_000
"""A recording up to this size stands in the page itself; a larger one is linked."""
MOST_ATTENTION = 24
"""Of recordings with more utterances no matrix is drawn; the transcript shows where each one looks."""
COPY = "recording.mp4"
"""A copy of a recording that browsers do not play, where it is too large for the page."""
FUSED = "all together"
TOP, SCALE = 3.0, 100.0
"""Of the intensities' scale; units of the drawing's height."""
_OURS = {CSV, JSON, PAGE, COPY, *TIMED}
_PIXELS = 26
"""Of the timeline's width for a second, or for an utterance without times, if the page is narrower than that."""
_WIDEST = 6000


@dataclass(frozen=True)
class Block:
    """An utterance on the timeline; percent of its width."""

    number: int
    left: float
    width: float
    label: str
    title: str
    style: str


@dataclass(frozen=True)
class Lane:
    """A row of blocks."""

    name: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Curve:
    """Intensities as steps: the path of a drawing of 1000 x 100."""

    name: str
    path: str
    style: str


def write_analysis(analysis: Analysis, out: str | Path, *, source: str | Path | None = None) -> list[Path]:
    """Write an analysis into a folder: page, table, JSON, subtitles, ELAN and Praat annotations.

    A video that browsers do not play is copied for the page, into it if the copy is small, else beside it.

    Args:
        analysis: what was found.
        out: the folder; what an earlier analysis wrote there is replaced.
        source: the recording, for the player; None for the analysis's own.

    Returns:
        The files.

    Raises:
        AffectusError: the folder holds other files, or it cannot be written.
    """
    folder = Path(out)
    check_folder(folder)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        written = write_exports(analysis, temporary)
        media, place = Path(source or analysis.source), folder
        copy = temporary / COPY
        if _copied(analysis, media, copy):
            media, place = copy, temporary
        page = temporary / PAGE
        with page.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(analysis_page(analysis, media=media, folder=place))
        if media == copy and copy.stat().st_size <= EMBEDDED_BYTES:
            copy.unlink()
        elif media == copy:
            written.append(copy)
    return [folder / path.name for path in [page, *written]]


def _copied(analysis: Analysis, media: Path, copy: Path) -> bool:
    """Make a copy that browsers play, if the recording is a video that they do not; say whether there is one."""
    if analysis.media != "video" or not media.is_file() or is_played(media):
        return False
    try:
        return write_copy(media, copy)
    except AffectusError:
        copy.unlink(missing_ok=True)
        return False


def check_folder(folder: Path, source: Path | None = None) -> None:
    """Check that an analysis may be written into a folder: it is absent, empty, or holds an analysis alone.

    Args:
        folder: to write.
        source: of which file an analysis that is there must be; None for any.

    Raises:
        AffectusError: it holds other files, or the analysis of another file.
    """
    if folder.exists():
        others = sorted({path.name for path in folder.iterdir()} - _OURS) if folder.is_dir() else [folder.name]
        if others:
            raise AffectusError(
                "The folder holds other files" if folder.is_dir() else "There is a file in place of the folder",
                where=folder,
                got=", ".join(others[:3]),
                remedy="Choose another --out folder, or an empty one",
            )
        earlier = _source_of(folder / JSON) if source is not None else None
        # a relative path in the default's folder is one of the folder that it lies in
        if source is not None and earlier is not None and (folder.parent / earlier).resolve() != source.resolve():
            raise AffectusError(
                "The folder holds the analysis of another file",
                where=folder,
                got=earlier,
                expected=str(source),
                remedy="Name a folder with --out: another, or this one if it may be replaced",
            )


def _source_of(result: Path) -> str | None:
    """Return of which file an earlier analysis is; None if that is not told."""
    try:
        found = read_json(result)
    except (AffectusError, OSError):
        return None
    source = found.get("source") if isinstance(found, dict) else None
    return source if isinstance(source, str) else None


def analysis_page(analysis: Analysis, *, media: Path | None = None, folder: Path | None = None) -> str:
    """Return the page, which needs nothing else but, if it is large, the recording.

    Args:
        analysis: what was found.
        media: the recording; None shows no player.
        folder: where the page will lie, for a link to a large recording.
    """
    utterances = list(analysis.utterances)
    spans, end, timed = _spans(analysis)
    lanes = [_emotion_lane(FUSED, utterances, spans, end, None)]
    modalities = analysis.modalities
    if len(modalities) > 1:
        lanes += [_emotion_lane(name, utterances, spans, end, name) for name in modalities]
    curves = [_curve(FUSED, utterances, spans, end, None, "fused")]
    if len(modalities) > 1:
        curves += [_curve(name, utterances, spans, end, name, name) for name in modalities]
    data = {
        "spans": [list(span) for span in spans] if timed else None,
        "attention": [_by_number(one, utterances) for one in utterances],
    }
    values: dict[str, Any] = {
        "analysis": analysis,
        "title": Path(analysis.source).name,
        "style": page_style() + Markup("\n") + _asset("analysis.css"),
        "script": _asset("analysis.js"),
        "player": _player(analysis, media, folder),
        "utterances": utterances,
        "spans": spans,
        "timed": timed,
        "end": end,
        "ticks": _ticks(end, timed),
        "width": min(int(end * _PIXELS) if timed else len(utterances) * 4 * _PIXELS, _WIDEST),
        "lanes": lanes,
        "curves": [curve for curve in curves if curve.path],
        "disagreements": [(i, one) for i, one in enumerate(utterances) if one.disagree],
        "present": [
            name for name in SEVEN_EMOTIONS if name in {block.label for lane in lanes for block in lane.blocks}
        ],
        "tiles": _tiles(analysis),
        "speakers": _speakers(analysis),
        "attention": _attention(utterances),
        "shown": bool(modalities),
        "clock": _clock,
        "tint": _tint,
        "data": Markup(_script_json(data)),
        "version": __version__,
        "seconds": {name: value for name, value in analysis.seconds.items() if value >= 0.005},
    }
    environment = page_environment()
    environment.filters["signed"] = _signed
    environment.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    return environment.get_template("analysis.html.j2").render(values)


def _asset(name: str) -> Markup:
    return Markup(files("affectus.report").joinpath(f"templates/{name}").read_text(encoding="utf-8").strip())


def _script_json(data: Any) -> str:
    import json

    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _spans(analysis: Analysis) -> tuple[list[tuple[float, float]], float, bool]:
    """Return begin and end of each utterance, where the timeline ends, and whether these are seconds or places."""
    timed = bool(analysis.utterances) and all(
        one.start is not None and one.end is not None for one in analysis.utterances
    )
    if not timed:
        count = len(analysis.utterances)
        return [(float(i), i + 1.0) for i in range(count)], float(max(count, 1)), False
    spans = [(one.start or 0.0, one.end or 0.0) for one in analysis.utterances]
    return spans, max([analysis.duration or 0.0, *(stop for _, stop in spans), 0.1]), True


def _opinion(one: Utterance, modality: str | None) -> Any:
    return one.opinion if modality is None else one.alone.get(modality)


def _emotion_lane(
    name: str, utterances: Sequence[Utterance], spans: Sequence[tuple[float, float]], end: float, modality: str | None
) -> Lane:
    blocks = []
    for i, (one, (start, stop)) in enumerate(zip(utterances, spans, strict=True)):
        said = _opinion(one, modality)
        if said is None or said.emotion is None:
            continue
        share = said.emotions[said.emotion]
        blocks.append(
            Block(
                number=i,
                left=round(100 * start / end, 3),
                width=round(100 * max(stop - start, 0) / end, 3),
                label=said.emotion,
                title=f"{name}: {said.emotion} {share:.0%}",
                style=f"e-{said.emotion}",
            )
        )
    return Lane(name, tuple(blocks))


def _curve(
    name: str,
    utterances: Sequence[Utterance],
    spans: Sequence[tuple[float, float]],
    end: float,
    modality: str | None,
    style: str,
) -> Curve:
    parts = []
    for one, (start, stop) in zip(utterances, spans, strict=True):
        said = _opinion(one, modality)
        if said is None or said.intensity is None:
            continue
        y = SCALE / 2 * (1 - min(max(said.intensity, -TOP), TOP) / TOP)
        parts.append(f"M{1000 * start / end:.1f} {y:.1f}H{1000 * stop / end:.1f}")
    return Curve(name, "".join(parts), style)


def _player(analysis: Analysis, media: Path | None, folder: Path | None) -> dict[str, str] | None:
    """Return what the player plays: the recording itself or a link to it; None where there is nothing to be played."""
    if analysis.media == "text" or media is None or not media.is_file() or not is_played(media):
        return None
    kind = mimetypes.guess_type(media.name)[0] or f"{analysis.media}/{media.suffix.lower()[1:]}"
    tag = "video" if analysis.media == "video" else "audio"
    try:
        if media.stat().st_size <= EMBEDDED_BYTES:
            encoded = base64.b64encode(media.read_bytes()).decode("ascii")
            return {"tag": tag, "source": f"data:{kind};base64,{encoded}", "linked": ""}
        if folder is None:
            return None
        from urllib.parse import quote

        place = os.path.relpath(media.resolve(), folder.resolve())
        return {"tag": tag, "source": quote(place.replace(os.sep, "/")), "linked": media.name}
    except OSError as error:
        raise explain_os_error(error, media) from error
    except ValueError:  # on another drive
        return None


def _ticks(end: float, timed: bool) -> list[tuple[float, str]]:
    """Return marks of the time axis: percent and words."""
    if not timed:
        step = max(1, int(end // 12))
        return [(100 * (i + 0.5) / end, str(i + 1)) for i in range(0, int(end), step)]
    step = next((s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800) if end / s <= 12), 3600)
    return [(100 * s / end, _clock(s)) for s in range(0, int(end) + 1, step) if s / end < 0.97]


def _clock(seconds: float | None) -> str:
    """Return ``m:ss``, or ``h:mm:ss``.

    >>> _clock(75.4), _clock(3700)
    ('1:15', '1:01:40')
    """
    whole = int(seconds or 0)
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _signed(value: float | None, digits: int = 1) -> str:
    """Return a number with its sign, a true minus.

    >>> _signed(-0.25), _signed(1.0), _signed(0.01)
    ('−0.2', '+1.0', '0.0')
    """
    if value is None:
        return "–"
    rounded = round(value, digits) + 0.0
    text = text_number(rounded, digits)
    return f"+{text}" if rounded > 0 else text


def _tint(intensity: float | None) -> str:
    """Return the style of a transcript: which side, and how strong in percent."""
    if intensity is None or abs(intensity) < 0.15:
        return ""
    strength = min(abs(intensity) / 2, 1) * 100
    return f"--tint: var(--{'positive' if intensity > 0 else 'negative'}); --v: {strength:.0f}"


def _tiles(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Return the figures at the head of the page: what it is, the figure, and what stands small below it."""
    utterances = [one for one in analysis.utterances if one.alone]
    tiles = [("utterances", str(len(analysis.utterances)), "")]
    if analysis.duration:
        tiles.append(("length", _clock(analysis.duration), ""))
    known = [one.opinion.intensity for one in utterances if one.opinion.intensity is not None]
    if known:
        tiles.append(("mean intensity, −3 to 3", _signed(sum(known) / len(known), 2), ""))
    emotions = Counter(one.opinion.emotion for one in utterances if one.opinion.emotion)
    if emotions:
        others = Counter({name: count for name, count in emotions.items() if name != Emotion.NONE})
        most, total = _most_frequent(emotions), len(analysis.utterances)
        beside = most == [Emotion.NONE] and others
        then = f"then {_counted(_most_frequent(others), others, total)}" if beside else ""
        tiles.append(("most frequent emotion", _counted(most, emotions, total), then))
    if len(analysis.modalities) > 1:
        tiles.append(("disagreements", str(sum(one.disagree for one in utterances)), ""))
    return tiles


def _most_frequent(counts: Counter[str]) -> list[str]:
    """Return what is most frequent; several if they are equally so."""
    return [name for name, count in counts.items() if count == max(counts.values())]


def _counted(names: Sequence[str], counts: Counter[str], total: int) -> str:
    """Return names that are equally frequent and how often they are there.

    >>> _counted(["anger", "fear"], Counter(anger=2, fear=2, none=1), 5)
    'anger and fear, each 2 of 5'
    """
    return f"{' and '.join(names)}, {'each ' if len(names) > 1 else ''}{counts[names[0]]} of {total}"


def _speakers(analysis: Analysis) -> list[dict[str, Any]]:
    found = []
    for name in analysis.speakers:
        own = [one for one in analysis.utterances if one.speaker == name]
        known = [one.opinion.intensity for one in own if one.opinion.intensity is not None]
        emotions = Counter(one.opinion.emotion for one in own if one.opinion.emotion)
        found.append(
            {
                "name": name,
                "utterances": len(own),
                "seconds": sum((one.end or 0) - (one.start or 0) for one in own),
                "intensity": sum(known) / len(known) if known else None,
                "emotions": ", ".join(f"{emotion} {count}" for emotion, count in emotions.most_common(3)),
            }
        )
    return found


def _by_number(one: Utterance, utterances: Sequence[Utterance]) -> list[list[float]]:
    """Return the three utterances that one attends to most: their numbers and weights."""
    numbers = {other.id: i for i, other in enumerate(utterances)}
    most = sorted(one.attention.items(), key=lambda item: -item[1])[:3]
    return [[numbers[name], round(weight, 3)] for name, weight in most if name in numbers]


def _attention(utterances: Sequence[Utterance]) -> list[list[float]] | None:
    """Return the matrix of weights, rows look at columns; None where there is none or too much of it."""
    if not 1 < len(utterances) <= MOST_ATTENTION or not any(one.attention for one in utterances):
        return None
    return [[one.attention.get(other.id, 0.0) for other in utterances] for one in utterances]


__all__ = ["PAGE", "analysis_page", "check_folder", "write_analysis"]
