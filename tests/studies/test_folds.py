import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.cli.main import main
from affectus.corpus import Corpus, build_corpus, load_corpus, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation.scoring import Scorer
from affectus.studies.folds import compare_folds, cross_validate, load_folds, make_folds
from affectus.training.loading import load_run

SMALL = {"options": {"hidden": 6, "dense": 4}, "training": {"epochs": 2, "learning_rate": 0.02}}


def test_every_video_is_judged_once_and_never_seen(corpus: Corpus) -> None:
    judged: list[str] = []
    for fold in make_folds(corpus, 4, valid_fraction=0.2):
        videos = {split: set(fold.table[fold.rows(split)]["video"]) for split in ("train", "valid", "test")}
        assert not videos["train"] & videos["test"]
        assert not videos["valid"] & (videos["train"] | videos["test"])
        assert set.union(*videos.values()) == set(corpus.table["video"])
        assert len(videos["valid"]) == round(0.2 * (24 - len(videos["test"])))
        judged.extend(fold.table[fold.rows("test")]["id"])
    assert sorted(judged) == sorted(corpus.table["id"])


def test_folds_do_not_depend_on_the_order_of_the_source(make_corpus: Callable[..., Corpus]) -> None:
    corpus = make_corpus()
    turned = corpus.table.reverse()
    rows = np.arange(len(corpus))[::-1]
    other = build_corpus(turned, {name: ragged.take(rows) for name, ragged in corpus.features.items()}, corpus.card)
    for one, two in zip(make_folds(corpus, 3), make_folds(other, 3), strict=True):
        assert set(one.table[one.rows("test")]["video"]) == set(two.table[two.rows("test")]["video"])
    first, second = make_folds(corpus, 3)[0], make_folds(corpus, 3, seed=1)[0]
    assert set(first.table[first.rows("test")]["video"]) != set(second.table[second.rows("test")]["video"])


def test_pooled_figures_are_those_of_the_pooled_predictions(corpus: Corpus, tmp_path: Path) -> None:
    out = cross_validate("linear", corpus, tasks=["polarity", "intensity"], out=tmp_path / "cv", folds=3)
    found = load_folds(out, corpus)
    given: dict[str, list[np.ndarray]] = {}
    targets: dict[str, list[np.ndarray]] = {}
    for number, fold in enumerate(make_folds(corpus, 3)):
        run = load_run(out / f"fold-{number}")
        said = run.predict(run.model(0), fold, "test")
        for task in ("polarity", "intensity"):
            given.setdefault(task, []).append(said.probabilities[task])
            targets.setdefault(task, []).append(said.targets[task])
    scores = Scorer()(
        run.tasks,
        {task: np.concatenate(parts) for task, parts in given.items()},
        {task: np.concatenate(parts) for task, parts in targets.items()},
    )
    for name in ("polarity.accuracy", "polarity.weighted_f1", "intensity.mae", "intensity.pearson"):
        assert found.values(name) == pytest.approx([scores[name]], abs=1e-6), name
    assert found.to_json()["n"] == len(corpus)
    assert found.to_json()["videos"] == 24
    assert all(np.isnan(of["std"]) for of in found.to_json()["metrics"].values())  # of one seed


def test_two_systems_are_compared_over_all_videos(corpus: Corpus, tmp_path: Path) -> None:
    good = cross_validate("linear", corpus, tasks=["polarity"], out=tmp_path / "good", folds=3)
    poor = cross_validate("majority", corpus, tasks=["polarity"], out=tmp_path / "poor", folds=3)
    (accuracy, _) = compare_folds([load_folds(poor, corpus), load_folds(good, corpus)], draws=1000)
    assert accuracy.metric == "polarity.accuracy"
    assert accuracy.better == "yes"
    assert accuracy.interval[0] < accuracy.difference < accuracy.interval[1]
    part = corpus.select(corpus.rows("train"))
    other = cross_validate("linear", part, tasks=["polarity"], out=tmp_path / "o")
    with pytest.raises(AffectusError, match="judged different utterances"):
        compare_folds([load_folds(poor, corpus), load_folds(other, part)])
    with pytest.raises(AffectusError, match="two runs or more"):
        compare_folds([load_folds(poor, corpus)])


def test_a_stopped_cross_validation_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    whole = cross_validate("mtmm_es", corpus, tasks=["polarity"], out=tmp_path / "whole", folds=2, seeds=2, **SMALL)  # type: ignore[arg-type]

    class Stopped(Exception):
        pass

    def stop(event: object) -> None:
        if getattr(event, "stage", "").startswith("fold 1"):
            raise Stopped

    with pytest.raises(Stopped):
        cross_validate(
            "mtmm_es",
            corpus,
            tasks=["polarity"],
            out=tmp_path / "cut",
            folds=2,
            seeds=2,
            report=stop,
            **SMALL,  # type: ignore[arg-type]
        )
    with pytest.raises(AffectusError, match="No seed of the run is trained to its end"):
        load_folds(tmp_path / "cut", corpus)
    cut = cross_validate("mtmm_es", corpus, tasks=["polarity"], out=tmp_path / "cut", folds=2, seeds=2, **SMALL)  # type: ignore[arg-type]
    one, two = load_folds(whole, corpus), load_folds(cut, corpus)
    assert one.values("polarity.accuracy") == two.values("polarity.accuracy")
    assert len(load_folds(whole, corpus, ensemble=True).statistics) == 1
    with pytest.raises(AffectusError, match="another cross-validation"):
        cross_validate("mtmm_es", corpus, tasks=["polarity"], out=tmp_path / "cut", folds=3, **SMALL)  # type: ignore[arg-type]


def test_models_of_another_corpus_judge_nothing(make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    corpus, longer = make_corpus(videos=12), make_corpus(videos=16)
    mended = Corpus(corpus.table.with_columns(pl.col("sentiment").fill_null(1.0)), corpus.features, corpus.card)
    given = {"tasks": ["polarity"], "out": tmp_path / "cv", "folds": 3}
    cross_validate("linear", corpus, **given)  # type: ignore[arg-type]
    before = load_folds(tmp_path / "cv", corpus).values("polarity.accuracy")
    for other in (longer, mended):
        assert other.name == corpus.name
        with pytest.raises(AffectusError, match=r"another cross-validation, which differs in 'sha256'.*another folder"):
            cross_validate("linear", other, **given)  # type: ignore[arg-type]
        with pytest.raises(AffectusError, match=r"made on another corpus than this 'toy'.*may have seen these videos"):
            load_folds(tmp_path / "cv", other)
    save_corpus(corpus, tmp_path / "corpus")
    for same in (corpus, load_corpus(tmp_path / "corpus")):
        cross_validate("linear", same, **given)  # type: ignore[arg-type]
        assert load_folds(tmp_path / "cv", same).values("polarity.accuracy") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 1}, "two folds or more"),
        ({"folds": 30}, "too few videos"),
        ({"folds": 3, "valid_fraction": 1.0}, "out of range"),
    ],
)
def test_folds_that_cannot_be(corpus: Corpus, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(AffectusError, match=message):
        make_folds(corpus, **arguments)  # type: ignore[arg-type]


def test_the_command_line(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus"
    save_corpus(corpus, folder)
    common = [str(folder), "--tasks", "polarity,emotions", "--folds", "3", "-q"]
    assert main(["cross-validate", "linear", *common, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert "24 videos" in printed
    assert re.search(r"polarity\.accuracy *│ *0\.\d{4} │ *– *│", printed)
    assert main(["cross-validate", "majority", *common, "--out", str(tmp_path / "b"), "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["n"], facts["videos"], facts["seeds"]) == (len(corpus), 24, [0])
    assert facts["metrics"]["polarity.accuracy"]["std"] is None
    both = [str(tmp_path / "b"), str(tmp_path / "a")]
    assert main(["compare", *both, "--corpus", str(folder), "--draws", "500"]) == 0
    assert "polarity.accuracy" in capsys.readouterr().out
    assert main(["compare", *both, "--corpus", str(folder), "--protocol", "mmsa-sims"]) == 2
    assert "by the rules of akhtar2019 alone" in " ".join(capsys.readouterr().err.split())
    assert main(["compare", str(tmp_path), str(tmp_path / "a"), "--corpus", str(folder)]) == 2
    assert "holds no cross-validation" in capsys.readouterr().err
