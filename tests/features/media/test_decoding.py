from pathlib import Path

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media import decoding
from affectus.features.media.decoding import audio_blocks, audio_stretches, probe, video_frames

pytest.importorskip("av", reason="the extra 'media' is not installed")

KINDS = {
    "a.mp4": ("mpeg4", "aac"), "a.mov": ("mpeg4", "aac"), "a.mkv": ("mpeg4", "aac"), "a.webm": ("libvpx", "libopus"),
    "a.avi": ("mpeg4", "libmp3lame"), "a.flv": ("flv", "aac"), "a.wav": (None, "pcm_s16le"),
    "a.flac": (None, "flac"), "a.mp3": (None, "libmp3lame"), "a.m4a": (None, "aac"),
}  # fmt: skip


def sound_of(path: Path, **options: float) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *audio_blocks(path, **options)])


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_its_sound_and_pictures(name: str, tmp_path: Path, make_media) -> None:
    video, audio = KINDS[name]
    t = np.arange(32_000) / 16_000
    given = (0.3 * np.sin(2 * np.pi * 300 * t) * (t > 0.5)).astype(np.float32)
    path = make_media(tmp_path / name, seconds=2.0, video=video, audio=audio, sound=given)
    media = probe(path)
    assert (media.has_audio, media.has_video) == (True, video is not None)
    assert media.duration == pytest.approx(2.0, abs=0.2)
    found = sound_of(path)
    assert len(found) == pytest.approx(32_000, abs=2_500)
    # codecs blur and shift the beginning by some hundredths of a second
    begins = np.flatnonzero(np.abs(found) > 0.1)[0] / 16_000
    assert begins == pytest.approx(0.5, abs=0.08)
    assert np.abs(found[12_000:28_000]).max() == pytest.approx(0.3, abs=0.1)
    if video is not None:
        frames = list(video_frames(path))
        assert len(frames) == pytest.approx(20, abs=1)
        assert frames[0].image.shape == (48, 64, 3)
        assert frames[0].image.dtype == np.uint8
        assert [frame.time for frame in frames] == pytest.approx([k / 10 for k in range(len(frames))], abs=0.08)
        red, green, blue = frames[5].image[4, 4].astype(int)
        assert red > 150 > 100 > max(green, blue)


def test_a_part_is_what_stands_there_in_the_whole(tmp_path: Path, make_media) -> None:
    sound = (0.5 * np.sin(np.arange(30 * 16_000) ** 1.3 / 50)).astype(np.float32)
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le", sound=sound)
    whole = sound_of(path)
    assert whole == pytest.approx(sound, abs=1e-3)
    assert np.array_equal(sound_of(path, begin=20.5, end=21.25), whole[328_000:340_000])
    ranges = [(1.0, 3.0), (2.0, 2.5), (2.4, 4.0), (20.0, 22.0), (29.0, 40.0), (50.0, 60.0)]
    found = list(audio_stretches(path, ranges))
    assert [begin for begin, _ in found] == [begin for begin, _ in ranges]
    for (begin, end), (_, samples) in zip(ranges, found, strict=True):
        assert np.array_equal(samples, whole[round(begin * 16_000) : round(end * 16_000)])


def test_pictures_are_sampled_scaled_and_turned(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.mp4", seconds=2.0, fps=30, size=(1280, 720), audio=None, rotation=90)
    frames = list(video_frames(path, fps=5))
    assert [round(frame.time, 1) for frame in frames] == [k / 5 for k in range(10)]
    assert frames[0].image.shape == (640, 360, 3)
    # the red corner, upper left in the file, is where the file's matrix puts it: turned against the clock
    red = frames[0].image[..., 0].astype(int) - frames[0].image[..., 1]
    row, column = np.argwhere(red > 100).mean(axis=0)
    assert row > 320
    assert column < 180
    part = list(video_frames(path, fps=5, begin=1.0, end=1.5))
    assert [round(frame.time, 1) for frame in part] == [1.0, 1.2, 1.4]


def test_a_variable_rate_keeps_its_times(tmp_path: Path, make_media) -> None:
    times = [0.0, 0.05, 0.1, 1.0, 1.02, 1.9, 2.6]
    path = make_media(tmp_path / "a.mkv", audio=None, times=times)
    assert [round(frame.time, 2) for frame in video_frames(path, fps=10)] == [0.0, 0.1, 1.0, 1.9, 2.6]


def test_stereo_becomes_mono(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le", layout="stereo")
    assert sound_of(path).shape == (24_000,)


def test_sound_that_begins_late_stands_where_it_is_heard(tmp_path: Path) -> None:
    import fractions

    import av

    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        for k in range(40):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = k
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        for start in (16_000, 40_000):  # two bursts, silence not in the file
            burst = np.full((1, 4_000), 0.5, np.float32)
            frame = av.AudioFrame.from_ndarray((burst * 32767).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, start, fractions.Fraction(1, 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    loud = np.flatnonzero(sound_of(path) > 0.4)
    assert loud[0] == pytest.approx(16_000, abs=20)
    assert loud[4_000] == pytest.approx(40_000, abs=20)


def test_a_cut_file_gives_what_is_left(tmp_path: Path, make_media) -> None:
    path = make_media(tmp_path / "a.mkv", seconds=4.0)
    whole = len(list(video_frames(path)))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1 <= len(list(video_frames(cut))) < whole


def test_errors_are_one_sentence(tmp_path: Path, make_media, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AffectusError, match=r"There is no file in .*absent\.mp4"):
        probe(tmp_path / "absent.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(AffectusError, match=r"The file is empty in .*empty\.mp4"):
        probe(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a film\n" * 50)
    with pytest.raises(AffectusError, match=r"Not a media file that can be read in .*text\.mp4"):
        probe(tmp_path / "text.mp4")
    silent = make_media(tmp_path / "silent.mp4", audio=None)
    with pytest.raises(AffectusError, match="The file holds no sound"):
        sound_of(silent)
    blind = make_media(tmp_path / "blind.wav", video=None, audio="pcm_s16le")
    with pytest.raises(AffectusError, match="The file holds no pictures"):
        list(video_frames(blind))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(AffectusError, match=r"The pictures are too large .*got 64 x 48"):
        list(video_frames(silent))
    monkeypatch.setattr(decoding, "MAX_SECONDS", 1.0)
    with pytest.raises(AffectusError, match="The recording is too long"):
        sound_of(blind)


def test_no_other_file_is_opened(tmp_path: Path, make_media) -> None:
    make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le")
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(AffectusError, match="Not a media file that can be read"):
        probe(playlist)
    concat = tmp_path / "concat.mp4"
    concat.write_text("ffconcat version 1.0\nfile a.wav\n")
    with pytest.raises(AffectusError, match="Not a media file that can be read"):
        probe(concat)
