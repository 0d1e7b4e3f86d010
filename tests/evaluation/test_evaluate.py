import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affectus.api import evaluate, train
from affectus.cli.main import main
from affectus.corpus import Corpus, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation import PROTOCOLS
from affectus.evaluation.scoring import Scorer
from affectus.training import Run


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


def test_one_seed_has_no_spread(run: Run, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is unknown, but for a model that every seed makes alike; and how many utterances are labelled is said."""
    save_corpus(corpus, tmp_path / "corpus")
    common = {"tasks": ["intensity"], "seeds": 1}
    train("mtmm_es", corpus, out=tmp_path / "one", options={"hidden": 4}, training={"epochs": 1}, **common)  # type: ignore[arg-type]
    train("linear", corpus, out=tmp_path / "linear", **common)  # type: ignore[arg-type]
    assert np.isnan(evaluate(tmp_path / "one", corpus).std("intensity.mae"))
    assert np.isnan(evaluate(run, corpus, ensemble=True).std("intensity.mae"))
    assert evaluate(tmp_path / "linear", corpus).std("intensity.mae") == 0.0
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
