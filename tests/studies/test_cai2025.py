import json
from pathlib import Path

import numpy as np
import pytest

from affectus.cli.main import main
from affectus.corpus import Corpus, Ragged, load_corpus, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.studies.cai2025 import reproduce
from affectus.studies.cai2025.plan import DEPTHS, REMOVALS, SETTINGS, choose_tables, make_plan
from affectus.studies.cai2025.reproduction import _comparisons, _Judge
from affectus.studies.published import load_experiment

SMALL = {"dim": 8, "filters": [4], "ffn": 8, "heads": 2}
QUICK = {"epochs": 1, "record_epochs": False, "batch_size": 64}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "words"
    save_corpus(make_embedded(videos=12, steps=True), folder)
    return folder


def test_the_experiments_hold_the_papers_tables() -> None:
    mosi, sims = (load_experiment(f"cai2025_ufen_mtfn_{data}") for data in ("mosi", "sims"))
    assert mosi.results.figure("3", {"system": "ufen_mtfn"}, "intensity.acc2_negative_positive") == (0.866, None)
    assert mosi.results.figure("7", {"layers": "2"}, "intensity.pearson") == (0.792, None)
    assert mosi.results.figure("9", {"without": "recurrent"}, "intensity.acc7") == (0.397, None)
    # the contradiction that the notes name
    headline = sims.results.figure("5", {"system": "ufen_mtfn"}, "intensity.acc2")
    ablated = sims.results.figure("9", {"without": "none"}, "intensity.acc2")
    assert headline is not None
    assert ablated is not None
    assert (headline[0], ablated[0]) == (0.8156, 0.8056)
    assert sims.settings[1].batch_size == 16


def test_the_plan_has_a_cell_for_every_row_and_trains_nothing_twice() -> None:
    corpus = make_embedded(videos=12, steps=True)
    plan = make_plan(corpus, tables=choose_tables(None), seeds=(0,), options={}, training={})
    few = make_plan(corpus, tables=("comparison",), seeds=(0,), options={}, training={}, systems=["linear"])
    assert set(few.cells) == {"complete", "system-linear"}
    with pytest.raises(AffectusError, match="Unknown model 'liner'"):
        make_plan(corpus, tables=("comparison",), seeds=(0,), options={}, training={}, systems=["liner"])
    assert [dict(row)["layers"] for row in plan.parts["7"]] == [str(depth) for depth in DEPTHS]
    assert [dict(row)["subtasks"] for row in plan.parts["8"]] == ["M", "MA", "MT", "MV", "MAT", "MAV", "MTV", "MATV"]
    assert [dict(row)["without"] for row in plan.parts["9"]] == [*REMOVALS, "none"]
    assert len(plan.parts["10"]) == sum(map(len, SETTINGS.values()))
    assert {dict(row)["system"] for row in plan.parts["comparison"]} >= {"ufen_mtfn", "linear"}
    # the published configuration is one cell, in whichever table it stands
    for row in ({"layers": "2"}, {"subtasks": "MATV"}, {"without": "none"}, {"setting": "epochs", "value": "30"}):
        assert any(rows.get(tuple(row.items())) == "complete" for rows in plan.parts.values()), row
    described = [json.dumps({**cell.to_json(), "name": ""}, sort_keys=True) for cell in plan.cells.values()]
    assert len(set(described)) == len(described)


def test_own_label_ranges_and_names_choose_protocol_and_experiment() -> None:
    corpus = make_embedded(videos=12, steps=True)
    named = corpus.card.model_copy(update={"name": "CH-SIMS"})
    plan = make_plan(Corpus(corpus.table, corpus.features, named), tables=("7",), seeds=(0,), options={}, training={})
    assert plan.table == "5"
    assert plan.cells["complete"].preset == "sims"
    assert plan.protocol == "cai2025"  # its range is [-3, 3]: the rules follow the labels, not the name


def test_a_modality_that_no_training_utterance_has_is_left_out() -> None:
    corpus = make_embedded(videos=12, steps=True)
    lengths = np.where(corpus.splits == "train", 0, corpus.features["text"].lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    text = Ragged(np.zeros((int(offsets[-1]), 32), np.float32), offsets)
    without = Corpus(corpus.table, {**corpus.features, "text": text}, corpus.card)
    plan = make_plan(without, tables=("8",), seeds=(0,), options={}, training={})
    assert plan.cells["complete"].modalities == ("audio", "vision")
    assert [dict(row)["subtasks"] for row in plan.parts["8"]] == ["M", "MA", "MV", "MAV"]
    assert "No training utterance has text: left out." in plan.lacks


def test_the_page_says_what_came_out(words: Path, tmp_path: Path) -> None:
    def run() -> str:
        page = reproduce(
            [words],
            out=tmp_path / "study",
            seeds=1,
            tables=["9", "3"],
            systems=["linear"],
            options=SMALL,
            training=QUICK,
            command="x",
        )
        return page.markdown()

    text = run()
    assert "Table 9: without one part" in text
    assert "| encoder decoder |" in text
    assert "none of the paper's data sets" in text
    assert "| linear |" in text
    assert "| constant |" in text
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "runs").glob("*/seed-*/result.json")}
    assert run() == text
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_claims_are_tested_with_the_error_turned(words: Path, tmp_path: Path) -> None:
    page = reproduce(
        [words],
        out=tmp_path / "study",
        seeds=1,
        tables=["claims"],
        systems=["linear"],
        options=SMALL,
        training=QUICK,
    )
    (section,) = page.parts[0][2]
    tests = section.data
    assert {test["metric"] for test in tests} == {"intensity.pearson", "intensity.mae"}
    assert sum(test["claim"] == "It needs its recurrent layer" for test in tests) == 2
    for test in tests:
        if test["difference"] is None:
            continue
        gain = test["difference"]["difference"] * (-1 if test["metric"].endswith("mae") else 1)
        if test["verdict"] == "holds":
            assert gain > 0
        if test["p_holm"] < 0.05 and gain < 0:
            assert test["verdict"] == "does not hold"
    assert any(test["difference"] for test in tests)


def test_every_row_of_tables_7_to_10_is_put_to_the_test() -> None:
    """Against the complete model, or against the row of the value that the paper settles on, whatever --set changed."""
    corpus = make_embedded(videos=12, steps=True)

    def pairs(**training: float) -> set[tuple[str | None, str | None]]:
        plan = make_plan(corpus, tables=choose_tables(None), seeds=(0,), options={}, training=training)
        found = _comparisons(plan, _Judge(plan, {}, lambda _: None))
        assert {one.metric for one in found} == {"intensity.pearson", "intensity.mae"}
        for part in ("7", "8", "9", "10"):
            assert set(plan.parts[part].values()) <= {name for one in found for name in vars(one).values()}
        return {(one.first, one.second) for one in found}

    plain = pairs()
    assert {("subtasks-ma", "complete"), ("batch-size-16", "complete"), ("patience-4", "complete")} <= plain
    assert ("epochs-50", "complete") in plain
    changed = pairs(epochs=12)
    assert {("epochs-50", "epochs-30"), ("batch-size-16", "complete")} <= changed
    assert not any("epochs" in str(first) and second == "complete" for first, second in changed)


def test_the_command_line(words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [f"--set={key}={value}" for key, value in {**SMALL, **QUICK}.items()]
    base = ["reproduce", "cai2025", "--corpus", str(words), "--seeds", "1", "-q", "--out", str(tmp_path / "s")]
    assert main([*base, "--table", "7", "--page", str(tmp_path / "page.md"), *small]) == 0
    text = (tmp_path / "page.md").read_text()
    assert "affectus reproduce cai2025 --corpus words" in text
    assert str(tmp_path) not in text
    capsys.readouterr()
    assert main([*base, "--table", "6"]) == 2
    assert "Unknown table '6' in the reproduction of Cai et al. 2025" in capsys.readouterr().err


def test_a_corpus_without_real_labels(make_corpus: object, tmp_path: Path) -> None:
    corpus = make_corpus()  # type: ignore[operator]
    schemes = [scheme for scheme in corpus.card.schemes if scheme.name == "emotion_class"]
    bare = Corpus(
        corpus.table.drop("sentiment", "anger", "disgust", "fear", "happiness", "sadness", "surprise"),
        corpus.features,
        corpus.card.model_copy(update={"schemes": schemes}),
    )
    save_corpus(bare, tmp_path / "bare")
    with pytest.raises(AffectusError, match="has no label with real values"):
        reproduce([tmp_path / "bare"], out=tmp_path / "study")
    assert load_corpus(tmp_path / "bare").schemes
