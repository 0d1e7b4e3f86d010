"""Vectors times numbers: side by side, as a node of a dynamic fusion graph sees them; by a softmax, as MFN attends."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from affectus.nn.kernels import Arrays, count, kernels_for, places_of
from affectus.nn.precision import in_full


def weigh(numbers: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Concatenate vectors, each times a number.

    Args:
        numbers: (N, count).
        parts: so many vectors (N, width) of any widths.

    Returns:
        (N, sum of the widths).
    """
    if kernels_for(numbers) is None:
        return torch.cat(
            [part * number for part, number in zip(parts, torch.split(numbers, 1, dim=1), strict=True)], dim=1
        )
    found: Tensor = in_full(_Weigh.apply, numbers, *parts)
    return found


class _Weigh(torch.autograd.Function):
    """By the kernels, in one pass forward and one back."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, *parts: Tensor) -> Tensor:
        """Run."""
        kernels = kernels_for(numbers)
        assert kernels is not None
        numbers, parts = numbers.contiguous(), tuple(part.contiguous() for part in parts)
        out = numbers.new_empty(len(numbers), sum(part.shape[1] for part in parts))
        kernels.weigh(_weighing(numbers, parts, out), torch.get_num_threads())
        ctx.save_for_backward(numbers, *parts)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """Go back."""
        numbers, *parts = ctx.saved_tensors
        kernels = kernels_for(numbers)
        assert kernels is not None
        of_numbers, of_parts = torch.empty_like(numbers), [torch.empty_like(part) for part in parts]
        arrays = _weighing(numbers, parts, grad.contiguous(), of_places=places_of(of_parts), of_numbers=of_numbers)
        kernels.weigh_back(arrays, torch.get_num_threads())
        return of_numbers, *of_parts


def _weighing(numbers: Tensor, parts: Sequence[Tensor], out: Tensor, **back: Tensor) -> Arrays:
    """Return what the kernels take; ``out`` is the result, or its gradient."""
    widths = count([part.shape[1] for part in parts])
    given = {"places": places_of(parts), "widths": widths, "numbers": numbers, "out": out, **back}
    return Arrays("weighing", *out.shape, len(parts), **given)


def attend(scores: Tensor, values: Tensor) -> Tensor:
    """Return ``softmax(scores) * values``, row by row, all (N, width)."""
    if kernels_for(scores) is None or not scores.shape[1]:
        return torch.softmax(scores, dim=1) * values
    found: Tensor = in_full(_Attend.apply, scores, values)
    return found


class _Attend(torch.autograd.Function):
    """By the kernels, in one pass forward and one back."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, values: Tensor) -> Tensor:
        """Run."""
        kernels = kernels_for(scores)
        assert kernels is not None
        scores, values = scores.contiguous(), values.contiguous()
        weights, out = torch.empty_like(scores), torch.empty_like(scores)
        arrays = Arrays("attention", *scores.shape, scores=scores, values=values, weights=weights, out=out)
        kernels.attend(arrays, torch.get_num_threads())
        ctx.save_for_backward(weights, values)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Go back."""
        weights, values = ctx.saved_tensors
        kernels = kernels_for(weights)
        assert kernels is not None
        of_scores, of_values = torch.empty_like(weights), torch.empty_like(weights)
        arrays = Arrays(
            "attention",
            *weights.shape,
            values=values,
            weights=weights,
            out=grad.contiguous(),
            of_scores=of_scores,
            of_values=of_values,
        )
        kernels.attend_back(arrays, torch.get_num_threads())
        return of_scores, of_values
