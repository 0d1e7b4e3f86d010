"""Media files -> sound and pictures, as streams: memory does not grow with the length of a file.

Time 0 is where the container begins, for sound and pictures alike, so that both stay in step. A damaged file gives what
can be decoded of it; one of which nothing can be decoded ends in one clear sentence. Files are local: formats that name
other files or addresses (playlists) are not opened.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.features.media.acoustic import RATE
from affectus.features.media.extras import need

FloatArray = npt.NDArray[np.float32]

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mkv", ".mov", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".3gp"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus"})

MAX_SECONDS = 12 * 3600.0
"""Longest recording that is read."""
MAX_PIXELS = 40_000_000
"""Largest picture that is decoded; 8k has 33 million."""
MAX_WIDTH = 640
"""Wider pictures are scaled down to this width as they are read."""
MAX_GAP = 600.0
"""A hole in the sound up to so many seconds is filled with silence; a longer one is a damaged time stamp."""
STALL_SECONDS = 60.0
"""So long may decoding go on without giving a picture or a sound."""
MAX_BAD_PACKETS = 1000
"""So many packets in a row may be damaged."""
_FORMATS = "mov,matroska,webm,avi,flv,live_flv,wav,w64,flac,mp3,aac,ogg,mpeg,mpegts,mpegvideo,aiff,asf"
_MICROSECONDS = 1_000_000
_HOLE = 0.2
"""Seconds that the clocks of packets may differ without sound being absent."""


@dataclass(frozen=True)
class Media:
    """What a file says of itself.

    Attributes:
        path: the file.
        duration: seconds; None if it does not say, or nothing that can be.
        has_audio: there is a sound track.
        has_video: there is a video track; a cover picture is none.
        fps: pictures per second, as the file says; None if it does not or has none.
        size: (width, height) of its pictures in pixels; None without video.
        codecs: names of those of pictures and of sound, as FFmpeg calls them; None for a track that is not there.
    """

    path: Path
    duration: float | None
    has_audio: bool
    has_video: bool
    fps: float | None
    size: tuple[int, int] | None
    codecs: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture.

    Attributes:
        time: seconds from the start of the recording.
        image: (H, W, 3) uint8, RGB, upright, at most ``MAX_WIDTH`` wide.
    """

    time: float
    image: npt.NDArray[np.uint8]


def probe(path: str | Path) -> Media:
    """Say what a media file holds.

    Raises:
        AffectusError: it is absent, empty, no media file, or holds neither sound nor pictures.
    """
    path = Path(path)
    with _open(path) as container:
        audio, video = _stream(container, "audio"), _stream(container, "video")
        if audio is None and video is None:
            raise AffectusError("The file holds neither sound nor pictures", where=path)
        duration = None if container.duration is None else container.duration / _MICROSECONDS
        if duration is not None and not 0 < duration <= MAX_SECONDS:
            duration = None
        rate = video.average_rate or video.guessed_rate if video is not None else None
        size = None if video is None else (video.codec_context.width, video.codec_context.height)
        return Media(
            path=path,
            duration=duration,
            has_audio=audio is not None,
            has_video=video is not None,
            fps=float(rate) if rate and 0 < rate < 1000 else None,
            size=size,
            codecs=(_codec(video), _codec(audio)),
        )


def audio_blocks(
    path: str | Path, rate: int = RATE, begin: float | None = None, end: float | None = None
) -> Iterator[FloatArray]:
    """Decode the sound, mono, some thousand samples at a time.

    Holes in the sound are filled with silence, so that sample n is always at ``begin + n / rate`` seconds.

    Args:
        path: a media file.
        rate: samples per second of what is given.
        begin: seconds; None for the start.
        end: seconds; None for the end.

    Raises:
        AffectusError: the file is damaged, has no sound, or is longer than ``MAX_SECONDS``.
    """
    path = Path(path)
    start = begin or 0.0
    first, last = round(start * rate), None if end is None else round(end * rate)
    at = None  # sample number of the next block
    for seconds, block in _decoded_sound(path, rate, start):
        if at is None:
            at = round(seconds * rate) if start else 0
            if not start and 0 < seconds <= MAX_GAP:
                block = np.concatenate([np.zeros(round(seconds * rate), np.float32), block])
        else:
            hole = round(seconds * rate) - at
            if _HOLE * rate < hole <= MAX_GAP * rate:
                block = np.concatenate([np.zeros(hole, np.float32), block])
        low, high = max(first - at, 0), len(block) if last is None else min(last - at, len(block))
        at += len(block)
        if at > MAX_SECONDS * rate:
            raise AffectusError("The recording is too long", where=path, expected=f"at most {MAX_SECONDS / 3600:g} h")
        if high > low:
            yield block[low:high]
        if last is not None and at >= last:
            return


def audio_stretches(
    path: str | Path, ranges: Iterable[tuple[float, float]], rate: int = RATE
) -> Iterator[tuple[float, FloatArray]]:
    """Decode stretches of the sound in one pass.

    Args:
        path: a media file.
        ranges: (begin, end) in seconds, in rising order of begin; they may overlap.
        rate: samples per second.

    Yields:
        For each range its begin, and its samples; fewer than asked for, or none, past the end of the recording.

    Raises:
        AffectusError: as :func:`audio_blocks`.
    """
    ranges = list(ranges)
    if not ranges:
        return
    start = ranges[0][0]
    held, at = np.zeros(0, np.float32), round(start * rate)  # the samples that are held, and the number of the first
    blocks = audio_blocks(path, rate, start, max(end for _, end in ranges))
    for begin, end in ranges:
        first, last = round(begin * rate), round(end * rate)
        parts, have = [held], at + len(held)
        while have < last and (block := next(blocks, None)) is not None:
            parts.append(block)
            have += len(block)
        held = np.concatenate(parts)
        held, at = held[max(first - at, 0) :], max(first, at)
        yield begin, held[: max(last - at, 0)]


def video_frames(
    path: str | Path, fps: float = 10.0, begin: float | None = None, end: float | None = None, *, threads: int = 1
) -> Iterator[Frame]:
    """Decode pictures, upright and scaled down, at most ``fps`` of them a second.

    Args:
        path: a media file.
        fps: pictures per second; a file with fewer gives those it has.
        begin: seconds; None for the start.
        end: seconds; None for the end.
        threads: of the decoder.

    Raises:
        AffectusError: the file is damaged, has no pictures, or they are larger than ``MAX_PIXELS``.
    """
    path = Path(path)
    start = begin or 0.0
    with _open(path) as container:
        stream = _stream(container, "video")
        if stream is None:
            raise AffectusError("The file holds no pictures", where=path)
        context = stream.codec_context
        _check_size(path, context.width, context.height)
        context.thread_type = "AUTO"
        context.thread_count = threads
        origin = _origin(container)
        _seek(container, start, origin)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        early = min(0.25 / fps, 0.5 / max(rate, 1.0))  # a picture this much before its time is the nearest to it
        due, before, given = start, -1.0, 0
        for number, picture in enumerate(_decode(path, container, stream)):
            # without time stamps, pictures come at the rate that the file says
            seconds = number / rate if picture.time is None else float(picture.time) - origin
            if seconds > MAX_SECONDS:
                raise AffectusError(
                    "The recording is too long", where=path, expected=f"at most {MAX_SECONDS / 3600:g} h"
                )
            if end is not None and seconds >= end:
                break
            if seconds <= before or seconds < due - early:
                continue
            _check_size(path, picture.width, picture.height)
            yield Frame(max(seconds, 0.0), _upright(picture))
            given, before = given + 1, seconds
            due = max(due + 1 / fps, seconds + 0.5 / fps)
        if not given and not start:
            raise AffectusError("No picture could be decoded", where=path, remedy="Look whether the file plays")


def _decoded_sound(path: Path, rate: int, start: float) -> Iterator[tuple[float, FloatArray]]:
    """Yield the time of each decoded block and its samples."""
    av = need("av", "Media files")
    with _open(path) as container:
        stream = _stream(container, "audio")
        if stream is None:
            raise AffectusError("The file holds no sound", where=path)
        origin = _origin(container)
        _seek(container, start, origin)
        resampler, form, known = None, None, 0.0
        given = 0
        for sound in _decode(path, container, stream):
            seconds = known if sound.time is None else float(sound.time) - origin
            if not sound.sample_rate or not sound.samples:
                continue
            known = seconds + sound.samples / sound.sample_rate
            if resampler is None or form != (sound.format.name, sound.layout.name, sound.sample_rate):
                # a damaged stream may change its form midway
                form = (sound.format.name, sound.layout.name, sound.sample_rate)
                resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            sound.pts = None
            try:
                parts = [part.to_ndarray()[0] for part in resampler.resample(sound)]
            except (av.error.FFmpegError, ValueError):
                resampler = None
                continue
            if parts:
                block = np.nan_to_num(np.concatenate(parts), nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
                given += len(block)
                yield seconds, block
        if not given and not start:
            raise AffectusError("No sound could be decoded", where=path, remedy="Look whether the file plays")


def _open(path: Path) -> Any:
    av = need("av", "Media files")
    if not path.is_file():
        raise AffectusError("There is no file", where=path)
    if path.stat().st_size == 0:
        raise AffectusError("The file is empty", where=path)
    av.logging.set_level(None)
    try:
        return av.open(
            str(path),
            metadata_errors="replace",
            # nothing but the file itself is opened, whatever it names
            container_options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
        )
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise AffectusError(
            "Not a media file that can be read",
            where=path,
            got=getattr(error, "strerror", None) or type(error).__name__,
            remedy="Look whether it plays; a download may be incomplete",
        ) from None


def _stream(container: Any, kind: str) -> Any:
    """Return the first stream of a kind that can be decoded; None if there is none."""
    for stream in container.streams:
        if stream.type == kind and stream.codec_context is not None and not _is_cover(stream):
            return stream
    return None


def _codec(stream: Any) -> str | None:
    if stream is None:
        return None
    codec = stream.codec_context.codec
    return str(getattr(codec, "canonical_name", codec.name))


def _is_cover(stream: Any) -> bool:
    return stream.type == "video" and "attached_pic" in str(stream.disposition).lower()


def _origin(container: Any) -> float:
    start = (container.start_time or 0) / _MICROSECONDS
    return start if abs(start) < 1e6 else 0.0


def _seek(container: Any, start: float, origin: float) -> None:
    if start < 5:
        return
    av = need("av", "Media files")
    try:
        container.seek(int((start + origin - 2) * _MICROSECONDS))
    except av.error.FFmpegError:
        return  # then it is read from the start


def _decode(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Yield what can be decoded of a stream; damaged packets are passed over.

    Raises:
        AffectusError: nothing comes for too long.
    """
    av = need("av", "Media files")
    bad, since = 0, time.monotonic()
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, ValueError):
            return  # a file that is cut off ends here
        if packet is None:
            return
        try:
            decoded = packet.decode()
            bad = 0
        except (av.error.FFmpegError, ValueError):
            decoded, bad = [], bad + 1
        for one in decoded:
            since = time.monotonic()
            yield one
            since = time.monotonic()  # what the caller did in between is not decoding
        if bad > MAX_BAD_PACKETS or time.monotonic() - since > STALL_SECONDS:
            raise AffectusError(
                "The file is damaged beyond reading",
                where=path,
                got=f"{bad} damaged packets in a row" if bad else f"nothing for {STALL_SECONDS:g} seconds",
            )


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise AffectusError(
            "The pictures are too large",
            where=path,
            got=f"{width} x {height}",
            expected=f"at most {MAX_PIXELS // 1_000_000} million pixels",
        )


def _upright(picture: Any) -> npt.NDArray[np.uint8]:
    """Return a picture as RGB, scaled, with square pixels, turned as the file says."""
    width, height = picture.width, picture.height
    shape = getattr(picture, "sample_aspect_ratio", None)
    if isinstance(shape, Fraction) and 0.25 < shape < 4:
        width = max(round(width * shape), 1)
    if width > MAX_WIDTH:
        width, height = MAX_WIDTH, max(round(height * MAX_WIDTH / width), 1)
    image = picture.to_ndarray(format="rgb24", width=width, height=height)
    turns = round((picture.rotation or 0) / 90) % 4
    found: npt.NDArray[np.uint8] = np.ascontiguousarray(np.rot90(image, turns))
    return found
