from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media import extractors
from affectus.features.media.cache import cache_key
from affectus.features.media.extractors import EXTRACTORS, names_of, register_extractor
from affectus.features.media.recording import Extractor, Source
from affectus.features.media.settings import Extraction

for module in ("av", "onnxruntime", "silero_vad", "librosa", "pyworld", "ai_edge_litert"):
    pytest.importorskip(module, reason="the extra 'media' is not installed")


class Lengths:
    """The number of letters of each text."""

    identity, dim = "lengths", 1

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __call__(self, texts: list[str]) -> Any:
        return [[len(text)] for text in texts]


class Loudness:
    """A row for each tenth of a second."""

    identity, columns, dim, rate = "loudness", ["peak"], 1, 10.0

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __call__(self, samples: np.ndarray) -> Any:
        return [[abs(samples[i : i + 1600]).max()] for i in range(0, len(samples), 1600)]


class Grey:
    """The grey level of a picture's lower right corner."""

    identity, columns, dim, faces = "grey", None, 1, False

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __call__(self, image: np.ndarray, face: Any) -> Any:
        assert face is None
        level = float(image[-8:, -8:].mean())
        return [level] if level < 60 else None


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the three extractors above, and only for the test."""
    monkeypatch.setattr(EXTRACTORS, "_things", {name: EXTRACTORS[name] for name in EXTRACTORS})
    for name, modality, made in (
        ("lengths", "text", Lengths),
        ("loudness", "audio", Loudness),
        ("grey", "vision", Grey),
    ):
        register_extractor(name, modality=modality, summary="a test's")(made)


def read(path: Path, **options: Any) -> Any:
    chosen = {
        "text": "none",
        "audio": "none",
        "vision": "none",
        "recognizer": "none",
        "segments": "even",
        "longest": 1.0,
    }
    return Extractor(Extraction(**{**chosen, **options}), threads=2).read(Source(path, "a"))


def test_the_packaged_ones_are_registered() -> None:
    assert names_of("text") == ["lengths", "minilm"]
    assert names_of("audio") == ["egemaps", "loudness", "praat", "sims"]
    assert names_of("vision") == ["faces", "grey"]
    assert Extraction(vision=True) == Extraction(vision="faces") == Extraction()
    assert Extraction(vision=False).vision == "none"


def test_whole_pictures(tmp_path: Path, make_media) -> None:
    corpus = read(make_media(tmp_path / "a.mp4", seconds=1.5), vision="grey")
    vision = corpus.features["vision"]
    # picture k has the level 8 k; from 60 on nothing is said
    assert vision.values[:, 0] == pytest.approx(8.0 * np.arange(8), abs=3.9)
    assert vision.times[:, 0] == pytest.approx(0.1 * np.arange(8), abs=0.02)
    assert vision.lengths.tolist() == [8, 0][: len(corpus)]
    assert corpus.card.modalities["vision"].encoder == "grey"
    assert corpus.table["face"].null_count() == len(corpus)


def test_sound(tmp_path: Path, make_media) -> None:
    corpus = read(make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le", seconds=2.0), audio="loudness")
    audio = corpus.features["audio"]
    assert audio.dim == 1
    assert audio.lengths.sum() == 20
    assert corpus.card.modalities["audio"].feature_names == ["peak"]
    assert audio.times[:, 0] == pytest.approx(0.1 * np.arange(20), abs=0.01)


@pytest.mark.parametrize(("level", "values"), [("utterance", [10, 3]), ("words", [1, 2, 5, 3])])
def test_texts(tmp_path: Path, level: str, values: list[int]) -> None:
    (tmp_path / "a.txt").write_text("I am glad.\nYou\n")
    text = read(tmp_path / "a.txt", text="lengths", text_level=level).features["text"]
    assert text.values[:, 0].tolist() == values
    with pytest.raises(AffectusError, match=r"The extractor 'lengths' gives no vectors of tokens in --text-level"):
        read(tmp_path / "a.txt", text="lengths", text_level="tokens")


def test_faces_are_given_with_their_picture(tmp_path: Path, make_media, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        """Sees face 1 in each picture, and face 2, larger, in every third."""

        def read(self, frames: Any) -> Iterator[list[Any]]:
            for k, _ in enumerate(frames):
                faces = [type("Face", (), {"track": t, "area": 3.0 * t, "mouth": np.zeros(2)})() for t in (1, 2)]
                yield faces if k % 3 == 0 else faces[:1]

    class Named(Grey):
        faces, dim = True, 2

        def __call__(self, image: np.ndarray, face: Any) -> Any:
            return face.track, image[-8:, -8:].mean()

    register_extractor("named", modality="vision", summary="a test's")(Named)
    chosen = {"text": "none", "audio": "none", "recognizer": "none", "segments": "whole", "vision": "named"}
    for face, tracks in (("largest", [1] * 9), ("2", [2] * 3)):
        found = Extractor(Extraction(**chosen, face=face))
        found.__dict__["_face_reader"] = Reader()
        vision = found.read(Source(make_media(tmp_path / "a.mp4", seconds=0.9), "a")).features["vision"]
        assert vision.values[:, 0].tolist() == tracks
        assert vision.values[:, 1] == pytest.approx(8.0 * np.arange(0, 9, 9 // len(tracks)), abs=3.9)


def test_names_are_checked() -> None:
    with pytest.raises(
        AffectusError, match=r"The extractor 'faces' describes vision, not audio in --audio: expected one"
    ):
        Extraction(audio="faces")
    with pytest.raises(AffectusError, match=r"Unknown extractor of vision 'face' in --vision.* Did you mean 'faces'\?"):
        Extraction(vision="face")
    with pytest.raises(AffectusError, match=r"Unknown modality 'smell' in the extractor 'nose'"):
        register_extractor("nose", modality="smell", summary="")
    with pytest.raises(ValueError, match="the extractor 'sims' is registered twice"):
        register_extractor("sims", modality="audio", summary="")(Loudness)


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (lambda samples: 1 / 0, r"The extractor 'loudness' failed: got ZeroDivisionError: division by zero"),
        (lambda samples: [[1.0, 2.0]], r"The extractor 'loudness' gave values of another shape.*1 x 2.*any x 1"),
        (lambda samples: [[np.nan]], r"The extractor 'loudness' gave NaN or infinite values"),
        (lambda samples: "loud", r"The extractor 'loudness' gave no numbers: got str"),
    ],
)  # fmt: skip
def test_what_it_gives_is_checked(tmp_path: Path, make_media, monkeypatch, gives: Any, message: str) -> None:
    monkeypatch.setattr(Loudness, "__call__", lambda self, samples: gives(samples))
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le")
    with pytest.raises(AffectusError, match=message):
        read(path, audio="loudness")


def test_whole_pictures_have_no_face_to_choose(tmp_path: Path, make_media) -> None:
    with pytest.raises(AffectusError, match=r"The extractor 'grey' describes whole pictures, so that no face can be"):
        read(make_media(tmp_path / "a.mp4"), vision="grey", face="speaking")


def test_another_version_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("I am glad.")
    source, settings = Source(tmp_path / "a.txt", "a"), Extraction(text="lengths")
    before = cache_key(source, settings)
    assert cache_key(source, settings) == before
    EXTRACTORS._things["lengths"] = extractors.ExtractorEntry("lengths", "text", "a test's", Lengths, "2")
    assert cache_key(source, settings) != before
