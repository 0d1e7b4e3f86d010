"""Where the eyes look, by how far the iris has left the middle of its eye."""

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

EYES: Final = ((33, 133, 468), (263, 362, 473))
"""Per eye, the person's right one first: outer corner, inner corner, middle of the iris."""
REACH: Final = 0.33
"""How far the iris lies before the point about which the eye turns, in lengths of the eye's opening.

About 9.8 mm (the eye turns some 13.5 mm behind the cornea, the iris lies 3.6 mm behind it) over about 30 mm.
"""


def gaze(in_head: FloatArray) -> FloatArray:
    """Return the direction of the gaze relative to the head.

    Args:
        in_head: (478, 3) landmarks in the head's axes: left, up, ahead.

    Returns:
        (2,) degrees: yaw, to the person's own left positive, and pitch, up positive; the mean of both eyes.
    """
    sums = np.zeros(2)
    for outer, inner, iris in EYES:
        corners = in_head[[outer, inner]]
        opening = max(float(np.linalg.norm(corners[0] - corners[1])), 1e-6)
        sums += np.arcsin(np.clip((in_head[iris] - corners.mean(axis=0))[:2] / (REACH * opening), -1, 1))
    return np.degrees(sums / len(EYES)).astype(np.float32)
