import json
from pathlib import Path

import pytest

from affectus.cli.main import main
from affectus.cli.reproducing import StudyProgress, time_left
from affectus.corpus.storage import corpus_hash
from affectus.studies.cells import StudyEvent

QUICK = ["--set", "epochs=1", "--set", "hidden=4", "--set", "dense=4", "--seeds", "1"]


def test_reproduce_writes_page_data_and_tables(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "study", tmp_path / "page.md"
    reproduce = ["reproduce", "akhtar2019", "--corpus", str(embedded), *QUICK, "--out", str(out)]
    assert main([*reproduce, "--tables", "claims,5.5,2", "--page", str(page)]) == 0
    said = capsys.readouterr()
    assert "Joint learning beats each task learned alone" in said.out
    assert "cell 1 of " in said.err
    text = page.read_text()
    assert text == (out / "akhtar2019.md").read_text()
    command = "affectus reproduce akhtar2019 --corpus embedded --seeds 1 --tables claims,5.5,2 --set epochs=1"
    assert f"`{command} --set hidden=4 --set dense=4`" in text
    assert str(tmp_path) not in text
    assert "### Table 2" in text
    assert "### Table 7" not in text
    data = json.loads((out / "akhtar2019.json").read_text())
    assert data["seeds"] == [0]
    assert data["sha256"] == {"embedded": corpus_hash(embedded)}
    assert set(data["corpora"][0]["sections"]) == {
        "Do the claims hold?",
        "Table 2: the data",
        "Section 5.5: how often each class is predicted",
    }
    assert r"\toprule" in (out / "akhtar2019.tex").read_text()
    assert main([*reproduce, "--tables", "5.5", "--json", "-q"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["corpora"][0]["sections"]) == ["Section 5.5: how often each class is predicted"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["akhtar2018"], "Unknown paper 'akhtar2018': expected one of: akhtar2019"),
        (["akhtar2019", "--tables", "4,8"], "Unknown table '8'"),
        (["akhtar2019", "--set", "epoch=3"], "Did you mean 'epochs'"),
        (["akhtar2019", "--seeds", "many"], "The seeds are not right"),
        (["akhtar2019", "--device", "gpu"], "Unknown device 'gpu'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", *arguments, "--corpus", str(embedded), "--out", str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert not out.exists()


def test_a_corpus_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", "akhtar2019", "--corpus", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "error:" in capsys.readouterr().err
    assert not out.exists()


def test_time_left() -> None:
    assert time_left(60, 2, 4) == "about 2 min left"
    assert time_left(10, 1, 3) == "about 30 s left"
    assert time_left(10, 0, 3) == ""
    assert time_left(10, 3, 0) == ""


def test_progress_counts_the_cells_of_each_study_anew(capsys: pytest.CaptureFixture[str]) -> None:
    progress = StudyProgress(quiet=False)
    for corpus in ("first", "second"):
        # the cell "a" was there already
        progress(StudyEvent("epoch", f"{corpus}-b", 0.5, 1, 3, "seed 0, main, epoch 1 of 2"))
        task = progress.bar.tasks[-1]
        assert (task.completed, task.total) == (1.5, 3)
        progress(StudyEvent("done", f"{corpus}-b", 1.0, 2, 3))
        progress(StudyEvent("failed", f"{corpus}-c", 1.0, 3, 3, "No space left"))
        assert progress.bar.tasks[-1].completed == 3
    assert len(progress.bar.tasks) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("cell 2 of 3  first-b")
    assert lines[1].startswith("cell 3 of 3  first-c  failed: No space left")
