import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.api import evaluate, train
from affectus.cli.main import main
from affectus.corpus import Corpus, Ragged, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation import PROTOCOLS
from affectus.evaluation.scoring import Scorer
from affectus.evaluation.significance import compare_runs
from affectus.labels import LabelKind, LabelScheme, emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.predict.table import predict_table
from affectus.training import Run, load_run
from affectus.vocabulary import SIX_EMOTIONS


@pytest.fixture
def run(corpus: Corpus, tmp_path: Path) -> Run:
    return train(
        "mtmm_es",
        corpus,
        tasks=["polarity", "emotions", "intensity"],
        seeds=2,
        out=tmp_path / "run",
        options={"hidden": 8, "dense": 6},
        training={"epochs": 4, "learning_rate": 0.02, "keep_epochs": True},
    )


def test_figures_are_those_of_each_seeds_model(run: Run, corpus: Corpus) -> None:
    found = evaluate(run, corpus, split="test")
    for seed, accuracy in zip(found.seeds, found.values["polarity.accuracy"], strict=True):
        said = run.predict(run.model(seed), corpus, "test")
        truth = corpus.label("sentiment")[said.rows, 0]
        known = ~np.isnan(truth)
        guess = said.probabilities["polarity"].argmax(axis=1) == 1
        assert accuracy == pytest.approx(np.mean(guess[known] == (truth[known] >= 0)))
    assert found.mean("polarity.accuracy") == pytest.approx(np.mean(found.values["polarity.accuracy"]))
    assert found.std("polarity.accuracy") == pytest.approx(np.std(found.values["polarity.accuracy"], ddof=1))
    assert found.n == len(corpus.rows("test"))
    assert not found.notes
    for figure in (found.mean, found.std):
        with pytest.raises(
            AffectusError, match=r"Unknown metric 'polarity\.acuracy' in the evaluation of the run .*: exp.*"
        ):
            figure("polarity.acuracy")


def test_one_seed_has_no_spread(run: Run, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is unknown; and how many utterances are labelled is said."""
    save_corpus(corpus, tmp_path / "corpus")
    common = {"tasks": ["intensity"], "seeds": 1}
    train("mtmm_es", corpus, out=tmp_path / "one", options={"hidden": 4}, training={"epochs": 1}, **common)  # type: ignore[arg-type]
    train("linear", corpus, out=tmp_path / "linear", **common)  # type: ignore[arg-type]
    assert np.isnan(evaluate(tmp_path / "one", corpus).std("intensity.mae"))
    assert np.isnan(evaluate(run, corpus, ensemble=True).std("intensity.mae"))
    assert np.isnan(evaluate(tmp_path / "linear", corpus).std("intensity.mae"))
    rows = corpus.rows("test")
    known = int((~np.isnan(corpus.label("sentiment")[rows, 0])).sum())
    assert known < len(rows)
    assert main(["evaluate", str(tmp_path / "one"), str(tmp_path / "corpus")]) == 0
    printed = capsys.readouterr().out
    assert f"({len(rows)} utterances, {known} labelled)" in " ".join(printed.split())
    assert "–" in next(line for line in printed.splitlines() if "intensity.mae" in line)
    assert main(["evaluate", str(tmp_path / "one"), str(tmp_path / "corpus"), "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["metrics"]["intensity.mae"]["std"] is None
    assert facts["labelled"] == {"intensity": known}
    assert main(["evaluate", str(run.folder), str(tmp_path / "corpus")]) == 0
    assert f"labelled: polarity {known}, emotions {len(rows)}" in " ".join(capsys.readouterr().out.split())


def test_thresholds_see_valid_alone(run: Run, corpus: Corpus, make_corpus: Callable[..., Corpus]) -> None:
    here = evaluate(run, corpus, split="test").thresholds
    other = make_corpus(seed=9)
    assert evaluate(run, other, split="test").thresholds == here


def test_majority_is_fitted_on_train(run: Run, corpus: Corpus) -> None:
    found = evaluate(run, corpus, split="test")
    train_labels = corpus.label("sentiment")[corpus.rows("train"), 0]
    test_labels = corpus.label("sentiment")[corpus.rows("test"), 0]
    positive = np.nanmean(train_labels[~np.isnan(train_labels)] >= 0) >= 0.5
    known = test_labels[~np.isnan(test_labels)]
    assert found.majority["polarity.accuracy"] == pytest.approx(np.mean((known >= 0) == positive))


def test_the_oracle_is_an_upper_bound_and_says_so(run: Run, corpus: Corpus) -> None:
    honest = evaluate(run, corpus, split="test")
    oracle = evaluate(run, corpus, split="test", protocol="akhtar2019-released")
    scorer = Scorer()
    for name in ("polarity.accuracy", "emotions.weighted_f1", "emotions.weighted_accuracy", "intensity.mae"):
        for low, high in zip(honest.values[name], oracle.values[name], strict=True):
            assert high >= low - 1e-9 if scorer.higher_is_better(name) else high <= low + 1e-9
    assert oracle.to_json()["oracle"] is True
    assert "Oracle" in oracle.notes[0]


def test_the_oracle_needs_every_epoch(corpus: Corpus, make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    small = train(
        "mtmm_es",
        corpus,
        tasks=["polarity"],
        out=tmp_path / "run",
        options={"hidden": 4, "dense": 4},
        training={"epochs": 2},
    )
    assert evaluate(small, corpus, split="valid", protocol="akhtar2019-released").protocol.oracle
    with pytest.raises(AffectusError, match=r"was not kept.*keep_epochs=true"):
        evaluate(small, make_corpus(seed=9), split="test", protocol="akhtar2019-released")


def test_the_oracle_knows_its_corpus_by_more_than_labels(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"options": {"hidden": 4, "dense": 4}, "training": {"epochs": 2}}
    oracle = {"split": "test", "protocol": "akhtar2019-released"}
    save_corpus(corpus, tmp_path / "corpus")
    audio = corpus.features["audio"]
    deaf = corpus.with_features("audio", Ragged(-audio.values, audio.offsets), corpus.card.modalities["audio"])
    save_corpus(deaf, tmp_path / "deaf")
    for way in (corpus, tmp_path / "corpus"):
        name = tmp_path / f"run-{type(way).__name__}"
        small = train("mtmm_es", way, tasks=["polarity"], out=name, **settings)  # type: ignore[arg-type]
        assert evaluate(small, way, **oracle).protocol.oracle  # type: ignore[arg-type]
        for other in (deaf, tmp_path / "deaf"):
            with pytest.raises(AffectusError, match=r"was not kept.*only judge the corpus that the run was trained on"):
                evaluate(small, other, **oracle)  # type: ignore[arg-type]
    # what was trained in memory is known again when it comes from a folder
    in_memory = load_run(tmp_path / "run-Corpus")
    assert evaluate(in_memory, tmp_path / "corpus", **oracle).protocol.oracle  # type: ignore[arg-type]


def _relabelled(corpus: Corpus, *schemes: LabelScheme) -> Corpus:
    card = corpus.card.model_copy(update={"schemes": list(schemes)})
    return Corpus(corpus.table, corpus.features, card)


def _ratings(*columns: str, low: float | None = None, high: float | None = None) -> LabelScheme:
    return LabelScheme(name="ratings", kind=LabelKind.REAL, columns=columns, low=low, high=high)


SADNESS, JOY, FEAR = "sadness", "happiness", "fear"


@pytest.mark.parametrize(
    ("learned", "task", "judged", "message"),
    [
        (
            _ratings(SADNESS, JOY),
            "ratings",
            _ratings(JOY, SADNESS),
            r"The labels 'ratings' of the corpus 'toy' are not those that the run learned: "
            r"got happiness, sadness \(real\); expected sadness, happiness \(real\)\. Import the same columns",
        ),
        (_ratings(SADNESS, JOY), "ratings", _ratings(SADNESS, FEAR), "got sadness, fear .*expected sadness, happiness"),
        (_ratings(SADNESS, JOY), "ratings", _ratings(SADNESS), r"got sadness \(real\); expected sadness, happiness"),
        (_ratings(SADNESS, JOY), "ratings", _ratings(SADNESS, JOY, high=3, low=0), "got 0 to 3; expected unknown"),
        (
            emotions_scheme(columns=("anger", "fear")),
            "emotions",
            emotions_scheme(),
            r"got anger, disgust, .*surprise, none \(multi label\); expected anger, fear, none",
        ),
        (
            emotions_scheme(columns=("anger", "fear")),
            "emotion_intensity",
            LabelScheme(name="emotions", kind=LabelKind.MULTI_LABEL, columns=("anger", "fear")),
            r"got anger, fear \(multi label\); expected anger, fear \(real\)",
        ),
        (
            emotion_class_scheme(("anger", "none")),
            "emotion_class",
            emotion_class_scheme(("none", "anger")),
            r"got none, anger \(one of k\); expected anger, none",
        ),
        (
            sentiment_scheme(),
            "intensity",
            sentiment_scheme(-1, 1),
            r"'sentiment' of the corpus 'toy' have another range .*does not carry labels across ranges: "
            "got -1 to 1; expected -3 to 3",
        ),
    ],
)
def test_labels_that_the_run_did_not_learn_are_not_judged(
    corpus: Corpus, tmp_path: Path, learned: LabelScheme, task: str, judged: LabelScheme, message: str
) -> None:
    mine = _relabelled(corpus, learned)
    run = train("linear", mine, tasks=[task], out=tmp_path / "run")
    assert evaluate(run, mine).n == len(mine.rows("test"))
    other = _relabelled(corpus, judged)
    with pytest.raises(AffectusError, match=message):
        evaluate(run, other)
    with pytest.raises(AffectusError, match=message):
        compare_runs([run, run], other, split="test")
    # to predict, no label is needed
    said = predict_table(run, mine, split="test")
    for given in (other, _relabelled(corpus)):
        assert predict_table(run, given, split="test").equals(said)


def test_what_is_cut_from_labels_of_other_kinds_still_fits(corpus: Corpus, tmp_path: Path) -> None:
    run = train("linear", corpus, tasks=["polarity", "emotions"], out=tmp_path / "run")
    present = LabelScheme(name="emotions", kind=LabelKind.MULTI_LABEL, columns=SIX_EMOTIONS)
    binary = Corpus(
        corpus.table.with_columns((pl.col(name) > 0).cast(pl.Float32) for name in SIX_EMOTIONS),
        corpus.features,
        corpus.card.model_copy(update={"schemes": [sentiment_scheme(-4, 4), present]}),
    )
    assert evaluate(run, binary).values == evaluate(run, corpus).values


def test_recorded_epochs_are_what_the_kept_weights_say(run: Run, corpus: Corpus) -> None:
    for split in ("valid", "test"):
        recorded = run.recorded(0, split)
        assert len(recorded) == len(run.epochs(0)) == 4
        for said, epoch in zip(recorded, run.epochs(0), strict=True):
            again = run.predict(run.model(0, epoch=epoch), corpus, split)
            assert np.array_equal(said.rows, again.rows)
            for task in ("polarity", "emotions", "intensity"):
                assert np.allclose(said.probabilities[task], again.probabilities[task], atol=1e-6)
                assert np.array_equal(said.targets[task], again.targets[task], equal_nan=True)


def test_an_estimator_is_its_only_epoch(corpus: Corpus, tmp_path: Path) -> None:
    linear = train("linear", corpus, tasks=["polarity"], out=tmp_path / "run")
    honest, oracle = (evaluate(linear, corpus, protocol=name) for name in ("akhtar2019", "akhtar2019-released"))
    assert honest.values["polarity.accuracy"] == oracle.values["polarity.accuracy"]


def test_an_ensemble_is_the_mean_of_the_seeds(run: Run, corpus: Corpus) -> None:
    found = evaluate(run, corpus, split="test", ensemble=True)
    said = [run.predict(run.model(seed), corpus, "test") for seed in run.seeds]
    mean = np.mean([s.probabilities["intensity"] for s in said], axis=0)[:, 0]
    truth = said[0].targets["intensity"][:, 0]
    known = ~np.isnan(truth)
    assert found.values["intensity.mae"] == [pytest.approx(np.mean(np.abs(mean - truth)[known]), abs=1e-6)]


def test_valid_figures_carry_a_warning(run: Run, corpus: Corpus) -> None:
    assert "better than on new data" in evaluate(run, corpus, split="valid").notes[0]


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if not PROTOCOLS[name].oracle])
def test_every_protocol_judges(run: Run, corpus: Corpus, protocol: str) -> None:
    found = evaluate(run, corpus, split="test", protocol=protocol)
    assert np.isfinite(found.mean("intensity.mae"))


def test_bad_input_is_one_sentence(run: Run, corpus: Corpus, make_corpus: Callable[..., Corpus]) -> None:
    with pytest.raises(AffectusError, match="Unknown protocol 'akhtar'"):
        evaluate(run, corpus, protocol="akhtar")
    with pytest.raises(AffectusError, match="no utterance in the split 'test'"):
        evaluate(run, make_corpus(splits=("train", "valid")), split="test")
    unlabelled = corpus.card.model_copy(deep=True)
    unlabelled.schemes = [scheme for scheme in unlabelled.schemes if scheme.name != "emotions"]
    with pytest.raises(AffectusError, match="no labels for the run's task 'emotions'"):
        evaluate(run, Corpus(corpus.table, corpus.features, unlabelled), split="test")


def test_labels_from_minus_one_to_one_have_rules_of_their_own(corpus: Corpus, tmp_path: Path) -> None:
    card = corpus.card.model_copy(deep=True)
    card.schemes = [
        scheme.model_copy(update={"low": -1.0, "high": 1.0}) if scheme.name == "sentiment" else scheme
        for scheme in card.schemes
    ]
    table = corpus.table.with_columns(pl.col("sentiment") / 3)
    narrow = Corpus(table, corpus.features, card)
    run = train("linear", narrow, tasks=["intensity"], out=tmp_path / "run")
    (note,) = evaluate(run, narrow).notes
    assert "mmsa-sims" in note
    assert evaluate(run, narrow, protocol="mmsa-sims").notes == ()
