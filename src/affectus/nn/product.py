"""The outer product of vectors and the linear layer upon it, which is most of what tensor fusion takes.

On a CPU the product is never there as a whole in training: a part of it that stays in the cache is made, some of it is
dropped, and it goes into the layer; going back it is made again. What is kept of dropout is a bit per decision. Kernels
go through all parts in one call.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from affectus.nn.dropping import LEVELS, WORD, LargeDropout, draw_words
from affectus.nn.kept import gradient_like
from affectus.nn.kernels import Arrays, kernels_for
from affectus.nn.precision import in_full
from affectus.nn.tracing import is_plain

PART = 150_000
"""Numbers of the product that are made at once: 0.6 MB."""
CHUNKS = 8
"""Parts of the product that a kernel sums up by themselves, so that no sum depends on how many threads there are."""
OUTPUTS = 16
"""Rows of the weight's gradient that are written at once; of more, each part would go through memory twice."""


def outer_product(vectors: Iterable[Tensor]) -> Tensor:
    """Return the outer product of [1, x] of each vector (B, width), flattened: (B, product of width + 1)."""
    product: Tensor | None = None
    for x in vectors:
        factor = _with_one(x)
        product = factor if product is None else (product.unsqueeze(2) * factor.unsqueeze(1)).flatten(1)
    assert product is not None
    return product


def product_layer(vectors: Iterable[Tensor], drop: LargeDropout, layer: nn.Module) -> Tensor:
    """Return ``layer(drop(outer_product(vectors)))``.

    Args:
        vectors: each (B, width).
        drop: what drops some of the product.
        layer: linear, from the product's width to (B, out).
    """
    assert isinstance(layer, nn.Linear)
    *some, last = vectors
    small = last.dtype == torch.float32 and last.device.type == "cpu" and last.shape[0] > 0
    worth = layer.training or (not torch.is_grad_enabled() and kernels_for(last) is not None)
    if is_plain() or not (worth and small):
        whole: Tensor = layer(drop(outer_product([*some, last])))
        return whole
    left = outer_product(some) if some else last.new_ones(len(last), 1)
    share = min(round(drop.p * LEVELS), LEVELS - 1) if drop.training else 0
    y: Tensor = in_full(_ProductLayer.apply, left, _with_one(last), layer.weight, layer.bias, share)
    return y


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x.new_ones(x.shape[0], 1), x], dim=1)


class _ProductLayer(torch.autograd.Function):
    """W d(a b) + c part by part, where d drops."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, weight: Tensor, bias: Tensor, least: int) -> Tensor:
        """Run.

        Args:
            ctx: keeps what the gradient needs.
            left: (B, L), a.
            right: (B, R), b.
            weight: (out, L * R), W.
            bias: (out,), c.
            least: of :data:`LEVELS`, how much is dropped.

        Returns:
            (B, out).
        """
        ctx.factor = LEVELS / (LEVELS - least)
        ctx.least = least
        parts = _Parts(left * ctx.factor, right, least)
        ctx.save_for_backward(left, right, weight, parts.words)
        if (kernels := kernels_for(weight)) is not None:
            sums = torch.empty(CHUNKS, len(weight), len(left))
            kernels.product(parts.arrays(weight, sums=sums), torch.get_num_threads())
            return torch.add(sums.sum(dim=0).T, bias)
        # the weights first: a product that reads most from its first factor is the faster one
        y = bias.unsqueeze(1).expand(-1, len(left)).clone()  # (out, B)
        for number in range(parts.count):
            y.addmm_(weight[:, parts.columns(number)], parts.make(number).T)
        return y.T.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Make each part again."""
        left, right, weight, words = ctx.saved_tensors
        parts = _Parts(left * ctx.factor, right, ctx.least, words)
        batch = len(left)
        grad = grad.contiguous()
        grad_left = torch.empty_like(left)
        grad_weight = gradient_like(weight)
        if (kernels := kernels_for(weight)) is not None:
            of_right = torch.zeros(CHUNKS, *right.shape)
            arrays = parts.arrays(
                weight,
                grad=grad,
                turned=grad.T.contiguous(),
                of_weight=grad_weight,
                of_left=grad_left,
                of_right=of_right,
            )
            kernels.product_back(arrays, torch.get_num_threads())
            return grad_left.mul_(ctx.factor), of_right.sum(dim=0), grad_weight, grad.sum(dim=0), None
        grad_right = torch.zeros_like(right)
        buffer = torch.empty(batch * parts.size * right.shape[1])
        for number in range(parts.count):
            columns = parts.columns(number)
            made = parts.make(number)
            for some in range(0, grad.shape[1], OUTPUTS):
                torch.mm(grad[:, some : some + OUTPUTS].T, made, out=grad_weight[some : some + OUTPUTS, columns])
            product = buffer[: batch * (columns.stop - columns.start)].view(batch, -1)
            torch.mm(grad, weight[:, columns], out=product)
            parts.back(number, product, grad_left, grad_right)
        return grad_left.mul_(ctx.factor), grad_right, grad_weight, grad.sum(dim=0), None


class _Parts:
    """The parts of an outer product (B, L * R), each of ``size`` values of the left factor.

    Args:
        left: (B, L).
        right: (B, R).
        least: of :data:`LEVELS`, how much is dropped.
        words: the decisions; None to draw them. Part number n of 32 parts takes the n-th bit of each word.
    """

    def __init__(self, left: Tensor, right: Tensor, least: int, words: Tensor | None = None) -> None:
        self.left, self.right = left.contiguous(), right.contiguous()
        batch, self.length = left.shape
        self.width = right.shape[1]
        most = max(PART // (batch * self.width), 1)
        # as even as they can be, since each draws as many bits as the largest
        self.size = math.ceil(self.length / math.ceil(self.length / most))
        self.count = math.ceil(self.length / self.size)
        shape = (math.ceil(self.count / WORD), batch, self.size * self.width)
        if words is None:
            words = draw_words(math.prod(shape), least) if least else torch.empty(0, dtype=torch.int32)
        self.words = words.view(shape) if least else words
        self.dropping = bool(least)
        self._room: tuple[Tensor, Tensor] | None = None

    def rows(self, number: int) -> slice:
        """Return which values of the left factor a part has."""
        return slice(number * self.size, min((number + 1) * self.size, self.length))

    def columns(self, number: int) -> slice:
        """Return which columns of the product a part has."""
        rows = self.rows(number)
        return slice(rows.start * self.width, rows.stop * self.width)

    def make(self, number: int) -> Tensor:
        """Return a part (B, columns), some of it dropped; the next call overwrites it."""
        rows = self.rows(number)
        count = rows.stop - rows.start
        if self._room is None:
            whole = (len(self.left), self.size * self.width)
            self._room = torch.empty(whole[0] * whole[1]), torch.empty(whole, dtype=torch.int32)
        room, mask = self._room
        product = room[: len(self.left) * count * self.width].view(len(self.left), -1)
        torch.mul(self.left[:, rows].unsqueeze(2), self.right.unsqueeze(1), out=product.view(-1, count, self.width))
        if self.dropping:
            torch.bitwise_left_shift(self.words[number // WORD], WORD - 1 - number % WORD, out=mask)
            mask >>= WORD - 1
        return self._drop(product)

    def back(self, number: int, grad: Tensor, grad_left: Tensor, grad_right: Tensor) -> None:
        """Go from the gradient of the part that was made last, which is used up, to that of both factors.

        Args:
            number: of the part.
            grad: (B, columns), contiguous.
            grad_left: (B, L), of which the part's columns are written.
            grad_right: (B, R), which is added to.
        """
        rows = self.rows(number)
        shaped = self._drop(grad).view(len(grad), -1, self.width)
        grad_left[:, rows] = (shaped @ self.right.unsqueeze(2)).squeeze(2)
        grad_right += (self.left[:, rows].unsqueeze(1) @ shaped).squeeze(1)

    def arrays(self, weight: Tensor, **arrays: Tensor) -> Arrays:
        """Return what the kernels take for all parts and a layer's weights (out, L * R)."""
        widths = (len(self.left), self.length, self.width, len(weight), self.size, CHUNKS)
        words = self.words if self.dropping else None
        return Arrays("product", *widths, left=self.left, right=self.right, words=words, weight=weight, **arrays)

    def _drop(self, product: Tensor) -> Tensor:
        """Drop of (B, columns), in place, what was dropped of the part that was made last."""
        if self.dropping and self._room is not None:
            product.view(torch.int32).bitwise_and_(self._room[1][:, : product.shape[1]])
        return product
