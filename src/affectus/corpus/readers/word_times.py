"""Whether words stand beside their own times: a published file of CMU-MOSI's words is off by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

PAUSE = "sp"
"""How the SDK's forced aligner writes a short pause among the words."""

MIN_WORDS = 200
"""Fewer words than this say too little."""


def length_duration(words: Sequence[Sequence[str]], times: Sequence[npt.NDArray[Any]], places: int = 0) -> float:
    """Return the correlation between words' numbers of letters and their durations.

    Long words take longer to say, about r = .5 in English; against other words' durations there is none.

    Args:
        words: per video.
        times: per video (W, 2), in seconds.
        places: compare each word with the interval so many places before its own.
    """
    letters, durations = [], []
    for said, intervals in zip(words, times, strict=True):
        spoken = np.array([word != PAUSE for word in said[places:]], bool)
        letters.append(np.array([len(word) for word in said[places:]], np.float64)[spoken])
        durations.append((intervals[:, 1] - intervals[:, 0])[: len(spoken)][spoken])
    x, y = np.concatenate(letters), np.concatenate(durations)
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def lags(words: Sequence[Sequence[str]], times: Sequence[npt.NDArray[Any]]) -> tuple[bool, str]:
    """Return whether each word stands beside the interval of the word after it, and the sentence that says so.

    That is so in ``CMU_MOSI_ModifiedTimestampedWords.csd``: r is 0 as published and .52 with the words moved by one.
    """
    if sum(len(said) for said in words) < MIN_WORDS:
        return False, ""
    own, before = length_duration(words, times), length_duration(words, times, places=1)
    return own < 0.15 and before > 0.35, (
        "Each word stood beside the interval of the word after it (letters and durations correlate at "
        f"{own:.2f} as given, at {before:.2f} one place on), so the words were moved by one."
    )
