"""Where faces are in a picture."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from affectus.features.media.faces.networks import Network
from affectus.features.media.faces.regions import Region, cut

FloatArray = npt.NDArray[np.float32]

PIXELS: Final = 128
"""Of a side of what the detector is shown."""
LEAST: Final = 0.5
"""Score from which something is a face."""
SAME: Final = 0.3
"""Overlap from which two findings are one face."""
_LAYERS: Final = ((16, 2), (8, 6))
"""Cells per side and anchors per cell of the detector's outputs."""
_MARGIN: Final = 1.5
"""How much larger than the finding the square is that the landmarks are sought in."""
_LONG: Final = 1.25
"""Ratio of a picture's sides from which its parts are looked at, too."""


@dataclass(frozen=True, eq=False)
class Detection:
    """A face that the detector found.

    Attributes:
        box: (4,) left, top, right, bottom in pixels.
        points: (6, 2) right eye, left eye, nose, mouth, right and left ear, in pixels; sides are the person's own.
        score: 0 to 1.
    """

    box: FloatArray
    points: FloatArray
    score: float

    @property
    def region(self) -> Region:
        """The square in which to look for landmarks, turned so that the eyes are level."""
        left, top, right, bottom = (float(x) for x in self.box)
        across, down = (float(x) for x in self.points[1] - self.points[0])
        size = _MARGIN * max(right - left, bottom - top)
        return Region((left + right) / 2, (top + bottom) / 2, size, float(np.arctan2(down, across)))


def anchors() -> FloatArray:
    """Return the centres (896, 2) of the detector's anchors, in [0, 1], as (x, y)."""
    layers = []
    for cells, each in _LAYERS:
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        layers.append(np.repeat(centres, each, axis=0))
    return np.concatenate(layers).astype(np.float32)


def decode(regressors: FloatArray, logits: FloatArray, centres: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Turn the detector's outputs into points and scores.

    Args:
        regressors: (896, 16) in pixels of the input: the box's centre and six points relative to the anchor, its size.
        logits: (896,).
        centres: of :func:`anchors`.

    Returns:
        (K, 8, 2): upper left and lower right corner, then the six points, in [0, 1]; and (K,) scores, at least
        :data:`LEAST`.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    keep = np.flatnonzero(scores >= LEAST)
    values = regressors[keep].reshape(-1, 8, 2) / PIXELS
    middle, size = values[:, 0] + centres[keep], values[:, 1]
    points = values[:, 2:] + centres[keep, None]
    corners = np.stack([middle - size / 2, middle + size / 2], axis=1)
    return np.concatenate([corners, points], axis=1).astype(np.float32), scores[keep].astype(np.float32)


def overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return intersection over union of boxes.

    Args:
        a: (..., 4) left, top, right, bottom.
        b: (..., 4), broadcast against ``a``.
    """
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    both = sides.prod(axis=-1)
    areas = [np.clip(box[..., 2:] - box[..., :2], 0, None).prod(axis=-1) for box in (a, b)]
    found: FloatArray = both / np.maximum(areas[0] + areas[1] - both, 1e-9)
    return found


def merge(found: list[Detection]) -> list[Detection]:
    """Make one face of findings that overlap: their mean, weighted by score. The best comes first."""
    left = sorted(found, key=lambda one: -one.score)
    merged = []
    while left:
        shared = overlap(left[0].box, np.stack([one.box for one in left])) >= SAME
        shared[0] = True  # also a box without area is its own
        group = [one for one, same in zip(left, shared, strict=True) if same]
        weights = np.array([one.score for one in group], np.float32)
        weights /= weights.sum()
        box = np.einsum("n,nk->k", weights, np.stack([one.box for one in group]))
        points = np.einsum("n,nkd->kd", weights, np.stack([one.points for one in group]))
        merged.append(Detection(box, points, group[0].score))
        left = [one for one, same in zip(left, shared, strict=True) if not same]
    return merged


def views(height: int, width: int) -> list[Region]:
    """Return the squares of a picture that the detector is shown: all of it, and parts if it is not square itself.

    A face in the parts is larger by the ratio of the sides, so that smaller ones are found.
    """
    whole, part = max(height, width), min(height, width)
    found = [Region(width / 2, height / 2, whole)]
    if whole < _LONG * part:
        return found
    # parts overlap by half, so that a face at the edge of one is inside another; very long pictures get eight
    count = min(8, 1 + int(np.ceil((whole - part) / (part / 2))))
    for place in np.linspace(part / 2, whole - part / 2, count):
        x, y = (float(place), height / 2) if width > height else (width / 2, float(place))
        found.append(Region(x, y, part))
    return found


class Detector:
    """Finds faces.

    Args:
        network: the detector's.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._anchors = anchors()

    def find(self, image: npt.NDArray[np.uint8]) -> list[Detection]:
        """Return the faces of a picture (H, W, 3), the surest first."""
        return merge([one for region in views(*image.shape[:2]) for one in self._find_in(image, region)])

    def _find_in(self, image: npt.NDArray[np.uint8], region: Region) -> list[Detection]:
        shown = cut(image, region, PIXELS) / 127.5 - 1.0
        regressors, logits = self._network(shown)
        points, scores = decode(regressors[0], logits[0, :, 0], self._anchors)
        points = region.to_picture(points)
        inside = (points[:, :2].mean(axis=1) >= 0).all(axis=1)
        inside &= (points[:, :2].mean(axis=1) < image.shape[1::-1]).all(axis=1)
        return [
            Detection(p[:2].ravel(), p[2:], float(score))
            for p, score in zip(points[inside], scores[inside], strict=True)
        ]
