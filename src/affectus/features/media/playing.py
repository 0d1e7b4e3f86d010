"""Recordings that browsers do not play -> small copies that they do."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.features.media.decoding import audio_blocks, probe, video_frames
from affectus.features.media.extras import need

PLAYED = frozenset(
    {".mp4", ".m4v", ".webm", ".mov", ".ogv", ".wav", ".mp3", ".m4a", ".ogg", ".oga", ".opus", ".flac", ".aac"}
)
"""Suffixes of files that browsers play, if they also know the codecs in them."""
VIDEO_CODECS = frozenset({"h264", "vp8", "vp9", "av1", "theora"})
AUDIO_CODECS = frozenset({"aac", "mp3", "opus", "vorbis", "flac"})
COPY_FPS = 15.0
"""Pictures a second of a copy."""
LONGEST_COPY = 600.0
"""Seconds; of longer recordings no copy is made, since that takes about a tenth of their length."""
_RATE = 24_000
_CLOCK = Fraction(1, 1000)


def is_played(path: str | Path) -> bool:
    """Say whether browsers play a file: by its suffix, and by its codecs where they can be read."""
    path = Path(path)
    if path.suffix.lower() not in PLAYED:
        return False
    try:
        media = probe(path)
    except AffectusError:
        return True  # the suffix alone tells
    video, audio = media.codecs
    known = AUDIO_CODECS | {audio} if audio is None or audio.startswith("pcm_") else AUDIO_CODECS
    return (video is None or video in VIDEO_CODECS) and audio in known


def write_copy(path: str | Path, out: str | Path) -> bool:
    """Write a copy of a video that browsers play: H.264 and AAC in MP4, at most 640 pixels wide.

    Args:
        path: a video.
        out: the file to write, ``.mp4``.

    Returns:
        Whether it was written; not if the recording is longer than ``LONGEST_COPY``, or PyAV was built without the
        encoders.

    Raises:
        AffectusError: the recording cannot be decoded.
    """
    av = need("av", "Media files")
    media = probe(path)
    if not media.has_video or not {"libx264", "aac"} <= av.codecs_available:
        return False
    if media.duration is None or media.duration > LONGEST_COPY:
        return False
    pictures = video_frames(path, COPY_FPS)
    with av.open(str(out), "w", options={"movflags": "faststart"}) as container:
        seen: Any = None
        heard: Any = container.add_stream("aac", rate=_RATE, layout="mono") if media.has_audio else None
        sound = _blocks(path) if media.has_audio else iter(())
        said = 0.0
        for frame in pictures:
            height, width = (side - side % 2 for side in frame.image.shape[:2])
            if min(height, width) < 2 or frame.time > LONGEST_COPY:
                break
            if seen is None:
                options = {"preset": "veryfast", "crf": "28", "threads": "1"}
                seen = container.add_stream("libx264", rate=round(COPY_FPS), options=options)
                seen.width, seen.height, seen.pix_fmt = width, height, "yuv420p"
                seen.codec_context.time_base = _CLOCK
            elif (width, height) != (seen.width, seen.height):
                continue  # of a damaged file
            # sound and pictures are written side by side, so that a player finds both at once
            while heard is not None and said < frame.time and (block := next(sound, None)) is not None:
                container.mux(heard.encode(_sound(av, block, said)))
                said += len(block) / _RATE
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.image[:height, :width]), format="rgb24")
            picture.pts, picture.time_base = round(frame.time / _CLOCK), _CLOCK
            container.mux(seen.encode(picture))
        if seen is None:
            return False
        for block in sound:
            container.mux(heard.encode(_sound(av, block, said)))
            said += len(block) / _RATE
        for stream in (seen, heard):
            if stream is not None:
                container.mux(stream.encode(None))
    return True


def _blocks(path: str | Path) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the sound as far as it can be decoded."""
    try:
        yield from audio_blocks(path, _RATE, end=LONGEST_COPY)
    except AffectusError:
        return


def _sound(av: Any, block: npt.NDArray[np.float32], begin: float) -> Any:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = _RATE, round(begin * _RATE), Fraction(1, _RATE)
    return frame
