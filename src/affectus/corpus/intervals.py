"""Which steps of a sequence overlap which stretches of time, for many utterances at once."""

import numpy as np
import numpy.typing as npt

from affectus.corpus.ragged import IntArray

FloatArray = npt.NDArray[np.floating]


def overlap_ranges(
    steps: FloatArray, step_offsets: IntArray, queries: FloatArray, query_offsets: IntArray
) -> tuple[IntArray, IntArray]:
    """Return for each query the steps of its own utterance that overlap it.

    Both are half open: a step [a, b) overlaps a query [c, d) if a < d and b > c; one of no length counts as a point.
    The steps of an utterance begin in rising order. If they also end so (frames and words do), the answer is exact;
    a step that lies inside an earlier one may be counted though it ends before the query.

    Args:
        steps: (S, 2) begin and end of each step, utterance after utterance.
        step_offsets: (N + 1,) utterance i owns the steps from ``step_offsets[i]`` to ``step_offsets[i + 1]``.
        queries: (Q, 2) begin and end of each query.
        query_offsets: (N + 1,) likewise.

    Returns:
        ``low, high``, each (Q,): query q overlaps the steps ``low[q]`` to ``high[q] - 1``, none if they are equal.

    >>> steps = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
    >>> low, high = overlap_ranges(steps, np.array([0, 3]), np.array([[0.5, 2.0]]), np.array([0, 1]))
    >>> low.tolist(), high.tolist()
    ([0], [2])
    """
    steps, queries = _points_as_moments(steps), _points_as_moments(queries)
    # times become ranks, exact integers, so that utterance and time fit into one key that is sorted throughout
    times = np.concatenate([steps.ravel(), queries.ravel()])
    distinct, ranks = np.unique(times, return_inverse=True)
    ranks = ranks.reshape(-1).astype(np.int64)
    step_ranks, query_ranks = ranks[: steps.size].reshape(-1, 2), ranks[steps.size :].reshape(-1, 2)
    width = len(distinct) + 1
    step_keys = step_ranks + width * np.repeat(np.arange(len(step_offsets) - 1), np.diff(step_offsets))[:, None]
    query_keys = query_ranks + width * np.repeat(np.arange(len(query_offsets) - 1), np.diff(query_offsets))[:, None]
    begins, ends = step_keys[:, 0], np.maximum.accumulate(step_keys[:, 1])
    low = np.searchsorted(ends, query_keys[:, 0], side="right")
    high = np.searchsorted(begins, query_keys[:, 1], side="left")
    return low.astype(np.int64), np.maximum(low, high).astype(np.int64)


def _points_as_moments(intervals: FloatArray) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.array(intervals, np.float64).reshape(-1, 2)
    points = found[:, 0] == found[:, 1]
    found[points, 1] = np.nextafter(found[points, 0], np.inf)
    return found


def nearest_steps(
    steps: FloatArray, step_offsets: IntArray, queries: FloatArray, utterances: IntArray, low: IntArray
) -> IntArray:
    """Return the nearest step of its utterance for each query that overlaps none, -1 if there is no step.

    Args:
        steps: (S, 2) as in ``overlap_ranges``.
        step_offsets: (N + 1,) likewise.
        queries: (Q, 2) those that overlap no step.
        utterances: (Q,) the utterance of each.
        low: (Q,) what ``overlap_ranges`` says of them: the step before which the query falls.

    Of the steps before and after it that are equally near, the one before is taken.
    """
    first, last = step_offsets[utterances], step_offsets[utterances + 1] - 1
    there = first <= last
    before, after = np.clip(low - 1, first, np.maximum(last, first)), np.clip(low, first, np.maximum(last, first))
    # utterances without steps point anywhere; they are set to -1 below
    bounded = np.minimum(before, len(steps) - 1), np.minimum(after, len(steps) - 1)
    if len(steps) == 0:
        return np.full(len(queries), -1, np.int64)
    gap_before = queries[:, 0] - steps[bounded[0], 1]
    gap_after = steps[bounded[1], 0] - queries[:, 1]
    # a step on the other side than expected gives a negative gap: before the first or after the last there is one side
    nearest = np.where((before == after) | (gap_before <= gap_after), before, after)
    return np.where(there, nearest, -1).astype(np.int64)
