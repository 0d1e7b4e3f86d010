import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectus import metrics
from affectus.report.intensity import bin_sims, cuts_for

PAIRS = st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), min_size=1, max_size=30)
HALVES = st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)).map(lambda p: (p[0] / 2, p[1] / 2)), min_size=1)
TENTHS = st.lists(
    st.tuples(st.integers(-12, 12), st.integers(-12, 12)).map(lambda p: (p[0] / 10, p[1] / 10)), min_size=1
)


def accuracies(pairs: list[tuple[float, float]], high: float, rounding: metrics.Rounding = "half_even") -> list[float]:
    truth, said = np.array(pairs).T
    found = []
    for cut in cuts_for(high, rounding):
        known = np.ones(len(truth), bool) if cut.neutral else truth != 0
        right = cut.classes(truth[known]) == cut.classes(said[known])
        found.append(float(np.mean(right)) if known.any() else np.nan)
        assert cut.classes(said).max() < len(cut.labels)
        assert cut.classes(said).min() >= 0
    return found


@given(PAIRS | HALVES, st.sampled_from(["half_even", "half_away"]))
def test_the_cuts_are_those_of_the_accuracies(pairs: list[tuple[float, float]], rounding: metrics.Rounding) -> None:
    truth, said = np.array(pairs).T
    assert accuracies(pairs, 3.0, rounding) == pytest.approx(
        [
            metrics.acc2_negative_nonnegative(truth, said),
            metrics.acc2_negative_positive(truth, said),
            metrics.acc3(truth, said, rounding=rounding),
            metrics.acc5(truth, said, rounding=rounding),
            metrics.acc7(truth, said, rounding=rounding),
        ],
        nan_ok=True,
    )


@given(PAIRS | TENTHS)
def test_the_cuts_of_sims_are_those_of_its_accuracies(pairs: list[tuple[float, float]]) -> None:
    truth, said = np.array(pairs).T
    expected = [metrics.sims_acc2(truth, said), metrics.sims_acc3(truth, said), metrics.sims_acc5(truth, said)]
    assert accuracies(pairs, 1.0) == pytest.approx(expected)


def test_bins_are_closed_on_the_right() -> None:
    assert bin_sims([-0.7, -0.1, 0.1, 0.7, 5], (-0.7, -0.1, 0.1, 0.7)).tolist() == [0, 1, 2, 3, 4]


def test_a_label_of_unknown_range_is_cut_as_the_widest() -> None:
    assert [len(cut.labels) for cut in cuts_for(None)] == [2, 2, 3, 5, 7]
