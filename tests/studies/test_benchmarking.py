"""The benchmark: which models fit, what the table says, resuming, failures, several corpora."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import affectus.studies.cells as cells_module
from affectus.cli.main import main
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.evaluation import evaluate_run
from affectus.evaluation.significance import compare_runs
from affectus.files import json_text
from affectus.models import MODELS
from affectus.objectives import TaskKind
from affectus.studies.benchmarking import benchmark
from affectus.studies.benchmarking.crossing import common_ground
from affectus.studies.benchmarking.plan import Changes, Plan, make_plan, split_changes
from affectus.studies.measuring import Cost
from affectus.studies.tables import NOTHING, Page
from affectus.training import load_run
from affectus.vocabulary import View

FEW = ["hazarika_sa", "blanchard"]
QUICK = Changes({"epochs": 2, "learning_rate": 0.01}, {}, {})


def plan_of(corpus: Corpus, **changes: object) -> Plan:
    return make_plan(corpus, seeds=(0,), **changes)  # type: ignore[arg-type]


def rows_of(page: Page) -> dict[str, dict[str, object]]:
    (_, _, (ranking, _)) = page.parts[0]
    return {row["cell"]: row for row in ranking.data}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_embedded(videos=24, emotion_labels=1.0)


@pytest.fixture(scope="module")
def sequences(corpus: Corpus) -> Corpus:
    """The same with three steps in each utterance, all modalities word by word."""
    features = {
        name: type(ragged).from_sequences(
            [np.repeat(np.asarray(ragged[i]), 3, axis=0) for i in range(len(ragged))], ragged.dim
        )
        for name, ragged in corpus.features.items()
    }
    card = corpus.card.model_copy(deep=True)
    return Corpus(corpus.table, features, card.model_copy(update={"word_aligned": True}))


def test_the_view_is_the_corpus_s_and_what_does_not_take_it_is_left_out_with_a_reason(
    corpus: Corpus, sequences: Corpus
) -> None:
    vectors = plan_of(corpus)
    assert vectors.view == View.CONTEXTUAL
    assert list(vectors.cells)[:3] == ["majority", "linear", "linear-neighbours"]
    assert {"mtmm_es", "bc_lstm", "mmmu_ba"} <= set(vectors.cells)
    assert "takes the unaligned and aligned view" in vectors.left_out["tfn"]
    aligned = plan_of(sequences)
    assert aligned.view == View.ALIGNED
    assert "tfn" in aligned.cells
    assert "linear-neighbours" not in aligned.cells
    assert "takes the contextual view" in aligned.left_out["mtmm_es"]
    assert set(aligned.cells) | set(aligned.left_out) == set(MODELS)
    everything = plan_of(sequences, view="any")
    assert everything.cells["mtmm_es"].view is View.CONTEXTUAL
    assert everything.cells["tfn"].view is View.ALIGNED
    assert not everything.left_out


def test_a_model_that_refuses_the_corpus_is_left_out(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    class NeedsText(MODELS["hazarika_sa"].build):  # type: ignore[misc]
        def __init__(self, *, hidden: int = 4, **more: object) -> None:
            raise AffectusError("It needs a seventh sense", got=hidden)

    monkeypatch.setattr(MODELS, "_things", {**MODELS._things})
    MODELS.add("picky", replace(MODELS["hazarika_sa"], name="picky", build=NeedsText, space={}))
    plan = plan_of(corpus, models=["picky"])
    assert plan.left_out == {"picky": "it needs a seventh sense: got 4"}
    assert "picky" not in plan.cells
    with pytest.raises(AffectusError, match="seventh sense"):  # but what the user asks for is not kept quiet
        plan_of(corpus, models=["picky"], changes=Changes({}, {"picky": {"hidden": 3}}, {}))
    MODELS.add("numbers", replace(MODELS["hazarika_sa"], name="numbers", kinds=frozenset({TaskKind.REAL}), space={}))
    plan = plan_of(corpus, models=["numbers"], tasks=["polarity"])
    assert plan.left_out == {"numbers": "it does not learn tasks of kind binary, such as 'polarity', but real"}


def test_simple_baselines_are_always_there_and_ridge_chooses_its_strength_on_train(corpus: Corpus) -> None:
    plan = plan_of(corpus, models=["blanchard"])
    assert set(plan.cells) == {"majority", "linear", "linear-neighbours", "blanchard"}
    assert plan.cells["linear"].options == {"alpha": None}
    assert plan.cells["linear-neighbours"].options == {"alpha": None, "neighbours": 2}
    assert plan_of(corpus, tasks=["polarity"]).cells["linear"].options == {}
    mine = Changes({}, {"linear": {"alpha": 3.0}}, {})
    assert plan_of(corpus, changes=mine).cells["linear"].options == {"alpha": 3.0}


def test_presets_of_the_data_set_are_taken_without_their_text_encoder(sequences: Corpus) -> None:
    named = Corpus(sequences.table, sequences.features, sequences.card.model_copy(update={"name": "CMU-MOSI"}))
    plan = plan_of(named, models=["tfn", "self_mm"])
    assert plan.data == "mosi"
    assert plan.cells["tfn"].preset == "mosi"
    self_mm = plan.cells["self_mm"]
    assert self_mm.training["text_encoder"] is None
    assert self_mm.training["text_layers"] == 0
    assert self_mm.options["text"] == "mean"
    assert any("published with bert-base-uncased" in note for note in plan.notes)
    assert any("first token" in note for note in plan.notes)
    assert plan_of(sequences, models=["tfn"]).cells["tfn"].preset is None


def test_settings_of_networks_do_not_reach_what_is_none(corpus: Corpus) -> None:
    changes = Changes({"precision": "bf16", "compile": "default", "scale": "max"}, {}, {})
    plan = plan_of(corpus, models=["blanchard"], changes=changes)
    assert plan.cells["blanchard"].training == {"record_epochs": False, **changes.training}
    for name in ("majority", "linear"):
        assert plan.cells[name].training == {"record_epochs": False, "scale": "max"}


def test_settings_of_gradient_training_reach_networks_alone(corpus: Corpus) -> None:
    changes = Changes({"epochs": 3, "scale": "max"}, {}, {})
    for name in ("majority", "linear", "svm"):
        cell = plan_of(corpus, models=["blanchard", "svm"], changes=changes).cells[name]
        assert cell.training == {"record_epochs": False, "scale": "max"}
    with pytest.raises(AffectusError, match=r"The model 'linear' is not .* so the setting 'patience' would do nothing"):
        plan_of(corpus, models=["blanchard"], changes=Changes({}, {}, {"linear": {"patience": 3}}))


def test_a_setting_of_a_model_that_is_not_there_is_refused(corpus: Corpus) -> None:
    for changes in (Changes({}, {"tfn": {"hidden": 8}}, {}), Changes({}, {}, {"tfn": {"hidden": 3}})):
        sentence = (
            r"for the model 'tfn', which is not benchmarked: got tfn\.hidden; expected .* linear, blanchard\. Add"
        )
        with pytest.raises(AffectusError, match=sentence):
            plan_of(corpus, models=["blanchard"], changes=changes)
    plan_of(corpus, models=["blanchard"], changes=Changes({}, {"linear": {"C": 2.0}}, {}))  # which is always there


def test_settings_of_all_models_and_of_one() -> None:
    changes = split_changes(["epochs=3", "tfn.hidden=8", "tfn.learning_rate=1e-2", "text_encoder=minilm"])
    assert changes.training == {"epochs": 3, "text_encoder": "minilm"}
    assert changes.options == {"tfn": {"hidden": 8}}
    assert changes.own == {"tfn": {"learning_rate": 0.01}}
    assert changes.shown() == ["epochs=3", "text_encoder=minilm", "tfn.hidden=8", "tfn.learning_rate=0.01"]
    for wrong, sentence in (
        ("hidden=3", "Unknown training setting 'hidden'.*MODEL.KEY"),
        ("tfm.hidden=3", "Did you mean 'tfn'"),
        ("tfn.hiden=3", "Did you mean 'hidden'"),
        ("epochs", "not of the form key=value"),
    ):
        with pytest.raises(AffectusError, match=sentence):
            split_changes([wrong])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rank_by": "intensity.acc7"}, "Unknown figure 'intensity.acc7'.*intensity.mae, intensity.pearson"),
        ({"protocol": "akhtar2019-released"}, "is an oracle's"),
        ({"view": "sideways"}, "Unknown view 'sideways'"),
        ({"models": ["tfm"]}, "Did you mean 'tfn'"),
        ({"tasks": ["humour"]}, "Unknown task 'humour'"),
        ({"modalities": ["smell"]}, "Unknown modality 'smell'"),
    ],
)
def test_what_cannot_be_benchmarked(corpus: Corpus, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(AffectusError, match=sentence):
        plan_of(corpus, **changes)


def test_without_a_test_split_valid_is_judged_and_that_is_said(corpus: Corpus) -> None:
    plan = plan_of(corpus.select(np.flatnonzero(corpus.splits != "test")))
    assert plan.split == "valid"
    assert "better than on new data" in plan.notes[0]


def test_the_table(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks, figures, intervals and tests are those of the parts; a failing model is a row; the second call resumes."""
    real, trained = cells_module.train, []

    def train(model: str, *arguments: object, **more: object) -> object:
        trained.append(model)
        if model == "blanchard":
            raise RuntimeError(f"shapes do not match in {tmp_path / 'out'}")
        return real(model, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(cells_module, "train", train)
    measured = []

    def measure(cell: cells_module.Cell, corpus: Path, split: str, *, threads: int) -> Cost:
        measured.append(cell.name)
        return Cost(10, 0.5, 0.1, 2**20 * len(measured))

    monkeypatch.setattr("affectus.studies.measuring.measure", measure)
    out = tmp_path / "out"
    page = benchmark(embedded, out=out, models=FEW, seeds=2, changes=QUICK)
    rows = rows_of(page)
    assert list(rows)[-1] == "blanchard"
    assert rows["blanchard"]["failure"] == "RuntimeError: shapes do not match in OUT"
    assert rows["blanchard"]["rank"] is None
    text = page.markdown()
    assert "| – | `blanchard` | Blanchard et al. 2018 | failed |" in text
    assert "- `blanchard`: RuntimeError: shapes do not match in OUT" in text
    assert str(tmp_path) not in text

    ranks = {name: row["rank"] for name, row in rows.items() if row["rank"]}
    means = {name: row["here"]["mean"] for name, row in rows.items() if row["rank"]}  # type: ignore[index]
    assert sorted(ranks, key=lambda name: ranks[name]) == sorted(means, key=lambda name: means[name])
    corpus, run = load_corpus(embedded), load_run(out / "runs" / "hazarika_sa")
    figures = evaluate_run(run, corpus, protocol="mmsa")
    assert rows["hazarika_sa"]["here"]["values"] == pytest.approx(figures.values["intensity.mae"])  # type: ignore[index]
    best = next(iter(rows))
    assert rows[best]["against_best"] is None
    (alone,) = compare_runs([load_run(out / "runs" / best), run], corpus, metrics=["intensity.mae"])
    against = rows["hazarika_sa"]["against_best"]
    assert against["p_videos"] == pytest.approx(alone.p_videos)  # type: ignore[index]
    assert against["p_videos_corrected"] >= against["p_videos"]  # type: ignore[index]
    low, high = rows["hazarika_sa"]["interval"]  # type: ignore[misc]
    assert low < means["hazarika_sa"] < high
    assert rows["linear"]["parameters"] == 64 + 1
    assert measured == ["linear", "hazarika_sa"]
    assert rows["hazarika_sa"]["cost"]["peak_bytes"] == 2 * 2**20  # type: ignore[index]

    # two epochs teach it nothing: the table must say that it loses to ridge regression
    assert rows["hazarika_sa"]["verdict_against_linear"] in ("worse", "not better")
    assert "1 lose to ridge regression" in text
    assert "`hazarika_sa` (" in text

    trained.clear()
    again = benchmark(embedded, out=out, models=FEW, seeds=2, changes=QUICK)
    assert trained == ["blanchard"]  # what failed is tried again, nothing else
    assert measured == ["linear", "hazarika_sa"]
    assert json_text(rows_of(again)) == json_text(rows)
    with pytest.raises(AffectusError, match="holds another study, which differs in 'tasks'"):
        benchmark(embedded, out=out, models=FEW, seeds=2, changes=QUICK, tasks=["polarity"])


def test_published_figures_stand_beside(tmp_path: Path) -> None:
    corpus = make_embedded(videos=16)
    renamed = corpus.card.model_copy(update={"name": "CMU-MOSI"})
    save_corpus(Corpus(corpus.table, corpus.features, renamed), tmp_path / "mosi")
    page = benchmark(
        tmp_path / "mosi",
        out=tmp_path / "out",
        models=["svm"],
        changes=QUICK,
        seeds=1,
        costs=False,
        modalities=["audio"],
    )
    # no packaged experiment has a figure of the SVM on MOSI: the page does not make one up
    (_, _, (_, figures)) = page.parts[0]
    assert {row["published"] for row in figures.data} == {None}
    assert figures.title == "All figures"
    from affectus.studies.benchmarking.judging import Judge
    from affectus.studies.benchmarking.ranking import _beside

    plan = plan_of(load_corpus(tmp_path / "mosi"), models=["svm"], modalities=["audio"])
    cells = {**plan.cells, "svm": replace(plan.cells["svm"], model="tfn")}
    outcomes = {
        name: cells_module.Outcome(cell, load_run(tmp_path / "out" / "runs" / name)) for name, cell in cells.items()
    }
    beside = _beside(replace(plan, cells=cells), Judge(outcomes, plan.corpus, "test", "mmsa"))
    (grid,) = beside.grids
    at = grid.head.index("intensity.mae")
    assert grid.head[at + 1] == "published"
    row = next(row for row in grid.rows if row[0] == "`svm`")
    assert row[at + 1] == "0.947 [1]"  # MMSA's rerun of TFN on CMU-MOSI
    assert "[1] `zadeh2017_tfn_mosi`" in grid.notes[1]
    assert next(row for row in grid.rows if row[0] == "`linear`")[at + 1] == NOTHING


def test_the_verb_writes_four_files(embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "out", tmp_path / "page.md"
    words = ["benchmark", str(embedded), "--models", "hazarika_sa", "--seeds", "1", "--tasks", "emotions", "--no-costs"]
    words += ["--set", "epochs=1", "--out", str(out), "--page", str(page)]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "cell 1 of 4" in said.err
    assert "First on test: `" in said.out
    for suffix in ("md", "tex", "html", "json"):
        text = (out / f"benchmark.{suffix}").read_text()
        assert "hazarika" in text
        assert str(tmp_path) not in text
    assert page.read_text() == (out / "benchmark.md").read_text()
    command = "affectus benchmark embedded --models hazarika_sa --seeds 1 --tasks emotions --set epochs=1"
    assert f"`{command}`" in page.read_text()
    data = json.loads((out / "benchmark.json").read_text())
    assert data["corpora"][0]["sections"]["The models, ranked"][0]["metric"] == "emotions.weighted_f1"
    assert "<caption>" in (out / "benchmark.html").read_text()
    assert r"\texttt{hazarika\_sa}" in (out / "benchmark.tex").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["CORPUS", "CORPUS"], "Several corpora are given.*--cross"),
        (["CORPUS", "--cross"], "nothing to carry across: got 1"),
        (["CORPUS", "--models", "tfm"], "Did you mean 'tfn'"),
        (["CORPUS", "--device", "tpu"], "Unknown device 'tpu'"),
        (["CORPUS", "--seeds", "x"], "seeds are not right"),
        (["CORPUS", "--seeds", "0"], "seeds are not right: got 0; expected different whole numbers from 0"),
        (["CORPUS", "--seeds=-1"], "seeds are not right: got -1"),
        (["CORPUS", "--seeds", "3,3"], "seeds are not right"),
        (["CORPUS", "--seeds=1,-3"], "seeds are not right"),
        (["--cross", "CORPUS", "CORPUS", "--seeds", "0"], "seeds are not right"),
        (["nowhere"], "There is no corpus folder"),
    ],
)
def test_bad_input_is_one_sentence(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    import re

    places = {"CORPUS": str(embedded), "nowhere": str(tmp_path / "nowhere")}
    out = tmp_path / "out"
    assert main(["benchmark", *(places.get(word, word) for word in words), "--out", str(out)]) == 2
    assert re.search(sentence, " ".join(capsys.readouterr().err.split()))
    assert not out.exists()


def other(corpus: Corpus, name: str, **changes: object) -> Corpus:
    """Return the corpus with another card, and perhaps without a modality."""
    card = corpus.card.model_copy(
        update={"name": name, **{k: v for k, v in changes.items() if k != "without"}}, deep=True
    )
    left = {m: ragged for m, ragged in corpus.features.items() if m != changes.get("without")}
    return Corpus(corpus.table, left, card.model_copy(update={"modalities": {m: card.modalities[m] for m in left}}))


def test_what_two_corpora_have_in_common(corpus: Corpus) -> None:
    same = common_ground({"a": corpus, "b": other(corpus, "b")})
    assert same.modalities == corpus.modalities
    assert same.tasks == ("intensity",)
    assert same.view == View.CONTEXTUAL
    less = common_ground({"a": corpus, "b": other(corpus, "b", without="audio")})
    assert less.modalities == ("text", "vision")
    assert "The modality 'audio' is left out: b does not have it." in less.unfit
    with pytest.raises(AffectusError, match=r"'audio' cannot be carried across: got .*b does not have it"):
        common_ground({"a": corpus, "b": other(corpus, "b", without="audio")}, modalities=["audio"])
    wide = Corpus(
        corpus.table, {"text": corpus.features["vision"]}, other(corpus, "w").card.model_copy(update={"modalities": {}})
    )
    with pytest.raises(AffectusError, match=r"no features in common.*its width is 32 in a, 16 in w"):
        common_ground({"a": other(corpus, "a"), "w": wide})


def test_features_of_other_extractors_and_labels_of_another_range_do_not_fit(corpus: Corpus) -> None:
    made = [other(corpus, name) for name in "ab"]
    for one, maker in zip(made, ("GloVe", "BERT"), strict=True):
        one.card.modalities["text"].encoder = maker
    found = common_ground(dict(zip("ab", made, strict=True)))
    assert "text" not in found.modalities
    assert "The modality 'text' is left out: its features were made by GloVe in a, BERT in b." in found.unfit
    schemes = [
        scheme.model_copy(update={"low": -1.0, "high": 1.0}) if scheme.name == "sentiment" else scheme
        for scheme in corpus.card.schemes
    ]
    table = corpus.table.with_columns(pl.col("sentiment") / 3)
    narrow = Corpus(table, corpus.features, other(corpus, "n").card.model_copy(update={"schemes": schemes}))
    found = common_ground({"a": corpus, "n": narrow})
    assert found.tasks == ("emotion_class",)
    assert any(
        "'intensity' is left out: its labels range from -3 to 3 in a, -1 to 1 in n" in one for one in found.unfit
    )
    assert any("'polarity' is left out" in one for one in found.unfit)
    with pytest.raises(AffectusError, match=r"'intensity' cannot be carried across: got .*-1 to 1 in n"):
        common_ground({"a": corpus, "n": narrow}, tasks=["intensity"])


def test_across_corpora(embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each cell of the matrix is what evaluate says of the run on that corpus; a reversed corpus costs."""
    corpus = load_corpus(embedded)
    reversed_labels = corpus.table.with_columns(-pl.col("sentiment"))
    save_corpus(Corpus(reversed_labels, corpus.features, other(corpus, "reversed").card), tmp_path / "reversed")
    words = ["benchmark", "--cross", str(embedded), str(tmp_path / "reversed"), "--models", "linear", "--seeds", "1"]
    assert main([*words, "--out", str(tmp_path / "out"), "-q"]) == 0
    data = json.loads((tmp_path / "out" / "cross.json").read_text())
    sections = data["corpora"][0]["sections"]
    figures = {
        (row["cell"], row["trained"], row["judged"]): row["here"]["mean"]
        for row in sections["Trained on each, judged on all"]
    }
    run = load_run(tmp_path / "out" / "reversed" / "runs" / "linear")
    expected = evaluate_run(run, corpus, protocol="mmsa").mean("intensity.mae")
    assert figures["linear", "reversed", "embedded"] == pytest.approx(expected)
    assert figures["linear", "embedded", "embedded"] < figures["linear", "reversed", "embedded"]
    losses = {(row["cell"], row["trained"]): row for row in sections["What it costs to come from another corpus"]}
    loss = losses["linear", "reversed"]
    assert loss["difference"] == pytest.approx(expected - figures["linear", "embedded", "embedded"])
    assert loss["p_holm"] >= loss["p_videos"]
    text = (tmp_path / "out" / "cross.md").read_text()
    assert "| `linear` | reversed | embedded | +" in text
    assert str(tmp_path) not in text
    assert "Trained" not in capsys.readouterr().err


def test_no_model_at_all(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_module, "train", lambda *_, **__: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(AffectusError, match="No model could be trained"):
        benchmark(embedded, out=tmp_path / "out", models=["linear"], costs=False)
