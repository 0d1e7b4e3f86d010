"""Recordings -> utterances: by speech pauses, or in stretches of even length where nobody speaks."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from affectus.features.media.acoustic import FRAME_RATE
from affectus.features.media.voice import Stretch

FloatArray = npt.NDArray[np.float32]
PAUSE = 0.4
"""Seconds of silence that end an utterance."""
LONGEST = 12.0
"""Seconds; longer speech is cut where it is most likely a pause."""
_WINDOW = 28.0
"""Seconds that a speech recogniser takes at once; Whisper hears 30."""


def split_long(stretches: Sequence[Stretch], probabilities: FloatArray, longest: float = LONGEST) -> list[Stretch]:
    """Cut stretches that are too long at the frame that is least likely speech, away from their ends.

    Args:
        stretches: (begin, end) in seconds.
        probabilities: (T,) of speech in frames of 32 ms.
        longest: seconds.

    >>> split_long([(0.0, 4.0)], np.where(np.arange(125) == 50, 0, 1).astype(np.float32), longest=3.0)
    [(0.0, 1.616), (1.616, 4.0)]
    """
    found: list[Stretch] = []
    todo = list(reversed(stretches))
    while todo:
        begin, end = todo.pop()
        if end - begin <= longest:
            found.append((begin, end))
            continue
        # each part is at least a quarter of what is cut, so that no scraps are left
        low, high = begin + (end - begin) / 4, end - (end - begin) / 4
        a, b = math.ceil(low * FRAME_RATE), max(math.floor(high * FRAME_RATE), math.ceil(low * FRAME_RATE) + 1)
        inside = probabilities[a:b]
        smooth = np.convolve(np.pad(inside, 2, mode="edge"), np.ones(5) / 5, mode="valid") if len(inside) else inside
        middle = (low + high) / 2
        if len(smooth) and smooth.min() < smooth.max():
            lowest = np.flatnonzero(smooth == smooth.min())
            cut = (a + float(lowest[len(lowest) // 2]) + 0.5) / FRAME_RATE
        else:
            cut = middle
        todo += [(cut, end), (begin, cut)]
    return found


def even_stretches(duration: float, longest: float = LONGEST) -> list[Stretch]:
    """Cut a recording into stretches of even length, none longer than ``longest``.

    >>> even_stretches(20.0, 12.0)
    [(0.0, 10.0), (10.0, 20.0)]
    """
    count = max(math.ceil(duration / longest - 1e-9), 1)
    return [(duration * i / count, duration * (i + 1) / count) for i in range(count)] if duration > 0 else []


def windows(stretches: Sequence[Stretch], longest: float = _WINDOW) -> list[list[int]]:
    """Group utterances that follow one another into windows for a recogniser.

    Args:
        stretches: in rising order.
        longest: seconds from the begin of a window's first to the end of its last.

    Returns:
        The numbers of the utterances in each window; one that is longer than a window stands alone.

    >>> windows([(0.0, 10.0), (11.0, 20.0), (25.0, 40.0), (90.0, 91.0)])
    [[0, 1], [2], [3]]
    """
    groups: list[list[int]] = []
    for i, (_, end) in enumerate(stretches):
        if groups and end - stretches[groups[-1][0]][0] <= longest:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def merged(stretches: Sequence[Stretch], gap: float) -> list[Stretch]:
    """Join stretches that overlap or are less than ``gap`` seconds apart.

    >>> merged([(0.0, 1.0), (1.5, 2.0), (9.0, 10.0)], gap=1.0)
    [(0.0, 2.0), (9.0, 10.0)]
    """
    found: list[Stretch] = []
    for begin, end in sorted(stretches):
        if found and begin <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found
