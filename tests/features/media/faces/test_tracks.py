import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media.decoding import Frame, video_frames
from affectus.features.media.faces import networks
from affectus.features.media.faces.action_units import ACTION_UNITS, BLENDSHAPES, VISION_COLUMNS
from affectus.features.media.faces.regions import Region, cut
from affectus.features.media.faces.tracks import Face, FaceReader, vector

for package in ("ai_edge_litert", "av", networks.PACKAGE):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}, from the extra affectus[media]", allow_module_level=True)

BLACK = np.zeros((360, 480, 3), np.uint8)


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return FaceReader()


@pytest.fixture(scope="module")
def clips(data_dir: Path) -> dict[str, list[Frame]]:
    folder = data_dir / "cremad_clips"
    if not folder.is_dir():
        pytest.skip("no CREMA-D clips here")
    return {name: list(video_frames(folder / f"1001_DFA_{name}_XX.flv", 10.0)) for name in ("FEA", "DIS", "NEU")}


@pytest.fixture(scope="module")
def faces(reader: FaceReader, clips: dict[str, list[Frame]]) -> dict[str, list[list[Face]]]:
    return {name: list(reader.read(frames)) for name, frames in clips.items()}


@pytest.fixture(scope="module")
def portrait(clips: dict[str, list[Frame]]) -> np.ndarray:
    """A face that looks at the camera, mouth closed."""
    return clips["NEU"][-1].image


def film(*images: np.ndarray, fps: float = 10.0) -> list[Frame]:
    return [Frame(k / fps, np.ascontiguousarray(image)) for k, image in enumerate(images)]


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn a picture about its middle, clockwise for positive angles."""
    height, width = image.shape[:2]
    found = cut(image, Region(width / 2, height / 2, height, -np.radians(degrees)), height)
    return found.round().astype(np.uint8)


def value(face: Face, name: str) -> float:
    return float(vector(face)[VISION_COLUMNS.index(name)])


def test_without_a_face_there_is_none(reader: FaceReader) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    slope = np.tile(np.linspace(0, 255, 640).astype(np.uint8)[:, None], (360, 1, 3))
    one = np.full((1, 1, 3), 200, np.uint8)
    assert list(reader.read(film(BLACK, noise, slope, one, np.zeros((3, 700, 3), np.uint8)))) == [[]] * 5
    assert list(reader.read([])) == []


@pytest.mark.parametrize("name", ["FEA", "DIS", "NEU"])
def test_one_face_is_followed_through_a_clip(faces: dict[str, list[list[Face]]], name: str) -> None:
    assert all([face.track for face in here] == [1] for here in faces[name])
    values = np.stack([vector(face) for (face,) in faces[name]])
    assert values.shape == (len(faces[name]), len(VISION_COLUMNS))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values[:, :52].min() >= 0
    assert values[:, :52].max() <= 1
    for (face,) in faces[name]:
        assert face.score > 0.9
        assert 60 < face.box[2] - face.box[0] < 160
        assert np.abs(face.pose).max() < 20  # the actor faces the camera


def test_fear_raises_the_inner_brows_and_disgust_lowers_them(faces: dict[str, list[list[Face]]]) -> None:
    means = {name: np.stack([vector(face)[52:69] for (face,) in found]).mean(axis=0) for name, found in faces.items()}
    unit = ACTION_UNITS.index
    assert means["FEA"][unit("AU01")] > 1.0 > 0.2 > max(means["NEU"][unit("AU01")], means["DIS"][unit("AU01")])
    for name in ("AU04", "AU09", "AU10"):
        assert means["DIS"][unit(name)] > 2 * max(means["NEU"][unit(name)], means["FEA"][unit(name)])


@pytest.mark.parametrize(("name", "closed", "opened"), [("NEU", (9, 10), (0, 25, 59)), ("FEA", (1, 2), (20, 40, 60))])
def test_closed_eyes_raise_the_blink(
    reader: FaceReader, data_dir: Path, name: str, closed: tuple[int, ...], opened: tuple[int, ...]
) -> None:
    """Which pictures show closed eyes was seen by looking at them."""
    path = data_dir / "cremad_clips" / f"1001_DFA_{name}_XX.flv"
    if not path.is_file():
        pytest.skip("no CREMA-D clips here")
    frames = [frame for k, frame in enumerate(video_frames(path, 30.0)) if k in closed + opened]
    found = [value(face, "AU45") for (face,) in reader.read(frames)]
    shut = [x for x, k in zip(found, sorted(closed + opened), strict=True) if k in closed]
    assert min(shut) > 2.0 > 1.25 > max(set(found) - set(shut))


def test_an_open_mouth_raises_what_belongs_to_it(faces: dict[str, list[list[Face]]]) -> None:
    (closed,), (opened,) = faces["NEU"][-1], max(faces["NEU"], key=lambda here: here[0].mouth[0])
    assert closed.mouth[0] < 0.1
    assert opened.mouth[0] > 1.0
    for name in ("AU25", "AU26"):
        assert value(opened, name) > 1.0 > 0.3 > value(closed, name)


def test_a_mirrored_face_changes_sides(reader: FaceReader, portrait: np.ndarray) -> None:
    tilted = turned(portrait, 12)
    ((face,),) = reader.read(film(tilted))
    ((other,),) = reader.read(film(tilted[:, ::-1]))
    pitch, yaw, roll = face.pose
    assert other.pose == pytest.approx([pitch, -yaw, -roll], abs=2.5)
    assert other.gaze == pytest.approx([-face.gaze[0], face.gaze[1]], abs=4)
    swapped = [name.replace("Left", "#").replace("Right", "Left").replace("#", "Right") for name in BLENDSHAPES]
    order = [BLENDSHAPES.index(name) for name in swapped]
    assert other.blendshapes[order] == pytest.approx(face.blendshapes, abs=0.25)
    # the network's own blendshapes of gaze lean to one side
    kept = ["Look" not in name for name in BLENDSHAPES]
    assert np.corrcoef(other.blendshapes[order][kept], face.blendshapes[kept])[0, 1] > 0.95


@pytest.mark.parametrize("degrees", [-40, -20, 20, 40])
def test_a_turned_picture_turns_the_head_and_nothing_else(
    reader: FaceReader, portrait: np.ndarray, degrees: int
) -> None:
    ((upright,),) = reader.read(film(turned(portrait, 0)))
    ((face,),) = reader.read(film(turned(portrait, degrees)))
    # clockwise as seen is towards the person's left, which is negative
    assert face.pose[2] == pytest.approx(upright.pose[2] - degrees, abs=2)
    assert face.blendshapes == pytest.approx(upright.blendshapes, abs=0.2)


def test_size_and_place_do_not_matter(reader: FaceReader, portrait: np.ndarray) -> None:
    ((face,),) = reader.read(film(portrait))
    smaller = BLACK.copy()
    smaller[150:330, 20:260] = cut(portrait, Region(240, 180, 480), 240)[30:210]
    ((other,),) = reader.read(film(smaller))
    assert other.box == pytest.approx(face.box / 2 + [20, 150, 20, 150], abs=4)
    assert other.pose == pytest.approx(face.pose, abs=4)
    assert np.corrcoef(other.blendshapes, face.blendshapes)[0, 1] > 0.93


def test_a_face_that_goes_is_absent_and_known_when_it_soon_returns(reader: FaceReader, portrait: np.ndarray) -> None:
    found = list(reader.read(film(*[portrait] * 3, *[BLACK] * 5, *[portrait] * 3, *[BLACK] * 15, *[portrait] * 2)))
    tracks = [[face.track for face in here] for here in found]
    assert tracks == [[1]] * 3 + [[]] * 5 + [[1]] * 3 + [[]] * 15 + [[2]] * 2


def test_a_face_that_jumps_is_found_at_once(reader: FaceReader, portrait: np.ndarray) -> None:
    images = [np.roll(portrait, shift, axis=1) for shift in (-100, 90, -60)]
    found = list(reader.read(film(*images)))
    assert [len(here) for here in found] == [1, 1, 1]
    centres = [float(here[0].box[[0, 2]].mean()) for here in found]
    assert np.diff(centres) == pytest.approx([190, -150], abs=6)


def test_several_faces_keep_their_numbers(reader: FaceReader, clips: dict[str, list[Frame]]) -> None:
    pairs = [
        np.concatenate([a.image[:, 60:420], b.image[:, 420:60:-1]], axis=1)
        for a, b in zip(clips["FEA"], clips["DIS"], strict=False)
    ]
    # from the eleventh picture on, the right one only
    pairs = pairs[:10] + [np.where(np.arange(720)[:, None] < 360, 0, image).astype(np.uint8) for image in pairs[10:16]]
    found = list(reader.read(film(*pairs)))
    sides = [{face.track: "left" if face.box[0] < 360 else "right" for face in here} for here in found]
    assert all(here == sides[0] and len(here) == 2 for here in sides[:10])
    right = next(track for track, side in sides[0].items() if side == "right")
    assert all(here == {right: "right"} for here in sides[10:])
    for here in found:
        assert [face.area for face in here] == sorted((face.area for face in here), reverse=True)


def test_only_so_many_faces_are_read(portrait: np.ndarray) -> None:
    pair = np.concatenate([portrait[:, 60:420], portrait[:, 60:420]], axis=1)
    assert [len(here) for here in FaceReader(most=1).read(film(pair, pair))] == [1, 1]
    with pytest.raises(AffectusError, match="At least one face must be read: got 0"):
        FaceReader(most=0)


def test_a_later_face_is_found_within_a_second(reader: FaceReader, portrait: np.ndarray) -> None:
    alone = np.concatenate([portrait[:, 60:420], np.zeros((360, 360, 3), np.uint8)], axis=1)
    pair = np.concatenate([portrait[:, 60:420], portrait[:, 60:420]], axis=1)
    found = [len(here) for here in reader.read(film(*[alone] * 3, *[pair] * 12))]
    assert found[:3] == [1] * 3
    assert found[-3:] == [2] * 3


def test_a_face_of_a_few_pixels_is_none(reader: FaceReader, portrait: np.ndarray) -> None:
    far = BLACK.copy()
    far[100:172, 100:196] = cut(portrait, Region(240, 180, 480), 96)[12:84]
    assert list(reader.read(film(far))) == [[]]


def test_pictures_are_read_one_by_one(reader: FaceReader, portrait: np.ndarray) -> None:
    taken = 0

    def endless() -> Iterator[Frame]:
        nonlocal taken
        for k in itertools.count():
            taken += 1
            yield Frame(k / 10, portrait)

    assert len(list(itertools.islice(reader.read(endless()), 3))) == 3
    assert taken == 3


def test_the_same_pictures_give_the_same_values(reader: FaceReader, clips: dict[str, list[Frame]]) -> None:
    first, again = (np.stack([vector(face) for (face,) in reader.read(clips["DIS"][:5])]) for _ in range(2))
    assert np.array_equal(first, again)
