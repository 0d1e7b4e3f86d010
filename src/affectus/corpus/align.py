"""Word alignment: every sequence pooled over each word's interval, so that all modalities share one step per word."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from affectus.corpus.card import ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.intervals import nearest_steps, overlap_ranges
from affectus.corpus.ragged import IntArray, Ragged
from affectus.errors import AffectusError, unknown_name

WORDS = "words"
CHUNK_VALUES = 1 << 21
"""Feature values that are pooled in one go; bounds the memory, whatever the size of the corpus."""


def align_corpus(
    corpus: Corpus,
    to: str = WORDS,
    *,
    modalities: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Pool every sequence over the intervals of the words, or of another modality's steps.

    A word's vector is the mean of the steps that overlap its interval; where none does, it is the step nearest in
    time. An utterance without a modality stays without it. Sequences without times are kept if they already have one
    step per word.

    Args:
        corpus: with ``word_starts`` and ``word_ends`` (or the times of the modality ``to``).
        to: ``words`` or the name of a modality that has times.
        modalities: which to keep; all if None.
        progress: called with (done, total) in steps.

    Raises:
        AffectusError: the words, or a sequence, have no times; or a sequence's steps do not begin in rising order.
    """
    kept = list(corpus.modalities if modalities is None else modalities)
    for name in kept:
        if name not in corpus.features:
            raise unknown_name("modality", name, corpus.modalities, where=f"the corpus {corpus.name!r}")
    times, offsets = _target(corpus, to)
    total = sum(len(corpus.features[name].values) for name in kept)
    features, done, notes = {}, 0, []
    card = corpus.card.model_copy(deep=True)
    for name in kept:
        ragged = corpus.features[name]
        done_before = done

        def advance(steps: int, before: int = done_before) -> None:
            if progress is not None:
                progress(before + steps, total)

        if name == to or _already_aligned(ragged, offsets):
            has_times = ragged.times if ragged.times is not None else _present_times(ragged, times, offsets)
            features[name] = Ragged(ragged.values, ragged.offsets, has_times)
        elif ragged.times is None:
            raise AffectusError(
                f"The modality {name!r} has no times, so it cannot be aligned",
                where=f"the corpus {corpus.name!r}",
                remedy="Import it from a source with times, or leave it out with --modalities",
            )
        else:
            features[name], far = pool_over(ragged, times, offsets, advance)
            if far:
                notes.append(f"{name}: {far} of {len(times)} words overlap no step and took the nearest one.")
        card.modalities[name] = card.modalities[name].model_copy(update={"rate": None})
        done += len(ragged.values)
        advance(len(ragged.values))
    card.word_aligned = True
    card.modalities = {name: card.modalities.get(name, ModalityCard(dim=features[name].dim)) for name in kept}
    wordless = int((np.diff(offsets) == 0).sum())
    if wordless:
        notes.append(f"{wordless} of {len(corpus)} utterances have no {to}, hence no step in any modality.")
    card.notes += [f"Every sequence was pooled (mean) over the intervals of {to}.", *notes]
    return Corpus(corpus.table, features, card)


def _target(corpus: Corpus, to: str) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Return the (W, 2) intervals to pool over, and where each utterance's begin."""
    where = f"the corpus {corpus.name!r}"
    if to != WORDS:
        if to not in corpus.features:
            raise unknown_name("target", to, [WORDS, *corpus.modalities], where=where)
        ragged = corpus.features[to]
        if ragged.times is None:
            raise AffectusError(f"The modality {to!r} has no times, so nothing can be aligned to it", where=where)
        return np.asarray(ragged.times, np.float64), ragged.offsets
    if "word_starts" not in corpus.table.columns or "word_ends" not in corpus.table.columns:
        timed = [name for name, ragged in corpus.features.items() if ragged.times is not None]
        raise AffectusError(
            "The words have no times, so nothing can be aligned to them",
            where=where,
            remedy=f"Align with --to {timed[0]}" if timed else "Import it from a source with word times",
        )
    starts, ends = corpus.table["word_starts"], corpus.table["word_ends"]
    lengths = starts.list.len().fill_null(0).to_numpy()
    if not np.array_equal(lengths, ends.list.len().fill_null(0).to_numpy()):
        raise AffectusError("An utterance has another number of word starts than of word ends", where=where)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    flat = [column.filter(lengths > 0).explode().to_numpy() for column in (starts, ends)]
    return np.stack(flat, axis=1).astype(np.float64).reshape(-1, 2), offsets


def _already_aligned(ragged: Ragged, offsets: IntArray) -> bool:
    lengths = ragged.lengths
    return ragged.times is None and bool(((lengths == np.diff(offsets)) | (lengths == 0)).all())


def _present_times(ragged: Ragged, times: npt.NDArray[np.float64], offsets: IntArray) -> npt.NDArray[np.float64]:
    present = np.repeat(ragged.lengths > 0, np.diff(offsets))
    return times[present]


def pool_over(
    ragged: Ragged,
    times: npt.NDArray[np.float64],
    offsets: IntArray,
    progress: Callable[[int], None] | None = None,
) -> tuple[Ragged, int]:
    """Average a sequence over intervals, utterance by utterance.

    Args:
        ragged: (S, D) steps with times.
        times: (W, 2) the intervals, in seconds.
        offsets: (N + 1,) utterance i owns the intervals from ``offsets[i]`` to ``offsets[i + 1]``.
        progress: called with the number of steps that are done.

    Returns:
        One vector per interval, with its times, nothing where an utterance has no step; and the number of intervals
        that overlap no step and took the nearest.

    Raises:
        AffectusError: the steps of an utterance do not begin in rising order.
    """
    assert ragged.times is not None
    lengths = ragged.lengths
    begins = np.diff(ragged.times[:, 0]) < 0
    within = np.ones(max(len(ragged.times) - 1, 0), bool)
    edges = ragged.offsets[1:-1]
    within[edges[(edges > 0) & (edges <= len(within))] - 1] = False
    if (begins & within).any():
        raise AffectusError("The steps of an utterance do not begin in rising order, so they cannot be aligned")
    wanted = np.diff(offsets)
    counts = np.where(lengths > 0, wanted, 0)
    out_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    values = np.zeros((int(out_offsets[-1]), ragged.dim), np.float32)
    far = 0
    # whole utterances, as many as fit
    limit = max(CHUNK_VALUES // max(ragged.dim, 1), 1)
    first = 0
    while first < len(lengths):
        last = int(np.searchsorted(ragged.offsets, ragged.offsets[first] + limit, side="right")) - 1
        last = min(max(last, first + 1), len(lengths))
        begin, end = ragged.offsets[first], ragged.offsets[last]
        # utterances without steps have no vectors, so their intervals are left out
        rows = first + np.flatnonzero(lengths[first:last] > 0)
        kept = np.repeat(lengths[first:last] > 0, wanted[first:last])
        queries = times[offsets[first] : offsets[last]][kept]
        step_offsets = ragged.offsets[np.append(rows, last)] - begin
        query_offsets = np.concatenate([[0], np.cumsum(wanted[rows])]).astype(np.int64)
        steps = np.asarray(ragged.times[begin:end])
        low, high = overlap_ranges(steps, step_offsets, queries, query_offsets)
        alone = np.flatnonzero(low == high)
        if len(alone):
            utterances = np.repeat(np.arange(len(rows)), wanted[rows])[alone]
            low[alone] = nearest_steps(steps, step_offsets, queries[alone], utterances, low[alone])
            high[alone] = low[alone] + 1
            far += len(alone)
        values[out_offsets[first] : out_offsets[last]] = _means(ragged.values[begin:end], low, high)
        first = last
        if progress is not None:
            progress(int(end))
    present = np.repeat(lengths > 0, wanted)
    return Ragged(values, out_offsets, times[present]), far


def _means(values: npt.NDArray[np.floating], low: IntArray, high: IntArray) -> npt.NDArray[np.float64]:
    """Return the (W, D) means of ``values[low:high]``; a NaN or inf stays within the intervals that it is in."""
    counts = high - low
    ends = np.concatenate([[0], np.cumsum(counts)])
    members = np.arange(ends[-1]) + np.repeat(low - ends[:-1], counts)
    # a sparse matrix of ones sums rows faster than add.reduceat, and unlike a running sum keeps NaN where it is
    summing = csr_array((np.ones(len(members)), members, ends), shape=(len(low), len(values)))
    with np.errstate(invalid="ignore"):
        means: npt.NDArray[np.float64] = (summing @ values.astype(np.float64)) / counts[:, None]
    return means
