"""The command line's verbs about corpora: exit codes, JSON, one sentence per error, nothing half-written."""

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import affectus.corpus.storage
from affectus.cli.main import main
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.corpus.readers import READERS, import_corpus
from affectus.errors import AffectusError

Source = Callable[[str], list[Path]]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed as error, which must be one line."""
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert "Traceback" not in error
    return error


def test_import_prints_counts_and_notes(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "mosi-npz", *source("mosi-npz"), "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    for part in ("CMU-MOSI: 4 utterances", "train", "sentiment", "judge only on the other", f"Written to {tmp_path}"):
        assert part in " ".join(printed.split())
    assert len(load_corpus(tmp_path / "out")) == 4


def test_import_as_json_with_every_option(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = tmp_path / "s.json"
    splits.write_text(json.dumps({"mine": {"train": ["v1", "v2"]}}), encoding="utf-8")
    code = run(
        "import", "mosei-text", *source("mosei-text"), "--out", tmp_path / "out", "--name", "Mine",
        "--text-column", "ASR", "--splits", splits, "--splits-key", "mine",
        "--rename-splits", "train=train", "--valid-fraction", "0.5",
        "--seed", "3", "--json",
    )  # fmt: skip
    assert code == 0
    data = json.loads(capsys.readouterr().out)
    assert data["name"] == "Mine"
    assert {split: entry["videos"] for split, entry in data["splits"].items()} == {"train": 1, "valid": 1}
    assert data["schemes"]["sentiment"]["low"] == -3
    assert data["out"] == str(tmp_path / "out")
    assert any("seed 3" in note for note in data["notes"])


def test_help_lists_every_format_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name in READERS:
        assert f"affectus import {name} " in printed


def test_show(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_corpus(corpus, tmp_path / "c")
    assert run("corpus", "show", tmp_path / "c") == 0
    assert "little: 6 utterances" in capsys.readouterr().out
    assert run("corpus", "show", tmp_path / "c", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["modalities"]["audio"] == {
        "dim": 3, "feature_names": ["x", "y", "z"], "rate": 5.0, "steps": 17, "missing": 0, "timed": True,
    }  # fmt: skip


def test_check_warns_with_exit_code_0(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.features["audio"].values[0, 1] = float("nan")
    save_corpus(corpus, tmp_path / "c")
    assert run("corpus", "check", tmp_path / "c") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "audio, column 1 (y): 1 NaN, 0 inf in 1 utterances: u0" in printed
    assert "warning: vision: 1 of 6 utterances lack it (16.7%)." in printed
    assert run("corpus", "check", tmp_path / "c", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["modalities"]["audio"]["columns"][0]["examples"] == ["u0"]
    assert data["damaged"] == []


def test_check_of_a_fine_corpus_and_of_labels_without_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.csv").write_text("id,text,emotion_class,rating\na,x,joy,\nb,y,fear,\n", encoding="utf-8")
    import_corpus("manifest", tmp_path / "m.csv", out=tmp_path / "c")
    assert run("corpus", "check", tmp_path / "c") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "fear 1, happiness 1" in printed
    assert "no label at all" in printed


def test_an_import_replaces_a_corpus_of_its_own_source_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.csv").write_text("id,text,emotion_class\na,x,joy\n", encoding="utf-8")
    (tmp_path / "other.csv").write_text("id,text,emotion_class\nb,y,fear\n", encoding="utf-8")
    assert run("import", "manifest", tmp_path / "m.csv", "--out", tmp_path / "c") == 0
    assert run("import", "manifest", tmp_path / "m.csv", "--name", "mine", "--out", tmp_path / "c") == 0
    capsys.readouterr()
    assert run("import", "manifest", tmp_path / "other.csv", "--out", tmp_path / "c") == 2
    said = sentence(capsys)
    assert "The output folder holds another corpus" in said
    assert (
        "got 'mine' from 'm.csv'; expected an empty folder, or 'other' from 'other.csv'. Choose another --out" in said
    )
    assert load_corpus(tmp_path / "c").table["id"].to_list() == ["a"]


def test_one_data_set_of_a_file_does_not_replace_another(source: Source, tmp_path: Path) -> None:
    import_corpus("mfn", source("mfn"), name="mmmo", out=tmp_path / "c")
    import_corpus("mfn", source("mfn"), name="mmmo", out=tmp_path / "c")
    with pytest.raises(AffectusError, match=r"another corpus in .*got '.*'; expected .* Choose another --out"):
        import_corpus("mfn", source("mfn"), name="pom", out=tmp_path / "c")


def test_check_of_damaged_files_exits_with_2(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_corpus(corpus, tmp_path / "c")
    pl.read_parquet(tmp_path / "c" / "utterances.parquet").with_columns(text=pl.lit("other")).write_parquet(
        tmp_path / "c" / "utterances.parquet"
    )
    assert run("corpus", "check", tmp_path / "c") == 2
    assert "Damaged files (their SHA-256 is not the card's)" in sentence(capsys)
    (tmp_path / "c" / "utterances.parquet").write_bytes(b"")
    assert run("corpus", "check", tmp_path / "c") == 2
    assert "Not a whole Parquet file" in sentence(capsys)


def test_align(csd_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "csd", *csd_files, "--out", tmp_path / "c") == 0
    capsys.readouterr()
    assert run("corpus", "align", tmp_path / "c", "--to", "words", "--out", tmp_path / "a", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["word_aligned"]
    assert data["modalities"]["audio"]["steps"] == 3
    assert load_corpus(tmp_path / "a").features["audio"].lengths.tolist() == [1, 2]
    assert run("corpus", "align", tmp_path / "c", "--modalities", "acoustic", "--out", tmp_path / "c") == 0
    assert load_corpus(tmp_path / "c").card.word_aligned


def test_align_without_times(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_corpus(corpus, tmp_path / "c")
    assert run("corpus", "align", tmp_path / "c", "--out", tmp_path / "a") == 2
    assert "The words have no times" in sentence(capsys)
    assert not (tmp_path / "a").exists()


def bad_inputs(tmp_path: Path, source: Source) -> dict[str, tuple[list[object], str]]:
    """Return per kind of bad input the arguments after ``import`` and a part of the sentence."""
    whole = source("mosi-npz")[0]
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole.read_bytes()[:600])
    hostile = tmp_path / "hostile.pkl"
    hostile.write_bytes(pickle.dumps(exec))
    range_ = tmp_path / "range.csv"
    range_.write_text("id,sentiment\na,9\n", encoding="utf-8")
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("id,sentimnet\na,1\n", encoding="utf-8")
    empty = tmp_path / "empty.csv"
    empty.write_text("id,text\n", encoding="utf-8")
    splits = tmp_path / "splits.json"
    splits.write_text('{"train": ["v0"], "valid": []}', encoding="utf-8")
    return {
        "truncated": (["mosi-npz", cut], "Not a whole .npz archive in"),
        "hostile": (["mmsa", hostile], "The pickle names something that is not data, and was not run in"),
        "out of range": (["manifest", range_], "row 2, column 'sentiment': got 9.0; expected a number in [-3, 3]"),
        "unknown key": (["manifest", unknown], "Unknown column 'sentimnet' in"),
        "no rows": (["manifest", empty], "The file has a header and no rows in"),
        "split without videos": (["mosi-npz", whole, "--splits", splits], "The split 'valid' has no videos in"),
        "fraction": (["mosi-npz", whole, "--valid-fraction", "1.5"], "--valid-fraction is out of range: got 1.5"),
        "rename": (["mosi-npz", whole, "--rename-splits", "valid=test"], "Unknown split 'valid' in the corpus"),
        "format": (["mosi-npy", whole], "Did you mean 'mosi-npz'?"),
        "foreign": (["csd", whole], "got a NumPy .npz archive; expected an HDF5 file"),
        "absent": (["meld", tmp_path / "absent.csv"], "There is no file in"),
    }


KINDS = (
    "truncated", "hostile", "out of range", "unknown key", "no rows", "split without videos", "fraction", "rename",
    "format", "foreign", "absent",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_sentence_and_exit_code_2(
    kind: str, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = bad_inputs(tmp_path, source)[kind]
    assert run("import", *arguments, "--out", tmp_path / "made" / "out") == 2
    assert expected in sentence(capsys)
    assert not (tmp_path / "made").exists()


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "mosi-npz") == 2
    assert "Missing argument" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing(
    number: int, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(affectus.corpus.storage, "write_safetensors", fail)
    folder = tmp_path / "made"
    folder.mkdir()
    assert run("import", "mosi-npz", *source("mosi-npz"), "--out", folder / "out") == 2
    assert "No space left while writing in" in sentence(capsys)
    assert list(folder.iterdir()) == []


FULL = """
import resource, sys
from affectus.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
@pytest.mark.parametrize("limit", [200, 6000])
def test_files_that_may_not_grow_leave_nothing(limit: int, source: Source, make: Any, tmp_path: Path) -> None:
    """The system itself refuses to write on: first polars meets it, then safetensors."""
    path = source("mosi-npz")[0]
    arrays = make.mosi_arrays(400)
    arrays["audio_feat"] = arrays["audio_feat"].repeat(20, axis=1)
    make.np.savez(path, **arrays)
    folder = tmp_path / "made"
    folder.mkdir()
    arguments = [str(limit), "import", "mosi-npz", str(path), "--out", str(folder / "out")]
    done = subprocess.run([sys.executable, "-c", FULL, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No space left while writing in")
    assert done.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_an_old_corpus_survives_a_full_disk(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_corpus(corpus, tmp_path / "c")

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(affectus.corpus.storage, "write_json", fail)
    with pytest.raises(AffectusError, match="No space left while writing"):
        save_corpus(corpus.select(corpus.rows("valid")), tmp_path / "c")
    assert load_corpus(tmp_path / "c").table.equals(corpus.table)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_folder_that_cannot_be_written(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deny(*_: Any, **__: Any) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("affectus.files.tempfile.mkdtemp", deny)
    assert run("import", "mosi-npz", *source("mosi-npz"), "--out", tmp_path / "out") == 2
    assert "No permission to write in" in sentence(capsys)
