"""What a network needs to know of a batch of which other workers have parts: the sums that go over all of it.

Workers average their gradients. That is the gradient of the whole batch only if a mean's divisor counts what all of
them have, and if the statistics of a batch normalisation are those of all; :func:`mean_over` and :func:`sum_over` see
to it. Alone, or outside :func:`together`, they are what they would be without other workers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor


class Others(Protocol):
    """The workers that have the other parts of a batch; they all ask for the same sums in the same order."""

    workers: int
    """How many there are, this one among them."""

    def add(self, x: Tensor) -> Tensor:
        """Return the sum over all workers of a tensor, without its gradient."""


_OTHERS: ContextVar[Others | None] = ContextVar("others", default=None)


@contextmanager
def together(others: Others | None) -> Iterator[None]:
    """Let sums and means within the block go over what all workers have; None: over one's own."""
    token = _OTHERS.set(others)
    try:
        yield
    finally:
        _OTHERS.reset(token)


def is_shared() -> bool:
    """True where other workers have parts of the batch."""
    return _others() is not None


def _others() -> Others | None:
    # the compiler cannot look into it; a network that it compiles has its batches for itself
    return None if torch.compiler.is_compiling() else _OTHERS.get()


def sum_over(x: Tensor) -> Tensor:
    """Return the sum over all workers of (...), with its gradient."""
    others = _others()
    if others is None:
        return x
    found: Tensor = _Sum.apply(x, others) if x.requires_grad else others.add(x)  # type: ignore[no-untyped-call]
    return found


def mean_over(total: Tensor, count: Tensor) -> Tensor:
    """Return ``total / count``, 0 / 1 for a count of 0.

    With other workers it is what they have to average to get the sum of all totals by that of all counts.
    """
    others = _others()
    if others is None:
        return total / count.clamp(min=1)
    return total * others.workers / others.add(count).clamp(min=1)


class _Sum(torch.autograd.Function):
    """The sum over workers: what one of them adds is in the sum of each, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, others: Others) -> Tensor:
        """Add."""
        ctx.others = others
        return others.add(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Add the gradients."""
        return ctx.others.add(grad), None
