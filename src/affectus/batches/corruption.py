"""What may go wrong with a modality, done to batches on purpose.

A corruption takes a batch and gives one with features, masks and tokens changed; labels stay. What is *hidden* becomes
zero with a False mask, exactly as a loader gives what was never measured: the model is told that it is not there.
Noise and shuffled pairing leave the masks: nothing tells the model.

Random numbers belong to a draw, a modality, the row of an utterance in the corpus's table, and where needed a step or a
column, and to nothing else. So they do not depend on batching, a share of 0.3 hides all that a share of 0.2 hides, and
two runs are compared on the same damage.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from affectus.batches.batch import Batch, Tokens
from affectus.vocabulary import TEXT, View

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """A set of random numbers: the seed of a study, and which of its repetitions this is."""

    seed: int
    number: int = 0

    def uniform(self, kind: str, modality: str, *places: npt.ArrayLike) -> FloatArray:
        """Return numbers in [0, 1), one for each place, the same at each call.

        Args:
            kind: what they decide.
            modality: for which modality.
            places: whole numbers, which are broadcast: rows, steps, columns.
        """
        state = np.uint64(zlib.crc32(f"{self.seed} {self.number} {kind} {modality}".encode()))
        mixed = _mix(np.asarray(state))
        for place in places:
            mixed = _mix(mixed ^ (np.asarray(place).astype(np.int64).astype(np.uint64) + np.uint64(1)))
        return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix the bits of numbers so that those of any two differ by chance (SplitMix64; Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


def hide_modalities(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """Hide each modality of each utterance with a probability of ``share``, but never the last one that it has.

    This is modality dropout for training. Of the modalities that an utterance has, the one that drew the highest number
    stays, so one that would lose all of them keeps one at random.

    Args:
        batch: of any view.
        share: in [0, 1).
        generator: of the random numbers, on the CPU, so that they are the same on every device.
    """
    there = torch.stack([_has(batch, name) for name in batch.masks], dim=-1)  # (B, U, m) or (B, m)
    drawn = torch.rand(there.shape, generator=generator).to(there.device).masked_fill(~there, -1.0)
    kept = (drawn >= share) | (drawn == drawn.amax(dim=-1, keepdim=True))
    for place, name in enumerate(batch.masks):
        batch = _hide(batch, name, kept[..., place])
    return batch


def missing(batch: Batch, modalities: Iterable[str], rate: float, draw: Draw) -> Batch:
    """Hide whole modalities: each utterance loses each of the given ones with a probability of ``rate``.

    Unlike :func:`hide_modalities`, an utterance may lose all of them.
    """
    for name in modalities:
        kept = draw.uniform("missing", name, batch.rows.cpu().numpy()) >= rate
        batch = _hide(batch, name, torch.from_numpy(kept))
    return batch


def drop_frames(batch: Batch, modalities: Iterable[str], rate: float, draw: Draw) -> Batch:
    """Hide single steps: each step of the given modalities with a probability of ``rate``.

    In the contextual view an utterance is one step, and this is :func:`missing`.
    """
    if batch.view is View.CONTEXTUAL:
        return missing(batch, modalities, rate, draw)
    for name in modalities:
        steps = np.arange(batch.masks[name].shape[1])
        kept = draw.uniform("frames", name, batch.rows.cpu().numpy()[:, None], steps) >= rate
        batch = _hide_steps(batch, name, torch.from_numpy(kept))
    return batch


def drop_burst(batch: Batch, modalities: Iterable[str], share: float, draw: Draw) -> Batch:
    """Hide one run of steps: ``share`` of a sequence's real steps, one after another, anywhere in it.

    In the contextual view the sequence is a video's utterances.
    """
    rows = batch.rows.cpu().numpy()
    owner = rows[:, 0] if batch.view is View.CONTEXTUAL else rows
    for name in modalities:
        real = batch.masks[name].cpu().numpy()
        counts = real.sum(axis=1)
        gone = np.floor(share * counts + 0.5).astype(np.int64)
        first = np.floor(draw.uniform("bursts", name, owner) * (counts - gone + 1)).astype(np.int64)
        rank = np.cumsum(real, axis=1) - 1
        kept = ~((rank >= first[:, None]) & (rank < (first + gone)[:, None]))
        batch = _hide_steps(batch, name, torch.from_numpy(kept))
    return batch


def add_noise(
    batch: Batch, modalities: Iterable[str], decibels: float, draw: Draw, deviations: Mapping[str, Tensor]
) -> Batch:
    """Add Gaussian noise of a signal-to-noise ratio to the real steps.

    The signal's power is that of each column by itself: its variance over the real steps of the split. At d decibels a
    column of deviation s gets noise of deviation s * 10^(-d / 20); a constant column gets none. Text that comes as
    token ids has no columns and stays as it is.

    Args:
        batch: of any view.
        modalities: which to disturb.
        decibels: 0 makes the noise as strong as the signal.
        draw: of the noise; another ratio scales the same noise.
        deviations: per modality (dim,), from :func:`column_deviations`.
    """
    scale = 10.0 ** (-decibels / 20.0)
    for name in modalities:
        values = values_of(batch, name)
        if values is None or name not in deviations:
            continue  # ids, or nothing measured anywhere
        rows = batch.rows.cpu().numpy()
        places: list[npt.ArrayLike] = [rows.reshape(*rows.shape, *[1] * (values.dim() - rows.ndim))]
        for axis in range(rows.ndim, values.dim()):
            places.append(np.arange(values.shape[axis]).reshape(-1, *[1] * (values.dim() - axis - 1)))
        uniform = torch.from_numpy(draw.uniform("noise", name, *places)).clamp(2.0**-54)
        noise = torch.special.ndtri(uniform).to(values) * (scale * deviations[name].to(values))
        if name in batch.features:
            noisy = torch.where(batch.masks[name].unsqueeze(-1), values + noise, values)
            batch = replace(batch, features={**batch.features, name: noisy})
        else:
            assert batch.tokens is not None
            noisy = torch.where(batch.tokens.mask.unsqueeze(-1), values + noise, values)
            batch = replace(batch, tokens=replace(batch.tokens, states=noisy))
    return batch


def shuffle_pairing(batch: Batch, modalities: Iterable[str], rate: float, draw: Draw) -> Batch:
    """Give utterances the modality of another one: each with a probability of ``rate``.

    The other one is drawn from the same batch among those that have the modality; where there is none, all stays. Each
    of the given modalities comes from an utterance of its own.
    """
    rows = batch.rows.cpu().numpy()
    for name in modalities:
        has = np.flatnonzero(_has(batch, name).cpu().numpy().ravel())
        if len(has) < 2:
            continue
        own = rows.ravel()[has]
        # in a random circle everyone's partner is the next one
        circle = has[np.argsort(draw.uniform("partners", name, own), kind="stable")]
        partner = np.arange(rows.size)
        partner[circle] = np.roll(circle, -1)
        stays = np.ones(rows.size, bool)
        stays[has] = draw.uniform("shuffled", name, own) >= rate
        partner[stays] = np.flatnonzero(stays)
        batch = _take(batch, name, torch.from_numpy(partner))
    return batch


def values_of(batch: Batch, name: str) -> Tensor | None:
    """Return the numbers (..., dim) in which a modality comes; None for token ids."""
    if name in batch.features:
        return batch.features[name]
    states = batch.tokens.states if batch.tokens is not None and name == TEXT else None
    return states if states is not None and states.is_floating_point() else None


def column_deviations(batches: Iterable[Batch], modalities: Sequence[str]) -> dict[str, Tensor]:
    """Return the standard deviation of each column over the real steps of all batches, (dim,) float64 per modality."""
    count: dict[str, int] = {}
    mean: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    for batch in batches:
        for name in modalities:
            values = values_of(batch, name)
            if values is None:
                continue
            mask = batch.masks[name] if name in batch.features or batch.tokens is None else batch.tokens.mask
            real = values[mask].double()
            if not len(real):
                continue
            # means of parts are joined as in Chan et al. 1983, which keeps all digits
            n, here = count.get(name, 0), real.mean(dim=0)
            apart = here - mean.get(name, torch.zeros_like(here))
            total = n + len(real)
            spread = ((real - here) ** 2).sum(dim=0) + apart**2 * (n * len(real) / total)
            mean[name] = mean.get(name, torch.zeros_like(here)) + apart * (len(real) / total)
            squares[name] = squares.get(name, torch.zeros_like(here)) + spread
            count[name] = total
    return {name: (squares[name] / count[name]).sqrt() for name in squares}


def _has(batch: Batch, name: str) -> Tensor:
    """(B, U) or (B,) True where an utterance has a modality."""
    mask = batch.masks[name]
    return mask if batch.view is View.CONTEXTUAL else mask.any(dim=1)


def _hide(batch: Batch, name: str, kept: Tensor) -> Batch:
    """Hide a modality where ``kept``, (B, U) or (B,), is False."""
    if batch.view is View.CONTEXTUAL:
        return _with_mask(batch, name, batch.masks[name] & kept.to(batch.mask.device))
    return _hide_steps(batch, name, kept.unsqueeze(1).expand_as(batch.masks[name]))


def _hide_steps(batch: Batch, name: str, kept: Tensor) -> Batch:
    """Hide the steps of a modality where ``kept`` (B, T) is False."""
    return _with_mask(batch, name, batch.masks[name] & kept.to(batch.mask.device))


def _with_mask(batch: Batch, name: str, mask: Tensor) -> Batch:
    """Return the batch with fewer real steps of a modality; what is no longer real is zero."""
    masks = {**batch.masks, name: mask}
    if name in batch.features:
        hidden = torch.where(mask.unsqueeze(-1), batch.features[name], torch.zeros_like(batch.features[name]))
        return replace(batch, masks=masks, features={**batch.features, name: hidden})
    assert batch.tokens is not None
    return replace(batch, masks=masks, tokens=_fewer_tokens(batch.tokens, mask, batch.view))


def _fewer_tokens(tokens: Tokens, mask: Tensor, view: View) -> Tokens:
    """Hide the tokens of the steps that are no longer real."""
    if view is View.CONTEXTUAL:
        kept = mask.unsqueeze(-1).expand_as(tokens.mask)
    elif tokens.words is None:
        kept = mask
    else:
        # the encoder's own marks belong to no word, and stay where any word does
        of_word = mask.gather(1, tokens.words.clamp(min=0))
        kept = torch.where(tokens.words >= 0, of_word, mask.any(dim=1, keepdim=True))
    return replace(tokens, mask=tokens.mask & kept)


def _take(batch: Batch, name: str, partner: Tensor) -> Batch:
    """Give each utterance, counted through the batch, the modality of another."""
    partner = partner.to(batch.mask.device)
    axes = batch.rows.dim()

    def taken(x: Tensor) -> Tensor:
        flat = x.reshape(math.prod(x.shape[:axes]), *x.shape[axes:])
        return flat[partner].reshape(x.shape)

    masks = {**batch.masks, name: taken(batch.masks[name])}
    if name in batch.features:
        return replace(batch, masks=masks, features={**batch.features, name: taken(batch.features[name])})
    assert batch.tokens is not None
    return replace(batch, masks=masks, tokens=batch.tokens.map(taken))
