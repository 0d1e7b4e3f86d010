"""A split of a corpus -> padded batches, for the three views.

Batches are gathered with one fancy index per modality: no per-sample Python, no worker processes. A loader is a plain
iterable with a length; its order depends on (seed, epoch) alone, so that a resumed run sees what it would have seen.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import torch

from affectus.batches.batch import Batch, Tokens
from affectus.batches.scaling import Scale, Scaler, all_finite
from affectus.batches.tokens import TokenCorpus
from affectus.corpus import Corpus, Ragged
from affectus.errors import AffectusError, unknown_name
from affectus.vocabulary import TEXT, View, order_modalities

IntArray = npt.NDArray[np.int64]
POOLED_BYTES = 1 << 28
"""Up to so many bytes the contextual view's vectors are pooled and scaled once; more of them, for each batch anew."""
RELEASED_BYTES = 1 << 24
"""After so many bytes read from a memory map its pages are given back."""


def choose_modalities(corpus: Corpus, wanted: Sequence[str] | None, *, encoded: bool = False) -> tuple[str, ...]:
    """Return the modalities to use, in order; all of the corpus's if ``wanted`` is None.

    Args:
        corpus: to choose from.
        wanted: names, or None.
        encoded: a text encoder makes the text from transcripts, whatever features the corpus has.

    Raises:
        AffectusError: the corpus has no features at all, or not a wanted modality.
    """
    if encoded:
        there = order_modalities({*corpus.modalities, TEXT})
        for name in wanted or ():
            if name not in there:
                raise unknown_name("modality", name, there, where=f"the corpus {corpus.name!r}")
        if wanted and TEXT not in wanted:
            raise AffectusError(
                "A text encoder is given, but the text is not among the modalities to use",
                got=", ".join(wanted),
                remedy="Add text to --modalities, or leave the encoder out",
            )
        return order_modalities(wanted or there)
    if not corpus.modalities:
        raise AffectusError(
            f"The corpus {corpus.name!r} has no features, only a table",
            remedy="Add some, for instance with: affectus features text CORPUS --encoder minilm; "
            "or train from the transcripts with --text-encoder minilm",
        )
    for name in wanted or ():
        if name not in corpus.modalities:
            raise unknown_name("modality", name, corpus.modalities, where=f"the corpus {corpus.name!r}")
    return order_modalities(wanted or corpus.modalities)


def measured(values: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """(steps,) True for steps in which anything was measured: sources write zeros, or -inf, where nothing was."""
    if not values.shape[1] or not all_finite(values):
        return np.asarray(((values != 0) & np.isfinite(values)).any(axis=1))
    # few steps begin with a zero; only these are looked at as a whole
    found: npt.NDArray[np.bool_] = values[:, 0] != 0
    others = np.flatnonzero(~found)
    found[others] = (values[others] != 0).any(axis=1)
    return found


def mean_over_steps(ragged: Ragged, rows: IntArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Average each utterance's sequence over its real steps, as the paper does with word-level features.

    Non-finite values are left out of the mean of their column.

    Returns:
        (n, dim) float32 means, NaN where a column has no finite value; (n,) bool, False where the modality is missing.
    """
    means, present = np.zeros((len(rows), ragged.dim), np.float32), np.zeros(len(rows), bool)
    for begin, part, there in _means_in_parts(ragged, rows):
        means[begin : begin + len(part)], present[begin : begin + len(part)] = part, there
    return means, present


def _means_in_parts(
    ragged: Ragged, rows: IntArray
) -> Iterator[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    """Yield which of the rows a part begins with, and its means and presence, as :func:`mean_over_steps` gives them."""
    begin = 0
    for some in ragged.row_chunks(rows):
        yield begin, *_mean_over_steps(ragged.take(some))
        begin += len(some)


def _mean_over_steps(taken: Ragged) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    values = np.asarray(taken.values)
    real = measured(values)
    lengths = taken.lengths
    if (lengths == 1).all():
        return np.where(np.isfinite(values), values, np.nan).astype(np.float32), real
    owner = np.repeat(np.arange(len(taken)), lengths)
    finite = np.isfinite(values) & real[:, None]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    total = np.zeros((len(taken), taken.dim))
    count = np.zeros((len(taken), taken.dim))
    if len(owner):
        total[owner[starts]] = np.add.reduceat(np.where(finite, values, 0).astype(np.float64), starts, axis=0)
        count[owner[starts]] = np.add.reduceat(finite.astype(np.float64), starts, axis=0)
    present = np.bincount(owner, weights=real, minlength=len(taken)) > 0
    with np.errstate(invalid="ignore"):
        return (total / np.where(count > 0, count, np.nan)).astype(np.float32), present


def _scaled_means(
    ragged: Ragged, rows: IntArray, scaler: Scaler, name: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the scaled means (n + 1, dim) and which are there (n + 1,); the last row is what padding gathers."""
    pooled, present = np.zeros((len(rows) + 1, ragged.dim), np.float32), np.zeros(len(rows) + 1, bool)
    for begin, means, there in _means_in_parts(ragged, rows):
        pooled[begin : begin + len(means)] = np.where(there[:, None], scaler.apply(name, means), 0.0)
        present[begin : begin + len(means)] = there
    return pooled, present


def fit_scaler(corpus: Corpus, view: View, modalities: Sequence[str], scale: Scale) -> Scaler:
    """Fit the scaling on the corpus's training utterances (steps, in the sequence views), a part of them at a time."""
    rows = corpus.rows("train")

    def chunks(ragged: Ragged) -> Iterator[npt.NDArray[np.floating]]:
        if view is View.CONTEXTUAL:
            for _, means, present in _means_in_parts(ragged, rows):
                yield means[present]
            return
        for some in ragged.row_chunks(rows):
            values = np.asarray(ragged.values[ragged.step_index(some)])
            yield values[measured(values)]
            ragged.release()

    return Scaler.fit({name: partial(chunks, corpus.features[name]) for name in modalities}, scale)


def _buckets(
    lengths: IntArray, batch_size: int, generator: np.random.Generator | None, bucketed: bool
) -> list[IntArray]:
    """Cut samples into batches: shuffled if a generator is given, of similar lengths if ``bucketed``."""
    count = len(lengths)
    order = np.arange(count) if generator is None else generator.permutation(count)
    if bucketed:
        # sorting within a window of several batches keeps batches random and their lengths similar
        window = count if generator is None else batch_size * 16
        order = np.concatenate(
            [
                chunk[np.argsort(lengths[chunk], kind="stable")]
                for chunk in np.split(order, np.arange(window, count, window))
            ]
        )
    batches = np.split(order, np.arange(batch_size, count, batch_size))
    if generator is not None and bucketed:
        batches = [batches[i] for i in generator.permutation(len(batches))]
    return batches


class Loader:
    """Batches of one split in one view.

    Args:
        corpus: where the utterances come from; of a :class:`TokenCorpus` the text is given as tokens, not scaled.
        split: which of them; None for all.
        view: contextual, unaligned or aligned.
        modalities: which modalities, in affectus's order.
        scaler: fitted on train.
        batch_size: recordings (contextual) or utterances per batch.
        shuffle: draw a new order in each epoch.
        seed: of that order.
        buckets: put samples of similar length together.
        pad_to: pad the contextual view to this many utterances (or more, if a video is longer); released codes do.

    Raises:
        AffectusError: the split is empty, or the aligned view is asked of a corpus that is not word-aligned.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str | None,
        view: View,
        modalities: Sequence[str],
        scaler: Scaler,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        buckets: bool = True,
        pad_to: int | None = None,
    ) -> None:
        self.view, self.modalities, self.batch_size = view, tuple(modalities), batch_size
        self.shuffle, self.seed, self.buckets, self.pad_to = shuffle, seed, buckets, pad_to
        self.epoch = 0
        self.share = (0, 1)
        self._corpus, self._scaler = corpus, scaler
        self._read = dict.fromkeys(self.modalities, 0)
        self._labels = {name: corpus.label(name) for name in corpus.schemes}
        rows = corpus.rows(split)
        self.rows = rows
        self._tokens = corpus if isinstance(corpus, TokenCorpus) and TEXT in self.modalities else None
        self._vectors = tuple(name for name in self.modalities if self._tokens is None or name != TEXT)
        if view is View.CONTEXTUAL:
            self._lengths = corpus.recording_lengths(split)
            self._starts = np.cumsum(self._lengths) - self._lengths
            size = 4 * len(rows) * sum(corpus.features[name].dim for name in self._vectors)
            self._pooled = {
                name: _scaled_means(corpus.features[name], rows, scaler, name)
                for name in (self._vectors if size <= POOLED_BYTES else ())
            }
        else:
            if view is View.ALIGNED:
                _require_alignment(corpus, self.modalities)
            self._lengths = np.max([_steps(corpus, name, rows) for name in self.modalities], axis=0)

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where the Trainer looks for ``sampler.set_epoch``."""
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        generator = np.random.default_rng([self.seed, self.epoch]) if self.shuffle else None
        for index in _buckets(self._lengths, self.batch_size, generator, self.buckets):
            number, workers = self.share
            mine = index[number::workers]
            # where there are too few samples for all workers, one of another's without anything in it
            some = mine if len(mine) else index[:1]
            batch = self._contextual(some) if self.view is View.CONTEXTUAL else self._sequences(some)
            yield batch if len(mine) else batch.emptied()

    def _contextual(self, index: IntArray) -> Batch:
        lengths = self._lengths[index]
        width = max(int(lengths.max()), self.pad_to or 0)
        mask = np.arange(width) < lengths[:, None]
        position = np.where(mask, self._starts[index][:, None] + np.arange(width), -1)
        rows = np.where(mask, self.rows[position], -1)
        features, masks = {}, {}
        for name in self._vectors:
            values, present = self._means(name, position, mask)
            features[name], masks[name] = torch.from_numpy(values), torch.from_numpy(present)
        labels = {}
        for name, values in self._labels.items():
            taken = values[rows]
            taken[~mask] = np.nan
            labels[name] = torch.from_numpy(taken)
        tokens = None
        if self._tokens is not None:
            tokens = _pad_tokens(self._tokens, np.where(mask, rows, -1))
            masks = self._ordered(masks | {TEXT: tokens.mask.any(dim=-1)})
        return Batch(self.view, features, masks, torch.from_numpy(mask), labels, torch.from_numpy(rows), tokens)

    def _means(
        self, name: str, position: IntArray, mask: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return the scaled means (B, U, dim) and which are there (B, U)."""
        if name in self._pooled:
            pooled, present = self._pooled[name]
            return pooled[position], present[position]
        pooled, present = _scaled_means(self._corpus.features[name], self.rows[position[mask]], self._scaler, name)
        number = np.full(mask.shape, -1)
        number[mask] = np.arange(len(pooled) - 1)
        return pooled[number], present[number]

    def _ordered(self, masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: masks[name] for name in self.modalities}

    def _sequences(self, index: IntArray) -> Batch:
        rows = self.rows[index]
        features, masks = {}, {}
        common = int(self._lengths[index].max()) if self.view is View.ALIGNED else None
        for name in self._vectors:
            values, mask = self._pad(name, rows, common)
            features[name], masks[name] = torch.from_numpy(values), torch.from_numpy(mask)
        tokens = None
        if self._tokens is not None:
            tokens = _pad_tokens(self._tokens, rows)
            masks = self._ordered(masks | {TEXT: _spoken_steps(tokens, common)})
        labels = {name: torch.from_numpy(values[rows]) for name, values in self._labels.items()}
        return Batch(
            self.view, features, masks, torch.ones(len(rows), dtype=torch.bool), labels, torch.from_numpy(rows), tokens
        )

    def _pad(
        self, name: str, rows: IntArray, width: int | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        ragged = self._corpus.features[name]
        lengths = ragged.lengths[rows]
        # a step at least, so that no model meets an empty dimension
        width = max(int(lengths.max()) if width is None else width, 1)
        values = np.zeros((len(rows), width, ragged.dim), np.float32)
        mask = np.arange(width) < lengths[:, None]
        raw = np.asarray(ragged.values[ragged.step_index(rows)])  # a copy
        self._read[name] += raw.nbytes
        if self._read[name] > RELEASED_BYTES:
            ragged.release()
            self._read[name] = 0
        real = measured(raw)
        scaled = self._scaler.apply(name, raw, given_away=True)
        if not real.all():
            scaled[~real] = 0.0
        ends = np.cumsum(lengths)
        for row, (begin, end) in enumerate(zip((ends - lengths).tolist(), ends.tolist(), strict=True)):
            values[row, : end - begin] = scaled[begin:end]
        mask[mask] = real
        return values, mask


def _steps(corpus: Corpus, name: str, rows: IntArray) -> IntArray:
    """(n,) steps of a modality in a sequence view."""
    if name == TEXT and isinstance(corpus, TokenCorpus):
        return corpus.steps(rows)
    return corpus.features[name].lengths[rows]


def _pad_tokens(corpus: TokenCorpus, rows: IntArray) -> Tokens:
    """Gather the tokens of the utterances of a batch; a row of -1 is padding."""
    lengths = np.where(rows >= 0, corpus.tokens.lengths[rows], 0)
    # a token at least, so that no encoder meets an empty dimension
    mask = np.arange(max(int(lengths.max()), 1)) < lengths[..., None]
    index = corpus.tokens.step_index(rows[rows >= 0])
    values = corpus.tokens.values
    shape = mask.shape if corpus.reads_ids else (*mask.shape, values.shape[1])
    states = np.zeros(shape, np.int64 if corpus.reads_ids else np.float32)
    states[mask] = values[index, 0] if corpus.reads_ids else values[index]
    words = None
    if corpus.words is not None:
        owner = np.full(mask.shape, -1)
        owner[mask] = corpus.words[index]
        words = torch.from_numpy(owner)
    return Tokens(torch.from_numpy(states), torch.from_numpy(mask), words)


def _spoken_steps(tokens: Tokens, width: int | None) -> torch.Tensor:
    """(B, L), or (B, W) if the tokens belong to words; True for a step that has a token."""
    if tokens.words is None:
        return tokens.mask
    has = torch.zeros(len(tokens.words), max(width or 0, 1) + 1, dtype=torch.bool)
    # the column before the first takes the tokens without a word, and goes
    return has.scatter_(1, tokens.words + 1, True)[:, 1:]


def _require_alignment(corpus: Corpus, modalities: Sequence[str]) -> None:
    lengths = np.stack([_steps(corpus, name, corpus.rows()) for name in modalities])
    longest = lengths.max(axis=0)
    wrong = ((lengths != longest) & (lengths != 0)).any(axis=0)
    if wrong.any():
        row = int(wrong.argmax())
        steps = ", ".join(f"{name} {count[row]}" for name, count in zip(modalities, lengths, strict=True))
        raise AffectusError(
            f"The corpus {corpus.name!r} is not word-aligned",
            where=f"utterance {corpus.table['id'][row]!r}",
            got=f"{steps} steps",
            expected="as many steps in each modality",
            remedy="Use a model of another view, or align it with: affectus corpus align DIR --to words",
        )
