"""Which face speaks: the one whose mouth moves while there is a voice, and rests while there is none.

Nothing here knows whose voice it is. A voice from outside the picture, while somebody in it chews or smiles, can be
given to the wrong face; a speaker whose mouth is hidden is not found.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Mouths = Sequence[Mapping[int, npt.NDArray[np.float32]]]
"""Per picture: the mouth (2,) of each face by track: gap between the lips and width, in centimetres of a mean face."""

STILL: Final = 1.5
"""Centimetres per second: a mouth that moves less, on the mean over speech, does not speak."""
WINDOW: Final = 1.0
"""Seconds about a moment that tell who speaks then."""
_APART: Final = 0.5
"""Seconds; pictures of a face that lie farther apart say nothing of its movement."""
_CAUTION: Final = 0.5
"""Seconds of a still mouth that are added to the silence, so that a moment of it does not decide."""
_WIDTH: Final = 0.5
"""How much the width of the mouth counts beside its gap; it also changes with smiles, which are slower."""


def movements(times: Sequence[float], mouths: Mouths) -> dict[int, FloatArray]:
    """Return how fast each mouth moves.

    Args:
        times: (T,) seconds of the pictures, in order.
        mouths: of the same pictures.

    Returns:
        By track (T,) centimetres per second since the picture before; NaN where the face was not in both, or the two
        are far apart.
    """
    found = {track: np.full(len(times), np.nan, np.float32) for here in mouths for track in here}
    for k in range(1, len(times)):
        step = times[k] - times[k - 1]
        if not 0 < step <= _APART:
            continue
        for track, mouth in mouths[k].items():
            before = mouths[k - 1].get(track)
            if before is not None:
                gap, width = mouth - before
                found[track][k] = np.hypot(gap, _WIDTH * width) / step
    return found


def voice_at(times: Sequence[float], voice: npt.ArrayLike, rate: float) -> FloatArray:
    """Return how likely a voice was between each picture and the one before.

    Args:
        times: (T,) seconds of the pictures, in order.
        voice: (F,) probabilities of speech in even frames from time 0; no voice after them.
        rate: frames per second.

    Returns:
        (T,) means, 0 to 1.
    """
    moments = np.asarray(times, float)
    total = np.concatenate([[0.0], np.cumsum(np.asarray(voice, float))])
    steps = np.clip(np.diff(moments, prepend=moments[:1]), 1 / rate, _APART)
    frames = np.arange(len(total))
    ends = [np.interp(edge * rate, frames, total) for edge in (moments - steps, moments)]
    found: FloatArray = ((ends[1] - ends[0]) / (steps * rate)).clip(0, 1).astype(np.float32)
    return found


def speaking_scores(times: Sequence[float], mouths: Mouths, voice: npt.ArrayLike, rate: float) -> dict[int, float]:
    """Return for each track how much faster its mouth moves while there is a voice than while there is none.

    Args:
        times: (T,) seconds of the pictures of an utterance, or of any stretch of time, in order.
        mouths: of the same pictures.
        voice: (F,) probabilities of speech in even frames from time 0 of the recording.
        rate: its frames per second.

    Returns:
        Centimetres per second by track, weighted by the share of the voice that the face was seen for; no value for a
        face that was never seen in two pictures in a row.
    """
    heard = voice_at(times, voice, rate)
    steps = np.clip(np.diff(np.asarray(times, float), prepend=times[:1] if len(times) else []), 0, _APART)
    scores = {}
    for track, speed in movements(times, mouths).items():
        seen = np.isfinite(speed)
        if seen.any():
            with_voice, without = (w[seen] * steps[seen] for w in (heard, 1 - heard))
            whole = max(float((heard * steps).sum()), 1e-6)
            moving = float((with_voice * speed[seen]).sum()) / whole
            scores[track] = moving - float((without * speed[seen]).sum()) / (float(without.sum()) + _CAUTION)
    return scores


def speaking_face(times: Sequence[float], mouths: Mouths, voice: npt.ArrayLike, rate: float) -> int | None:
    """Return the track of the face that speaks in a stretch of time; None if none does.

    The arguments are those of :func:`speaking_scores`.
    """
    scores = speaking_scores(times, mouths, voice, rate)
    best = max(scores, key=lambda track: scores[track], default=None)
    return best if best is not None and scores[best] >= STILL else None


def speaking_faces(
    times: Sequence[float], mouths: Mouths, voice: npt.ArrayLike, rate: float, *, window: float = WINDOW
) -> list[int | None]:
    """Return for each picture the track of the face that speaks then; None where none does or there is no voice.

    Args:
        times: (T,) seconds of the pictures, in order.
        mouths: of the same pictures.
        voice: (F,) probabilities of speech in even frames from time 0.
        rate: its frames per second.
        window: seconds about each picture that are looked at.
    """
    heard = voice_at(times, voice, rate)
    lows = np.searchsorted(times, np.asarray(times, float) - window / 2)
    highs = np.searchsorted(times, np.asarray(times, float) + window / 2, side="right")
    found: list[int | None] = []
    for k, (low, high) in enumerate(zip(lows, highs, strict=True)):
        # the picture before the window is where its first movement begins
        first = max(int(low) - 1, 0)
        spoken = heard[low:high].max() >= 0.5 and heard[k] > 0.1
        found.append(speaking_face(times[first:high], mouths[first:high], voice, rate) if spoken else None)
    return found
