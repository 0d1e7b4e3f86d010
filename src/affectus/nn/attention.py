"""Attention between modalities over the utterances of a video."""

from collections.abc import Mapping
from itertools import combinations

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

    Every row of ``x`` (an utterance, as a rule) attends over the rows of ``y``; what it finds gates ``x``. With
    ``x = y`` this is the papers' self-attention.

    Args:
        x: (..., U, d).
        y: (..., K, d).
        keys: (..., K) bool, the rows of ``y`` that may be attended to; None for all.

    Returns:
        (..., U, d) attended representation; (..., U, K) weights, each row summing to 1 over the admitted keys.
    """
    match = x @ y.transpose(-2, -1)  # M1 = X Y^T
    weights = masked_softmax(match, None if keys is None else keys.unsqueeze(-2))  # N1(i, j)
    return (weights @ y) * x, weights  # A1 = O1 (*) X, O1 = N1 Y


def attended_blocks(modalities: int) -> int:
    """Number of representations that :func:`pairwise_attention` returns for so many modalities."""
    return 1 if modalities == 1 else modalities * (modalities - 1)


def pairwise_attention(
    x: Mapping[str, Tensor], keys: Mapping[str, Tensor] | None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Let each modality attend to each other one, in both directions; a lone modality attends to itself.

    Args:
        x: per modality (B, U, d).
        keys: per modality (B, U) bool, the utterances that may be attended to; None for all.

    Returns:
        The attended representations, each (B, U, d); the weights (B, U, U) under ``attention.<query>.<key>``.
    """
    names = tuple(x)
    attended: list[Tensor] = []
    weights: dict[str, Tensor] = {}
    directed = [pair for a, b in combinations(names, 2) for pair in ((a, b), (b, a))] or [(names[0], names[0])]
    for query, key in directed:
        result, weights[f"attention.{query}.{key}"] = inter_modal_attention(
            x[query], x[key], None if keys is None else keys[key]
        )
        attended.append(result)
    return attended, weights
