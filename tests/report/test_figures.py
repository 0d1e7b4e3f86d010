import math

import numpy as np
import pytest

from affectus.metrics import confusion_matrix
from affectus.report.figures import (
    choose_video,
    expected_calibration_error,
    mean_confusion,
    reliability,
    score_sets,
)


def test_reliability_bins_hold_every_utterance_and_the_last_one_holds_one() -> None:
    bins = reliability([0, 1, 1, 0], [0.0, 0.1, 1.0, 0.95])
    assert [b.n for b in bins] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[-1].frequency == 0.5
    assert bins[-1].probability == pytest.approx(0.975)
    assert math.isnan(bins[2].probability)


def test_calibration_error_by_hand_and_of_nothing() -> None:
    # 0.2 and 0.4 said, half of the time true: |0.3 - 0.5| * 2/3; 0.9 said, true: 0.1 / 3
    assert expected_calibration_error(reliability([0, 1, 1], [0.2, 0.4, 0.9], bins=2)) == pytest.approx(1 / 6)
    assert math.isnan(expected_calibration_error(reliability([], [])))


def test_a_perfectly_calibrated_model_has_no_error() -> None:
    truth = [1] * 3 + [0] * 7
    assert expected_calibration_error(reliability(truth, [0.3] * 10)) == pytest.approx(0)


def test_mean_confusion_averages_models_and_survives_no_utterance() -> None:
    mean = mean_confusion([0, 1, 1], [[0, 0, 1], [0, 1, 1]], 2)
    expected = (confusion_matrix([0, 1, 1], [0, 0, 1]) + confusion_matrix([0, 1, 1], [0, 1, 1])) / 2
    assert np.array_equal(mean, expected)
    assert mean_confusion(np.array([]), [np.array([])], 3).sum() == 0


def test_sets_by_hand() -> None:
    found = score_sets([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], [[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert found.f1.tolist() == [0.5, 0.0, 0.0, 1.0]
    assert found.precision[0] == 0.5
    assert math.isnan(found.precision[1])
    assert math.isnan(found.recall[2])


def test_the_video_shown_is_the_longest_that_fits() -> None:
    assert choose_video([3, 12, 40, 12]) == 1
    assert choose_video([30, 20, 25]) == 1
