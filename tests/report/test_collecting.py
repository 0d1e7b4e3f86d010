import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.api import train
from affectus.corpus import Corpus, load_corpus
from affectus.errors import AffectusError
from affectus.evaluation import evaluate_run
from affectus.metrics import f1, precision, recall
from affectus.predict import predict_table
from affectus.report.collecting import collect
from affectus.report.comparing import MOST_EXAMPLES
from affectus.report.curves import read_history
from affectus.report.data import Report
from affectus.report.video import MOST_UTTERANCES
from affectus.training import load_run
from affectus.vocabulary import SEVEN_EMOTIONS


@pytest.fixture(scope="module")
def report(studies: Path) -> Report:
    return collect([load_run(studies / "multi"), load_run(studies / "single")], load_corpus(studies / "corpus"))


@pytest.fixture(scope="module")
def corpus(studies: Path) -> Corpus:
    return load_corpus(studies / "corpus")


def test_every_figure_is_the_evaluations(studies: Path, corpus: Corpus, report: Report) -> None:
    for place, name in enumerate(("multi", "single")):
        found = evaluate_run(studies / name, corpus)
        told = {row.metric: row.scores[place] for row in report.scores if row.scores[place] is not None}
        assert list(told) == list(found.values)
        for metric, score in told.items():
            assert score.values == pytest.approx(tuple(found.values[metric]), nan_ok=True)
            assert (score.mean, score.std) == pytest.approx((found.mean(metric), found.std(metric)), nan_ok=True)
        for row in report.scores:
            if row.metric in found.majority:
                assert row.majority == pytest.approx((found.majority[row.metric],), nan_ok=True)


def test_classes_count_labels_and_predictions(corpus: Corpus, report: Report, studies: Path) -> None:
    rows = {row.emotion: row for row in report.emotions["emotions"]}
    assert tuple(rows) == SEVEN_EMOTIONS
    test = corpus.table.filter(pl.col("split") == "test")
    assert rows["anger"].gold == test.filter(pl.col("anger") > 0).height
    assert rows["anger"].known == test["anger"].count()
    assert rows["anger"].prevalence == rows["anger"].gold / rows["anger"].known
    # what is said is what the confusion matrix counts
    matrix = next(c for c in report.runs[1].confusions if c.title == "emotions: anger").counts
    assert rows["anger"].predicted[1] == pytest.approx(matrix[0][1] + matrix[1][1])
    assert rows["anger"].gold == pytest.approx(sum(matrix[1]))
    # ... and gives the evaluation's F1 of each seed, here of their mean only if both agree
    assert rows["anger"].scores["f1"].scores[1].mean == evaluate_run(studies / "single", corpus).mean(
        "emotions.anger.f1"
    )


def test_one_of_k_is_told_one_class_against_the_rest(corpus: Corpus, report: Report, studies: Path) -> None:
    run = load_run(studies / "multi")
    given = [run.predict(run.model(seed), corpus, "test") for seed in run.seeds]
    truth = given[0].targets["emotion_class"][:, 0]
    known = ~np.isnan(truth)
    expected = [
        f1((truth[known] == 6).astype(int), (g.probabilities["emotion_class"][known].argmax(1) == 6).astype(int))
        for g in given
    ]
    row = report.emotions["emotion_class"][6]
    assert row.emotion == "none"
    assert row.scores["f1"].scores[0].values == pytest.approx(expected)
    assert row.scores["f1"].scores[1] is None
    assert row.predicted[1] is None


def test_confusion_matrices_agree_with_the_accuracies(report: Report) -> None:
    scores = {row.metric: row.scores[0] for row in report.scores}
    for title, metric in (
        ("polarity", "polarity.accuracy"),
        ("emotion_class", "emotion_class.accuracy"),
        ("intensity, 2 classes, 0 is positive", "intensity.acc2_negative_nonnegative"),
        ("intensity, 2 classes without neutral ones", "intensity.acc2_negative_positive"),
        ("intensity, 3 classes", "intensity.acc3"),
        ("intensity, 5 classes", "intensity.acc5"),
        ("intensity, 7 classes", "intensity.acc7"),
        ("emotions: fear", "emotions.fear.accuracy"),
    ):
        counts = np.array(next(c for c in report.runs[0].confusions if c.title == title).counts)
        assert np.trace(counts) / counts.sum() == pytest.approx(scores[metric].mean), title


def test_threshold_curves_pass_through_the_figures(report: Report) -> None:
    scores = {row.metric: row.scores[1] for row in report.scores}
    curves = next(c for c in report.runs[1].thresholds if c.emotion == "sadness")
    assert set(curves.weighted_f1) == {"valid", "test"}
    assert len(curves.chosen_f1) == 2
    if len(set(curves.chosen_f1)) == 1:
        at = curves.grid.index(curves.chosen_f1[0])
        assert curves.weighted_f1["test"][at] == pytest.approx(scores["emotions.sadness.weighted_f1"].mean)
    if len(set(curves.chosen_accuracy)) == 1:
        at = curves.grid.index(curves.chosen_accuracy[0])
        assert curves.weighted_accuracy["test"][at] == pytest.approx(scores["emotions.sadness.weighted_accuracy"].mean)


def test_valid_alone_has_one_curve_of_thresholds(studies: Path, corpus: Corpus) -> None:
    found = collect([load_run(studies / "single")], corpus, split="valid")
    assert list(found.runs[0].thresholds[0].weighted_f1) == ["valid"]
    assert any("were chosen on this split" in note for note in found.notes)


def test_calibration_pools_the_seeds(report: Report) -> None:
    calibration = next(c for c in report.runs[0].calibrations if c.title == "emotions: anger")
    known = next(row.known for row in report.emotions["emotions"] if row.emotion == "anger")
    assert sum(b.n for b in calibration.bins) == 2 * known
    assert 0 <= calibration.ece <= 1


def test_learning_curves_are_the_history(studies: Path, report: Report) -> None:
    (curves,) = report.runs[0].curves
    history = read_history(studies / "multi" / "seed-1" / "history.jsonl")
    assert curves.metric == "polarity.accuracy"
    assert curves.seeds[1].train == tuple(row["train.loss"] for row in history)
    assert curves.seeds[1].best == int(np.argmin([row["valid.loss"] for row in history]))


def test_each_loss_of_which_the_whole_is_made_has_curves(studies: Path, corpus: Corpus) -> None:
    (curves,) = collect([load_run(studies / "heads")], corpus).runs[0].curves
    heads = ("", ".text", ".audio", ".vision", ".fused")
    assert list(curves.losses) == [f"{task}{head}" for task in ("intensity", "polarity") for head in heads]
    for place, seed in enumerate((0, 1)):
        history = read_history(studies / "heads" / f"seed-{seed}" / "history.jsonl")
        curve = curves.losses["intensity.audio"][place]
        assert curve.train == tuple(row["train.loss.intensity.audio"] for row in history)
        assert curve.valid == tuple(row["valid.loss.intensity.audio"] for row in history)
        assert curve.best == curves.seeds[place].best


def test_a_lone_loss_is_not_told_twice(report: Report) -> None:
    assert report.runs[1].curves[0].losses == {}


def test_epochs_chosen_for_each_task_are_marked_on_its_loss(studies: Path, corpus: Corpus, tmp_path: Path) -> None:
    train(
        "mtmm_es",
        studies / "corpus",
        tasks=["polarity", "intensity"],
        out=tmp_path / "run",
        options={"hidden": 4, "dense": 4},
        training={"epochs": 3, "select": "per_task", "learning_rate": 0.05},
    )
    (curves,) = collect([load_run(tmp_path / "run")], corpus).runs[0].curves
    assert curves.selects == "each task's epoch is chosen by its own loss on valid"
    assert curves.seeds[0].best is None
    for seeds in curves.losses.values():
        assert seeds[0].best == int(np.argmin(seeds[0].valid))


def test_polarity_is_told_class_by_class(corpus: Corpus, studies: Path, report: Report) -> None:
    negative, positive = report.emotions["polarity"]
    assert (negative.emotion, positive.emotion) == ("negative", "positive")
    matrix = np.array(next(c for c in report.runs[0].confusions if c.title == "polarity").counts)
    assert (negative.gold, positive.gold) == tuple(matrix.sum(axis=1))
    assert [negative.predicted[0], positive.predicted[0]] == pytest.approx(matrix.sum(axis=0).tolist())
    assert list(negative.scores) == ["precision", "recall", "f1"]
    assert negative.scores["recall"].scores[0].mean == pytest.approx(matrix[0, 0] / matrix[0].sum())
    assert [row.scores["recall"].majority[0] for row in (negative, positive)] in ([0.0, 1.0], [1.0, 0.0])
    assert negative.scores["recall"].scores[1] is None


def test_intensity_is_cut_by_the_protocols_rounding(studies: Path, corpus: Corpus) -> None:
    run = load_run(studies / "multi")
    halves = corpus.table.with_columns((pl.col("sentiment") * 2).round() / 2)
    rounded = Corpus(halves, corpus.features, corpus.card)
    for protocol in ("mmsa", "cai2025"):
        found = collect([run], rounded, protocol=protocol)
        scores = {row.metric: row.scores[0].mean for row in found.scores}
        for classes in (3, 5, 7):
            title = f"intensity, {classes} classes"
            counts = np.array(next(c for c in found.runs[0].confusions if c.title == title).counts)
            assert np.trace(counts) / counts.sum() == pytest.approx(scores[f"intensity.acc{classes}"])


def test_a_lone_utterance_has_nothing_to_attend_to(studies: Path, corpus: Corpus) -> None:
    apart = corpus.table.with_columns(pl.col("id").alias("video"))
    found = collect([load_run(studies / "multi")], Corpus(apart, corpus.features, corpus.card))
    assert found.video.total == 1
    assert found.video.heatmaps == ((),)


def test_stages_have_curves_of_their_own_and_only_the_last_one_chooses(studies: Path, corpus: Corpus) -> None:
    run = collect([load_run(studies / "stages")], corpus).runs[0]
    assert [curves.stage for curves in run.curves] == [
        "unimodal.text",
        "unimodal.audio",
        "unimodal.vision",
        "fusion",
    ]
    assert [curves.seeds[0].best for curves in run.curves] == [None, None, None, 0]


def test_a_model_without_epochs_has_no_curves(studies: Path, corpus: Corpus) -> None:
    found = collect([load_run(studies / "linear")], corpus)
    assert found.runs[0].curves == ()
    assert found.video.heatmaps == ((),)


def test_the_video_shows_labels_predictions_and_attention(studies: Path, corpus: Corpus, report: Report) -> None:
    video = report.video
    rows = corpus.table.filter((pl.col("video") == video.video) & (pl.col("split") == "test"))
    assert [utterance.id for utterance in video.utterances] == rows["id"].to_list()
    table = predict_table(studies / "multi", corpus, split="test", attention=True)
    said = dict(zip(table["id"], table["polarity"], strict=True))
    weights = dict(zip(table["id"], table["attention.text.audio"].to_list(), strict=True))
    for place, utterance in enumerate(video.utterances):
        polarity = utterance.said["polarity"]
        assert polarity[0].text == said[utterance.id]
        assert polarity[1] is None
        expected = "–" if rows["sentiment"][place] is None else ["negative", "positive"][rows["sentiment"][place] >= 0]
        assert utterance.gold["polarity"] == expected
        assert polarity[0].mark == (None if expected == "–" else "right" if expected == polarity[0].text else "wrong")
        assert video.heatmaps[0][0].first.weights[place] == pytest.approx(tuple(weights[utterance.id]), abs=1e-5)
    pairs = [(pair.first.query, pair.first.key, pair.second.query, pair.second.key) for pair in video.heatmaps[0]]
    assert pairs == [
        ("text", "audio", "audio", "text"),
        ("text", "vision", "vision", "text"),
        ("audio", "vision", "vision", "audio"),
    ]


def test_a_long_video_is_cut(studies: Path, corpus: Corpus) -> None:
    one = corpus.table.with_columns(
        pl.when(pl.col("split") == "test").then(pl.lit("long")).otherwise("video").alias("video")
    )
    found = collect([load_run(studies / "single")], Corpus(one, corpus.features, corpus.card))
    assert found.video.total > MOST_UTTERANCES
    assert len(found.video.utterances) == MOST_UTTERANCES
    assert len(found.video.heatmaps[0][0].first.weights) == MOST_UTTERANCES


def test_differences_tell_precision_and_recall_of_each_utterance(corpus: Corpus, report: Report) -> None:
    (difference,) = report.differences
    assert difference.task == "emotions"
    labels = {
        row["id"]: [row[name] > 0 for name in SEVEN_EMOTIONS[:6]]
        for row in corpus.table.drop_nulls(list(SEVEN_EMOTIONS[:6])).to_dicts()
    }
    assert difference.better[0] + difference.better[1] > 0
    for side, examples in enumerate(difference.examples):
        assert len(examples) == min(difference.better[side], MOST_EXAMPLES)
        for example in examples:
            truth = [*map(int, labels[example.id]), int(not any(labels[example.id]))]
            scores = []
            for place in (0, 1):
                said = [int(name in example.said[place].split(", ")) for name in SEVEN_EMOTIONS]
                if any(said):
                    assert example.precision[place] == pytest.approx(precision(truth, said))
                else:
                    assert math.isnan(example.precision[place])
                assert example.recall[place] == pytest.approx(recall(truth, said))
                scores.append(f1(truth, said))
            assert scores[side] > scores[1 - side]


def test_differences_of_classes_are_those_that_one_run_alone_tells_right(studies: Path, corpus: Corpus) -> None:
    found = collect([load_run(studies / "polarity"), load_run(studies / "linear")], corpus)
    (difference,) = found.differences
    for side, examples in enumerate(difference.examples):
        for example in examples:
            assert example.said[side] == example.gold != example.said[1 - side]
            assert example.precision is None


def test_an_oracle_says_so_and_keeps_honest_matrices(studies: Path, corpus: Corpus) -> None:
    found = collect([load_run(studies / "polarity")], corpus, protocol="akhtar2019-released")
    honest = collect([load_run(studies / "polarity")], corpus)
    assert found.oracle
    assert found.notes[0].startswith("Oracle")
    assert found.runs[0].confusions == honest.runs[0].confusions


def test_runs_of_one_name_are_told_apart(studies: Path, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "single").symlink_to(studies / "single")
    copy = tmp_path / "copy" / "single"
    copy.mkdir(parents=True)
    for part in (studies / "single").iterdir():
        (copy / part.name).symlink_to(part)
    found = collect([load_run(studies / "single"), load_run(copy)], corpus)
    assert [run.label for run in found.runs] == [f"{studies.name}/single", "copy/single"]
    assert found.differences[0].better == (0, 0)


def test_labels_that_are_missing_altogether_do_no_harm(studies: Path, corpus: Corpus) -> None:
    columns = ("sentiment", *SEVEN_EMOTIONS[:6], "emotion_class")
    bare = corpus.table.with_columns(
        pl.when(pl.col("split") == "test").then(None).otherwise(c).alias(c) for c in columns
    )
    found = collect([load_run(studies / "multi")], Corpus(bare, corpus.features, corpus.card))
    assert found.emotions["emotions"][0].known == 0
    assert math.isnan(found.emotions["emotions"][0].prevalence)
    assert math.isnan(found.runs[0].calibrations[0].ece)
    assert {said[0].mark for u in found.video.utterances for said in u.said.values()} == {None}


def test_runs_without_a_common_task_are_refused(studies: Path, corpus: Corpus) -> None:
    with pytest.raises(
        AffectusError, match=r"no task in common .*polarity: polarity; single: emotions; expected a task"
    ):
        collect([load_run(studies / "polarity"), load_run(studies / "single")], corpus)


def test_a_run_in_between_makes_them_comparable(studies: Path, corpus: Corpus) -> None:
    names = ("polarity", "single", "multi")
    found = collect([load_run(studies / name) for name in names], corpus)
    assert [(difference.task, difference.runs) for difference in found.differences] == [
        ("polarity", (0, 2)),
        ("emotions", (1, 2)),
    ]
    assert found.video.utterances[0].said["polarity"][1] is None


def test_a_run_given_twice_is_refused(studies: Path, corpus: Corpus) -> None:
    with pytest.raises(AffectusError, match="The run is given twice"):
        collect([load_run(studies / "single")] * 2, corpus)
    with pytest.raises(AffectusError, match="No run is given"):
        collect([], corpus)


def test_a_split_that_is_not_there_is_refused(studies: Path, corpus: Corpus) -> None:
    train = corpus.select(corpus.rows("train"))
    with pytest.raises(AffectusError, match=r"no utterance in the split 'test': expected one of: train"):
        collect([load_run(studies / "single")], train)


def test_a_video_that_is_not_there_is_refused(studies: Path, corpus: Corpus) -> None:
    with pytest.raises(AffectusError, match=r"has no video 'video-9'.*one of its \d+ videos, for instance 'video-"):
        collect([load_run(studies / "single")], corpus, video="video-9")


def test_a_damaged_history_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"stage": "main", "epoch": 0}\n{"sta', encoding="utf-8")
    with pytest.raises(AffectusError, match=r"Not an epoch's figures in .*history.jsonl, line 2"):
        read_history(path)
    assert read_history(tmp_path / "absent") == []
