"""Metrics: pure functions of clean arrays, each listed in ``METRICS`` with its rule, range, direction and source.

The truth comes first, the prediction second. The functions take no missing labels: leave those utterances out. Only the
search for thresholds, which looks at several classes at once, takes nan for a missing label.

>>> METRICS["acc2_negative_nonnegative"].rule
'Share of utterances put on the right side of 0, where 0 itself is non-negative.'
"""

from affectus.metrics.classification import (
    accuracy,
    confusion_matrix,
    f1,
    jaccard,
    macro_f1,
    micro_f1,
    precision,
    recall,
    weighted_accuracy,
    weighted_f1,
)
from affectus.metrics.info import METRICS, Direction, MetricInfo, MetricKind, register_metric
from affectus.metrics.regression import (
    Rounding,
    acc2_negative_nonnegative,
    acc2_negative_positive,
    acc3,
    acc5,
    acc7,
    ccc,
    mae,
    pearson,
    sims_acc2,
    sims_acc3,
    sims_acc5,
    sims_mae,
    sims_pearson,
    sims_weighted_f1,
    weighted_f1_negative_nonnegative,
    weighted_f1_negative_positive,
)
from affectus.metrics.thresholds import (
    AKHTAR_GRID,
    ThresholdMetric,
    apply_threshold,
    best_threshold,
    best_thresholds_per_class,
    score_thresholds,
)

__all__ = [
    "AKHTAR_GRID",
    "METRICS",
    "Direction",
    "MetricInfo",
    "MetricKind",
    "Rounding",
    "ThresholdMetric",
    "acc2_negative_nonnegative",
    "acc2_negative_positive",
    "acc3",
    "acc5",
    "acc7",
    "accuracy",
    "apply_threshold",
    "best_threshold",
    "best_thresholds_per_class",
    "ccc",
    "confusion_matrix",
    "f1",
    "jaccard",
    "macro_f1",
    "mae",
    "micro_f1",
    "pearson",
    "precision",
    "recall",
    "register_metric",
    "score_thresholds",
    "sims_acc2",
    "sims_acc3",
    "sims_acc5",
    "sims_mae",
    "sims_pearson",
    "sims_weighted_f1",
    "weighted_accuracy",
    "weighted_f1",
    "weighted_f1_negative_nonnegative",
    "weighted_f1_negative_positive",
]
