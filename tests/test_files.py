"""Files that are hostile, and cells that a spreadsheet would compute."""

from pathlib import Path

import polars as pl
import pytest

from affectus.app.corrections import manifest_text
from affectus.app.store import Correction
from affectus.corpus.readers.base import ReadOptions
from affectus.corpus.readers.manifest import read_manifest
from affectus.errors import AffectusError
from affectus.files import no_formula, read_json, read_yaml
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
