"""Matrix products, by the kernels where PyTorch's own are slow.

PyTorch multiplies with Intel's library. On a processor of another maker that has AVX-512 it takes AVX2, which is half
the speed. There large products of networks are the kernels'. They are PyTorch's anywhere else, where a network is in
plain form, and where they are small.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.kernels import kernels_for, multiplies
from affectus.nn.tracing import is_plain

LEAST = 16
"""Rows, columns and terms of a sum below which the kernels' blocks are mostly empty."""
WORTH = 1 << 19
"""Multiplications from which a product of the kernels is the faster one."""
WORTH_OF_LAYER = 1 << 21
"""Multiplications of a layer from which it is, although its gradient is called from Python."""


def matmul(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """Return ``a b``, or ``start + a b``; no gradient goes through it.

    Args:
        a: (m, k), of any strides.
        b: (k, n), of any strides.
        start: (n,), for each row, or (m, n).

    Returns:
        (m, n), contiguous.
    """
    kernels = _kernels_for(a, b, start, WORTH)
    if kernels is None:
        return a @ b if start is None else torch.addmm(start, a, b)
    adding, bias = False, None
    if start is None or start.dim() == 1:
        c, bias = a.new_empty(a.shape[0], b.shape[1]), None if start is None else start.contiguous()
    else:
        c, adding = start.clone(memory_format=torch.contiguous_format), True
    kernels.matmul(
        *(a.data_ptr(), b.data_ptr(), c.data_ptr(), 0 if bias is None else bias.data_ptr(), adding),
        *(*c.shape, a.shape[1], *a.stride(), *b.stride(), c.stride(0), torch.get_num_threads()),
    )
    return c


def linear(x: Tensor, weight: Tensor, start: Tensor | None = None) -> Tensor:
    """Return ``x weight.T``, or ``start + x weight.T``, with its gradient.

    Args:
        x: (..., dim).
        weight: (width, dim).
        start: (width,), a bias; or (N, width), for x (N, dim).

    Returns:
        (..., width).
    """
    theirs = is_plain() or not multiplies() or x.dim() < 2 or torch.is_autocast_enabled(x.device.type)
    rows = None if theirs else x.flatten(0, -2)
    if rows is None or _kernels_for(rows, weight.T, start, WORTH_OF_LAYER) is None:
        if start is None or start.dim() == 1:
            return F.linear(x, weight, start)
        return torch.addmm(start, x, weight.T)
    found: Tensor = _Linear.apply(rows, weight, start)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """PyTorch's linear layer, its products by :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., dim) to (..., width)."""
        return linear(input, self.weight, self.bias)


AnyModule = TypeVar("AnyModule", bound=nn.Module)


def adopt(network: AnyModule) -> AnyModule:
    """Let the linear layers of a network that others wrote multiply by :func:`linear`; its weights stay theirs.

    Returns:
        The same network.
    """
    for layer in network.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear
    return network


class _Linear(torch.autograd.Function):
    """A layer over rows (N, dim), with the gradient of its products."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, start: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.is_bias = start is not None and start.dim() == 1
        return matmul(rows, weight.T, start)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_start = ctx.needs_input_grad
        multiply = torch.matmul if torch.is_grad_enabled() else matmul  # a gradient may be wanted of the gradient
        return (
            multiply(grad, weight) if of_rows else None,
            multiply(grad.T, rows) if of_weight else None,
            (grad.sum(dim=0) if ctx.is_bias else grad) if of_start else None,
        )


def _kernels_for(a: Tensor, b: Tensor, start: Tensor | None, worth: int) -> Any | None:
    """Return the library for a product; None where PyTorch's is the better one, the only one, or has to complain."""
    if is_plain() or not multiplies():  # first, since a tracer must not see what depends on a size
        return None
    (m, k), n = a.shape, b.shape[1]
    if m * k * n < worth or min(m, k, n) < LEAST or _is_transformed():
        return None
    fits = b.shape[0] == k and (start is None or start.shape in ((n,), (m, n)))
    if not fits or not all(_lies_there(x) for x in (a, b, start) if x is not None):
        return None
    return kernels_for(a)


def _lies_there(x: Tensor) -> bool:
    """True for numbers of single precision in this machine's memory: no promise of them, nor their negatives."""
    ordinary = type(x) in (Tensor, nn.Parameter) and x.layout == torch.strided and not x.is_neg()
    return ordinary and x.dtype == torch.float32 and x.device.type == "cpu"


def _is_transformed() -> bool:
    """True within the transforms of ``torch.func``, which see through PyTorch's operators alone."""
    return bool(torch._C._are_functorch_transforms_active())
