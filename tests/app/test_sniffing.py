"""What a file is, by its content; and what becomes of its name."""

import pytest

from affectus.app.sniffing import decoded, kept_name, shown_name, sniff


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"\x00\x00\x00\x20ftypisom\x00\x00", ".mp4"),
        (b"\x00\x00\x00\x14ftypqt  ", ".mov"),
        (b"\x00\x00\x00\x20ftypM4A ", ".m4a"),
        (b"\x1a\x45\xdf\xa3\x01\x00\x42\x82\x84webm", ".webm"),
        (b"\x1a\x45\xdf\xa3\x01\x00\x42\x82\x88matroska", ".mkv"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", ".wav"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", ".avi"),
        (b"FLV\x01\x05", ".flv"),
        (b"fLaC\x00", ".flac"),
        (b"OggS\x00", ".ogg"),
        (b"ID3\x04", ".mp3"),
        (b"\xff\xfb\x90\x00", ".mp3"),
        (b"\xff\xf1\x50\x80", ".aac"),
        (b"WEBVTT\n\n00:01", ".vtt"),
        (b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\nHello", ".srt"),
        (b"00:00:01,000 --> 00:00:02,000\r\nHello", ".srt"),
        (b"\n1\n0:1:2.5-->0:1:3.5\nHello", ".srt"),
        ("Grüße, wie geht es?".encode(), ".txt"),
        ("é".encode() * 2048 + b"\xc3", ".txt"),  # the look ends within a character
        (b"<html><script>alert(1)</script>", ".txt"),  # a text as any other: it is shown as text
    ],
)
def test_known_kinds(head: bytes, suffix: str) -> None:
    kind = sniff(head)
    assert kind is not None
    assert kind.suffix == suffix


@pytest.mark.parametrize(
    "head",
    [
        b"PK\x03\x04", b"\x7fELF\x02", b"MZ\x90\x00", b"%PDF-1.7\n\x00", b"\x89PNG\r\n\x1a\n",
        b"RIFF\x00\x00\x00\x00WEBP", b"", b"  \n ", b"\xff\xfe\x00\x00", b"#EXTM3U\x00", b"\x80\x04\x95",
    ],
)  # fmt: skip
def test_everything_else_is_refused(head: bytes) -> None:
    assert sniff(head) is None


def test_a_text_must_be_utf8_to_its_end() -> None:
    assert decoded("für".encode("latin-1"), whole=True) is None
    assert decoded(b"abc\xc3", whole=True) is None
    assert decoded(b"abc\xc3") == "abc"


@pytest.mark.parametrize(
    ("name", "shown", "kept"),
    [
        ("clip.mp4", "clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd", "passwd.mp4"),
        ("..\\..\\boot.ini", "boot.ini", "boot.mp4"),
        ("/", "recording", "recording.mp4"),
        ("..", "recording", "recording.mp4"),
        ("", "recording", "recording.mp4"),
        ("a\x00b\nc.mp4", "a b c.mp4", "a-b-c.mp4"),
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4", "img-src-x-onerror-alert-1.mp4"),
        ("film\u202e4pm.exe", "film 4pm.exe", "film-4pm.mp4"),
        ("面白い.mp4", "面白い.mp4", "recording.mp4"),
        (".hidden", ".hidden", "hidden.mp4"),
        ("-rf .mp4", "-rf .mp4", "rf.mp4"),
        ("CON.wav", "CON.wav", "CON.mp4"),
        ("x" * 500, "x" * 160, "x" * 60 + ".mp4"),
    ],
)
def test_names(name: str, shown: str, kept: str) -> None:
    kind = sniff(b"\x00\x00\x00\x20ftypisom")
    assert kind is not None
    assert shown_name(name) == shown
    assert kept_name(name, kind) == kept
