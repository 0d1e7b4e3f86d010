"""How a head is turned: a rigid fit of a mean face to landmarks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MeanFace:
    """A face that looks straight ahead.

    Attributes:
        points: (468, 3) in centimetres: x to the person's left, y up, z ahead; the first landmarks.
        weights: (468,) how much each counts in a fit: those count that move with the skull, not with the face.
    """

    points: FloatArray
    weights: FloatArray


@dataclass(frozen=True, eq=False)
class HeadPose:
    """Where the head is and how it is turned, as seen by a camera that looks at it along -z.

    Attributes:
        rotation: (3, 3) from the head's axes (left, up, ahead) to the picture's (right, up, towards the camera).
        scale: pixels per centimetre of the mean face.
        centre: (3,) of the head's origin, in the picture's axes.
    """

    rotation: FloatArray
    scale: float
    centre: FloatArray

    @property
    def degrees(self) -> FloatArray:
        """Pitch, yaw and roll (3,): nose up, to the person's left, head tilted to the person's right are positive."""
        r = self.rotation
        pitch = np.arcsin(np.clip(r[1, 2], -1, 1))
        return np.degrees([pitch, np.arctan2(r[0, 2], r[2, 2]), np.arctan2(r[1, 0], r[1, 1])]).astype(np.float32)

    def in_head(self, landmarks: FloatArray) -> FloatArray:
        """Map landmarks (..., 3) of the picture into the head's axes, in centimetres of the mean face."""
        found: FloatArray = (_upright(landmarks) - self.centre) @ (self.rotation / np.float32(self.scale))
        return found


def _upright(landmarks: FloatArray) -> FloatArray:
    """Turn (right, down, away) into (right, up, towards the camera)."""
    upright: FloatArray = landmarks * np.array([1, -1, -1], np.float32)
    return upright


def head_pose(landmarks: FloatArray, face: MeanFace) -> HeadPose:
    """Fit the mean face to landmarks by turning, moving and scaling it: least squares (Umeyama 1991).

    The camera is taken to be far away, so the angles are relative to the line from the camera to the face.

    Args:
        landmarks: (478, 3) or (468, 3): x and y in pixels, z on the same scale and away from the camera.
        face: what is fitted.
    """
    used = np.flatnonzero(face.weights)
    weights = (face.weights[used] / face.weights.sum())[:, None]
    seen, known = _upright(landmarks[used]), face.points[used]
    seen_centre, known_centre = (weights * seen).sum(axis=0), (weights * known).sum(axis=0)
    seen, known = seen - seen_centre, known - known_centre
    u, s, vt = np.linalg.svd((weights * seen).T @ known)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))], np.float32)  # a mirrored fit is none
    rotation = (u * signs) @ vt
    spread = float((weights * known**2).sum())
    scale = max(float((s * signs).sum()) / spread, 1e-6)
    return HeadPose(rotation, scale, seen_centre - scale * (rotation @ known_centre))


def read_mean_face(content: bytes) -> MeanFace:
    """Read the mean face from the description of the face's geometry that lies beside the networks.

    Args:
        content: a protocol buffer: field 1 is the mesh, whose field 3 holds five floats per point (x, y, z and two of a
            texture); each field 2 is a landmark (field 1) and its weight (field 2).
    """
    vertices: list[float] = []
    weights: dict[int, float] = {}
    for field, value in _fields(content):
        if field == 1 and isinstance(value, bytes):
            vertices += [
                float(np.frombuffer(x, "<f4")[0]) for f, x in _fields(value) if f == 3 and isinstance(x, bytes)
            ]
        elif field == 2 and isinstance(value, bytes):
            parts = dict(_fields(value))
            weight = parts[2]
            assert isinstance(weight, bytes)
            landmark = parts.get(1, 0)
            assert isinstance(landmark, int)
            weights[landmark] = float(np.frombuffer(weight, "<f4")[0])
    points = np.array(vertices, np.float32).reshape(-1, 5)[:, :3]
    dense = np.zeros(len(points), np.float32)
    dense[list(weights)] = list(weights.values())
    return MeanFace(points, dense)


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield the number and the value of each field of a protocol buffer."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        if kind == 0:
            number, place = _varint(content, place)
            yield key >> 3, number
            continue
        length = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            length, place = _varint(content, place)
        yield key >> 3, content[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return a number and the place behind it: seven bits a byte, the lowest first, the highest bit says "more"."""
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
