"""Signals of a manifest: read, resampled, cut, and every way in which a file may be wrong."""

import builtins
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectus.cli.main import main
from affectus.corpus import Corpus, load_corpus
from affectus.corpus.readers import import_corpus
from affectus.corpus.readers.recordings import Channel, Recording, read_recording, steps_of
from affectus.corpus.readers.signals import Signal, parse_signals
from affectus.errors import AffectusError

Array = np.ndarray[Any, np.dtype[np.float64]]


def sine(seconds: float, rate: float, frequency: float, first: float = 0.0) -> Array:
    return np.sin(2 * np.pi * frequency * (first + np.arange(round(seconds * rate)) / rate))


def write_csv(path: Path, columns: dict[str, Array]) -> None:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    lines = [",".join("" if np.isnan(cell) else repr(cell) for cell in row) for row in rows]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n", encoding="utf-8")


def write_edf(path: Path, channels: dict[str, tuple[Array, float]], *, kind: str = "edf") -> None:
    if kind == "bdf":
        signals = [edfio.BdfSignal(data, rate, label=name) for name, (data, rate) in channels.items()]
        edfio.Bdf(signals).write(path)
    else:
        edfio.Edf([edfio.EdfSignal(data, rate, label=name) for name, (data, rate) in channels.items()]).write(path)


def read(folder: Path, text: str, *signals: str) -> Corpus:
    (folder / "m.csv").write_text(text, encoding="utf-8")
    return import_corpus("manifest", folder / "m.csv", signals=signals)


UTTERANCES = (
    "id,video,start,end,ecg_signal\na,v,0.5,2.0,v.csv\nb,v,2.0,3.25,v.csv\nc,v,9.0,11.0,v.csv\nd,v,40,41,v.csv\n"
)


def test_a_csv_is_cut_by_start_and_end(tmp_path: Path) -> None:
    rate, seconds = 32.0, 10.0
    time = np.arange(round(rate * seconds)) / rate
    write_csv(tmp_path / "v.csv", {"time": time, "ECG": time * 2, "RESP": -time})
    corpus = read(tmp_path, UTTERANCES + "e,w,,,\n")
    ecg = corpus.features["ecg"]
    assert ecg.lengths.tolist() == [48, 40, 32, 0, 0]  # c ends with the file; d lies behind it; e has none
    np.testing.assert_allclose(ecg[0][:, 0], 2 * (0.5 + np.arange(48) / rate), rtol=1e-6)
    np.testing.assert_allclose(ecg[1][:, 1], -(2 + np.arange(40) / rate), rtol=1e-6)
    assert ecg.times is not None
    np.testing.assert_allclose(ecg.times[0], [0.5, 0.5 + 1 / rate])
    card = corpus.card.modalities["ecg"]
    assert (card.feature_names, card.rate, card.dim, card.encoder) == (["ECG", "RESP"], 32.0, 2, "signal")
    assert "ecg: cut from 1 files (32 Hz), 32 steps per second." in corpus.card.notes
    assert "ecg: 1 utterances lie outside of their file and lack it." in corpus.card.notes


def test_without_times_a_file_is_one_utterance(tmp_path: Path) -> None:
    for name, steps in (("a", 5), ("b", 9)):
        write_csv(tmp_path / f"{name}.csv", {"x": np.arange(float(steps))})
    corpus = read(tmp_path, "id,strap\na,a.csv\nb,b.csv\n", "EDA=strap:source_rate=4")
    assert corpus.features["eda"].lengths.tolist() == [5, 9]
    assert corpus.features["eda"][1][:, 0].tolist() == list(range(9))
    assert corpus.card.modalities["eda"].rate == 4.0


@pytest.mark.parametrize(("source", "rate"), [(256, 64), (64, 100), (250, 33.3), (128, 128), (1000, 7)])
def test_resampling_keeps_what_the_new_rate_can_carry(tmp_path: Path, source: float, rate: float) -> None:
    """A slow sine stays the same sine at the new rate; a fast one goes, and is not folded into the band."""
    slow, fast = 1.0, source * 0.45
    data = sine(20, source, slow)
    write_csv(tmp_path / "x.csv", {"slow": data, "fast": sine(20, source, fast)})
    corpus = read(tmp_path, "id,ecg_signal\na,x.csv\n", f"ecg:rate={rate}:source_rate={source}")
    found = corpus.features["ecg"][0]
    expected = np.sin(2 * np.pi * slow * np.arange(len(found)) / rate)
    assert abs(len(found) - 20 * rate) <= 1
    inner = slice(round(rate), -round(rate))
    np.testing.assert_allclose(found[inner, 0], expected[inner], atol=0.01)
    if rate / 2 < fast * 0.9:
        assert np.abs(found[inner, 1]).max() < 0.05


def test_uneven_times_are_interpolated_and_gaps_stay_gaps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    time = (np.arange(3000) + rng.uniform(-0.4, 0.4, 3000)) / 100
    time = time[(time < 12) | (time > 15)]
    write_csv(tmp_path / "x.csv", {"Seconds": time, "wave": np.sin(time)})
    corpus = read(tmp_path, "id,eda_signal\na,x.csv\n", "eda:rate=10")
    found, times = corpus.features["eda"][0][:, 0], corpus.features["eda"].times
    assert times is not None
    at = times[:, 0]
    gap = (at > 12.2) & (at < 14.8)
    assert np.isnan(found[gap]).all()
    known = ((at < 11.8) | (at > 15.2)) & (at > at[0] + 0.5) & (at < at[-1] - 0.5)
    np.testing.assert_allclose(found[known], np.sin(at[known]), atol=0.03)
    assert any("uneven" in note for note in corpus.card.notes)
    with pytest.raises(
        AffectusError, match=r"several rates or uneven times.*row 2, column 'eda_signal', x\.csv.*:rate=64"
    ):
        read(tmp_path, "id,eda_signal\na,x.csv\n")


def test_a_rounded_clock_is_even(tmp_path: Path) -> None:
    time = np.round(3 + np.arange(2560) / 256, 3)
    write_csv(tmp_path / "x.csv", {"t": time, "x": np.arange(2560.0)})
    corpus = read(tmp_path, "id,ecg_signal\na,x.csv\n")
    assert corpus.card.modalities["ecg"].rate == 256
    np.testing.assert_array_equal(corpus.features["ecg"].values[:, 0], np.arange(2560))
    times = corpus.features["ecg"].times
    assert times is not None
    assert times[0, 0] == 3.0


@pytest.mark.parametrize("rate", [10.0, 25.0, 100.0])
def test_empty_cells_are_nan_and_do_not_spread(tmp_path: Path, rate: float) -> None:
    data = np.full(500, 7.0)
    data[200:300] = np.nan
    write_csv(tmp_path / "x.csv", {"time": np.arange(500) / 50, "x": data})
    found = read(tmp_path, "id,ecg_signal\na,x.csv\n", f"ecg:rate={rate}").features["ecg"][0][:, 0]
    at = np.arange(len(found)) / rate
    assert np.isnan(found[(at > 4.1) & (at < 5.9)]).all()
    np.testing.assert_allclose(found[(at < 3.9) | (at > 6.1)], 7.0, rtol=1e-3)


def test_a_channel_without_any_value_is_nan(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", {"time": np.arange(50) / 10, "x": np.arange(50.0), "none": np.full(50, np.nan)})
    found = read(tmp_path, "id,ecg_signal\na,x.csv\n", "ecg:rate=5").features["ecg"][0]
    assert found.shape == (25, 2)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, 0]).all()
    uneven = np.arange(50.0) ** 1.5
    write_csv(tmp_path / "x.csv", {"time": uneven, "none": np.full(50, np.nan)})
    assert np.isnan(read(tmp_path, "id,ecg_signal\na,x.csv\n", "ecg:rate=5").features["ecg"].values).all()


@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_edf(kind: str, tmp_path: Path) -> None:
    ecg, temperature = sine(8, 128, 1.0), np.linspace(36, 37, 8)
    write_edf(tmp_path / f"v.{kind}", {"ECG": (ecg, 128), "Temp": (temperature, 1)}, kind=kind)
    text = f"id,video,start,end,ecg_signal\na,v,0,2,v.{kind}\nb,v,2,8,v.{kind}\n"
    corpus = read(tmp_path, text, "ecg:rate=32")
    assert corpus.features["ecg"].lengths.tolist() == [64, 192]
    assert corpus.card.modalities["ecg"].feature_names == ["ECG", "Temp"]
    np.testing.assert_allclose(corpus.features["ecg"][0][4:, 0], ecg[16:256:4], atol=0.01)
    assert abs(corpus.features["ecg"][1][96, 1] - 36.7) < 0.1
    one = read(tmp_path, text, "ecg:channels=ECG")
    assert one.dims["ecg"] == 1
    assert one.card.modalities["ecg"].rate == 128
    with pytest.raises(AffectusError, match="several rates or uneven times"):
        read(tmp_path, text)


def test_a_discontinuous_edf(tmp_path: Path) -> None:
    notes = [edfio.EdfAnnotation(1, None, "x")]
    edf = edfio.Edf([edfio.EdfSignal(np.arange(4.0), 1, label="x")], annotations=notes)
    data = edf.to_bytes()
    # the second record is said to begin at 7 seconds
    assert b"+1\x14\x14" in data
    (tmp_path / "x.edf").write_bytes(data.replace(b"+1\x14\x14", b"+7\x14\x14"))
    with pytest.raises(AffectusError, match=r"discontinuous \(EDF\+D\).*x\.edf.*Export it as a CSV"):
        read(tmp_path, "id,ecg_signal\na,x.edf\n")


def test_without_edfio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_edf(tmp_path / "x.edf", {"ECG": (np.arange(10.0), 5)})
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "edfio":
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(AffectusError, match=r"needs the package edfio .*pip install 'affectus\[signals\]'"):
        read(tmp_path, "id,ecg_signal\na,x.edf\n")


@given(
    st.floats(0, 20), st.floats(0, 5), st.floats(-3, 3), st.sampled_from([1.0, 4.0, 25.0, 256.0]), st.integers(0, 500)
)
def test_cuts_cover_the_interval_and_nothing_else(
    start: float, length: float, first: float, rate: float, steps: int
) -> None:
    part = steps_of(start, start + length, first, rate, steps)
    assert 0 <= part.start <= part.stop <= steps
    at = first + np.arange(steps) / rate
    inside = np.flatnonzero((at >= start) & (at < start + length))
    margin = np.flatnonzero((at >= start - 1 / rate) & (at < start + length + 1 / rate))
    if part.stop - part.start > 1:
        assert set(range(part.start, part.stop)) <= set(margin.tolist())
        assert set(inside[1:-1].tolist()) <= set(range(part.start, part.stop))
    elif len(inside) > 2:
        pytest.fail("an interval with steps in it was not cut out")


def test_neighbouring_cuts_share_no_step() -> None:
    cuts = [steps_of(a, b, 0.0, 7.0, 100) for a, b in ((0.0, 1.3), (1.3, 2.9), (2.9, 9.0))]
    assert [index for cut in cuts for index in range(cut.start, cut.stop)] == list(range(63))


def test_specifications() -> None:
    found = parse_signals(["ecg", "Skin=strap:rate=8:channels=A + B:time=clock:source_rate=4"])
    assert found == {
        "ecg_signal": Signal("ecg", "ecg_signal"),
        "strap": Signal("skin", "strap", 8.0, ("A", "B"), "clock", 4.0),
    }


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ("ecg:rat=4", r"Unknown key 'rat' in --signal 'ecg:rat=4'.*Did you mean 'rate'\?"),
        ("ecg:rate", "The key has no value in --signal 'ecg:rate': got 'rate'"),
        ("ecg:rate=0", "The key 'rate' has a wrong value .*got '0'; expected a rate above 0"),
        ("ecg:source_rate=fast", "The key 'source_rate' has a wrong value .*got 'fast'"),
        ("a/b=ecg_signal", "A modality's name must be a plain word .*got 'a/b'"),
        ("ecg=strap", r"There is no column 'strap', which --signal names: got the columns id, ecg_signal"),
        (
            "ecg:channels=ECQ",
            r"There is no channel 'ECQ' in .*x\.csv: got the channels ECG, RESP.*Did you mean 'ECG'\?",
        ),
        ("ecg:channels=ECG+FOO", r"There is no channel 'FOO' in .*x\.csv: got the channels ECG, RESP"),
        ("ecg:time=clock", r"There is no time column 'clock' in .*x\.csv"),
    ],
)
def test_wrong_specifications(signal: str, message: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", {"time": np.arange(8.0), "ECG": np.arange(8.0), "RESP": np.arange(8.0)})
    with pytest.raises(AffectusError, match=message):
        read(tmp_path, "id,ecg_signal\na,x.csv\n", signal)


def test_two_specifications_of_one_modality(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match="Two --signal are about one modality or column: got 'ecg=b'"):
        parse_signals(["ecg=a", "ecg=b"])
    np.save(tmp_path / "x.npy", np.ones(3))
    write_csv(tmp_path / "x.csv", {"time": np.arange(8.0), "ECG": np.arange(8.0)})
    with pytest.raises(AffectusError, match=r"Two columns mean the modality 'ecg' in .*got 'ecg_signal'"):
        read(tmp_path, "id,ecg_features,ecg_signal\na,x.npy,x.csv\n")


def test_other_formats_have_no_signals(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match="The format 'mmsa' has no --signal: got ecg"):
        import_corpus("mmsa", tmp_path / "x.pkl", signals=["ecg"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", None, r"There is no file in .*x\.csv"),
        ("x.wav", "1", r"of an unknown kind in .*x\.wav: expected \.csv, \.edf or \.bdf"),
        ("../x.csv", "time,a\n0,1\n", "The path leaves the manifest's folder in .*row 2, column 'ecg_signal'"),
        ("x.csv", "time,a\n0,1\n.1,x\n", r"The cell is no number in .*x\.csv, row 3, column 'a': got 'x'"),
        ("x.csv", "time,a\n0,1\nnoon,2\n", r"The cell is no number in .*x\.csv, row 3, column 'time': got 'noon'"),
        ("x.csv", "time,a\n0,1\n1,2\n1,3\n", r"The times do not rise in .*row 4, column 'time': got 1 after 1"),
        ("x.csv", "time,a\n,1\n1,2\n", r"The times do not rise in .*row 2, column 'time': got nan"),
        ("x.csv", "0.1,0.2\n1,2\n", r"The CSV file has no header in .*got 0.1, 0.2"),
        ("x.csv", "time,a\n", r"has a header and no rows in .*x\.csv"),
        ("x.csv", "time\n1\n", r"has no column but the time in .*x\.csv"),
        (
            "x.csv",
            "a,b\n1,2\n",
            r"The rate of the signal is not known.*Give it: --signal ecg=ecg_signal:source_rate=256",
        ),
        ("x.csv", "a,b\n1,2,3\n", r"Not a whole CSV file in .*x\.csv"),
        ("x.edf", "0       nonsense", r"Not a whole EDF file in .*x\.edf"),
        ("x.csv", "", r"The file is empty in .*x\.csv"),
    ],
)
def test_wrong_files(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(AffectusError, match=message):
        read(tmp_path, f"id,ecg_signal\na,{name}\n")


def test_edf_that_is_cut_off(tmp_path: Path) -> None:
    write_edf(tmp_path / "x.edf", {"ECG": (np.arange(1000.0), 50)})
    data = (tmp_path / "x.edf").read_bytes()
    for size in (len(data) - 60, 300, 200, 100):
        (tmp_path / "x.edf").write_bytes(data[:size])
        with pytest.raises(AffectusError, match=r"Not a whole EDF file in .*x\.edf"):
            read(tmp_path, "id,ecg_signal\na,x.edf\n")


def test_files_that_differ(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", {"time": np.arange(8.0), "ECG": np.arange(8.0)})
    write_csv(tmp_path / "y.csv", {"time": np.arange(8.0), "EKG": np.arange(8.0)})
    write_csv(tmp_path / "z.csv", {"time": np.arange(8.0) / 2, "ECG": np.arange(8.0)})
    text = "id,ecg_signal\na,x.csv\nb,y.csv\n"
    with pytest.raises(
        AffectusError, match=r"other channels than those before it in .*row 3, .*y\.csv: got EKG; expected ECG"
    ):
        read(tmp_path, text)
    with pytest.raises(AffectusError, match=r"several rates.*row 3, column 'ecg_signal', z\.csv"):
        read(tmp_path, text.replace("y.csv", "z.csv"))
    assert len(read(tmp_path, text.replace("y.csv", "z.csv"), "ecg:rate=2")) == 2
    with pytest.raises(AffectusError, match="The column 'ecg_signal' names no file"):
        read(tmp_path, "id,ecg_signal\na,\n")


def test_two_channels_of_one_name(tmp_path: Path) -> None:
    recording = Recording(tmp_path, tuple(Channel("x", np.ones(3), 1.0) for _ in range(2)))
    assert recording.names == ["x", "x"]
    edfio.Edf([edfio.EdfSignal(np.arange(9.0), 3, label="x") for _ in range(2)]).write(tmp_path / "x.edf")
    with pytest.raises(AffectusError, match=r"Two channels are called 'x' in .*x\.edf"):
        read_recording(tmp_path / "x.edf", Signal("ecg", "c", channels=("x",)))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_edf(tmp_path / "v.edf", {"ECG": (sine(10, 64, 1.2), 64)})
    (tmp_path / "m.csv").write_text("id,video,start,end,polar\na,v,0,2,v.edf\nb,v,2,4,v.edf\n", encoding="utf-8")
    call = ["import", "manifest", str(tmp_path / "m.csv"), "--out", str(tmp_path / "c")]
    assert main([*call, "--signal", "ecg=polar:rate=16"]) == 0
    assert "16 steps per second" in capsys.readouterr().out
    ecg = load_corpus(tmp_path / "c").features["ecg"]
    assert ecg.lengths.tolist() == [32, 32]
    assert main([*call, "--signal", "ecg=polr"]) == 2
    assert "There is no column 'polr', which --signal names" in capsys.readouterr().err
