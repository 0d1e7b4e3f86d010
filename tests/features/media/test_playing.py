from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media import playing
from affectus.features.media.decoding import audio_blocks, probe, video_frames
from affectus.features.media.playing import is_played, write_copy

av = pytest.importorskip("av", reason="the extra 'media' is not installed")
if "libx264" not in av.codecs_available:
    pytest.skip("PyAV was built without x264", allow_module_level=True)


@pytest.mark.parametrize(
    ("name", "video", "audio", "played"),
    [
        ("a.mp4", "libx264", "aac", True),
        ("a.mp4", "mpeg4", "aac", False),
        ("a.webm", "libvpx", "libopus", True),
        ("a.flv", "flv", "aac", False),
        ("a.mkv", "libx264", "aac", False),
        ("a.wav", None, "pcm_s16le", True),
        ("a.mp3", None, "libmp3lame", True),
    ],
)
def test_what_browsers_play(
    name: str, video: str | None, audio: str, played: bool, tmp_path: Path, make_media: Any
) -> None:
    assert is_played(make_media(tmp_path / name, seconds=0.5, video=video, audio=audio)) == played


def test_a_copy_shows_and_says_the_same_at_the_same_time(tmp_path: Path, make_media: Any) -> None:
    t = np.arange(32_000) / 16_000
    sound = (0.3 * np.sin(2 * np.pi * 300 * t) * (t > 0.5)).astype(np.float32)
    path = make_media(tmp_path / "a.flv", seconds=2.0, video="flv", size=(67, 48), sound=sound)
    assert write_copy(path, tmp_path / "copy.mp4")
    copy = probe(tmp_path / "copy.mp4")
    assert (copy.codecs, copy.size) == (("h264", "aac"), (66, 48))
    assert is_played(copy.path)
    before, after = list(video_frames(path)), list(video_frames(copy.path))
    assert [one.time for one in after] == pytest.approx([one.time for one in before], abs=0.08)
    grey = [[float(one.image[24:, 30:60].mean()) for one in frames] for frames in (before, after)]
    assert grey[1] == pytest.approx(grey[0], abs=12)
    heard = np.concatenate(list(audio_blocks(copy.path)))
    assert np.flatnonzero(np.abs(heard) > 0.1)[0] / 16_000 == pytest.approx(0.5, abs=0.08)
    assert len(heard) == pytest.approx(32_000, abs=3_000)


def test_no_copy_is_made_of_sound_or_of_long_videos(
    tmp_path: Path, make_media: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = make_media(tmp_path / "a.wav", seconds=0.5, video=None, audio="pcm_s16le")
    assert not write_copy(sound, tmp_path / "copy.mp4")
    film = make_media(tmp_path / "a.flv", seconds=1.0, video="flv")
    monkeypatch.setattr(playing, "LONGEST_COPY", 0.5)
    assert not write_copy(film, tmp_path / "copy.mp4")
    assert not (tmp_path / "copy.mp4").exists()
    with pytest.raises(AffectusError, match="There is no file"):
        write_copy(tmp_path / "absent.flv", tmp_path / "copy.mp4")
