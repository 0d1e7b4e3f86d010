"""What stays in full precision where the rest of a network runs in bfloat16.

Within ``torch.autocast`` products and convolutions of a network are in bfloat16, while its weights, their gradients and
the optimiser stay in single precision. Recurrences stay in it too: over hundreds of steps a state of eight bits loses
what it holds, and gradients that are written out know one kind of number.
"""

from typing import Any

import torch
from torch import Tensor


def in_full(function: Any, *arguments: Any) -> Any:
    """Call a function with autocast off, every tensor of low precision among its arguments in single precision.

    Args:
        function: for instance the ``apply`` of a ``torch.autograd.Function``.
        *arguments: tensors or anything else.
    """
    device = next(x.device.type for x in arguments if isinstance(x, Tensor))
    if not torch.is_autocast_enabled(device):
        return function(*arguments)
    with torch.autocast(device, enabled=False):
        return function(*(single(x) if isinstance(x, Tensor) else x for x in arguments))


def single(x: Tensor) -> Tensor:
    """Return a tensor of bfloat16 or half precision in single precision, and any other as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
