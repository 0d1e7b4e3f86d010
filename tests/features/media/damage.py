"""Damaged media, made by a seeded generator: what a folder of downloads may hold, and worse."""

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

KINDS = (
    "truncated", "truncated head", "wrong suffix", "empty", "no sound", "no pictures", "flipped bytes",
    "zeroed middle", "one pixel", "8k", "variable rate", "absurd duration", "no rate", "garbage", "repeated",
    "jumping times", "odd size", "one picture", "other's data", "text as media",
)  # fmt: skip
WITH_PICTURES = {
    "no sound", "one pixel", "8k", "variable rate", "jumping times", "odd size", "no rate", "one picture",
}  # fmt: skip
FORMS = (
    (".mp4", "mpeg4", "aac"), (".mkv", "mpeg4", "aac"), (".webm", "libvpx", "libopus"), (".avi", "mpeg4", "libmp3lame"),
    (".flv", "flv", "aac"), (".mov", "mpeg4", "aac"), (".wav", None, "pcm_s16le"), (".flac", None, "flac"),
    (".mp3", None, "libmp3lame"), (".m4a", None, "aac"),
)  # fmt: skip


def damaged(folder: Path, make_media: Callable[..., Path], count: int, seed: int = 0) -> Iterator[tuple[str, Path]]:
    """Write ``count`` files, the kinds of damage and the forms in turn, and yield each with its kind."""
    chance = random.Random(seed)
    whole: dict[str, bytes] = {}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        suffix, video, audio = chance.choice(FORMS)
        if kind in (
            "no sound",
            "one pixel",
            "8k",
            "variable rate",
            "jumping times",
            "odd size",
            "no rate",
            "one picture",
        ):
            suffix, video, audio = chance.choice([form for form in FORMS if form[1] is not None])
        path = folder / f"{number:03d}-{kind.replace(' ', '-').replace(chr(39), '')}{suffix}"
        options: dict[str, object] = {"video": video, "audio": audio, "seconds": 1.2}
        if kind == "no sound":
            make_media(path, **{**options, "audio": None})
        elif kind == "no pictures":
            make_media(path, **{**options, "video": None, "audio": audio})
        elif kind == "one pixel":
            make_media(path.with_suffix(".mkv"), **{**options, "video": "ffv1", "audio": "aac", "size": (1, 1)})
            path = path.with_suffix(".mkv")
        elif kind == "odd size":
            make_media(path.with_suffix(".mkv"), **{**options, "video": "ffv1", "audio": "aac", "size": (1501, 41)})
            path = path.with_suffix(".mkv")
        elif kind == "8k":
            path = path.with_suffix(".mkv")
            make_media(path, video="mjpeg", audio="aac", seconds=0.2, size=(7680, 4320))
        elif kind == "variable rate":
            path = path.with_suffix(".mkv")
            times = sorted(chance.uniform(0, 1.2) for _ in range(12))
            make_media(path, video="mpeg4", audio="aac", times=[round(t, 3) + i / 1e3 for i, t in enumerate(times)])
        elif kind == "jumping times":
            path = path.with_suffix(".mkv")
            make_media(path, video="mjpeg", audio="aac", seconds=1.2, times=[0.0, 0.1, chance.choice([50.0, 4e4, 3e5])])
        elif kind == "one picture":
            make_media(path, **{**options, "times": [0.0], "sound": np.zeros(0, np.float32)})
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "garbage":
            path.write_bytes(chance.randbytes(chance.randint(1, 50_000)))
        elif kind == "text as media":
            path.write_text(
                chance.choice(["a film about nothing\n" * 99, "#EXTM3U\n/etc/passwd\n", "<html>404</html>"])
            )
        else:
            if suffix not in whole:
                whole[suffix] = make_media(path, **options).read_bytes()
            path.write_bytes(_harm(kind, bytearray(whole[suffix]), chance, whole))
            if kind == "wrong suffix":
                path = path.rename(path.with_suffix(chance.choice([form[0] for form in FORMS if form[0] != suffix])))
        yield kind, path


def _harm(kind: str, content: bytearray, chance: random.Random, whole: dict[str, bytes]) -> bytes:
    size = len(content)
    if kind == "truncated":
        del content[chance.randint(1, size - 1) :]
    elif kind == "truncated head":
        del content[: chance.randint(1, size // 2)]
    elif kind == "flipped bytes":
        for _ in range(chance.choice([3, 30, 300])):
            content[chance.randrange(size)] = chance.randrange(256)
    elif kind == "zeroed middle":
        begin = chance.randrange(size)
        end = min(begin + chance.randint(1, size // 2), size)
        content[begin:end] = bytes(end - begin)
    elif kind == "absurd duration":
        _absurd(content, chance)
    elif kind == "no rate":
        _no_rate(content, chance)
    elif kind == "repeated":
        content *= chance.randint(2, 5)
    elif kind == "other's data":
        other = chance.choice(list(whole.values()))
        content[size // 2 :] = other[len(other) // 2 :]
    return bytes(content)


def _absurd(content: bytearray, chance: random.Random) -> None:
    """Write enormous numbers over the durations that a header tells."""
    for mark, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24), (b"RIFF", 4), (b"data", 4), (b"duration", 9)):
        at = content.find(mark)
        if at >= 0 and at + offset + 8 <= len(content):
            value = chance.choice([0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE])
            content[at + offset : at + offset + 4] = struct.pack(">I", value)
    at = content.find(b"\x44\x89")  # Matroska's duration, a float of 8 bytes
    if 0 <= at < len(content) - 11:
        content[at + 3 : at + 11] = struct.pack(">d", chance.choice([1e18, -5.0, float("nan")]))


def _no_rate(content: bytearray, chance: random.Random) -> None:
    """Write zeros over the rates that a header tells."""
    for mark, offset, count in (
        (b"strh", 28, 8),
        (b"avih", 8, 4),
        (b"mdhd", 16, 4),
        (b"mvhd", 16, 4),
        (b"stts", 8, 12),
    ):
        at = content.find(mark)
        if at >= 0:
            content[at + offset : at + offset + count] = bytes(count)
    at = content.find(b"\x23\xe3\x83")  # Matroska's default duration of a frame
    if at >= 0:
        content[at + 4 : at + 8] = bytes(4)
