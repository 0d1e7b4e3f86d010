from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from affectus.api import evaluate, train
from affectus.cli.main import main
from affectus.corpus import Corpus, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation.evaluate import choose_for
from affectus.evaluation.scoring import Scorer
from affectus.evaluation.significance import compare_runs, holm, statistics_of, to_latex
from affectus.training import Run

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


def test_holm() -> None:
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
    assert "polarity.accuracy" in capsys.readouterr().out
    assert r"\toprule" in (tmp_path / "t.tex").read_text()
    assert main([*arguments, "--draws", "5"]) == 2
    assert "Too few draws" in capsys.readouterr().err


def test_bad_input(runs: tuple[Corpus, list[Run]]) -> None:
    corpus, (poor, good) = runs
    with pytest.raises(AffectusError, match="needs two runs"):
        compare_runs([good], corpus)
    with pytest.raises(AffectusError, match=r"Unknown metric 'polarity.acuracy'.*Did you mean"):
        compare_runs([poor, good], corpus, metrics=["polarity.acuracy"])
    assert to_latex([]).startswith(r"\begin{tabular}")
