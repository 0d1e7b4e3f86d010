"""Single values at the cuts, what empty classes give, and every error."""

import math

import numpy as np
import pytest

from affectus import metrics
from affectus.errors import AffectusError
from affectus.metrics import METRICS

REAL = sorted(name for name in METRICS if METRICS[name].kind == "real")
CLASSES = sorted(name for name in METRICS if METRICS[name].kind in ("one_of_k", "binary"))
FLAT = REAL + CLASSES
MULTI_LABEL = sorted(name for name in METRICS if METRICS[name].kind == "multi_label")


@pytest.mark.parametrize(
    ("value", "even", "away"),
    [
        (0.5, 0, 1), (-0.5, 0, -1), (1.5, 2, 2), (2.5, 2, 3), (-2.5, -2, -3), (-1.5, -2, -2),
        (float(np.nextafter(0.5, 0)), 0, 0), (float(np.nextafter(2.5, 0)), 2, 2), (3.4, 3, 3), (-7.0, -3, -3),
    ],
)  # fmt: skip
def test_acc7_rounds_halves_as_asked(value, even, away):
    for rounding, expected in (("half_even", even), ("half_away", away)):
        hits = [whole for whole in range(-3, 4) if metrics.acc7([whole], [value], rounding=rounding) == 1]
        assert hits == [expected]


def test_clipping_comes_before_rounding():
    assert metrics.acc5([2.0], [2.9]) == 1
    assert metrics.acc3([1.0], [-1.0]) == 0
    assert metrics.acc7([3.0], [2.4]) == 0
    assert metrics.acc7([3.0], [9.0]) == 1


@pytest.mark.parametrize(
    ("value", "two", "three", "five"),
    [
        (-2.0, -1, -1, -1), (-0.7, -1, -1, -1), (-0.69, -1, -1, -0.4), (-0.1, -1, -1, -0.4), (-0.09, -1, 0, 0),
        (0.0, -1, 0, 0), (1e-6, 1, 0, 0), (0.1, 1, 0, 0), (0.11, 1, 1, 0.4), (0.7, 1, 1, 0.4), (0.71, 1, 1, 1),
        (9.0, 1, 1, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sims_bins_are_closed_on_the_right_in_single_precision(value, two, three, five, dtype):
    value = np.array([value], dtype)
    assert [x for x in (-1, 1) if metrics.sims_acc2([x], value) == 1] == [two]
    assert [x for x in (-1, 0, 1) if metrics.sims_acc3([x], value) == 1] == [three]
    assert [x for x in (-1, -0.4, 0, 0.4, 1) if metrics.sims_acc5([x], value) == 1] == [five]


def test_zero_has_a_side_of_its_own_in_each_rule():
    assert metrics.acc2_negative_nonnegative([0.0], [0.1]) == 1
    assert metrics.sims_acc2([0.0], [0.1]) == 0
    assert metrics.acc2_negative_nonnegative([-0.0], [0.0]) == 1
    assert metrics.acc2_negative_positive([1.0, -1.0], [0.0, 0.0]) == 0.5


def test_what_an_empty_class_gives():
    neutral = [0.0, 0.0], [0.1, -0.1]
    assert math.isnan(metrics.acc2_negative_positive(*neutral))
    assert math.isnan(metrics.weighted_f1_negative_positive(*neutral))
    for truth, prediction in (([1, 1], [1, 0]), ([0, 0], [1, 0])):
        assert math.isnan(metrics.weighted_accuracy(truth, prediction))
    assert metrics.precision([1, 0], [0, 0]) == 0
    assert math.isnan(metrics.recall([0, 0], [1, 0]))
    assert metrics.f1([0, 0], [1, 0]) == metrics.f1([1, 0], [0, 0]) == 0
    assert math.isnan(metrics.f1([0, 0], [0, 0]))
    assert math.isnan(metrics.micro_f1([[0, 0]], [[0, 0]]))
    assert metrics.jaccard([[0, 0]], [[0, 0]]) == 1
    assert metrics.jaccard([[0, 0]], [[0, 1]]) == 0
    assert metrics.weighted_f1([0, 0, 0], [0, 0, 1]) == pytest.approx(0.8)


@pytest.mark.parametrize("function", [metrics.pearson, metrics.sims_pearson])
def test_the_correlation_of_a_constant_is_nan(function):
    tenth = [0.1] * 7  # whose mean is not 0.1 in floating point
    varied = [0.1 * i for i in range(7)]
    assert math.isnan(function(tenth, varied))
    assert math.isnan(function(varied, tenth))
    assert math.isnan(function([0.3], [0.3]))


def test_sims_clips_before_it_correlates():
    assert math.isnan(metrics.sims_pearson([-0.5, 0.0, 0.5], [1.0, 2.0, 3.0]))
    assert metrics.sims_mae([1.0], [3.0]) == 0


def test_ccc_of_constants():
    assert math.isnan(metrics.ccc([0.1] * 7, [0.1] * 7))
    assert metrics.ccc([0.1] * 7, [0.2] * 7) == 0
    assert metrics.ccc([0.1] * 7, [0.1 * i for i in range(7)]) == 0


def test_swapping_truth_and_prediction_flatters_a_majority_classifier():
    truth, prediction = [0] * 69 + [1] * 31, [0] * 100
    assert metrics.weighted_f1(truth, prediction) == pytest.approx(0.5634, abs=1e-4)
    assert metrics.weighted_f1(prediction, truth) == pytest.approx(0.8166, abs=1e-4)


@pytest.mark.parametrize("name", FLAT)
def test_errors_of_flat_metrics(name):
    function = METRICS[name].function
    with pytest.raises(AffectusError, match=r"The truth and the prediction differ in shape: got \(2,\) and \(3,\)"):
        function([0, 1], [0, 1, 1])
    with pytest.raises(AffectusError, match=r"The truth has the wrong number of axes: got shape \(2, 1\)"):
        function([[0], [1]], [0, 1])
    with pytest.raises(AffectusError, match="The truth is empty"):
        function([], [])
    with pytest.raises(AffectusError, match="The prediction holds no numbers: got dtype <U3; expected numbers"):
        function([0, 1], ["sad", "joy"])
    with pytest.raises(AffectusError, match=r"The truth is not finite in row 1: got nan; .* Leave out the utterances"):
        function([0, math.nan], [0, 1])
    with pytest.raises(AffectusError, match=r"The prediction is not finite in row 0: got inf; .* has diverged"):
        function([0, 1], [math.inf, 1])


@pytest.mark.parametrize("name", MULTI_LABEL)
def test_errors_of_multi_label_metrics(name):
    function = METRICS[name].function
    with pytest.raises(AffectusError, match=r"got shape \(2,\); expected shape \(n, k\)"):
        function([0, 1], [0, 1])
    with pytest.raises(AffectusError, match="differ in shape"):
        function([[0, 1]], [[0, 1, 1]])
    with pytest.raises(AffectusError, match="The truth is not finite in row 0, column 1: got nan"):
        function([[0, math.nan]], [[0, 1]])
    with pytest.raises(
        AffectusError, match=r"The prediction is not binary in row 0, column 1: got 0\.6; expected 0 or 1"
    ):
        function([[0, 1]], [[0, 0.6]])


@pytest.mark.parametrize("name", [name for name in CLASSES if METRICS[name].kind == "binary"])
def test_binary_metrics_take_0_and_1_only(name):
    with pytest.raises(AffectusError, match="The truth is not binary in row 1: got 2; expected 0 or 1"):
        METRICS[name].function([0, 2], [0, 1])


@pytest.mark.parametrize("name", [name for name in CLASSES if METRICS[name].kind == "one_of_k"])
def test_class_numbers_are_whole(name):
    with pytest.raises(AffectusError, match=r"The prediction is not a class number in row 1: got 0\.7; .* Turn scores"):
        METRICS[name].function([0, 1], [0, 0.7])
    assert METRICS[name].function([0.0, 1.0], [0, 1]) == 1


def test_errors_of_class_counts():
    with pytest.raises(AffectusError, match=r"The truth names an unknown class in row 1: got 3; .* from 0 to 2"):
        metrics.macro_f1([0, 3], [0, 1], classes=3)
    with pytest.raises(AffectusError, match="The prediction names an unknown class in row 0: got -1"):
        metrics.confusion_matrix([0, 1], [-1, 1])


def test_errors_of_rounded_accuracies():
    with pytest.raises(AffectusError, match="Unknown rounding 'half_up': expected one of: half_away, half_even"):
        metrics.acc7([0.0], [0.0], rounding="half_up")
    for limit in (0, -1, math.nan):
        with pytest.raises(AffectusError, match="limit of a rounded accuracy is not positive"):
            metrics.acc5([0.0], [0.0], limit=limit)


def test_a_metric_is_registered_once_and_found_by_name():
    with pytest.raises(ValueError, match="'mae' is registered twice"):
        metrics.register_metric(kind="real", rule="x", empty_class="x", citation="x")(metrics.mae)
    with pytest.raises(AffectusError, match=r"Unknown metric 'acc_7'.*Did you mean 'acc7'"):
        METRICS["acc_7"]
