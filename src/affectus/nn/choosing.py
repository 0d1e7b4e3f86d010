"""Rows of several arrays, chosen and put side by side."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from affectus.nn.kernels import Arrays, count, kernels_for
from affectus.nn.precision import in_full

ADD, SET, COPY = 0, 1, 2
"""What becomes of a part's gradient: it is added to that of the array, added to zeros first, or is the first there."""
Choice = tuple[Tensor, Tensor | None]
"""An array (M, width) and (N,) which of its rows stand where, M for zeros; None for all rows as they are."""


def choose(parts: Sequence[Choice]) -> Tensor:
    """Return rows of several arrays side by side, (N, sum of the widths); an array may come more than once."""
    if any(kernels_for(x) is None for x, _ in parts):
        chosen = [x if index is None else with_zero(x).index_select(0, index) for x, index in parts]
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=1)
    if len(parts) == 1 and parts[0][1] is None:
        return parts[0][0]
    sources = list({id(x): x for x, _ in parts}.values())
    numbers = {id(x): number for number, x in enumerate(sources)}
    whose = [numbers[id(x)] for x, _ in parts]
    found: Tensor = in_full(_Choose.apply, whose, [index for _, index in parts], *sources)
    return found


def with_zero(rows: Tensor) -> Tensor:
    """Append a row of zeros, which row number N then means."""
    return torch.cat([rows, rows.new_zeros(1, rows.shape[-1])])


class _Choose(torch.autograd.Function):
    """By the kernels: one pass forward, one over each array back."""

    @staticmethod
    def forward(ctx: Any, whose: Sequence[int], indexes: Sequence[Tensor | None], *sources: Tensor) -> Tensor:
        """Run.

        Args:
            ctx: keeps what the gradient needs.
            whose: of each part, the number of its array.
            indexes: of each part.
            *sources: the arrays.
        """
        ctx.whose, ctx.indexes = whose, [None if x is None else x.contiguous() for x in indexes]
        sources = tuple(x.contiguous() for x in sources)
        ctx.shapes = [x.shape for x in sources]
        rows = len(sources[whose[0]]) if indexes[0] is None else len(indexes[0])
        out = sources[0].new_empty(rows, sum(ctx.shapes[source][1] for source in whose))
        _call("gather", ctx, sources, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Go back."""
        grad = grad.contiguous()
        found = [grad.new_empty(shape) for shape in ctx.shapes]
        _call("gather_back", ctx, found, grad)
        return None, None, *found


def _call(function: str, ctx: Any, sources: Sequence[Tensor], out: Tensor) -> None:
    """Go through the parts, those first that have all rows of their array: it need not be set to zero then."""
    kernels = kernels_for(out)
    assert kernels is not None
    parts, start = [], 0
    for source, index in zip(ctx.whose, ctx.indexes, strict=True):
        parts.append((source, index, start))
        start += ctx.shapes[source][1]
    table, met = [], set()
    for source, index, start in sorted(parts, key=lambda part: part[1] is not None):
        place, (rows, width) = sources[source].data_ptr(), ctx.shapes[source]
        mode = ADD if source in met else COPY if index is None else SET
        table += [place, width, start, rows, 0 if index is None else index.data_ptr(), mode]
        met.add(source)
    arrays = Arrays("choice", len(parts), *out.shape, table=count(table), out=out)
    getattr(kernels, function)(arrays, torch.get_num_threads())
