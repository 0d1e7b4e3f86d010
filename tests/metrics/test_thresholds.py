"""The search over thresholds against the metric itself, one threshold and class at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from affectus import metrics
from affectus.errors import AffectusError
from affectus.metrics import AKHTAR_GRID, apply_threshold, best_threshold, best_thresholds_per_class, score_thresholds

METRIC = pytest.mark.parametrize("metric", ["weighted_f1", "weighted_accuracy"])
PROBABILITY = st.one_of(st.floats(0, 1, width=32), st.sampled_from(AKHTAR_GRID))


@st.composite
def problems(draw):
    shape = draw(st.tuples(st.integers(1, 20), st.integers(1, 4)))
    truth = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0, math.nan])))
    probability = draw(hnp.arrays(draw(st.sampled_from([np.float32, np.float64])), shape, elements=PROBABILITY))
    mask = draw(st.one_of(st.none(), hnp.arrays(np.bool_, shape)))
    thresholds = draw(st.one_of(st.just(AKHTAR_GRID), st.lists(st.sampled_from(AKHTAR_GRID), min_size=1, max_size=6)))
    return truth, probability, mask, thresholds


def one_by_one(truth, probability, mask, thresholds, metric):
    function = {"weighted_f1": metrics.weighted_f1, "weighted_accuracy": metrics.weighted_accuracy}[metric]
    known = ~np.isnan(truth) if mask is None else ~np.isnan(truth) & mask
    scores = np.full((len(thresholds), truth.shape[1]), np.nan)
    for j, threshold in enumerate(thresholds):
        for c in range(truth.shape[1]):
            if known[:, c].any():
                rows = known[:, c]
                accepted = probability[rows, c] >= probability.dtype.type(threshold)
                scores[j, c] = function(truth[rows, c], accepted)
    return scores


@METRIC
@given(problem=problems())
def test_scores_equal_the_metric_one_by_one(metric, problem):
    truth, probability, mask, thresholds = problem
    ours = score_thresholds(truth, probability, metric=metric, thresholds=thresholds, mask=mask)
    np.testing.assert_allclose(ours, one_by_one(*problem, metric), atol=1e-12)


@METRIC
@given(problem=problems())
def test_the_best_is_at_least_as_good_as_all(metric, problem):
    truth, probability, mask, thresholds = problem
    options = {"metric": metric, "thresholds": thresholds, "mask": mask}
    scores = score_thresholds(truth, probability, **options)
    defined = ~np.isnan(scores[0])
    each = best_thresholds_per_class(truth, probability, **options)
    for c in np.flatnonzero(defined):
        assert scores[thresholds.index(each[c]), c] >= scores[:, c].max() - 1e-12
    if defined.any():
        best = best_threshold(truth, probability, **options)
        means = scores[:, defined].mean(axis=1)
        assert means[thresholds.index(best)] >= means.max() - 1e-12
    for c in np.flatnonzero(~defined):
        assert abs(each[c] - 0.5) == min(abs(t - 0.5) for t in thresholds)


def test_the_grid_is_akhtars():
    assert len(AKHTAR_GRID) == 16
    assert list(AKHTAR_GRID) == sorted(AKHTAR_GRID)
    assert score_thresholds([[0], [1]], [[0.1], [0.9]]).shape == (16, 1)


def test_ties_go_to_the_threshold_nearest_a_half_then_to_the_lower():
    truth, probability = [[0], [1]], [[0.05], [0.95]]
    assert best_threshold(truth, probability) == 0.5
    assert best_threshold(truth, probability, thresholds=[0.9, 0.7, 0.3, 0.1]) == 0.3
    assert best_thresholds_per_class(truth, probability, thresholds=[0.7, 0.3]).tolist() == [0.3]
    assert best_threshold(truth, probability, thresholds=[0.2, 0.6]) == 0.6


def test_one_threshold_is_a_compromise_and_a_class_has_its_own():
    truth = [[1, 1], [0, 1], [0, 0], [0, 0]]
    probability = [[0.9, 0.25], [0.4, 0.22], [0.4, 0.1], [0.4, 0.1]]
    assert best_thresholds_per_class(truth, probability, metric="weighted_accuracy").tolist() == [0.5, 0.22]
    assert best_threshold(truth, probability, metric="weighted_accuracy") in AKHTAR_GRID


def test_missing_labels_have_no_effect():
    truth, probability = [[0, 1], [1, 0], [1, 1]], [[0.1, 0.3], [0.2, 0.4], [0.6, 0.7]]
    plain = score_thresholds(truth, probability)
    longer_truth = [*truth, [math.nan, math.nan]]
    assert np.array_equal(score_thresholds(longer_truth, [*probability, [math.nan, 0.9]]), plain)
    masked = [[True, True]] * 3 + [[False, False]]
    assert np.array_equal(score_thresholds([*truth, [1, 7]], [*probability, [0.4, 0.4]], mask=masked), plain)


def test_a_class_that_cannot_be_scored_is_left_out_of_the_mean():
    truth, probability = [[0, 0], [1, 0]], [[0.3, 0.9], [0.45, 0.9]]
    assert best_threshold(truth, probability, metric="weighted_accuracy") == 0.4 == best_threshold(
        [[0], [1]], [[0.3], [0.45]], metric="weighted_accuracy"
    )  # fmt: skip
    assert best_thresholds_per_class(truth, probability, metric="weighted_accuracy").tolist() == [0.4, 0.5]
    unlabelled = score_thresholds([[math.nan, 1]], [[0.5, 0.5]])
    assert np.isnan(unlabelled[:, 0]).all()
    assert np.isfinite(unlabelled[:, 1]).all()


def test_a_threshold_is_compared_in_the_precision_of_the_probability():
    single = np.array([[0.35]], np.float32)  # as float64 a hair below 0.35
    assert apply_threshold(single, 0.35).tolist() == [[1]]
    assert score_thresholds([[1]], single, thresholds=[0.35]).tolist() == [[1.0]]
    assert apply_threshold(np.array([0.2, 0.5]), 0.5).tolist() == [0, 1]
    assert apply_threshold([[0, 1]], [0.1, 0.1]).tolist() == [[0, 1]]


@METRIC
def test_errors(metric):
    with pytest.raises(AffectusError, match=r"The truth has the wrong number of axes: got shape \(2,\)"):
        score_thresholds([0, 1], [0.1, 0.2], metric=metric)
    with pytest.raises(AffectusError, match="The truth and the probability differ in shape"):
        score_thresholds([[0, 1]], [[0.1]], metric=metric)
    with pytest.raises(AffectusError, match="The mask and the truth differ in shape"):
        score_thresholds([[0, 1]], [[0.1, 0.2]], metric=metric, mask=[[True]])
    with pytest.raises(AffectusError, match=r"The truth is not binary in row 0, column 1: got 0\.5"):
        score_thresholds([[0, 0.5]], [[0.1, 0.2]], metric=metric)
    with pytest.raises(AffectusError, match="The probability is not finite in row 0, column 0: got nan"):
        score_thresholds([[0, 1]], [[math.nan, 0.2]], metric=metric)
    with pytest.raises(AffectusError, match="The list of thresholds is empty"):
        score_thresholds([[0, 1]], [[0.1, 0.2]], metric=metric, thresholds=[])
    with pytest.raises(AffectusError, match="The list of thresholds is not finite in row 1"):
        score_thresholds([[0, 1]], [[0.1, 0.2]], metric=metric, thresholds=[0.1, math.nan])
    with pytest.raises(
        AffectusError, match=f"No class can be scored by {metric}: expected a class .* Set the threshold"
    ):
        best_threshold([[math.nan]], [[0.1]], metric=metric)


def test_errors_of_names_and_shapes():
    with pytest.raises(AffectusError, match=r"Unknown metric of a threshold 'weighted-f1'.*Did you mean 'weighted_f1'"):
        score_thresholds([[0]], [[0.1]], metric="weighted-f1")
    with pytest.raises(AffectusError, match="The thresholds do not fit the probabilities"):
        apply_threshold([[0.1, 0.2]], [0.5, 0.5, 0.5])
    with pytest.raises(AffectusError, match="The probability is not finite"):
        apply_threshold([[0.1, math.nan]], 0.5)
    with pytest.raises(AffectusError, match="The threshold is not finite"):
        apply_threshold([[0.1, 0.2]], math.nan)
