import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from affectus.features.media.faces.gaze import EYES, REACH, gaze
from affectus.features.media.faces.pose import MeanFace, head_pose, read_mean_face


def mean_face() -> MeanFace:
    rng = np.random.default_rng(0)
    weights = np.zeros(468, np.float32)
    weights[rng.choice(468, 30, replace=False)] = rng.uniform(0.1, 1, 30)
    return MeanFace(rng.normal(0, 5, (468, 3)).astype(np.float32), weights)


def landmarks(face: MeanFace, pitch: float, yaw: float, roll: float, scale: float = 12.0) -> np.ndarray:
    """Nose up, to the person's left, tilted to the person's right; then as a picture has it: y down, z away."""
    turned = Rotation.from_euler("YXZ", [yaw, -pitch, roll], degrees=True).apply(face.points) * scale + [300, -200, 40]
    return (turned * [1, -1, -1]).astype(np.float32)


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 0, 0), (0, 30, 0), (0, 0, -25), (-15, 40, 10), (5, -60, 33)])
def test_a_turned_head_is_found_again(angles: tuple[float, float, float]) -> None:
    face = mean_face()
    pose = head_pose(landmarks(face, *angles), face)
    assert pose.degrees == pytest.approx(angles, abs=0.01)
    assert pose.scale == pytest.approx(12, rel=1e-4)
    assert pose.in_head(landmarks(face, *angles)) == pytest.approx(face.points, abs=1e-3)


def test_the_signs_are_those_that_are_promised() -> None:
    """A nose ahead of the face: up in the picture is a smaller y, the person's left is a larger x."""
    face = mean_face()
    nose = int(np.argmax(face.points[:, 2]))
    face.points[nose] = [0, 0, 30]
    base = landmarks(face, 0, 0, 0)[nose]
    assert landmarks(face, 10, 0, 0)[nose][1] < base[1] - 10
    assert landmarks(face, 0, 10, 0)[nose][0] > base[0] + 10
    face.points[nose] = [0, 30, 0]  # the top of the head: the person's right is to the left in the picture
    assert landmarks(face, 0, 0, 10)[nose][0] < landmarks(face, 0, 0, 0)[nose][0] - 10


def test_points_that_move_with_the_face_do_not_count() -> None:
    face = mean_face()
    seen = landmarks(face, 5, 10, 15)
    seen[face.weights == 0] += 50
    assert head_pose(seen, face).degrees == pytest.approx([5, 10, 15], abs=0.01)


def test_all_points_in_one_place_give_numbers() -> None:
    face = mean_face()
    pose = head_pose(np.zeros((468, 3), np.float32), face)
    assert np.isfinite(pose.degrees).all()
    assert np.isfinite(pose.in_head(np.zeros((468, 3), np.float32))).all()


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def _floats(number: int, *values: float) -> bytes:
    return b"".join(bytes([number << 3 | 5]) + np.float32(value).tobytes() for value in values)


def test_reading_a_mean_face() -> None:
    vertices = np.arange(15, dtype=np.float32)
    mesh = bytes([1 << 3, 1, 2 << 3, 0]) + _floats(3, *vertices) + bytes([4 << 3, 0x96, 0x01])
    content = _field(1, mesh) + _field(2, _floats(2, 0.5)) + _field(2, bytes([1 << 3, 2]) + _floats(2, 0.25))
    face = read_mean_face(content)
    assert face.points == pytest.approx(vertices.reshape(3, 5)[:, :3])
    assert face.weights == pytest.approx([0.5, 0, 0.25])


def eyes(yaw: float, pitch: float) -> np.ndarray:
    points = np.zeros((478, 3), np.float32)
    for (outer, inner, iris), x in zip(EYES, (-3.0, 3.0), strict=True):
        points[[outer, inner]] = [[x - 1.5, 2, 0], [x + 1.5, 2, 0]]
        points[iris] = [x + 3 * REACH * np.sin(np.radians(yaw)), 2 + 3 * REACH * np.sin(np.radians(pitch)), 0]
    return points


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (20, 0), (0, -15), (-10, 25)])
def test_gaze_follows_the_irises(yaw: float, pitch: float) -> None:
    assert gaze(eyes(yaw, pitch)) == pytest.approx([yaw, pitch], abs=0.01)


def test_gaze_of_impossible_points_is_a_number() -> None:
    points = eyes(0, 0)
    points[[iris for *_, iris in EYES]] += 100
    assert gaze(points) == pytest.approx([90, 90], abs=0.01)
    assert np.isfinite(gaze(np.zeros((478, 3), np.float32))).all()
