"""Faces over the pictures of a video: which one is whose."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.features.media.faces.action_units import action_units
from affectus.features.media.faces.detection import Detector, overlap
from affectus.features.media.faces.gaze import gaze
from affectus.features.media.faces.landmarks import LandmarkReader, region_of
from affectus.features.media.faces.networks import BLENDSHAPES, DETECTOR, GEOMETRY, LANDMARKS, Network, model_parts
from affectus.features.media.faces.pose import head_pose, read_mean_face
from affectus.features.media.faces.regions import Region
from affectus.threads import torch_threads

FloatArray = npt.NDArray[np.float32]

PRESENT: Final = 0.5
"""Probability from which a square holds a face."""
LOOK_AGAIN: Final = 1.0
"""Seconds between searches for further faces while those known are still seen."""
FORGET: Final = 1.0
"""Seconds after which a face that has gone is a new one when it comes back."""
SMALLEST: Final = 24.0
"""Pixels; of a face that is narrower no expression can be read."""
_RETURNED: Final = 0.3
"""Overlap from which a found face is one that was known."""
_FAR: Final = 0.12
"""Of the square's side: a face that moved farther between two pictures is read once more, in the square about it."""
_TURNED: Final = np.radians(12.0)
INNER_LIPS: Final = ((13, 14), (82, 87), (312, 317))
"""Upper and lower inner lip, in the middle and on both sides of it."""
MOUTH_CORNERS: Final = (78, 308)


class Picture(Protocol):
    """A picture with its time, as :func:`affectus.features.media.decoding.video_frames` gives them."""

    @property
    def time(self) -> float:
        """Seconds from the beginning."""

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3), RGB."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture.

    Attributes:
        track: the same number over a video as long as it is followed; 1 is the first seen.
        box: (4,) left, top, right, bottom of its points, in pixels.
        landmarks: (478, 3) x and y in pixels, z on the same scale.
        blendshapes: (52,) 0 to 1, in the order of ``BLENDSHAPES``.
        score: probability that it is a face.
        pose: (3,) degrees, in the order of ``POSE``.
        gaze: (2,) degrees, in the order of ``GAZE``.
        mouth: (2,) gap between the lips and width of the mouth, in centimetres of a mean face.
    """

    track: int
    box: FloatArray
    landmarks: FloatArray
    blendshapes: FloatArray
    score: float
    pose: FloatArray
    gaze: FloatArray
    mouth: FloatArray

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


def vector(face: Face) -> FloatArray:
    """Return the values (74,) of a face, in the order of ``VISION_COLUMNS``."""
    return np.concatenate([face.blendshapes, action_units(face.blendshapes), face.pose, face.gaze])


@dataclass
class _Track:
    """A face that is followed."""

    number: int
    region: Region
    box: FloatArray
    seen: float


class FaceReader:
    """Reads the faces of pictures one after another.

    A face that is known is sought about where it was; the detector runs when one is lost, when none is known, and once
    a second for further ones.

    Args:
        most: faces that are read in one picture; the largest ones, since each costs the same time again.
        model: a face_landmarker.task; None for the packaged one.
        threads: of the networks.

    Raises:
        AffectusError: a package or the file is absent, or the file is not the known one.
    """

    def __init__(self, *, most: int = 4, model: str | Path | None = None, threads: int = 1) -> None:
        if most < 1:
            raise AffectusError("At least one face must be read", got=most)
        parts = model_parts(model)
        self._detector = Detector(Network(parts[DETECTOR], threads=threads))
        self._reader = LandmarkReader(
            Network(parts[LANDMARKS], threads=threads), Network(parts[BLENDSHAPES], threads=threads)
        )
        self._mean_face = read_mean_face(parts[GEOMETRY])
        self._most = most
        self._threads = threads

    def read(self, frames: Iterable[Picture]) -> Iterator[list[Face]]:
        """Yield the faces of each picture, the largest first; an empty list where there is none.

        Args:
            frames: of one video, in order of time; tracks begin anew with each call.
        """
        tracks: list[_Track] = []
        number = 0
        searched = -np.inf
        for frame in frames:
            with torch_threads(self._threads):
                before = len([one for one in tracks if one.seen >= searched])
                faces = self._follow(tracks, frame)
                if len(faces) < max(before, 1) or frame.time - searched >= LOOK_AGAIN:
                    number = self._search(tracks, faces, frame, number)
                    searched = frame.time
            tracks[:] = [one for one in tracks if frame.time - one.seen <= FORGET]
            yield sorted(faces, key=lambda face: -face.area)

    def _follow(self, tracks: list[_Track], frame: Picture) -> list[Face]:
        """Read the faces that are still where they were."""
        faces: list[Face] = []
        # the one that was seen last has the better claim when two have come together
        for track in sorted(tracks, key=lambda one: (-one.seen, one.number)):
            if len(faces) == self._most:
                break
            face = self._face(frame.image, track.region, track.number)
            if face is None or _among(face.box, faces):
                continue
            _update(track, face, frame.time)
            faces.append(face)
        return faces

    def _search(self, tracks: list[_Track], faces: list[Face], frame: Picture, number: int) -> int:
        """Look for faces that are not followed, add them, and return the number of the last track."""
        found = [one for one in self._detector.find(frame.image) if one.box[2] - one.box[0] >= SMALLEST]
        for one in sorted(found, key=lambda one: float(one.box[0] - one.box[2])):
            if len(faces) == self._most:
                break
            if _among(one.box, faces):
                continue
            face = self._face(frame.image, one.region, 0, again=True)
            if face is None or _among(face.box, faces):
                continue
            taken = {each.track for each in faces}
            lost = [track for track in tracks if track.number not in taken]
            shared = [float(overlap(track.box, face.box)) for track in lost]
            if shared and max(shared) >= _RETURNED:
                track = lost[int(np.argmax(shared))]
            else:
                number += 1
                track = _Track(number, one.region, face.box, frame.time)
                tracks.append(track)
            _update(track, face, frame.time)
            faces.append(_numbered(face, track.number))
        return number

    def _face(self, image: npt.NDArray[np.uint8], region: Region, track: int, *, again: bool = False) -> Face | None:
        """Read a face in a square, twice if the first look shows it elsewhere in it; None if there is none."""
        points, score = self._reader.points(image, region)
        if score < PRESENT:
            return None
        better = region_of(points)
        moved = np.hypot(better.x - region.x, better.y - region.y) / region.size
        turned = abs((better.turn - region.turn + np.pi) % (2 * np.pi) - np.pi)
        if again or moved > _FAR or turned > _TURNED:
            points, score = self._reader.points(image, better)
            if score < PRESENT:
                return None
        pose = head_pose(points, self._mean_face)
        in_head = pose.in_head(points)
        box = np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])
        if not _inside(box, image):
            return None
        return Face(
            track, box, points, self._reader.blendshapes(points), score, pose.degrees, gaze(in_head), _mouth(in_head)
        )


def _mouth(in_head: FloatArray) -> FloatArray:
    """Return the gap between the lips and the width of the mouth."""
    upper, lower = np.array(INNER_LIPS).T
    left, right = MOUTH_CORNERS
    gap = (in_head[upper, 1] - in_head[lower, 1]).mean()
    return np.array([max(gap, 0.0), np.linalg.norm(in_head[left] - in_head[right])], np.float32)


def _inside(box: FloatArray, image: npt.NDArray[np.uint8]) -> bool:
    """Whether at least half of a box is in the picture and it is wide enough."""
    frame = np.array([0, 0, image.shape[1], image.shape[0]], np.float32)
    sides = np.minimum(box[2:], frame[2:]) - np.maximum(box[:2], frame[:2])
    whole = box[2:] - box[:2]
    return bool((sides > 0).all() and whole[0] >= SMALLEST and sides.prod() >= 0.5 * whole.prod())


def _among(box: FloatArray, faces: list[Face]) -> bool:
    """Whether a box is that of a face which is there already."""
    return bool(faces) and float(overlap(box, np.stack([face.box for face in faces])).max()) >= _RETURNED


def _update(track: _Track, face: Face, time: float) -> None:
    track.region, track.box, track.seen = region_of(face.landmarks), face.box, time


def _numbered(face: Face, number: int) -> Face:
    values = {name: getattr(face, name) for name in face.__dataclass_fields__}
    return Face(**values | {"track": number})
