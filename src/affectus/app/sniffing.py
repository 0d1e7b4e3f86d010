"""What kind of file an upload is, by its content; what it is called does not count."""

import codecs
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath

from affectus.features.media.subtitles import holds_cues

HEAD = 4096
"""So many bytes from the start are looked at."""
_BIDI = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_LONGEST_NAME = 160


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Attributes:
        suffix: with which it is kept.
        mime: as which it is given back.
        text: it is a text or subtitles.
    """

    suffix: str
    mime: str
    text: bool = False


MP4, MOV, M4A = Kind(".mp4", "video/mp4"), Kind(".mov", "video/quicktime"), Kind(".m4a", "audio/mp4")
WEBM, MKV = Kind(".webm", "video/webm"), Kind(".mkv", "video/x-matroska")
SUBRIP, WEBVTT = Kind(".srt", "application/x-subrip", True), Kind(".vtt", "text/vtt", True)
PLAIN = Kind(".txt", "text/plain", True)
_PREFIXES = (
    (b"FLV\x01", Kind(".flv", "video/x-flv")),
    (b"fLaC", Kind(".flac", "audio/flac")),
    (b"OggS", Kind(".ogg", "audio/ogg")),
    (b"ID3", Kind(".mp3", "audio/mpeg")),
    (b"\x00\x00\x01\xba", Kind(".mpg", "video/mpeg")),
    (b"\x00\x00\x01\xb3", Kind(".mpg", "video/mpeg")),
)


def sniff(head: bytes) -> Kind | None:
    """Return what a file is whose first bytes are these; None if it is nothing that can be analysed."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return M4A if brand in (b"M4A ", b"M4B ") else MOV if brand == b"qt  " else MP4
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free") and head[:2] == b"\x00\x00":
        return MOV
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return WEBM if b"webm" in head[:64] else MKV
    if head.startswith((b"RIFF", b"RF64")):
        form = head[8:12]
        return {b"AVI ": Kind(".avi", "video/x-msvideo"), b"WAVE": Kind(".wav", "audio/wav")}.get(form)
    for prefix, kind in _PREFIXES:
        if head.startswith(prefix):
            return kind
    if len(head) > 188 and head[0] == 0x47 and head[188] == 0x47:
        return Kind(".ts", "video/mp2t")
    if len(head) > 3 and head[0] == 0xFF and head[1] in (0xF1, 0xF9):
        return Kind(".aac", "audio/aac")
    if (
        len(head) > 3
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x06 in (2, 4)
        and 0 < head[2] >> 4 < 15
    ):
        return Kind(".mp3", "audio/mpeg")
    return _text(head)


def _text(head: bytes) -> Kind | None:
    """Return which text it is; None if it is none."""
    text = decoded(head)
    if text is None or not text.strip():
        return None
    if text.lstrip("\ufeff").startswith("WEBVTT"):
        return WEBVTT
    return SUBRIP if holds_cues(text.lstrip("\ufeff")) else PLAIN


def decoded(head: bytes, *, whole: bool = False) -> str | None:
    """Return UTF-8 as text, a character cut off at the end left out; None if it is none or holds control characters."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return None
    controls = any(unicodedata.category(c) == "Cc" and c not in "\t\n\r\f" for c in text)
    return None if controls else text


def shown_name(name: str, default: str = "recording") -> str:
    """Return a file's name as it is shown: its last part, without control characters and marks that turn it around."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    plain = "".join(" " if unicodedata.category(c)[0] in "CZ" or c in _BIDI else c for c in last)
    plain = " ".join(plain.split())[:_LONGEST_NAME].strip()
    return plain if plain.strip(". ") else default


def kept_name(name: str, kind: Kind) -> str:
    """Return the name under which a file is kept: plain letters, and the suffix of what it is."""
    stem = PurePosixPath(shown_name(name)).stem
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:60].strip("-")
    return (plain or "recording") + kind.suffix
