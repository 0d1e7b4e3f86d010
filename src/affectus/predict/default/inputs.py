"""Frames of sound and face -> what the shipped model reads of an utterance: statistics over its time."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from affectus.features.media.acoustic import AUDIO_COLUMNS, FRAME_RATE
from affectus.features.media.faces.action_units import ACTION_UNITS, VISION_COLUMNS, WEAK

FloatArray = npt.NDArray[np.float32]

SHORTEST_SOUND = 0.25
"""Seconds; of less sound nothing is said."""
SPEECH_RANGE = 35.0
"""dB below the loudest frames, where speech is taken to begin and end: a clip's silent ends tell nothing."""
_F0, _ENERGY, _VOICING = (AUDIO_COLUMNS.index(name) for name in ("log_f0", "energy", "voicing"))
_MFCC = [AUDIO_COLUMNS.index(f"mfcc_{i}") for i in range(20)]
VISION_FUNCTIONALS: tuple[str, ...] = tuple(name for name in ACTION_UNITS if name not in WEAK)
"""The root of the mean intensity of each action unit, but for those whose proxies hardly ever move."""
OTHERS = 5.0
"""So many other utterances of a speaker are trusted half to tell how that speaker sounds and looks."""
_UNITS = [VISION_COLUMNS.index(name) for name in VISION_FUNCTIONALS]
_PITCH = ("mean", "deviation", "p5", "p25", "p50", "p75", "p95", "change", "slope")
_ENERGIES = ("mean", "deviation", "p10", "p25", "p50", "p75", "p90")
_SPREAD = ("mean", "deviation", "p10", "p90")


def _statistics(x: FloatArray, percentiles: tuple[int, ...] = (10, 90)) -> FloatArray:
    """(T, D) -> ((2 + percentiles) D,): mean, deviation and percentiles of each column."""
    return np.concatenate([x.mean(axis=0), x.std(axis=0), *np.percentile(x, percentiles, axis=0)]).astype(np.float32)


AUDIO_FUNCTIONALS: tuple[str, ...] = (
    *(f"log_f0.{s}" for s in _PITCH),
    *(f"{AUDIO_COLUMNS[i]}.voiced.{s}" for s in _SPREAD for i in _MFCC),
    *(f"{AUDIO_COLUMNS[i]}.{s}" for s in ("mean", "deviation", "change", "size_of_change") for i in _MFCC),
    *(f"energy.{s}" for s in _ENERGIES),
    *(f"energy.change.{s}" for s in _SPREAD),
    "voicing.mean",
    "voiced_stretches",
)
"""Names of what is said of an utterance's sound: 182 statistics. Level is relative to the utterance's own loud frames,
so that a microphone's gain does not matter; ``change`` is from frame to frame, or over two for MFCCs."""


def audio_functionals(frames: npt.ArrayLike) -> FloatArray | None:
    """Return the statistics of an utterance's sound, or None if there is too little of it.

    Args:
        frames: (T, 35), the columns of :data:`affectus.features.media.acoustic.AUDIO_COLUMNS`.

    Returns:
        (D,) in the order of :data:`AUDIO_FUNCTIONALS`.
    """
    x = np.asarray(frames, np.float32)
    x = x[np.isfinite(x).all(axis=1)]
    if len(x) < SHORTEST_SOUND * FRAME_RATE:
        return None
    loud = np.flatnonzero(x[:, _ENERGY] > np.percentile(x[:, _ENERGY], 95) - SPEECH_RANGE)
    inside = x[loud[0] : loud[-1] + 1] if len(loud) else x
    x = (inside if len(inside) >= SHORTEST_SOUND * FRAME_RATE else x).copy()
    for level in (_ENERGY, _MFCC[0]):
        x[:, level] -= np.percentile(x[:, level], 90)
    voiced = x[:, _VOICING] > 0.5
    starts = np.count_nonzero(np.diff(voiced.astype(np.int8), prepend=0) == 1)
    if voiced.sum() <= 4:
        voiced = np.ones(len(x), bool)
    pitch, mfcc, energy = x[voiced, _F0], x[:, _MFCC], x[:, [_ENERGY]]
    place = np.linspace(-1, 1, len(pitch))
    change = mfcc[2:] - mfcc[:-2]
    parts = [
        _statistics(pitch[:, None], (5, 25, 50, 75, 95)),
        [np.diff(pitch).std(), (place * (pitch - pitch.mean())).sum() / (place * place).sum()],
        _statistics(mfcc[voiced]),
        mfcc.mean(axis=0),
        mfcc.std(axis=0),
        change.std(axis=0),
        np.abs(change).mean(axis=0),
        _statistics(energy, (10, 25, 50, 75, 90)),
        _statistics(np.diff(energy, axis=0)),
        [x[:, _VOICING].mean(), starts / len(x) * FRAME_RATE],
    ]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def resting_units(frames: npt.ArrayLike) -> FloatArray:
    """Return (13,) what each action unit shows when the face of a recording rests: its tenth percentile.

    Blendshapes depend on the shape of a face and on the camera; OpenFace takes a person's resting face off too.

    Args:
        frames: (T, 74) all pictures of a recording that show the face, the columns of ``VISION_COLUMNS``.
    """
    x = np.asarray(frames, np.float32)[:, _UNITS]
    return np.percentile(x, 10, axis=0).astype(np.float32)


def vision_functionals(frames: npt.ArrayLike, resting: FloatArray | None = None) -> FloatArray | None:
    """Return what is said of an utterance's face, or None if it is not seen.

    Args:
        frames: (T, 74), the columns of :data:`affectus.features.media.faces.action_units.VISION_COLUMNS`.
        resting: (13,) of :func:`resting_units`.

    Returns:
        (13,) in the order of :data:`VISION_FUNCTIONALS`.
    """
    x = np.asarray(frames, np.float32)[:, _UNITS]
    x = x[np.isfinite(x).all(axis=1)]
    if not len(x):
        return None
    if resting is not None:
        x = np.maximum(x - resting, 0)
    return unit_functionals(x.mean(axis=0))


def unit_functionals(means: npt.ArrayLike) -> FloatArray:
    """Return the root of mean intensities (..., 13): faces rest mostly, and small movements count."""
    return np.sqrt(np.maximum(np.asarray(means, np.float32), 0))


def beside_others(x: Tensor, there: Tensor, speakers: Tensor) -> Tensor:
    """Take off how a speaker sounds or looks in general: the mean of the speaker's other utterances.

    The fewer there are, the less is taken off; of a single utterance nothing is.

    Args:
        x: (U, D) scaled features.
        there: (U,) bool, utterances that have them.
        speakers: (U,) numbers.
    """
    alike = (speakers[:, None] == speakers[None]) & there[None]
    others = (alike & ~torch.eye(len(x), dtype=torch.bool, device=x.device)).to(x.dtype)
    count = others.sum(dim=1, keepdim=True)
    mean = others @ x.masked_fill(~there[:, None], 0.0) / count.clamp(min=1)
    return x - count / (count + OTHERS) * mean
