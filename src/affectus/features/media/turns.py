"""Speaker turns: who speaks when, from an RTTM file or a diariser that the user names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from affectus.errors import AffectusError
from affectus.features.media.acoustic import RATE
from affectus.features.media.decoding import audio_blocks
from affectus.features.media.extras import need
from affectus.features.media.subtitles import read_text

INSTALL = "pip install 'affectus[speakers]'"


@dataclass(frozen=True)
class Turn:
    """Somebody speaks.

    Attributes:
        start: seconds.
        end: seconds.
        speaker: a name, or the number that a diariser gave.
    """

    start: float
    end: float
    speaker: str


class Diarizer(Protocol):
    """Anything that tells speakers apart."""

    def __call__(self, path: Path) -> list[Turn]:
        """Return the turns of a media file."""
        ...


def speaker_of(begin: float, end: float, turns: Sequence[Turn]) -> str | None:
    """Return who speaks most of a stretch of time; None if nobody does.

    >>> speaker_of(1.0, 4.0, [Turn(0.0, 2.0, "A"), Turn(2.0, 5.0, "B")])
    'B'
    """
    shares: dict[str, float] = {}
    for turn in turns:
        shared = min(end, turn.end) - max(begin, turn.start)
        if shared > 0:
            shares[turn.speaker] = shares.get(turn.speaker, 0.0) + shared
    return max(shares, key=lambda speaker: shares[speaker], default=None)


def read_rttm(path: str | Path) -> list[Turn]:
    """Read the turns of an RTTM file: ``SPEAKER file channel start duration <NA> <NA> name <NA> <NA>``.

    Raises:
        AffectusError: it is no text, or a line is no turn.
    """
    turns = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, duration, speaker = float(fields[3]), float(fields[4]), fields[7]
            if not (start >= 0 and duration >= 0):
                raise ValueError
        except (ValueError, IndexError):
            raise AffectusError(
                "The line is no turn of a speaker",
                where=f"{path}, line {number}",
                got=repr(line[:80]),
                expected="SPEAKER file 1 start duration <NA> <NA> name",
            ) from None
        turns.append(Turn(start, start + duration, speaker))
    if not turns:
        raise AffectusError("The file holds no speaker turns", where=path, expected="lines that begin with SPEAKER")
    return turns


def load_diarizer(name: str) -> Diarizer:
    """Load a diariser of pyannote.audio by its name on the Hugging Face hub, or from a folder.

    Raises:
        AffectusError: the extra is absent, or the diariser cannot be loaded (many ask to accept their terms first).
    """
    # it reports uses to its makers unless it is told not to before it is imported
    os.environ["PYANNOTE_METRICS_ENABLED"] = "false"
    pyannote = need("pyannote.audio", "Speaker diarisers", install=INSTALL)
    reason = None
    try:
        pipeline = pyannote.Pipeline.from_pretrained(name)
    except Exception as error:
        # the hub's client and torch raise types of their own
        pipeline, reason = None, " ".join(str(error).split())[:160]
    if pipeline is None:
        raise AffectusError(
            f"The diariser {name!r} could not be loaded",
            got=reason,
            remedy="Check the name, the network, and whether its terms are accepted on the hub; or give --turns FILE",
        )
    return _Pyannote(pipeline)


class _Pyannote:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def __call__(self, path: Path) -> list[Turn]:
        import numpy as np
        import torch

        # it looks at the whole recording at once: this alone needs memory that grows with length
        samples = np.concatenate([np.zeros(0, np.float32), *audio_blocks(path)])
        found = self._pipeline({"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE})
        annotation = getattr(found, "speaker_diarization", found)
        return [Turn(one.start, one.end, str(who)) for one, _, who in annotation.itertracks(yield_label=True)]
