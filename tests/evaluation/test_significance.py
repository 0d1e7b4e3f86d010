import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from affectus.api import evaluate, train
from affectus.cli.main import main
from affectus.corpus import Corpus, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation.evaluate import choose_for
from affectus.evaluation.scoring import MMSA_INTENSITY, Metric, Scorer
from affectus.evaluation.significance import (
    Difference,
    compare_runs,
    compare_statistics,
    holm,
    intervals_of,
    statistics_of,
    to_latex,
)
from affectus.files import json_text
from affectus.metrics import pearson
from affectus.objectives import Task, TaskKind
from affectus.studies.benchmarking.judging import judge_run
from affectus.training import Predictions, Run

TASKS = ["polarity", "emotions", "intensity"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Corpus, list[Run]]:
    corpus: Corpus = request.getfixturevalue("module_corpus")
    folder = tmp_path_factory.mktemp("runs")
    common = {"tasks": TASKS, "seeds": 3, "options": {"hidden": 8, "dense": 6}}
    good = train("mtmm_es", corpus, out=folder / "good", training={"epochs": 25, "learning_rate": 0.02}, **common)  # type: ignore[arg-type]
    poor = train("mtmm_es", corpus, out=folder / "poor", training={"epochs": 1, "learning_rate": 1e-5}, **common)  # type: ignore[arg-type]
    return corpus, [poor, good]


def test_sums_give_the_evaluations_own_figures(runs: tuple[Corpus, list[Run]]) -> None:
    corpus, (_, good) = runs
    for said, cuts in choose_for(good, corpus, "test"):
        scores = Scorer(thresholds=cuts)(good.tasks, said.probabilities, said.targets)
        found = statistics_of(good.tasks, said, cuts)
        assert set(found) >= {"polarity.accuracy", "emotions.weighted_accuracy", "emotions.fear.weighted_f1"}
        for name, statistic in found.items():
            value = float(np.nanmean(statistic.finish(statistic.per_utterance.sum(axis=0))))
            assert value == pytest.approx(scores[name], nan_ok=True, abs=1e-6), name


def test_a_better_run_is_found_and_the_same_run_is_not(runs: tuple[Corpus, list[Run]]) -> None:
    corpus, (poor, good) = runs
    by_name = {d.metric: d for d in compare_runs([poor, good], corpus, draws=2000)}
    accuracy = by_name["polarity.accuracy"]
    assert accuracy.better == "yes"
    assert accuracy.interval[0] < accuracy.difference < accuracy.interval[1]
    assert accuracy.second_mean == pytest.approx(evaluate(good, corpus).mean("polarity.accuracy"))
    assert by_name["intensity.mae"].difference < 0
    assert by_name["intensity.mae"].better in ("yes", "open")
    turned = {d.metric: d for d in compare_runs([good, poor], corpus, draws=2000)}
    assert turned["polarity.accuracy"].better == "no"
    same = compare_runs([good, good], corpus, draws=500)
    assert all(d.difference == 0 and d.better == "open" and d.p_videos == 1.0 for d in same)


def test_the_bootstrap_is_the_plain_one(runs: tuple[Corpus, list[Run]]) -> None:
    corpus, (poor, good) = runs
    (found,) = compare_runs([poor, good], corpus, metrics=["polarity.accuracy"], draws=4000, seed=3)
    rng = np.random.default_rng(0)
    per_run = []
    for run in (poor, good):
        right = []
        for said, _ in choose_for(run, corpus, "test"):
            target = said.targets["polarity"][:, 0]
            hit = (said.probabilities["polarity"].argmax(axis=1) == target).astype(float)
            right.append(np.where(np.isnan(target), np.nan, hit))
        per_run.append(np.array(right))
    recordings = corpus.recordings("test")
    position = {int(row): i for i, row in enumerate(corpus.rows("test"))}
    groups = [np.array([position[int(row)] for row in rows]) for rows in recordings]
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        drawn.append(np.mean([np.nanmean(per_run[1][s][rows]) - np.nanmean(per_run[0][s][rows]) for s in range(3)]))
    assert found.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.04)


def test_t_test_over_seeds_is_scipys(runs: tuple[Corpus, list[Run]]) -> None:
    corpus, (poor, good) = runs
    (found,) = compare_runs([poor, good], corpus, metrics=["intensity.mae"], draws=200)
    first, second = (evaluate(run, corpus).values["intensity.mae"] for run in (poor, good))
    assert found.p_seeds == pytest.approx(stats.ttest_rel(second, first).pvalue, rel=1e-3)


def _statistics(truth: np.ndarray, said: np.ndarray, rules: Mapping[str, Metric] = MMSA_INTENSITY) -> dict[str, Any]:
    task = Task("intensity", "sentiment", TaskKind.REAL, ("intensity",))
    both = ({"intensity": x.astype(np.float32)[:, None]} for x in (said, truth))
    return statistics_of([task], Predictions(np.arange(len(truth)), *both), {}, rules)


VIDEOS = np.repeat(np.arange(10), 6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("constant", [0.1, 0.123, 0.5, 1.7, -0.33])
def test_a_seed_without_a_figure_leaves_none_of_the_run(constant: float) -> None:
    """And its seeds stay in pairs with the other run's."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    first = [_statistics(truth, truth + rng.normal(size=60)) for _ in range(3)]
    second = [*first[:2], _statistics(truth, np.full(60, constant))]
    for pair in ((first, second), (second, first)):
        correlation, error = compare_statistics(
            ["a", "b"], pair, VIDEOS, paired=[True, True], where="x", metrics=["intensity.pearson", "intensity.mae"]
        )
        assert np.isnan(
            [correlation.difference, *correlation.interval, correlation.p_videos, correlation.p_seeds]
        ).all()
        assert correlation.better == "open"
        assert json.loads(json_text(correlation.to_json()))["interval"] == [None, None]
        assert r"& -- & --" in to_latex([correlation])
        # the other figure's p does not count the test that could not be made
        assert error.p_videos_corrected == error.p_videos
        assert not np.isnan(error.p_seeds)
    assert np.isnan(intervals_of([second], VIDEOS, "intensity.pearson", draws=200)).all()


def test_a_correlation_is_as_exact_as_the_metric() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=60)
    for said in (1e4 + truth + rng.normal(size=60), 0.1 + 1e-7 * rng.normal(size=60), 1e-30 * truth):
        both = [_statistics(truth, x) for x in (said, truth)]
        (found,) = compare_statistics(
            ["a", "b"], [[x] for x in both], VIDEOS, paired=[True] * 2, where="x", metrics=["intensity.pearson"]
        )
        expected = pearson(truth.astype(np.float32), said.astype(np.float32))
        assert found.first_mean == pytest.approx(expected, abs=1e-12)
        assert found.interval[0] <= found.difference <= found.interval[1]


@pytest.mark.filterwarnings("error")
def test_draws_without_a_figure_are_left_out_and_counted() -> None:
    """One video alone has other predictions: a third of the draws lacks it."""
    rng = np.random.default_rng(2)
    truth = rng.normal(size=60)
    said = np.where(VIDEOS == 3, 0.7 + 0.1 * truth, 0.123)
    good = [_statistics(truth, truth + rng.normal(size=60))]
    (found,) = compare_statistics(
        ["a", "b"], [good, [_statistics(truth, said)]], VIDEOS, paired=[True] * 2, where="x", draws=2000,
        metrics=["intensity.pearson"],
    )  # fmt: skip
    assert found.undefined_draws / 2000 == pytest.approx(0.9**10, abs=0.05)
    assert found.interval[0] < found.difference < found.interval[1]
    ((low, high),) = intervals_of([[_statistics(truth, said)]], VIDEOS, "intensity.pearson", draws=500)
    assert -1 <= low < high <= 1


def test_the_rules_are_the_protocols(runs: tuple[Corpus, list[Run]]) -> None:
    """Those of CH-SIMS clip first; the same figures as in an evaluation."""
    corpus, both = runs
    chosen = ["intensity.mae", "intensity.pearson"]
    told = {}
    for protocol in ("akhtar2019", "mmsa-sims"):
        for found in compare_runs(both, corpus, metrics=chosen, draws=200, protocol=protocol):
            means = [evaluate(run, corpus, protocol=protocol).mean(found.metric) for run in both]
            assert [found.first_mean, found.second_mean] == pytest.approx(means, abs=1e-6)
            told[protocol, found.metric] = found
        judged = [judge_run(run, corpus, "test", protocol) for run in both]
        videos = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(corpus.recordings("test"))])
        for metric in chosen:
            for one, (low, high) in zip(
                judged, intervals_of([j.statistics for j in judged], videos, metric, draws=500), strict=True
            ):
                assert low < one.mean(metric) < high
    assert told["mmsa-sims", "intensity.mae"].first_mean < 0.9 * told["akhtar2019", "intensity.mae"].first_mean
    with pytest.raises(AffectusError, match=r"'akhtar2019-released' is an oracle's"):
        compare_runs(both, corpus, protocol="akhtar2019-released")


def test_holm() -> None:
    assert holm([0.01, float("nan"), 0.04, 0.03]) == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_under_no_effect_one_in_twenty_is_found() -> None:
    from affectus.evaluation.significance import _p_of_draws

    rng = np.random.default_rng(1)
    found = 0
    for _ in range(400):
        differences = rng.normal(size=60)
        draws = rng.multinomial(60, np.full(60, 1 / 60), size=500) @ differences
        found += _p_of_draws(draws) < 0.05
    assert 0.02 <= found / 400 <= 0.09


def test_command_line(runs: tuple[Corpus, list[Run]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, both = runs
    save_corpus(corpus, tmp_path / "corpus")
    arguments = ["compare", *(str(run.folder) for run in both), "--corpus", str(tmp_path / "corpus")]
    assert main([*arguments, "--draws", "200", "--latex", str(tmp_path / "t.tex")]) == 0
    printed = capsys.readouterr().out
    assert "polarity.accuracy" in printed
    assert "protocol akhtar2019" in printed
    assert main([*arguments, "--draws", "200", "--protocol", "mmsa-sims", "--json", "-"]) == 0
    by_name = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    mean = evaluate(both[1], corpus, protocol="mmsa-sims").mean("intensity.mae")
    assert by_name["intensity.mae"]["second_mean"] == pytest.approx(mean, abs=1e-6)
    assert r"\toprule" in (tmp_path / "t.tex").read_text()
    assert main([*arguments, "--draws", "200", "--split", "train", "--latex", str(tmp_path / "t.tex")]) == 0
    seen = [f"{run.folder.name}: The models were trained on this split." for run in both]
    printed = capsys.readouterr().out
    assert all(note in printed for note in seen)
    lines = (tmp_path / "t.tex").read_text().splitlines()
    assert lines[:3] == [f"% {corpus.name}, split train, protocol akhtar2019", *(f"% {note}" for note in seen)]
    assert main([*arguments, "--draws", "200", "--split", "train", "--json", "-"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)
    assert told.err.splitlines() == seen
    assert main([*arguments, "--draws", "5"]) == 2
    assert "Too few draws" in capsys.readouterr().err


def test_every_key_of_the_json_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "read-a-report.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    keys = [field.name for field in fields(Difference)]
    assert re.findall(r"`(\w+)`", "".join(rows)) == keys
    assert main(["compare", "--help"]) == 0
    words = re.sub(r"[^\w,]+", " ", capsys.readouterr().out)
    for key in keys:
        assert re.search(rf"\b{key}\b", words), key


def test_bad_input(runs: tuple[Corpus, list[Run]]) -> None:
    corpus, (poor, good) = runs
    with pytest.raises(AffectusError, match="needs two runs"):
        compare_runs([good], corpus)
    with pytest.raises(AffectusError, match=r"Unknown metric 'polarity.acuracy'.*Did you mean"):
        compare_runs([poor, good], corpus, metrics=["polarity.acuracy"])
    assert to_latex([]).startswith(r"\begin{tabular}")


def test_names_in_latex_are_printed_as_they_are(runs: tuple[Corpus, list[Run]]) -> None:
    corpus, pair = runs
    (found, *_) = compare_runs(pair, corpus, draws=200)
    text = to_latex([dataclasses.replace(found, second=r"a_b&c%d#e$f{g}h~i^j\k")], ["two\nlines"])
    assert text.startswith("% two\n% lines\n")
    assert r"a\_b\&c\%d\#e\$f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k &" in text
