import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from affectus.evaluation.scoring import SIMS_INTENSITY, Scorer, Thresholds, choose_thresholds
from affectus.labels import emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.metrics import AKHTAR_GRID
from affectus.objectives import available_tasks
from affectus.vocabulary import SEVEN_EMOTIONS, SIX_EMOTIONS

SCHEMES = [sentiment_scheme(), emotions_scheme(), emotion_class_scheme(("anger", "fear", "none"))]
TASKS = available_tasks({scheme.name: scheme for scheme in SCHEMES})
RNG = np.random.default_rng(5)
N = 200


def _emotions() -> tuple[np.ndarray, np.ndarray]:
    probabilities = RNG.uniform(size=(N, 7)).astype(np.float32)
    truth = (RNG.uniform(size=(N, 7)) < 0.3 + 0.4 * probabilities).astype(np.float32)
    return probabilities, truth


def test_emotions_are_means_over_six_and_seven_columns() -> None:
    probabilities, truth = _emotions()
    task = TASKS["emotions"]
    cuts = Thresholds((0.4,) * 7, (0.2,) * 7)
    scores = Scorer(thresholds={"emotions": cuts})([task], {"emotions": probabilities}, {"emotions": truth})
    f1 = [f1_score(truth[:, i], probabilities[:, i] >= 0.4, average="weighted", zero_division=0) for i in range(7)]
    accuracy = [balanced_accuracy_score(truth[:, i], probabilities[:, i] >= 0.2) for i in range(7)]
    assert scores["emotions.weighted_f1"] == pytest.approx(np.mean(f1[:6]))
    assert scores["emotions7.weighted_f1"] == pytest.approx(np.mean(f1))
    assert scores["emotions.weighted_accuracy"] == pytest.approx(np.mean(accuracy[:6]))
    assert scores["emotions7.weighted_accuracy"] == pytest.approx(np.mean(accuracy))
    for i, emotion in enumerate(SEVEN_EMOTIONS):
        assert scores[f"emotions.{emotion}.weighted_f1"] == pytest.approx(f1[i])
    micro = f1_score(truth[:, :6], probabilities[:, :6] >= 0.4, average="micro")
    assert scores["emotions.micro_f1"] == pytest.approx(micro)


def test_a_missing_label_takes_no_part() -> None:
    probabilities, truth = _emotions()
    holes = truth.copy()
    holes[:50, 2] = np.nan
    task = TASKS["emotions"]
    scores = Scorer()([task], {"emotions": probabilities}, {"emotions": holes})
    whole = Scorer()([task], {"emotions": probabilities[50:]}, {"emotions": truth[50:]})
    assert scores["emotions.fear.weighted_f1"] == pytest.approx(whole["emotions.fear.weighted_f1"])
    no_fear = truth.copy()
    no_fear[:, 2] = np.nan
    scores = Scorer()([task], {"emotions": probabilities}, {"emotions": no_fear})
    others = [scores[f"emotions.{emotion}.weighted_f1"] for emotion in SIX_EMOTIONS if emotion != "fear"]
    assert math.isnan(scores["emotions.fear.weighted_f1"])
    assert scores["emotions.weighted_f1"] == pytest.approx(np.mean(others))


def test_polarity_and_classes_take_the_likeliest() -> None:
    given = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)
    target = np.array([[0.0], [0.0], [np.nan]], np.float32)
    scores = Scorer()([TASKS["polarity"]], {"polarity": given}, {"polarity": target})
    assert scores["polarity.accuracy"] == 0.5
    classes = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], np.float32)
    target = np.array([[2.0], [1.0]], np.float32)
    scores = Scorer()([TASKS["emotion_class"]], {"emotion_class": classes}, {"emotion_class": target})
    assert scores["emotion_class.accuracy"] == 0.5


def test_intensity_follows_the_protocols_rules() -> None:
    task = TASKS["intensity"]
    given, target = np.array([[0.0], [0.5], [-0.05]], np.float32), np.array([[0.2], [0.6], [-0.4]], np.float32)
    mosi = Scorer()([task], {"intensity": given}, {"intensity": target})
    sims = Scorer(SIMS_INTENSITY)([task], {"intensity": given}, {"intensity": target})
    assert mosi["intensity.acc2_negative_nonnegative"] == 1.0
    assert sims["intensity.acc2"] == pytest.approx(2 / 3)  # 0 is negative there
    assert mosi["intensity.mae"] == pytest.approx((0.2 + 0.1 + 0.35) / 3, abs=1e-6)


def test_several_real_values_are_averaged() -> None:
    task = TASKS["emotion_intensity"]
    target = RNG.uniform(0, 3, size=(30, 6)).astype(np.float32)
    scores = Scorer()([task], {task.name: target + 0.5}, {task.name: target})
    assert scores["emotion_intensity.mae"] == pytest.approx(0.5, abs=1e-6)
    assert scores["emotion_intensity.fear.mae"] == pytest.approx(0.5, abs=1e-6)


def test_thresholds_are_the_grids_best() -> None:
    probabilities, truth = _emotions()
    task = TASKS["emotions"]
    one = choose_thresholds(task, probabilities, truth)
    means = []
    for cut in AKHTAR_GRID:
        columns = [
            f1_score(truth[:, i], probabilities[:, i] >= np.float32(cut), average="weighted", zero_division=0)
            for i in range(7)
        ]
        means.append(np.mean(columns))
    assert means[AKHTAR_GRID.index(one.weighted_f1[0])] == pytest.approx(max(means))
    assert len(set(one.weighted_f1)) == 1
    each = choose_thresholds(task, probabilities, truth, per_class=True)
    for i in range(7):
        columns = [
            f1_score(truth[:, i], probabilities[:, i] >= np.float32(cut), average="weighted", zero_division=0)
            for cut in AKHTAR_GRID
        ]
        assert columns[AKHTAR_GRID.index(each.weighted_f1[i])] == pytest.approx(max(columns))


def test_without_a_class_to_choose_by_the_threshold_is_plain() -> None:
    task = TASKS["emotions"]
    nothing = np.full((5, 7), np.nan, np.float32)
    assert choose_thresholds(task, np.zeros((5, 7), np.float32), nothing) == Thresholds.plain(7)


@pytest.mark.parametrize(
    ("name", "higher"),
    [("loss", False), ("intensity.mae", False), ("polarity.accuracy", True), ("emotions.weighted_accuracy", True)],
)
def test_directions(name: str, higher: bool) -> None:
    assert Scorer().higher_is_better(name) is higher
