"""The points of a face, and how far each of its movements has gone."""

from typing import Final

import numpy as np
import numpy.typing as npt

from affectus.features.media.faces.networks import Network
from affectus.features.media.faces.regions import Region, cut

FloatArray = npt.NDArray[np.float32]

POINTS: Final = 478
"""Of a face; the last ten are the irises': the right one's centre is 468, the left one's 473."""
PIXELS: Final = 256
"""Of a side of what the network is shown."""
_MARGIN: Final = 1.5
"""How much larger than the points' extent is the square in which they are sought in the next picture."""
RIGHT_EYE: Final = 33
"""Outer corner of the person's right eye."""
LEFT_EYE: Final = 263
"""Outer corner of the person's left eye."""
BLENDSHAPE_POINTS: Final = np.array([
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249,
    251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314,
    317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382,
    384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473,
    474, 475, 476, 477,
])  # fmt: skip
"""The 146 that the network of the blendshapes reads, in its order; a property of that network."""


def region_of(points: FloatArray) -> Region:
    """Return the square in which to look for a face's points (478, 3) in the next picture; its eyes are level in it."""
    across, down = (float(x) for x in (points[LEFT_EYE] - points[RIGHT_EYE])[:2])
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    x, y = (float(v) for v in (low + high) / 2)
    return Region(x, y, max(_MARGIN * float((high - low).max()), 1.0), float(np.arctan2(down, across)))


class LandmarkReader:
    """Reads points and blendshapes of a face whose place is known.

    Args:
        landmarks: the network of the points.
        blendshapes: the network of the movements.
    """

    def __init__(self, landmarks: Network, blendshapes: Network) -> None:
        self._landmarks = landmarks
        self._blendshapes = blendshapes

    def points(self, image: npt.NDArray[np.uint8], region: Region) -> tuple[FloatArray, float]:
        """Find the points of the face in a square.

        Args:
            image: (H, W, 3).
            region: of the face.

        Returns:
            (478, 3): x and y in pixels of the picture, z on the same scale, away from the camera, 0 near the face's
            middle; and the probability that there is a face at all.
        """
        found, presence = self._landmarks(cut(image, region, PIXELS) / np.float32(255))[:2]
        score = 1 / (1 + np.exp(-np.clip(float(presence.ravel()[0]), -80, 80)))
        return region.to_picture(found.reshape(POINTS, 3) / np.float32(PIXELS)), float(score)

    def blendshapes(self, points: FloatArray) -> FloatArray:
        """Return the 52 blendshapes, 0 to 1, of the points (478, 3) of a face."""
        return self._blendshapes(points[BLENDSHAPE_POINTS, :2])[0].reshape(-1).copy()
