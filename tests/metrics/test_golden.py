"""Every registered metric at n = 3, worked out by hand."""

import math

import numpy as np
import pytest

from affectus.metrics import METRICS, confusion_matrix

# name -> truth, prediction, value
GOLDEN = {
    "mae": ([0.0, 1.0, -2.0], [0.5, 1.0, -1.0], 1.5 / 3),
    "pearson": ([0.0, 1.0, 1.0], [0.0, 1.0, 2.0], math.sqrt(3) / 2),
    "ccc": ([0.0, 1.0, 1.0], [0.0, 1.0, 2.0], 2 / 3),
    "acc2_negative_nonnegative": ([-1.0, 0.0, 2.0], [-0.2, 0.0, -0.1], 2 / 3),
    "acc2_negative_positive": ([-1.0, 0.0, 2.0], [-0.2, 1.0, -0.1], 1 / 2),
    # -1 right, 0 right, 2 called negative: F1 of negative 2/3 (one truth), of non-negative 2/3 (two truths)
    "weighted_f1_negative_nonnegative": ([-1.0, 0.0, 2.0], [-0.2, 0.0, -0.1], 2 / 3),
    # two truths are left; both called negative: F1 2/3 and 0, each of weight 1/2
    "weighted_f1_negative_positive": ([-1.0, 0.0, 2.0], [-0.2, 1.0, -0.1], 1 / 3),
    "acc3": ([-3.0, 0.4, 1.0], [-0.6, 0.5, 0.2], 2 / 3),
    "acc5": ([-3.0, 0.5, 1.0], [-1.6, 0.4, 1.6], 2 / 3),
    "acc7": ([0.5, 3.0, -1.0], [0.0, 4.2, 1.0], 2 / 3),
    "sims_mae": ([0.0, 1.0, -1.0], [0.5, 3.0, -0.5], 1 / 3),
    # t = 0, 1, -1 and p = 1/2, 1, -1/2: covariance 3/6, variances 2/3 and 7/18
    "sims_pearson": ([0.0, 1.0, -1.0], [0.5, 3.0, -0.5], 0.5 / math.sqrt(2 / 3 * 7 / 18)),
    "sims_acc2": ([0.0, 0.4, -1.0], [-0.5, 0.1, 0.2], 2 / 3),
    "sims_acc3": ([0.0, 0.4, -0.1], [0.1, 0.2, 0.0], 2 / 3),
    "sims_acc5": ([0.0, 0.8, -0.7], [0.1, 0.7, -1.0], 2 / 3),
    "sims_weighted_f1": ([0.0, 0.4, -1.0], [-0.5, 0.1, 0.2], 2 / 3),
    "accuracy": ([0, 1, 2], [0, 1, 1], 2 / 3),
    "weighted_f1": ([0, 1, 1], [0, 0, 0], (1 / 3) * (2 / 4)),
    "macro_f1": ([0, 1, 1], [0, 0, 0], (1 / 2) * (2 / 4)),
    "micro_f1": ([[1, 0], [1, 1], [0, 0]], [[1, 0], [0, 1], [0, 1]], 4 / 6),
    "jaccard": ([[1, 0], [1, 1], [0, 0]], [[1, 0], [0, 1], [0, 0]], (1 + 1 / 2 + 1) / 3),
    "weighted_accuracy": ([0, 0, 1], [0, 1, 1], (1 * 2 / 1 + 1) / (2 * 2)),
    "precision": ([0, 0, 1], [0, 1, 1], 1 / 2),
    "recall": ([0, 1, 1], [0, 0, 1], 1 / 2),
    "f1": ([0, 0, 1], [0, 1, 1], 2 / 3),
}


def test_every_metric_has_a_golden_value():
    assert set(METRICS) == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_value(name):
    truth, prediction, value = GOLDEN[name]
    assert len(truth) == len(prediction) == 3
    ours = METRICS[name].function(np.array(truth), np.array(prediction))
    assert type(ours) is float
    assert ours == pytest.approx(value, abs=1e-7)  # CH-SIMS's rule is single precision


def test_confusion_matrix():
    assert confusion_matrix([0, 1, 1], [0, 0, 1], classes=3).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_metric_says_how_to_read_it(name):
    info = METRICS[name]
    low, high = info.range
    assert info.name == info.function.__name__ == name
    assert low < high
    for text in (info.rule, info.empty_class, info.citation):
        assert len(text.split()) > 3
    assert info.rule.endswith(".")
    doc = " ".join(info.function.__doc__.split())
    closing = "inf)" if math.isinf(high) else f"{high:g}]"
    assert f"in [{low:g}, {closing}" in doc.replace("In [", "in [")
    assert f"{info.direction} is better" in doc
    assert ">>> " in doc
    assert "Source: " in doc
    if "nan" in info.empty_class:
        assert "nan" in doc
