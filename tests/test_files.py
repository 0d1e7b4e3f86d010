"""Files that are hostile, and cells that a spreadsheet would compute."""

import os
from pathlib import Path

import polars as pl
import pytest

from affectus import analyze
from affectus.app.corrections import manifest_text
from affectus.app.store import Correction
from affectus.cli.main import main
from affectus.corpus import load_corpus
from affectus.corpus.readers.base import ReadOptions
from affectus.corpus.readers.manifest import read_manifest
from affectus.errors import AffectusError
from affectus.files import no_formula, read_json, read_yaml, write_json
from affectus.models import MODELS
from affectus.predict import write_predictions
from affectus.training.config import parse_assignments, read_config_file

COMPUTED = ["=1+1", "@SUM(A1)", "- Yes.", "+cmd|' /C calc'!A0", "\t=1", "-5 degrees", "'=1", "-A1*B2"]
PLAIN = ["Yes.", "-3g5yACwYnA", "-1.5", "+1e-5", "'tis", "-", "a=b", ""]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_nested_too_deep_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "deep.json").write_text(text)
    with pytest.raises(AffectusError, match=r"Not a JSON file of ours in .*deep\.json: got lists nested too deep"):
        read_json(tmp_path / "deep.json")


def test_yaml_that_is_nested_too_deep_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    with pytest.raises(AffectusError, match=r"Not a YAML file of ours in .*deep\.yaml: got lists nested too deep"):
        read_config_file(tmp_path / "deep.yaml")
    with pytest.raises(AffectusError, match=r"nested too deep in --set hidden="):
        parse_assignments([f"hidden={'[' * 10_000}"], MODELS["tfn"])


def test_a_folder_or_a_date_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"Could not read the configuration in .*: got Is a directory"):
        read_config_file(tmp_path)
    with pytest.raises(AffectusError, match=r"Could not read in .*: got Is a directory"):
        read_json(tmp_path)
    (tmp_path / "date.yaml").write_text("notes: 2020-13-45\n")
    with pytest.raises(AffectusError, match="Not a YAML file in"):
        read_yaml(tmp_path / "date.yaml", "configuration")


@pytest.mark.parametrize("text", COMPUTED)
def test_what_a_spreadsheet_would_compute_has_an_apostrophe(text: str) -> None:
    assert no_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_what_it_would_not_compute_stays(text: str) -> None:
    assert no_formula(text) == text


def test_predictions_as_csv_hold_no_formula(tmp_path: Path) -> None:
    table = pl.DataFrame({"id": COMPUTED + PLAIN, "intensity": [-1.5] * 16})
    write_predictions(table, tmp_path / "said.csv")
    read = pl.read_csv(tmp_path / "said.csv")
    assert read["id"].to_list() == [f"'{text}" for text in COMPUTED] + PLAIN
    assert read["intensity"].to_list() == [-1.5] * 16


def test_what_people_corrected_is_read_as_it_was(tmp_path: Path) -> None:
    texts = [text for text in COMPUTED + PLAIN if text]
    said = [
        {"id": f"u{n}", "recording": "-v", "start": 0.0, "end": 1.0, "speaker": None, "text": text}
        for n, text in enumerate(texts)
    ]
    corrections = [Correction(one["id"], 1.0, None, 0.0) for one in said]  # type: ignore[arg-type]
    path = tmp_path / "manifest.csv"
    path.write_text(manifest_text(corrections, said, None), encoding="utf-8", newline="")
    assert "'- Yes." in path.read_text(encoding="utf-8")
    assert read_manifest([path], ReadOptions()).table["text"].to_list() == texts


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Return a folder with a file whose name is not UTF-8."""
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "plain.txt").write_text("Good.\nI hate it.\n")
    try:
        (folder / os.fsdecode(b"clip\xfe.txt")).write_text("Good.\nI hate it.\n")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 alone")
    return folder


@pytest.mark.parametrize("form", ["corpus", "parquet"])
def test_files_whose_names_are_not_utf8_are_read(
    strange: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    out = tmp_path / "out"
    (strange / os.fsdecode(b"none\xff.txt")).write_text("")
    words = ["extract", str(strange), "--audio", "none", "--vision", "none", "--out", str(out), "--format", form]
    assert main([*words, "--cache", str(tmp_path / "cache")]) == 0
    for path in out.rglob("*.json"):
        path.read_bytes().decode("utf-8")
    if form == "parquet":
        table = pl.read_parquet(out / "*.parquet")
    else:
        corpus = load_corpus(out)
        assert any(r"none\udcff.txt was passed over" in note for note in corpus.card.notes)
        table = corpus.table
    assert set(table["video"]) == {"plain", r"clip\udcfe"}


def test_a_file_whose_name_is_not_utf8_is_analysed(strange: Path) -> None:
    found = analyze(strange / os.fsdecode(b"clip\xfe.txt"))
    assert {one.recording for one in found.utterances} == {r"clip\udcfe"}


def test_a_name_in_a_command_that_is_not_utf8_is_one_sentence(
    strange: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = os.fsdecode(os.fsencode(tmp_path) + b"/out\xff")
    assert main(["extract", str(strange / "plain.txt"), "--audio", "none", "--vision", "none", "--out", out]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: The name of a file or folder is not valid UTF-8: got ")
    assert said.count("\n") == 1


def test_text_that_is_not_utf8_is_written_as_json_that_is(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name\udcff": ["\udcfe", "Größe", float("nan")]})
    assert read_json(tmp_path / "a.json") == {r"name\udcff": [r"\udcfe", "Größe", None]}


def test_what_the_system_does_not_let_it_read_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, reason in (
        (["train", "tfn", str(tmp_path), "--config", str(tmp_path)], "Is a directory"),
        (["corpus", "show", "x" * 5000], "File name too long"),
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: Could not read ")
        assert said.endswith(f"got {reason}.\n")
        assert said.count("\n") == 1
