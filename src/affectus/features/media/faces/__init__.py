"""Faces in video: detection, tracking, landmarks, blendshapes, action units, head pose and gaze."""

from affectus.features.media.faces.action_units import (
    ACTION_UNITS,
    BLENDSHAPES,
    GAZE,
    MAPPING,
    POSE,
    VISION_COLUMNS,
    WEAK,
    action_units,
)

__all__ = ["ACTION_UNITS", "BLENDSHAPES", "GAZE", "MAPPING", "POSE", "VISION_COLUMNS", "WEAK", "action_units"]
