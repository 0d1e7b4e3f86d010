"""Media made for the tests: small, seeded, in a temporary folder."""

import fractions
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

RATE = 16_000
MakeMedia = Callable[..., Path]


def voiced(seconds: float, f0: float = 150.0, level: float = 0.2) -> np.ndarray:
    """A sound with a voice's harmonics, in bursts of a second with half a second between."""
    t = np.arange(round(RATE * seconds)) / RATE
    sound = sum(np.sin(2 * np.pi * f0 * k * t) / k for k in range(1, 25))
    return (level * sound / 2 * ((t % 1.5) < 1.0)).astype(np.float32)


def write_media(
    path: Path,
    *,
    seconds: float = 1.5,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    video: str | None = "mpeg4",
    audio: str | None = "aac",
    sound: np.ndarray | None = None,
    times: list[float] | None = None,
    rotation: int = 0,
    layout: str = "mono",
) -> Path:
    """Write a media file; picture k has the grey level 8 k, its upper left corner is red.

    Args:
        times: seconds of the pictures, for a variable rate.
    """
    av = pytest.importorskip("av", reason="the extra 'media' is not installed")
    sound = voiced(seconds) if sound is None else sound
    with av.open(str(path), "w") as container:
        pictures = heard = None
        if video is not None:
            pictures = container.add_stream(video, rate=fps)
            pictures.width, pictures.height = size
            pictures.pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
            if rotation:
                pictures.set_display_rotation(rotation)
        if audio is not None:
            heard = container.add_stream(audio, rate=48_000 if audio == "libopus" else RATE, layout=layout)
        if pictures is not None:
            stamps = times if times is not None else [k / fps for k in range(round(seconds * fps))]
            base = fractions.Fraction(1, 1000)
            pictures.codec_context.time_base = base
            for k, stamp in enumerate(stamps):
                image = np.full((size[1], size[0], 3), (8 * k) % 256, np.uint8)
                image[: size[1] // 4, : size[0] // 4] = (255, 0, 0)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round(stamp * 1000), base
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if heard is not None:
            resampler = av.AudioResampler(
                format=heard.codec_context.format, layout=layout, rate=heard.codec_context.rate
            )
            for start in range(0, len(sound), 1024):
                frame = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="flt", layout="mono")
                frame.sample_rate, frame.pts = RATE, start
                frame.time_base = fractions.Fraction(1, RATE)
                for part in resampler.resample(frame):
                    container.mux(heard.encode(part))
            for part in resampler.resample(None):
                container.mux(heard.encode(part))
            container.mux(heard.encode(None))
    return path


@pytest.fixture(scope="session")
def make_media() -> MakeMedia:
    return write_media
