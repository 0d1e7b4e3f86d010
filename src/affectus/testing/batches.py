"""Random batches of every view without a corpus, and the ways in which a batch may change that no result may notice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.labels import LabelKind, LabelScheme, emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.objectives import Task, choose_tasks
from affectus.vocabulary import AUDIO, TEXT, VISION, View

DIMS: Mapping[str, int] = {TEXT: 6, AUDIO: 5, VISION: 4}
"""Widths of the modalities of a random batch."""
SCHEMES: Mapping[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        sentiment_scheme(),
        emotions_scheme(),
        emotion_class_scheme(("anger", "happiness", "none")),
        LabelScheme(name="ratings", kind=LabelKind.REAL, columns=("persuasive", "confident"), low=1.0, high=7.0),
    )
}
"""Label schemes of a random batch; tasks of every kind come from them."""


def make_tasks(*names: str) -> tuple[Task, ...]:
    """Return the named tasks of :data:`SCHEMES`; without a name one of each kind.

    >>> [str(task.kind) for task in make_tasks()]
    ['binary', 'real', 'multi_label', 'one_of_k']
    """
    return choose_tasks(names or ("polarity", "intensity", "emotions", "emotion_class"), SCHEMES)


def make_batch(
    view: View,
    *,
    dims: Mapping[str, int] = DIMS,
    lengths: Sequence[int] = (3, 5, 2, 4),
    missing: float = 0.0,
    unlabelled: float = 0.0,
    seed: int = 0,
) -> Batch:
    """Make a random batch with labels of every kind.

    Args:
        view: contextual, unaligned or aligned.
        dims: width of each modality.
        lengths: utterances of each video (contextual), or steps of each utterance; in the unaligned view the second
            modality has one step more, the third two more, and so on.
        missing: share of the utterances that lack a modality; each keeps one at least.
        unlabelled: share of the labels that are missing.
        seed: of all random numbers.

    Returns:
        A batch that is zero at padding, as a loader's is.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths_ = torch.tensor(lengths)
    count, contextual = len(lengths), view is View.CONTEXTUAL
    real = torch.arange(int(lengths_.max())) < lengths_.unsqueeze(1)
    mask = real if contextual else torch.ones(count, dtype=torch.bool)
    lacking = torch.rand(len(dims), *mask.shape, generator=generator) < missing
    kept = torch.randint(len(dims), mask.shape, generator=generator)
    features, masks = {}, {}
    for i, (name, dim) in enumerate(dims.items()):
        here = real
        if view is View.UNALIGNED:
            own = lengths_ + i
            here = torch.arange(int(own.max())) < own.unsqueeze(1)
        gone = lacking[i] & (kept != i)
        masks[name] = here & ~(gone if contextual else gone.unsqueeze(1))
        x = torch.randn(*here.shape, dim, generator=generator)
        features[name] = torch.where(masks[name].unsqueeze(-1), x, 0.0)
    labels = {}
    for name, scheme in SCHEMES.items():
        values = _labels(scheme, mask.shape, generator)
        hidden = torch.rand(values.shape, generator=generator) < unlabelled
        labels[name] = values.masked_fill(hidden | ~mask.unsqueeze(-1), torch.nan)
    rows = torch.full(mask.shape, -1)
    rows[mask] = torch.arange(int(mask.sum()))
    return Batch(view, features, masks, mask, labels, rows)


def _labels(scheme: LabelScheme, shape: torch.Size, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(*shape, scheme.size, generator=generator)
    if scheme.kind is LabelKind.ONE_OF_K:
        return (uniform * len(scheme.classes)).floor()
    if scheme.kind is not LabelKind.REAL:
        return uniform.round()
    assert scheme.low is not None
    assert scheme.high is not None
    values = scheme.low + uniform * (scheme.high - scheme.low)
    # emotions are absent half of the time, so that both of their classes occur
    return torch.where(uniform < 0.5, 0.0, values) if scheme.name == "emotions" else values


def with_garbage(batch: Batch, value: float) -> Batch:
    """Return the batch with ``value`` in every feature that its mask excludes."""
    filled = {name: torch.where(batch.masks[name].unsqueeze(-1), x, value) for name, x in batch.features.items()}
    return replace(batch, features=filled)


def repad(batch: Batch, extra: int, value: float) -> Batch:
    """Return the batch with ``extra`` steps of padding more, and ``value`` in all that is masked."""
    if batch.view is not View.CONTEXTUAL:
        features = {name: _lengthen(x, extra, 0.0) for name, x in batch.features.items()}
        masks = {name: _lengthen(x, extra, False) for name, x in batch.masks.items()}
        return with_garbage(replace(batch, features=features, masks=masks), value)
    longer = Batch(
        batch.view,
        {name: _lengthen(x, extra, 0.0) for name, x in batch.features.items()},
        {name: _lengthen(x, extra, False) for name, x in batch.masks.items()},
        _lengthen(batch.mask, extra, False),
        {name: _lengthen(x, extra, torch.nan) for name, x in batch.labels.items()},
        _lengthen(batch.rows, extra, -1),
    )
    return with_garbage(longer, value)


def take(batch: Batch, index: int) -> Batch:
    """Return one sample of a batch as a batch of one, without the padding that it owed to the others."""
    one = batch.map(lambda x: x[index : index + 1])
    if batch.view is View.CONTEXTUAL:
        width = int(one.mask.sum())
        return one.map(lambda x: x[:, :width])
    widths = {name: max(int(mask.sum()), 1) for name, mask in one.masks.items()}
    if batch.view is View.ALIGNED:
        widths = dict.fromkeys(widths, max(widths.values()))
    features = {name: x[:, : widths[name]] for name, x in one.features.items()}
    masks = {name: x[:, : widths[name]] for name, x in one.masks.items()}
    return replace(one, features=features, masks=masks)


def join(first: Batch, second: Batch) -> Batch:
    """Return the samples of two batches of one view as one batch; the rows of the second count on from the first's."""

    def cat(a: Tensor, b: Tensor, value: float, steps: bool) -> Tensor:
        if steps:
            width = max(a.shape[1], b.shape[1])
            a, b = _lengthen(a, width - a.shape[1], value), _lengthen(b, width - b.shape[1], value)
        return torch.cat([a, b])

    contextual = first.view is View.CONTEXTUAL
    offset = int(first.rows.max()) + 1
    rows = torch.where(second.rows >= 0, second.rows + offset, second.rows)
    return Batch(
        first.view,
        {name: cat(x, second.features[name], 0.0, True) for name, x in first.features.items()},
        {name: cat(x, second.masks[name], False, True) for name, x in first.masks.items()},
        cat(first.mask, second.mask, False, contextual),
        {name: cat(x, second.labels[name], torch.nan, contextual) for name, x in first.labels.items()},
        cat(first.rows, rows, -1, contextual),
    )


def _lengthen(x: Tensor, extra: int, value: float) -> Tensor:
    """Append ``extra`` steps of ``value`` on the second axis."""
    return torch.cat([x, x.new_full((x.shape[0], extra, *x.shape[2:]), value)], dim=1)
