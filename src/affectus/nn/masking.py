"""Operations that respect masks: True is a real frame or utterance, and what lies under False may be anything."""

import torch
from torch import Tensor

from affectus.nn.tracing import is_plain

MANY = 1 << 15
"""Values from which on it is faster on a CPU to copy all and to set some rows to zero than to choose value by value."""


def zero_masked(x: Tensor, mask: Tensor) -> Tensor:
    """Return (..., d) with the rows where ``mask`` (...) is False set to zero, whatever they hold.

    It is ``x`` itself, or a part of the same memory, where no row is masked.
    """
    if x.dtype == torch.bool:  # onnxruntime chooses between numbers alone
        return x & mask.unsqueeze(-1)
    # plain form is asked for first: an export would be bound to sizes that it sees compared
    if not is_plain() and x.numel() >= MANY and x.device.type == "cpu" and x.shape[:-1] == mask.shape:
        masked = (~mask).flatten().nonzero().squeeze(1)
        if not len(masked):
            return x
        rows = x.reshape(-1, x.shape[-1])
        copied = rows.data_ptr() != x.data_ptr() and not x.requires_grad
        return (rows.index_fill_(0, masked, 0.0) if copied else rows.index_fill(0, masked, 0.0)).view(x.shape)
    return torch.where(mask.unsqueeze(-1), x, x.new_zeros(()))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Average (..., T, d) over the steps that ``mask`` (..., T) admits; zero if it admits none.

    >>> masked_mean(torch.tensor([[1.0], [3.0], [float("nan")]]), torch.tensor([True, True, False]))
    tensor([2.])
    """
    return zero_masked(x, mask).sum(dim=-2) / mask.sum(dim=-1, keepdim=True).clamp(min=1)


def to_front(x: Tensor, mask: Tensor, *, zeros: bool = True) -> tuple[Tensor, Tensor]:
    """Bring the real steps to the front, in their order: what is left out leaves no trace.

    Args:
        x: (B, T, d).
        mask: (B, T) bool.
        zeros: False where nobody looks at what stands after the real steps.

    Returns:
        (B, T', d), zero after the real steps unless ``zeros`` is False, and (B,) int64 how many there are; T' is the
        most of them, 1 at least.

    >>> to_front(torch.tensor([[[5.0], [6.0], [7.0]]]), torch.tensor([[False, True, True]]))
    (tensor([[[6.],
             [7.]]]), tensor([2]))
    """
    lengths = mask.sum(dim=1)
    if is_plain():  # as long as it was
        longest, order = mask.shape[1], front_order(mask)
    else:
        longest = max(int(lengths.max()), 1)
        if in_front(mask, lengths):  # as is most often
            front = x[:, :longest]
            return zero_masked(front, mask[:, :longest]) if zeros else front, lengths
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (B, T')
    front = x.gather(1, order.unsqueeze(-1).expand(*order.shape, x.shape[-1]))
    return zero_masked(front, real_steps(lengths, longest)), lengths


def in_front(mask: Tensor, lengths: Tensor) -> bool:
    """True where no padding (B, T) stands before a real step, of which there are (B,); on a GPU nobody looks."""
    return not mask.is_cuda and torch.equal(mask, real_steps(lengths, mask.shape[1]))


def front_order(mask: Tensor) -> Tensor:
    """Return which step stands where (B, T) when the real ones come first, in their order, then the masked ones.

    >>> front_order(torch.tensor([[False, True, False, True]])).tolist()
    [[1, 3, 0, 2]]
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    # no two are alike, so that no sort needs to be stable
    return torch.where(mask, steps, steps + mask.shape[1]).argsort(dim=1)


def real_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return the mask (B, T) of sequences whose real steps come first, from their number (B,).

    >>> real_steps(torch.tensor([1, 2]), 2)
    tensor([[ True, False],
            [ True,  True]])
    """
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)


def first_real(x: Tensor, mask: Tensor) -> Tensor:
    """Return the first of the steps (B, T, d) that ``mask`` (B, T) admits, as (B, d); zero if it admits none.

    >>> first_real(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[False, True]]))
    tensor([[2.]])
    """
    index = mask.to(torch.uint8).argmax(dim=1)[:, None, None].expand(-1, 1, x.shape[2])
    return zero_masked(x.gather(1, index).squeeze(1), mask.any(dim=1))
