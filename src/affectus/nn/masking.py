"""Operations that respect masks: True is a real frame or utterance, and what lies under False may be anything."""

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
