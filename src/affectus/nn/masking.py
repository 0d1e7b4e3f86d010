"""Operations that respect masks: True is a real frame or utterance, and what lies under False may be anything."""

from collections.abc import Mapping

import torch
from torch import Tensor


def zero_masked(x: Tensor, mask: Tensor) -> Tensor:
    """Return (..., d) with the rows where ``mask`` (...) is False set to zero, whatever they hold."""
    return torch.where(mask.unsqueeze(-1), x, torch.zeros_like(x))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Average (..., T, d) over the steps that ``mask`` (..., T) admits; zero if it admits none.

    >>> masked_mean(torch.tensor([[1.0], [3.0], [float("nan")]]), torch.tensor([True, True, False]))
    tensor([2.])
    """
    return zero_masked(x, mask).sum(dim=-2) / mask.sum(dim=-1, keepdim=True).clamp(min=1)


def drop_modalities(masks: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Hide each modality of each sample with a probability of ``share``, but never the last one that it has.

    Args:
        masks: per modality (B, T_m) bool.
        share: in [0, 1).

    Returns:
        Per modality (B, T_m) bool.
    """
    there = torch.stack([mask.any(dim=1) for mask in masks.values()], dim=1)  # (B, modalities)
    drawn = torch.rand(there.shape, device=there.device).masked_fill(~there, -1.0)
    # the one that drew the highest stays in any case
    kept = (drawn >= share) | (drawn == drawn.amax(dim=1, keepdim=True))
    return {name: mask & kept[:, i : i + 1] for i, (name, mask) in enumerate(masks.items())}
