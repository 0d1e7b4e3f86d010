"""Attention between modalities over the utterances of a video."""

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis among the keys that ``mask`` (broadcast, bool) admits; all zero if it admits none."""
    if mask is None:
        return scores.softmax(dim=-1)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights * mask


def inter_modal_attention(x: Tensor, y: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
    """Contextual inter-modal attention of Akhtar et al. 2019, Algorithm 1 (Ghosal et al. 2018), one direction.

    Every utterance of ``x`` attends over the utterances of ``y`` in the same video; what it finds gates ``x``.

    Args:
        x: (B, U, d).
        y: (B, U, d).
        keys: (B, U) bool, the utterances of ``y`` that may be attended to; None for all.

    Returns:
        (B, U, d) attended representation; (B, U, U) weights, each row summing to 1 over the admitted keys.
    """
    match = x @ y.transpose(-2, -1)  # M1 = X Y^T
    weights = masked_softmax(match, None if keys is None else keys.unsqueeze(-2))  # N1(i, j)
    return (weights @ y) * x, weights  # A1 = O1 (*) X, O1 = N1 Y
