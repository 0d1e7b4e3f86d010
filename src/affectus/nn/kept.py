"""Memory that a large gradient is written to again, batch after batch.

What is larger than 32 MB the system gives anew each time and takes back when it is freed; to fill its new pages with
zeros takes longer than the product that is then written there.
"""

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

LARGE = 1 << 22
"""Bytes from which on memory is kept."""

_kept = WeakTensorKeyDictionary()  # of each weight the storage for its gradient, as long as there is the weight


def gradient_like(weight: Tensor) -> Tensor:
    """Return an uninitialised tensor like a weight, in the memory of the one before if nobody holds that any more.

    So a gradient that somebody keeps (for a second batch to add to, or to compare) stays as it is.
    """
    large = weight.numel() * weight.element_size() >= LARGE
    if not large or weight.device.type != "cpu" or not weight.is_contiguous():
        return torch.empty_like(weight)
    storage = _kept.get(weight)  # type: ignore[no-untyped-call]
    if storage is None or torch._C._storage_Use_Count(storage._cdata) > 1:
        storage = torch.empty_like(weight).untyped_storage()
        _kept[weight] = storage
    return weight.new_empty(0).set_(storage, 0, weight.shape)  # type: ignore[call-overload,no-any-return]
