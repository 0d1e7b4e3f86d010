"""Modalities of different lengths brought into step, for recurrent models that advance all of them together."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.kernels import own_kernels
from affectus.nn.masking import in_front, to_front, zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.tracing import is_plain
from affectus.vocabulary import TEXT, View


def in_step(
    features: Mapping[str, Tensor], masks: Mapping[str, Tensor], view: View, *, zeros: bool = True
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give every modality of an utterance the same steps.

    Aligned: as it is. Unaligned: an utterance has as many steps as its text has or, without text, as its shortest
    modality; step i of T is the mean of a modality's n real steps from floor(i n / T) to ceil((i + 1) n / T), which
    repeats steps where a modality has fewer than T.

    Args:
        features: per modality (B, T_m, dim).
        masks: per modality (B, T_m) bool.
        view: aligned or unaligned.
        zeros: False where masked steps are never looked at.

    Returns:
        Per modality (B, T, dim), zero where masked unless ``zeros`` is False, and (B, T) bool.
    """
    if view is not View.UNALIGNED:
        if not zeros:
            return dict(features), dict(masks)
        return {name: zero_masked(x, masks[name]) for name, x in features.items()}, dict(masks)
    lengths = {name: masks[name].sum(dim=1) for name in features}
    # a modality that is missing is no measure for the others
    shortest = torch.stack([torch.where(n > 0, n, torch.iinfo(n.dtype).max) for n in lengths.values()]).amin(dim=0)
    steps = torch.where(shortest == torch.iinfo(shortest.dtype).max, 0, shortest)  # (B,)
    if TEXT in features:
        steps = torch.where(lengths[TEXT] > 0, lengths[TEXT], steps)
    if is_plain():  # as many as there are at most
        most = _longest(features.values())
    else:
        most = max(int(steps.max()), 1)
    i = torch.arange(most, device=steps.device)  # (T,)
    real = i < steps.unsqueeze(1)  # (B, T)
    count = steps.clamp(min=1).unsqueeze(1)
    found = {}
    for name, x in features.items():
        n = lengths[name]
        # a modality that sets the steps is taken as it is
        same = not is_plain() and bool(((n == steps) | (n == 0)).all())
        found[name] = _first(x, masks[name], len(i), zeros) if same else _parts(x, masks[name], i, count)
    return found, {name: real & (lengths[name] > 0).unsqueeze(1) for name in features}


def _longest(padded: Iterable[Tensor]) -> int:
    """The largest T of (B, T, dim)."""
    first, *rest = (x.shape[1] for x in padded)
    for steps in rest:
        first = torch.sym_max(first, steps)  # type: ignore[no-untyped-call]
    return first


def equal_parts(x: Tensor, mask: Tensor, count: int) -> Tensor:
    """Return the means (B, count, dim) of so many equal parts of the real steps; the rule is that of :func:`in_step`.

    Args:
        x: (B, T, dim).
        mask: (B, T) bool; without a real step every mean is zero.
        count: of the parts.
    """
    return _parts(x, mask, torch.arange(count, device=x.device), torch.tensor([[count]], device=x.device))


def _first(x: Tensor, mask: Tensor, width: int, zeros: bool) -> Tensor:
    """Real steps (B, width, dim) at the front, with ``zeros`` zero after them."""
    front = to_front(x, mask, zeros=zeros)[0]
    return front if front.shape[1] == width else F.pad(front, (0, 0, 0, width - front.shape[1]))


def _parts(x: Tensor, mask: Tensor, i: Tensor, count: Tensor) -> Tensor:
    """Means (B, parts, dim) of the parts i of (B, 1) or (1, 1) ``count`` ones."""
    kernels = own_kernels(x)
    if kernels is not None and in_front(mask, lengths := mask.sum(dim=1)):
        return _means(kernels, x, lengths, count.flatten().expand(len(x)), len(i))
    front, lengths = to_front(x, mask)  # padding may stand between real steps
    n = lengths.unsqueeze(1)
    # differences of running sums, which take time in proportion to the steps; in double precision nothing is lost
    sums = F.pad(front.double().cumsum(dim=1), (0, 0, 1, 0))  # (B, T' + 1, dim)
    start = ((i * n) // count).clamp(max=n)
    end = (-(-((i + 1) * n) // count)).clamp(max=n)
    first, last = (sums.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1])) for at in (start, end))
    return ((last - first) / (end - start).clamp(min=1).unsqueeze(-1)).to(x)


def _means(kernels: Any, x: Tensor, lengths: Tensor, counts: Tensor, parts: int) -> Tensor:
    """What :func:`_parts` does for sequences whose real steps come first, by the kernels.

    Args:
        kernels: of :func:`affectus.nn.kernels.own_kernels`.
        x: (B, T, dim).
        lengths: (B,) int64, real steps.
        counts: (B,) int64, parts of each sequence.
        parts: that the result has.
    """
    x, counts = x.contiguous(), counts.contiguous()
    out = x.new_empty(x.shape[0], parts, x.shape[2])
    kernels.means(x.data_ptr(), *x.shape, lengths.data_ptr(), counts.data_ptr(), out.data_ptr(), parts)
    return out


class StackedInputs(nn.Module):
    """One linear layer per modality onto a common width, its results stacked step by step.

    Args:
        inputs: width of each modality's vectors.
        width: of the result.
    """

    def __init__(self, inputs: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: Linear(dim, width) for name, dim in inputs.items()})

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Project.

        Args:
            features: per modality (B, T, dim), finite also where masked.
            masks: per modality (B, T) bool.

        Returns:
            (T, modalities, B, width) and which of them are real, (T, modalities, B, 1) bool.
        """
        x = torch.stack([layer(features[name]) for name, layer in self.layers.items()])  # (M, B, T, width)
        real = torch.stack([masks[name] for name in self.layers])  # (M, B, T)
        return x.permute(2, 0, 1, 3), real.permute(2, 0, 1).unsqueeze(-1)

    def biases(self) -> Iterable[Tensor]:
        """Return the layers' biases (width,), for an initialisation of gates."""
        for layer in self.layers.values():
            assert isinstance(layer, nn.Linear)
            yield layer.bias
