"""What a user names -> files to read: a file, a folder, or a manifest."""

from dataclasses import dataclass
from pathlib import Path

from affectus.corpus import Corpus
from affectus.corpus.readers.base import ReadOptions
from affectus.corpus.readers.manifest import read_manifest
from affectus.errors import AffectusError
from affectus.features.media.decoding import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from affectus.features.media.recording import Given, Source
from affectus.features.media.subtitles import SUBTITLE_SUFFIXES, TEXT_SUFFIXES
from affectus.files import valid_text

MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES


@dataclass(frozen=True)
class Plan:
    """The files to read.

    Attributes:
        sources: in their order.
        manifest: the rows with their labels, if there is one.
    """

    sources: list[Source]
    manifest: Corpus | None = None

    @property
    def facts(self) -> str:
        """What beside the files themselves stands in the result: the manifest, as JSON."""
        return "" if self.manifest is None else self.manifest.table.write_json()


def plan_sources(
    source: str | Path, *, manifest: str | Path | None = None, transcript: str | Path | None = None,
    turns: str | Path | None = None,
) -> Plan:  # fmt: skip
    """Say what is to be read.

    Media files take the subtitles or the text of the same name beside them as their transcript (``clip.srt`` of
    ``clip.mp4``). A folder is searched at every depth, hidden files left out.

    Args:
        source: a media file, subtitles, a text, a folder, or a manifest (``.csv``).
        manifest: a CSV whose column ``path`` names media files relative to it; see ``affectus import manifest``.
        transcript: subtitles or a text of the one media file.
        turns: an RTTM file that says who speaks when in the one media file.

    Raises:
        AffectusError: there is no such file, nothing can be read in the folder, or options exclude each other.
    """
    source = Path(source)
    if manifest is None and source.suffix.lower() == ".csv":
        manifest, source = source, source.parent
    for given in (transcript, turns):
        if given is not None and not Path(given).is_file():
            raise AffectusError("There is no file", where=given)
    if (transcript is not None or turns is not None) and (manifest is not None or source.is_dir()):
        raise AffectusError("A transcript or turns belong to one media file", got=str(source))
    if manifest is not None:
        return _of_manifest(Path(manifest), source)
    if source.is_dir():
        return Plan(_of_folder(source))
    if not source.is_file():
        raise AffectusError("There is no file or folder", where=source)
    own = Path(transcript) if transcript is not None else transcript_beside(source)
    return Plan([Source(source, _name(source.name), own, turns=Path(turns) if turns else None)])


def transcript_beside(path: Path) -> Path | None:
    """Return the transcript of the same name beside a media file; None if there is none."""
    if path.suffix.lower() not in MEDIA_SUFFIXES:
        return None
    for suffix in (".srt", ".vtt", ".txt"):
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    return None


def _of_folder(folder: Path) -> list[Source]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    media = [path for path in files if path.suffix.lower() in MEDIA_SUFFIXES]
    taken = {transcript_beside(path) for path in media}
    texts = [path for path in files if path.suffix.lower() in SUBTITLE_SUFFIXES | {".txt"} and path not in taken]
    # a README beside clips is no recording; in a folder of texts every text is one
    chosen = sorted(media) if media else texts
    if not chosen:
        raise AffectusError(
            "The folder holds no media file and no transcript",
            where=folder,
            expected="files such as .mp4, .webm, .flv, .wav, .flac, .mp3, .srt, .vtt, .txt",
        )
    return [
        Source(path, name, transcript_beside(path)) for path, name in zip(chosen, _names(chosen, folder), strict=True)
    ]


def _names(paths: list[Path], folder: Path) -> list[str]:
    """Return the name of each recording: its path without suffix, with it where two would be the same."""
    relative = [path.relative_to(folder) for path in paths]
    short = [path.with_suffix("").as_posix() for path in relative]
    return [
        _name(path.as_posix()) if short.count(name) == 1 else valid_text(path.as_posix())
        for path, name in zip(relative, short, strict=True)
    ]


def _name(path: str) -> str:
    path = valid_text(path)
    suffix = Path(path).suffix
    known = MEDIA_SUFFIXES | SUBTITLE_SUFFIXES | TEXT_SUFFIXES
    return path[: -len(suffix)] if suffix.lower() in known and len(suffix) < len(path) else path


def _of_manifest(manifest: Path, folder: Path) -> Plan:
    """Group the rows of a manifest by their files."""
    corpus = read_manifest([manifest], ReadOptions())
    if "path" not in corpus.table.columns:
        raise AffectusError(
            "The manifest has no column 'path'", where=manifest, remedy="Name the media file of each row"
        )
    if folder.resolve() != manifest.parent.resolve():
        raise AffectusError(
            "The manifest lies in another folder than the media",
            where=manifest,
            got=str(folder),
            remedy="Give the manifest alone; its paths are relative to it",
        )
    rows: dict[tuple[str, str], list[Given]] = {}
    for row in corpus.table.iter_rows(named=True):
        if row["path"] is None:
            raise AffectusError("A row of the manifest names no file", where=f"{manifest}, utterance {row['id']!r}")
        given = Given(row["id"], row["start"], row["end"], row["text"], row["speaker"])
        rows.setdefault((row["path"], row["video"]), []).append(given)
    sources = [Source(manifest.parent / path, video, given=tuple(given)) for (path, video), given in rows.items()]
    return Plan(sources, corpus)
