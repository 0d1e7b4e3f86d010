"""What holds for all metrics, and what scikit-learn and NumPy say of the same arrays."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from affectus import metrics
from affectus.metrics import METRICS

INTENSITIES = st.floats(-4, 4, width=32)
GRID = st.integers(-40, 40).map(lambda i: i / 10)


@st.composite
def pairs(draw, elements, columns=None, dtype=None):
    n = draw(st.integers(1, 30))
    shape = n if columns is None else (n, draw(columns))
    return tuple(draw(hnp.arrays(dtype or np.int64, shape, elements=elements)) for _ in range(2))


REAL = st.one_of(pairs(INTENSITIES, dtype=np.float32), pairs(GRID, dtype=np.float64))
BINARY = pairs(st.integers(0, 1))
CLASSES = st.one_of(pairs(st.integers(0, 4)), pairs(st.integers(-3, 1000)))
MULTI_LABEL = pairs(st.integers(0, 1), columns=st.integers(1, 5))
OF_KIND = {"real": REAL, "binary": BINARY, "one_of_k": CLASSES, "multi_label": MULTI_LABEL}
EVERY = pytest.mark.parametrize("info", [METRICS[name] for name in METRICS], ids=list(METRICS))


def same(a, b, tolerance=1e-9):
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) <= tolerance


@EVERY
@settings(max_examples=30)
@given(data=st.data())
def test_in_range_or_nan_without_a_warning(info, data):
    truth, prediction = data.draw(OF_KIND[info.kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = info.function(truth, prediction)
    assert type(value) is float
    assert math.isnan(value) or info.range[0] <= value <= info.range[1]
    if math.isnan(value):
        assert "nan" in info.empty_class


@EVERY
@settings(max_examples=30)
@given(data=st.data())
def test_the_order_of_utterances_does_not_matter(info, data):
    truth, prediction = data.draw(OF_KIND[info.kind])
    order = np.array(data.draw(st.permutations(range(len(truth)))))
    assert same(info.function(truth, prediction), info.function(truth[order], prediction[order]), 1e-7)


@EVERY
@settings(max_examples=30)
@given(data=st.data())
def test_a_perfect_prediction_is_best(info, data):
    truth, prediction = data.draw(OF_KIND[info.kind])
    best, value = info.function(truth, truth), info.function(truth, prediction)
    if math.isnan(best) or (info.name == "precision" and not truth.any()):  # 0 where nothing is predicted
        return
    assert best == pytest.approx(0.0 if info.direction == "lower" else 1.0, abs=1e-9)
    assert math.isnan(value) or (best <= value + 1e-9 if info.direction == "lower" else best >= value - 1e-9)


@EVERY
@settings(max_examples=30)
@given(data=st.data())
def test_arguments_are_left_as_they_are(info, data):
    truth, prediction = data.draw(OF_KIND[info.kind])
    kept = truth.copy(), prediction.copy()
    info.function(truth, prediction)
    assert np.array_equal(truth, kept[0])
    assert np.array_equal(prediction, kept[1])


@EVERY
@settings(max_examples=30)
@given(data=st.data())
def test_lists_do_as_well_as_arrays(info, data):
    truth, prediction = data.draw(OF_KIND[info.kind])
    assert same(info.function(truth, prediction), info.function(truth.tolist(), prediction.tolist()), 1e-7)


# Against scikit-learn.


@given(CLASSES)
def test_accuracy(pair):
    assert metrics.accuracy(*pair) == pytest.approx(sk.accuracy_score(*pair))


@given(st.one_of(CLASSES, BINARY))
def test_weighted_f1(pair):
    assert metrics.weighted_f1(*pair) == pytest.approx(sk.f1_score(*pair, average="weighted", zero_division=0))


@given(CLASSES)
def test_macro_f1(pair):
    assert metrics.macro_f1(*pair) == pytest.approx(sk.f1_score(*pair, average="macro", zero_division=0))


@given(pairs(st.integers(0, 4)))
def test_macro_f1_of_known_classes(pair):
    theirs = sk.f1_score(*pair, average="macro", labels=range(7), zero_division=0)
    assert metrics.macro_f1(*pair, classes=7) == pytest.approx(theirs)


@given(MULTI_LABEL)
def test_micro_f1(pair):
    theirs = sk.f1_score(pair[0].ravel(), pair[1].ravel(), zero_division=np.nan)
    assert same(metrics.micro_f1(*pair), theirs)


@given(MULTI_LABEL)
def test_jaccard(pair):
    assume(pair[0].shape[1] > 1)  # scikit-learn takes one column for a binary problem
    theirs = sk.jaccard_score(*pair, average="samples", zero_division=1.0)
    assert metrics.jaccard(*pair) == pytest.approx(theirs)


@given(BINARY)
def test_weighted_accuracy_is_balanced_accuracy(pair):
    truth, prediction = pair
    value = metrics.weighted_accuracy(truth, prediction)
    if len(set(truth.tolist())) == 1:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(sk.balanced_accuracy_score(truth, prediction))
        p, n = truth.sum(), (1 - truth).sum()
        tp, tn = (truth * prediction).sum(), ((1 - truth) * (1 - prediction)).sum()
        assert value == pytest.approx((tp * n / p + tn) / (2 * n))
        assert metrics.weighted_accuracy(1 - truth, 1 - prediction) == pytest.approx(value)


@given(BINARY)
def test_precision_recall_f1(pair):
    assert metrics.precision(*pair) == pytest.approx(sk.precision_score(*pair, zero_division=0))
    assert same(metrics.recall(*pair), sk.recall_score(*pair, zero_division=np.nan))
    assert same(metrics.f1(*pair), sk.f1_score(*pair, zero_division=np.nan))


@given(pairs(st.integers(0, 4)))
def test_confusion_matrix(pair):
    assert np.array_equal(metrics.confusion_matrix(*pair, classes=5), sk.confusion_matrix(*pair, labels=range(5)))
    counts = metrics.confusion_matrix(*pair)
    assert counts.trace() / counts.sum() == pytest.approx(metrics.accuracy(*pair))


@given(REAL)
def test_mae_is_scikit_learns_and_symmetric(pair):
    assert metrics.mae(*pair) == pytest.approx(sk.mean_absolute_error(*(x.astype(np.float64) for x in pair)))
    assert metrics.mae(*pair) == metrics.mae(*pair[::-1])


@given(pairs(GRID, dtype=np.float64))
def test_pearson_is_numpys(pair):
    assume(np.ptp(pair[0]) > 0 and np.ptp(pair[1]) > 0)
    assert metrics.pearson(*pair) == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-9)


@given(pairs(GRID, dtype=np.float64), st.floats(0.1, 10), st.floats(-5, 5))
def test_pearson_ignores_scale_and_shift(pair, scale, shift):
    truth, prediction = pair
    assume(np.ptp(prediction) > 0)
    assert same(metrics.pearson(truth, prediction), metrics.pearson(truth, scale * prediction + shift), 1e-6)
    assert same(metrics.pearson(truth, prediction), -metrics.pearson(truth, -prediction))


@given(pairs(GRID, dtype=np.float64))
def test_ccc_is_lins_formula_and_at_most_pearson(pair):
    truth, prediction = pair
    value = metrics.ccc(truth, prediction)
    spread = np.var(truth) + np.var(prediction) + (truth.mean() - prediction.mean()) ** 2
    if np.array_equal(truth, prediction) and np.ptp(truth) == 0:
        assert math.isnan(value)
    else:
        covariance = np.mean(truth * prediction) - truth.mean() * prediction.mean()
        assert value == pytest.approx(2 * covariance / spread, abs=1e-9)
    assert same(value, metrics.ccc(prediction, truth))
    if not math.isnan(metrics.pearson(truth, prediction)):
        assert abs(value) <= abs(metrics.pearson(truth, prediction)) + 1e-9


@given(pairs(st.integers(-30, 30).map(float), dtype=np.float64), st.sampled_from([2.0**-500, 2.0**-600, 2.0**500]))
def test_correlations_survive_tiny_and_huge_units(pair, unit):
    truth, prediction = pair
    assert same(metrics.pearson(truth, prediction), metrics.pearson(unit * truth, unit * prediction))
    assert same(metrics.ccc(truth, prediction), metrics.ccc(unit * truth, unit * prediction))


# Rules of intensities.


@given(REAL, st.floats(0.5, 100))
def test_two_class_rules_see_only_the_sign(pair, scale):
    truth, prediction = pair
    for function in (
        metrics.acc2_negative_nonnegative,
        metrics.acc2_negative_positive,
        metrics.weighted_f1_negative_nonnegative,
        metrics.weighted_f1_negative_positive,
        metrics.sims_acc2,
        metrics.sims_weighted_f1,
    ):
        assert same(function(truth, prediction), function(truth, np.sign(prediction)))
        assert same(function(truth, prediction), function(truth, np.sign(prediction) * scale))


@given(REAL)
def test_two_class_rules_differ_in_zero_alone(pair):
    truth, prediction = pair
    assume(truth.all() and prediction.all())
    with_zero = metrics.acc2_negative_nonnegative(truth, prediction)
    assert metrics.acc2_negative_positive(truth, prediction) == with_zero == metrics.sims_acc2(truth, prediction)
    f1 = metrics.weighted_f1_negative_nonnegative(truth, prediction)
    assert metrics.weighted_f1_negative_positive(truth, prediction) == f1 == metrics.sims_weighted_f1(truth, prediction)


@given(REAL)
@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
def test_rounded_accuracies_grow_coarser_and_know_no_sign(rounding, pair):
    truth, prediction = pair
    values = [f(truth, prediction, rounding=rounding) for f in (metrics.acc7, metrics.acc5, metrics.acc3)]
    assert values == sorted(values)
    assert values == [f(-truth, -prediction, rounding=rounding) for f in (metrics.acc7, metrics.acc5, metrics.acc3)]
    assert metrics.acc7(truth, prediction, limit=2.0, rounding=rounding) == values[1]


@given(pairs(st.integers(-300, 300).filter(lambda i: i % 100 != 50).map(lambda i: i / 100), dtype=np.float64))
def test_roundings_differ_in_halves_alone(pair):
    assert metrics.acc7(*pair) == metrics.acc7(*pair, rounding="half_away")


@given(REAL)
def test_sims_is_the_plain_rule_on_clipped_values(pair):
    clipped = [np.clip(x, -1, 1) for x in pair]
    assert metrics.sims_mae(*pair) == pytest.approx(metrics.mae(*clipped), abs=1e-7)
    assert same(metrics.sims_pearson(*clipped), metrics.sims_pearson(*pair))
    five, three, two = metrics.sims_acc5(*pair), metrics.sims_acc3(*pair), metrics.sims_acc2(*pair)
    assert five <= three
    assert 0 <= two <= 1
