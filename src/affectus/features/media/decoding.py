"""Media files as streams of pictures and sound."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.features.media.extras import need

WIDEST = 640
"""Pixels; wider pictures are made smaller."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        time: seconds from the beginning.
        image: (H, W, 3) uint8, RGB.
    """

    time: float
    image: npt.NDArray[np.uint8]


def video_frames(
    path: str | Path, fps: float = 10.0, begin: float | None = None, end: float | None = None
) -> Iterator[Frame]:
    """Yield pictures of a video at a steady rate, at most 640 pixels wide.

    Args:
        path: of the file.
        fps: pictures per second, or fewer if the file has fewer.
        begin: seconds; None for the beginning.
        end: seconds; None for the end.

    Raises:
        AffectusError: PyAV is absent, or the file cannot be decoded.
    """
    av = need("av", "Media files")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return
            due = begin or 0.0
            for picture in container.decode(video=0):
                time = picture.time or 0.0
                if end is not None and time >= end:
                    break
                if time + 1e-6 < due:
                    continue
                due = max(due + 1 / fps, time)
                width = min(WIDEST, picture.width)
                height = max(1, round(picture.height * width / picture.width))
                yield Frame(float(time), picture.to_ndarray(format="rgb24", width=width, height=height))
    except av.error.FFmpegError as error:
        raise AffectusError("The file cannot be decoded", where=path, got=str(error)) from None
