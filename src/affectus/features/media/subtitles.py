"""Subtitles (SubRip, WebVTT) and plain text as transcripts."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from affectus.errors import AffectusError

SUBTITLE_SUFFIXES = frozenset({".srt", ".vtt"})
TEXT_SUFFIXES = frozenset({".txt", ".text", ".md"})
MAX_BYTES = 50_000_000
"""Largest transcript that is read."""
_GUESS = "cp1252"
"""Of a text that is no UTF-8 and has no mark of UTF-16."""
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|<\d[\d:.,]*>|\{\\[^}]*\}")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])")


@dataclass(frozen=True)
class Cue:
    """What is shown, or said, from one moment to another.

    Attributes:
        start: seconds.
        end: seconds, after ``start``.
        text: one line, without markup.
        speaker: as a WebVTT voice names it; else None.
    """

    start: float
    end: float
    text: str
    speaker: str | None = None


def read_text(path: str | Path) -> str:
    """Read a text file: UTF-8, UTF-16 with its mark, or else Windows-1252, of which :func:`guessed_encoding` tells.

    Raises:
        AffectusError: it is absent, larger than ``MAX_BYTES``, or no text.
    """
    return _decoded(path)[0]


def guessed_encoding(path: str | Path) -> str | None:
    """Return a sentence if a text file is in an encoding that had to be guessed; None if it is UTF-8 or UTF-16.

    Raises:
        AffectusError: as :func:`read_text`.
    """
    if _decoded(path)[1] != _GUESS:
        return None
    return f"{Path(path).name} is not UTF-8 and was read as Windows-1252; if letters are wrong, save the file as UTF-8."


def _decoded(path: str | Path) -> tuple[str, str]:
    """Return the text of a file, and its encoding."""
    path = Path(path)
    if not path.is_file():
        raise AffectusError("There is no file", where=path)
    if path.stat().st_size > MAX_BYTES:
        raise AffectusError(
            "The transcript is too large", where=path, expected=f"at most {MAX_BYTES // 1_000_000} million bytes"
        )
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", _GUESS]
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n"), encoding
    raise AffectusError("Not a text file", where=path, expected="text in UTF-8")


def holds_cues(text: str) -> bool:
    r"""Return whether a text, or the beginning of one, is subtitles: a line of it begins with the times of a cue.

    >>> holds_cues("00:00:01,000 --> 00:00:02,000\nHello"), holds_cues("From a --> b")
    (True, False)
    """
    return any(_CUE.match(line) for line in text.splitlines())


def read_subtitles(path: str | Path) -> list[Cue]:
    """Read an SRT or WebVTT file; empty cues are left out, the others come in the order of their times.

    A cue in which several voices speak is one for each of them, with the same times.

    Raises:
        AffectusError: it is no text, holds no cue, or a cue's times are no times.
    """
    path = Path(path)
    lines = read_text(path).split("\n")
    cues: list[Cue] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        place = f"{path}, line {number}"
        if "-->" not in line:
            continue
        found = _CUE.match(line)
        if found is None:
            raise AffectusError(
                "The times of a cue cannot be read",
                where=place,
                got=repr(line.strip()[:60]),
                expected="00:01:02.500 --> 00:01:04.000",
            )
        start, end = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
        said = []
        while number < len(lines) and lines[number].strip() and "-->" not in lines[number]:
            said.append(lines[number])
            number += 1
        if number < len(lines) and "-->" in lines[number] and said and said[-1].strip().isdigit():
            said.pop()  # the number of the next cue, where the empty line before it is missing
        voices = _voices(" ".join(said))
        if voices and end <= start:
            raise AffectusError(
                "A cue ends before it begins" if end < start else "A cue ends when it begins",
                where=place,
                got=repr(line.strip()[:60]),
                expected="an end that is later than the start",
                remedy="Correct the times of the cue, or remove it",
            )
        cues += [Cue(start, end, text, speaker) for speaker, text in voices.items()]
    if not cues:
        raise AffectusError("The file holds no subtitles", where=path, expected="cues of SRT or WebVTT")
    return sorted(cues, key=lambda cue: (cue.start, cue.end))


def _voices(raw: str) -> dict[str | None, str]:
    """Return what each voice of a cue says, without markup; who says nothing is left out.

    >>> _voices("<v Ann>I <i>love</i> it</v> <v Bob>I hate it <v Ann>Really?")
    {'Ann': 'I love it Really?', 'Bob': 'I hate it'}
    """
    before, *spans = _VOICE.split(raw)
    # what stands before the first voice is taken for its own
    pairs = [(None, before)] if not spans else list(zip(spans[::2], [before + spans[1], *spans[3::2]], strict=True))
    found: dict[str | None, str] = {}
    for name, part in pairs:
        speaker = html.unescape(name).strip() if name is not None else None
        found[speaker] = f"{found.get(speaker, '')} {part}"
    said = {speaker: " ".join(html.unescape(_MARKUP.sub("", part)).split()) for speaker, part in found.items()}
    return {speaker: text for speaker, text in said.items() if text}


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction}")


def sentences(text: str) -> list[str]:
    r"""Cut a text into sentences; a line break also ends one.

    >>> sentences("Really? I like it.\nMr")
    ['Really?', 'I like it.', 'Mr']
    """
    found = [" ".join(part.split()) for line in text.split("\n") for part in _SENTENCE.split(line)]
    return [sentence for sentence in found if sentence]


def read_transcript(path: str | Path) -> list[str]:
    """Read a plain text as sentences.

    Raises:
        AffectusError: it is no text, or holds no word.
    """
    found = [sentence for sentence in sentences(read_text(path)) if any(c.isalnum() for c in sentence)]
    if not found:
        raise AffectusError("The text file holds no words", where=path)
    return found
