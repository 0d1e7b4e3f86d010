from pathlib import Path

import pytest

from affectus.errors import AffectusError
from affectus.features.media import subtitles
from affectus.features.media.subtitles import (
    Cue,
    guessed_encoding,
    holds_cues,
    read_subtitles,
    read_text,
    read_transcript,
    sentences,
)

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there,
{\\an8}friend &amp; all

2
00:01:00.5 --> 01:01:02,25
Second

3
00:02:00,000 --> 00:02:01,000

"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE a remark

intro
00:03.000 --> 00:04.000 align:start position:10%
<v Mary Ann>Good <00:03.500>day</v>

00:01.000 --> 00:02.000
first in time
"""


def test_subrip(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(SRT)
    assert read_subtitles(path) == [
        Cue(1.0, 2.5, "Hello there, friend & all"),
        Cue(60.5, 3662.25, "Second"),
    ]


def test_webvtt(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    path.write_text(VTT)
    assert read_subtitles(path) == [Cue(1.0, 2.0, "first in time"), Cue(3.0, 4.0, "Good day", "Mary Ann")]


def test_cues_without_an_empty_line_between(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\r\n00:00:01,000 --> 00:00:02,000\r\nOne\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\nTwo\r\n")
    assert [cue.text for cue in read_subtitles(path)] == ["One", "Two"]


@pytest.mark.parametrize(
    ("cue", "found"),
    [
        ("<v Ann>I love it\n<v Bob>I hate it", [("Ann", "I love it"), ("Bob", "I hate it")]),
        ("<v Ann>I love it</v> <v Ann>a lot</v>", [("Ann", "I love it a lot")]),
        ("- <v.loud Ann &amp; Al><i>No</i></v>\n<v Bob></v>", [("Ann & Al", "- No")]),
        ("<v Bob>So\n<v Ann>What?\n<v Bob>this", [("Bob", "So this"), ("Ann", "What?")]),
        ("nobody's", [(None, "nobody's")]),
    ],
)
def test_each_voice_of_a_cue_is_an_utterance(cue: str, found: list[tuple[str | None, str]], tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    path.write_text(f"WEBVTT\n\n00:01.000 --> 00:02.000\n{cue}\n")
    assert read_subtitles(path) == [Cue(1.0, 2.0, text, speaker) for speaker, text in found]


def test_a_cue_without_length_and_text_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:01,000 --> 00:00:01,000\n<i></i>\n\n2\n00:00:01,000 --> 00:00:02,000\nOne\n")
    assert read_subtitles(path) == [Cue(1.0, 2.0, "One")]


@pytest.mark.parametrize(
    ("text", "cues"),
    [
        ("1\n00:00:01,000 --> 00:00:02,000\nOne", True),
        ("\n\n00:01.5-->00:02.5\r\nOne", True),
        ("A title\n\n 1:00:01,000 --> 1:00:02,000 X1:5", True),
        ("It began at 00:00:01,000 --> 00:00:02,000", False),
        ("one --> two", False),
    ],
)
def test_subtitles_are_told_from_text(text: str, cues: bool) -> None:
    assert holds_cues(text) is cues


@pytest.mark.parametrize(
    ("raw", "guessed"),
    [
        ("gr\u00fcn".encode(), False),
        ("gr\u00fcn".encode("utf-8-sig"), False),
        ("gr\u00fcn".encode("utf-16"), False),
        (b"\xfe\xff" + "gr\u00fcn".encode("utf-16-be"), False),
        ("gr\u00fcn".encode("cp1252"), True),
    ],
)
def test_encodings(raw: bytes, guessed: bool, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    assert read_text(tmp_path / "a.txt") == "gr\u00fcn"
    note = "a.txt is not UTF-8 and was read as Windows-1252; if letters are wrong, save the file as UTF-8."
    assert guessed_encoding(tmp_path / "a.txt") == (note if guessed else None)


def test_sentences() -> None:
    assert sentences('He said "No." Then he left!  Why?\n\nSo it is 3.5 m') == [
        'He said "No.', "Then he left!", "Why?", "So it is 3.5 m",
    ]  # fmt: skip
    assert sentences("你好。再见！") == ["你好。", "再见！"]


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.srt"
    with pytest.raises(AffectusError, match="There is no file"):
        read_subtitles(path)
    path.write_text("nothing here")
    with pytest.raises(AffectusError, match="The file holds no subtitles"):
        read_subtitles(path)
    path.write_text("1\n00:00:xx --> 00:00:02,000\nOne\n")
    with pytest.raises(AffectusError, match=r"The times of a cue cannot be read in .*line 2"):
        read_subtitles(path)
    path.write_text("1\n00:00:03,000 --> 00:00:02,000\nOne\n")
    with pytest.raises(AffectusError, match=r"A cue ends before it begins in .*line 2"):
        read_subtitles(path)
    path.write_text("1\n00:00:03,000 --> 00:00:03,000\nOne\n2\n00:00:04,000 --> 00:00:05,000\nTwo\n")
    with pytest.raises(AffectusError, match=r"A cue ends when it begins in .*line 2: got .*; expected .* Correct"):
        read_subtitles(path)
    path.write_bytes(b"\x00\x01\x02\x81" * 10)
    with pytest.raises(AffectusError, match="Not a text file"):
        read_subtitles(path)
    path.write_text(" ... \n")
    with pytest.raises(AffectusError, match="The text file holds no words"):
        read_transcript(path)
    monkeypatch.setattr(subtitles, "MAX_BYTES", 3)
    with pytest.raises(AffectusError, match="The transcript is too large"):
        read_text(path)
