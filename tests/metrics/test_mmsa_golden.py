"""Ours against MMSA's own metric code, on the values made by tests/golden/make_mmsa_metrics.py."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from affectus import metrics

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mmsa_metrics.json").read_text(encoding="utf-8"))
CASES = GOLDEN["cases"]

MOSEI = {
    "Has0_acc_2": metrics.acc2_negative_nonnegative,
    "Has0_F1_score": metrics.weighted_f1_negative_nonnegative,
    "Non0_acc_2": metrics.acc2_negative_positive,
    "Non0_F1_score": metrics.weighted_f1_negative_positive,
    "Mult_acc_5": metrics.acc5,
    "Mult_acc_7": metrics.acc7,
    "MAE": metrics.mae,
    "Corr": metrics.pearson,
}
SIMS = {
    "Mult_acc_2": metrics.sims_acc2,
    "Mult_acc_3": metrics.sims_acc3,
    "Mult_acc_5": metrics.sims_acc5,
    "F1_score": metrics.sims_weighted_f1,
    "MAE": metrics.sims_mae,
    "Corr": metrics.sims_pearson,
}


def agrees(ours, theirs):
    """Whether theirs is ours rounded to four decimals; 1e-7 more for their sums in single precision."""
    if theirs == "nan":
        return math.isnan(ours)
    return abs(ours - theirs) <= 0.5e-4 + 1e-7


def arrays(case, dtype=np.float32):
    return np.array(case["truth"], dtype), np.array(case["prediction"], dtype)


def test_there_are_enough_cases():
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("random") for name in names) >= 200
    assert sum(not name.startswith("random") for name in names) >= 50


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rule", "functions"), [("mosei", MOSEI), ("sims", SIMS)])
def test_equal_to_mmsa(rule, functions, dtype):
    compared = 0
    for case in CASES:
        if isinstance(case[rule], str):
            continue
        assert case[rule].keys() == functions.keys()
        for key, function in functions.items():
            ours, theirs = function(*arrays(case, dtype)), case[rule][key]
            assert agrees(ours, theirs), f"{case['name']}, {key}: {ours} is not {theirs}"
            compared += 1
    assert compared > 250 * len(functions)


def test_acc3_equals_mmsas_unprinted_one():
    for case in CASES:
        assert agrees(metrics.acc3(*arrays(case)), case["mosei_acc_3"]), case["name"]


def test_nan_is_given_where_mmsa_raises():
    """Its MOSI and MOSEI rule fails with an IndexError if every truth is 0; ours is nan where that matters only."""
    neutral = [case for case in CASES if case["mosei"] == "raises IndexError"]
    assert {case["name"] for case in neutral} >= {"all neutral, all right", "one neutral utterance"}
    for case in neutral:
        truth, prediction = arrays(case)
        assert not truth.any()
        assert math.isnan(metrics.acc2_negative_positive(truth, prediction))
        assert math.isnan(metrics.weighted_f1_negative_positive(truth, prediction))
        assert math.isfinite(metrics.acc2_negative_nonnegative(truth, prediction))
        assert math.isfinite(metrics.acc7(truth, prediction))
    assert not [case["name"] for case in CASES if isinstance(case["mosei"], str) and case not in neutral]
    assert not [case["name"] for case in CASES if isinstance(case["sims"], str)]


def test_a_nan_correlation_always_comes_from_a_constant():
    constant = [case for case in CASES if case["sims"]["Corr"] == "nan"]
    assert len(constant) > 20
    for case in constant:
        assert min(np.ptp(np.clip(values, -1, 1)) for values in arrays(case)) == 0, case["name"]
