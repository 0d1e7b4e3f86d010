"""Blendshapes -> proxies of facial action units.

The 52 blendshapes describe a face by how far each of a set of modelled movements has gone, from 0 to 1. Most of them
are near one action unit of the Facial Action Coding System (Ekman and Friesen 1978). The mapping follows the published
descriptions of both sets; no number in it was fitted. Its values are *proxies*: OpenFace's intensities come from
regressors trained on coded faces, and the two are related, not equal.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

BLENDSHAPES: Final = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen",
    "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""In the order in which the network gives them; left and right are the person's own."""
ACTION_UNITS: Final = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23",
    "AU25", "AU26", "AU45",
)  # fmt: skip
"""The 17 whose intensity OpenFace gives, in its order: the first 17 columns of RAVDESS's ``visual_au35``."""
POSE: Final = ("pose_pitch", "pose_yaw", "pose_roll")
"""Degrees. Pitch: nose up is positive. Yaw: turned to the person's own left is positive. Roll: towards their right."""
GAZE: Final = ("gaze_yaw", "gaze_pitch")
"""Degrees relative to the head. Yaw: to the person's own left is positive. Pitch: up is positive."""
VISION_COLUMNS: Final = (*BLENDSHAPES, *ACTION_UNITS, *POSE, *GAZE)
"""The columns of the modality ``vision``: 52 + 17 + 3 + 2 = 74."""
STRONGEST: Final = 5.0
"""OpenFace's intensities go from 0 to 5, so the proxies do."""


def _both(name: str) -> dict[str, float]:
    """Return the mean of a movement's two sides, since OpenFace does not tell them apart."""
    return {f"{name}Left": 0.5, f"{name}Right": 0.5}


MAPPING: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "AU01": {"browInnerUp": 1.0},  # inner brow raiser
        "AU02": _both("browOuterUp"),  # outer brow raiser
        "AU04": _both("browDown"),  # brow lowerer
        "AU05": _both("eyeWide"),  # upper lid raiser
        "AU06": _both("cheekSquint"),  # cheek raiser
        "AU07": _both("eyeSquint"),  # lid tightener
        "AU09": _both("noseSneer"),  # nose wrinkler
        "AU10": _both("mouthUpperUp"),  # upper lip raiser
        "AU12": _both("mouthSmile"),  # lip corner puller
        "AU14": _both("mouthDimple"),  # dimpler
        "AU15": _both("mouthFrown"),  # lip corner depressor
        "AU17": {"mouthShrugLower": 1.0},  # chin raiser
        "AU20": _both("mouthStretch"),  # lip stretcher
        "AU23": _both("mouthPress"),  # lip tightener; the nearest, and nearer to AU24
        # lips part: by the jaw unless the lips stay closed over it, or by either lip
        "AU25": {"jawOpen": 1.0, "mouthClose": -1.0, **_both("mouthLowerDown"), **_both("mouthUpperUp")},
        "AU26": {"jawOpen": 1.0},  # jaw drop
        "AU45": _both("eyeBlink"),  # blink
    }
)
"""Each action unit as a weighted sum of blendshapes, cut to [0, 1], times 5."""
JOINT: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "AU06": ("AU07", "AU12"),  # a smile that reaches the eyes
        "AU09": ("AU04", "AU10"),  # lowered brows and a raised upper lip
    }
)
"""Action units whose blendshapes the network hardly ever raises: at least the geometric mean of two others.

``cheekSquint`` and ``noseSneer`` stay near 0 even in strong smiles and in disgust. In OpenFace's own intensities on
RAVDESS (actors 1 to 18), the geometric mean of AU07 and AU12 correlates with AU06 by .86, that of AU04 and AU10 with
AU09 by .62.
"""
WEAK: Final = ("AU05", "AU15", "AU17", "AU20")
"""Action units whose blendshapes the network hardly raises; what learned from real intensities must not use them."""
_WEIGHTS: Final = np.array(
    [[MAPPING[unit].get(shape, 0.0) for unit in ACTION_UNITS] for shape in BLENDSHAPES], np.float32
)


def action_units(blendshapes: npt.ArrayLike) -> FloatArray:
    """Return the proxies of the action units.

    Args:
        blendshapes: (..., 52), in [0, 1], in the order of :data:`BLENDSHAPES`.

    Returns:
        (..., 17), in [0, 5], in the order of :data:`ACTION_UNITS`: :data:`MAPPING`, then :data:`JOINT`.

    >>> smile = np.zeros(52)
    >>> smile[[BLENDSHAPES.index("mouthSmileLeft"), BLENDSHAPES.index("mouthSmileRight")]] = 0.8
    >>> {unit: round(float(x), 3) for unit, x in zip(ACTION_UNITS, action_units(smile)) if x}
    {'AU12': 4.0}
    """
    found = np.clip(np.asarray(blendshapes, np.float32) @ _WEIGHTS, 0.0, 1.0)
    for unit, pair in JOINT.items():
        first, second = (found[..., ACTION_UNITS.index(one)] for one in pair)
        place = ACTION_UNITS.index(unit)
        found[..., place] = np.maximum(found[..., place], np.sqrt(first * second))
    strong: FloatArray = np.float32(STRONGEST) * found
    return strong
