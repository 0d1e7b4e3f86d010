import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.api import evaluate
from affectus.corpus import Corpus, build_corpus, load_corpus, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.studies import measuring
from affectus.studies.akhtar2019.counts import counted
from affectus.studies.akhtar2019.figures import t_test
from affectus.studies.akhtar2019.plan import COMBINATIONS, TABLES, Plan, choose_tables, make_plan
from affectus.studies.akhtar2019.reproduction import EXPERIMENT, reproduce
from affectus.studies.cells import Cell, StudyEvent
from affectus.studies.measuring import Cost, _measure
from affectus.studies.published import load_experiment
from affectus.studies.tables import Page, Section
from affectus.vocabulary import SIX_EMOTIONS, View

SMALL = {"hidden": 4, "dense": 4}
QUICK = {"epochs": 2}
FEW = ["linear", "mmmu_ba"]


def _plan(corpus: Corpus, *tables: str) -> Plan:
    chosen = choose_tables(tables or None)
    experiment = load_experiment(EXPERIMENT)
    return make_plan(corpus, experiment, tables=chosen, seeds=(0, 1), options=SMALL, training=QUICK)


def _without(corpus: Corpus, *, modalities: tuple[str, ...] = (), schemes: tuple[str, ...] = ()) -> Corpus:
    card = corpus.card.model_copy(deep=True)
    card.modalities = {name: of for name, of in card.modalities.items() if name not in modalities}
    card.schemes = [scheme for scheme in card.schemes if scheme.name not in schemes]
    features = {name: ragged for name, ragged in corpus.features.items() if name not in modalities}
    return build_corpus(corpus.table, features, card)


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two modalities with all labels: enough for everything but the claim of three modalities."""
    folder = tmp_path_factory.mktemp("akhtar") / "two"
    save_corpus(_without(make_embedded(videos=24, emotion_labels=1.0), modalities=("vision",)), folder)
    return folder


@pytest.fixture(scope="module")
def study(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path]:
    out = tmp_path_factory.mktemp("akhtar") / "study"
    tables = [name for name in TABLES if name != "cost"]
    page = reproduce(
        [corpus_folder],
        out=out,
        seeds=2,
        tables=tables,
        systems=FEW,
        options=SMALL,
        training=QUICK,
        command="affectus reproduce",
    )
    return page, out


def _section(page: Page, start: str) -> Section:
    (found,) = [section for _, _, sections in page.parts for section in sections if section.title.startswith(start)]
    return found


def test_table4_has_every_combination_and_the_figures_of_the_runs(
    study: tuple[Page, Path], corpus_folder: Path
) -> None:
    page, out = study
    records = _section(page, "Table 4").data
    assert [row["modalities"] for row in records[::2]] == ["T", "T", "A", "A", "TA", "TA"] * 2
    corpus = load_corpus(corpus_folder)
    for record in records:
        for column, protocol in (("honest", "akhtar2019"), ("oracle", "akhtar2019-released")):
            found = evaluate(out / "runs" / record["cell"], corpus, protocol=protocol)
            assert record[column]["values"] == found.values[record["metric"]]
        # an oracle chooses among more, by what it is judged on
        assert all(o >= h for o, h in zip(record["oracle"]["values"], record["honest"]["values"], strict=True))
    single = json.loads((out / "runs" / "ta-emotions" / "run.json").read_text())["config"]
    assert (single["tasks"], single["modalities"]) == (["emotions"], ["text", "audio"])
    assert (single["training"]["batch_size"], single["training"]["epochs"], single["options"]["hidden"]) == (16, 2, 4)


def test_table7_has_every_contextual_model_and_the_papers_rows(study: tuple[Page, Path], corpus_folder: Path) -> None:
    planned = _plan(load_corpus(corpus_folder), "7")
    assert {*planned.systems, "mtmm_es", "majority"} == {n for n in MODELS if View.CONTEXTUAL in MODELS[n].views}
    page, _ = study
    records = [row for row in _section(page, "Table 7").data if "system" in row]
    ours = {row["system"] for row in records if row["honest"]}
    assert ours == {*FEW, "mtmm_es", "majority"}
    metrics = {row["metric"] for row in records if row["system"] == "mtmm_es" and row["honest"]}
    assert {f"emotions.{emotion}.weighted_f1" for emotion in SIX_EMOTIONS} <= metrics
    assert {"polarity.accuracy", "emotions.weighted_accuracy", "emotions7.weighted_f1"} <= metrics
    by = {(r["system"], r["learning"], r["metric"]): r for r in records if "learning" in r}
    assert by["mtmm_es", "multi", "emotions.weighted_f1"]["published"] == pytest.approx(0.786)
    assert by["graph_mfn", "single", "emotions.fear.weighted_f1"]["published"] == pytest.approx(0.899)
    assert by["majority", "single", "emotions.fear.weighted_f1"]["doubt"]
    # a system that reads no contextual view here has the paper's figures alone
    (line,) = [line for line in page.markdown().splitlines() if line.startswith("| graph_mfn") and "| 89.9 |" in line]
    assert line.endswith("| 89.9 | – | – | 62.0 | – | – |")


def test_table7_has_the_rows_of_significance(study: tuple[Page, Path]) -> None:
    page, _ = study
    tests = {row["metric"]: row["significance"] for row in _section(page, "Table 7").data if "significance" in row}
    assert set(tests) == {
        *(f"polarity.{m}" for m in ("weighted_f1", "accuracy")),
        *(f"emotions.{m}" for m in ("weighted_f1", "weighted_accuracy")),
        *(f"emotions.{e}.{m}" for e in SIX_EMOTIONS for m in ("weighted_f1", "weighted_accuracy")),
    }
    mean = tests["emotions.weighted_f1"]
    assert {name.split(", against ")[0] for name in mean} == {"t-test over seeds", "bootstrap over videos"}
    assert "t-test over seeds, against learned alone" in mean
    assert "t-test over seeds, against the published figure" in mean
    assert any("against the best other, " in name for name in mean)
    assert all(0 <= p <= 1 for p in mean.values() if not np.isnan(p))


def test_counts_of_predictions_add_up(study: tuple[Page, Path], corpus_folder: Path) -> None:
    page, _ = study
    data = _section(page, "Section 5.5").data
    corpus = load_corpus(corpus_folder)
    rows = corpus.rows("test")
    sentiment = corpus.label("sentiment")[rows, 0]
    assert data["polarity"]["positive"]["gold"] == int((sentiment >= 0).sum())
    for column in ("honest", "oracle"):
        means = [of[column]["class"]["mean"] for of in data["polarity"].values()]
        assert sum(means) == int((~np.isnan(sentiment)).sum())
    strengths = corpus.label("emotions")[rows]
    for i, emotion in enumerate(SIX_EMOTIONS):
        of = data["emotions"][emotion]
        assert of["gold"] == int((strengths[:, i] > 0).sum())
        for rule in ("weighted_f1", "weighted_accuracy"):
            assert all(0 <= n <= (~np.isnan(strengths[:, i])).sum() for n in of["honest"][rule]["values"])
            assert len(of["oracle"][rule]["values"]) == 2


def test_claims_name_their_cells_and_what_cannot_be_told(study: tuple[Page, Path]) -> None:
    page, out = study
    found = _section(page, "Do the claims hold?").data
    cells = {(row["first"], row["second"]) for row in found if row["difference"]}
    assert cells == {
        *((f"ta-{task}", f"ta-{joint}") for task in ("polarity", "emotions") for joint in ("joint", "per-task")),
        ("ta-joint-no-attention", "ta-joint"),
        ("ta-joint-no-context", "ta-joint"),
    }
    three = [row for row in found if row["claim"] == "Three modalities beat the best two"]
    assert {row["reason"] for row in three} == {"the corpus has 2 of the three modalities"}
    assert all(row["p_holm"] >= row["difference"]["p_videos"] for row in found if row["difference"])
    options = json.loads((out / "runs" / "ta-joint-no-context" / "run.json").read_text())["config"]["options"]
    assert (options["context"], options["attention"]) == (False, "none")
    per_task = json.loads((out / "runs" / "ta-per-task" / "run.json").read_text())["config"]["training"]
    assert per_task["select"] == "per_task"


def test_the_page_says_how_it_was_made_and_holds_no_path(study: tuple[Page, Path], corpus_folder: Path) -> None:
    page, out = study
    text = page.markdown()
    for part in ("affectus reproduce", "torch", "Seeds 0, 1", "`epochs=2`", "It has no vision"):
        assert part in text
    assert str(corpus_folder.parent) not in text
    assert str(out.parent) not in text
    for heading in ("Do the claims hold?", "Table 2", "Table 3", "Table 4", "Table 7", "Section 5.5"):
        assert f"### {heading}" in text
    assert page.latex().count(r"\begin{tabular}") == page.latex().count(r"\bottomrule") > 10


def test_again_trains_nothing_and_another_study_is_refused(study: tuple[Page, Path], corpus_folder: Path) -> None:
    page, out = study
    events: list[StudyEvent] = []
    again = reproduce(
        [corpus_folder], out=out, seeds=2, tables=["4"], options=SMALL, training=QUICK, report=events.append
    )
    assert events == []
    assert _section(again, "Table 4").data == _section(page, "Table 4").data
    with pytest.raises(AffectusError, match=r"holds another study, which differs in 'training'.*Choose another --out"):
        reproduce([corpus_folder], out=out, seeds=2, tables=["4"], options=SMALL, training={"epochs": 3})


def test_a_cell_that_fails_is_named_and_the_rest_is_there(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import affectus.studies.cells as cells

    real = cells.train

    def train(model: str, corpus: Path, **more: object) -> object:
        if model == "mmmu_ba":
            raise AffectusError("No space left while writing", where=more["out"])  # type: ignore[arg-type]
        return real(model, corpus, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(cells, "train", train)
    page = reproduce(
        [corpus_folder],
        out=tmp_path / "out",
        seeds=1,
        tables=["7"],
        systems=FEW,
        options=SMALL,
        training={"epochs": 1},
    )
    (_, notes, _), *_ = page.parts
    (failed,) = [note for note in notes if "system-mmmu_ba-polarity" in note]
    assert "No space left while writing in OUT/runs/system-mmmu_ba-polarity" in failed
    assert not [r for r in _section(page, "Table 7").data if r.get("system") == "mmmu_ba" and r["honest"]]
    assert [r for r in _section(page, "Table 7").data if r.get("system") == "linear" and r["honest"]]
    monkeypatch.setattr(cells, "train", lambda *_, **__: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(AffectusError, match="No system could be trained"):
        reproduce([corpus_folder], out=tmp_path / "all", seeds=1, tables=["4"])


def test_several_corpora_are_parts_of_one_page(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(cell: Cell, corpus: Path, split: str, *, threads: int) -> Cost:
        return _measure(cell, corpus, split, threads)  # the process of its own has a test of its own

    monkeypatch.setattr(measuring, "measure", here)
    text = tmp_path / "text only"
    save_corpus(_without(load_corpus(corpus_folder), modalities=("audio",), schemes=("emotions",)), text)
    page = reproduce(
        [corpus_folder, text],
        out=tmp_path / "out",
        seeds=1,
        tables=["4", "cost"],
        options=SMALL,
        training={"epochs": 1},
    )
    assert [heading for heading, _, _ in page.parts] == ["embedded (two)", "embedded (text-only)"]
    assert (tmp_path / "out" / "two" / "runs" / "ta-joint").is_dir()
    assert (tmp_path / "out" / "text-only" / "runs" / "t-polarity").is_dir()
    *_, (_, notes, sections) = page.parts
    assert any("no labels of emotions" in note for note in notes)
    assert any("no audio and no vision" in note for note in notes)
    assert {row["modalities"] for row in sections[0].data} == {"T"}
    assert "nothing to join" in sections[1].text[0]
    grid = page.parts[0][2][1].grids[0]
    assert [row[0] for row in grid.rows][-2:] == ["joint", "joint / separate"]
    parameters = {row[0]: row[1] for row in grid.rows}
    assert int(parameters["joint"].replace(",", "")) < int(parameters["separate, together"].replace(",", ""))


def test_the_plan_of_three_modalities() -> None:
    plan = _plan(make_embedded(videos=12))
    assert list(plan.sets) == list(COMBINATIONS)
    assert {f"{letters.lower()}-{kind}" for letters in COMBINATIONS for kind in ("joint", "polarity", "emotions")} | {
        "tav-per-task",
        "tav-joint-no-attention",
        "tav-joint-no-context",
    } == {name for name in plan.cells if not name.startswith("system-")}
    assert plan.main == "tav-joint"
    assert plan.lacks == ()
    assert all(cell.view is View.CONTEXTUAL and cell.seeds == (0, 1) for cell in plan.cells.values())
    assert set(_plan(make_embedded(videos=12), "5.5").cells) == {"tav-joint"}
    assert set(_plan(make_embedded(videos=12), "2", "3").cells) == set()
    claims = set(_plan(make_embedded(videos=12), "claims").cells)
    assert {"tv-joint", "ta-joint", "av-joint"} <= claims
    assert not claims & {"t-joint", "tv-polarity"}


def test_what_a_corpus_lacks_is_said(make_corpus: Callable[..., Corpus]) -> None:
    whole = make_corpus(videos=12)
    assert any("It has no vision" in said for said in _plan(whole).lacks)
    polarity = _plan(_without(whole, schemes=("emotions",)))
    assert polarity.main == "ta-polarity"
    assert not [name for name in polarity.cells if "joint" in name or "emotions" in name]
    assert any("nor of joint learning" in said for said in polarity.lacks)
    no_test = _plan(make_corpus(videos=12, splits=("train", "valid")))
    assert no_test.split == "valid"
    assert any("better than on new data" in said for said in no_test.lacks)
    assert any("no valid split" in said for said in _plan(make_corpus(videos=12, splits=("train", "test"))).lacks)
    single = whole.table.with_columns(pl.col("id").alias("video"))
    alone = _plan(build_corpus(single, whole.features, whole.card))
    assert any("Every video is one utterance" in said for said in alone.lacks)
    assert not [name for name in alone.cells if "no-" in name]


def test_a_corpus_that_allows_nothing_is_one_sentence(make_corpus: Callable[..., Corpus]) -> None:
    whole = make_corpus(videos=12)
    with pytest.raises(AffectusError, match="neither sentiment nor emotions"):
        _plan(_without(whole, schemes=("sentiment", "emotions")))
    other = _without(whole, modalities=("text", "audio")).with_features(
        "gaze", whole.features["text"], whole.card.modalities["text"]
    )
    with pytest.raises(AffectusError, match="none of the paper's modalities: got gaze"):
        _plan(other)
    with pytest.raises(AffectusError, match="no utterance in the split 'train'"):
        _plan(make_corpus(videos=12, splits=("test",)))
    with pytest.raises(AffectusError, match=r"Unknown table '8'.*expected one of: 2, 3, 4, 5.5, 7, claims, cost"):
        choose_tables(["8"])
    with pytest.raises(AffectusError, match="No corpus is given"):
        reproduce([], out="nowhere")


def test_counts_of_a_corpus(make_corpus: Callable[..., Corpus]) -> None:
    corpus = make_corpus(videos=8)
    found = counted(corpus)
    assert found["all"]["videos"] == 8
    for name in found["all"]:
        assert found["all"][name] == sum(found[split][name] for split in ("train", "valid", "test")), name
    labels = corpus.label("sentiment")[:, 0]
    assert found["all"]["positive"] + found["all"]["negative"] == int((~np.isnan(labels)).sum())


def test_t_test_over_seeds() -> None:
    from scipy import stats

    a, b = [0.80, 0.82, 0.81], [0.79, 0.80, 0.81]
    assert t_test(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert t_test(a, [0.79]) == pytest.approx(stats.ttest_1samp(a, 0.79).pvalue)
    assert t_test(a, [0.7, 0.8]) == pytest.approx(stats.ttest_ind(a, [0.7, 0.8], equal_var=False).pvalue)
    assert np.isnan(t_test([0.8], [0.7]))
    assert np.isnan(t_test([0.8, 0.9], [0.7, 0.8]))
