"""Convolution over padded sequences of frames, and the way back to their length."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.nn.masking import real_steps, zero_masked
from affectus.nn.matmul import linear
from affectus.nn.tracing import is_plain


def halved(mask: Tensor) -> Tensor:
    """Mask of a sequence of half the length, (B, T) to (B, ceil(T / 2)): real where one of the two steps is.

    >>> halved(torch.tensor([[True, True, True, False, False]])).tolist()
    [[True, True, False]]
    """
    return mask[:, ::2] | F.pad(mask, (0, 1))[:, 1::2]


class MaskedConv1d(nn.Module):
    """Convolution over time that nothing masked enters; as long as its input, or half as long.

    Args:
        dim: width of the input.
        filters: width of the output.
        kernel: steps that it sees, an odd number.
        stride: 1, or 2 to halve the length.
    """

    def __init__(self, dim: int, filters: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.layer = nn.Conv1d(dim, filters, kernel, padding=kernel // 2, stride=stride)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve (B, T, dim).

        Returns:
            (B, T', filters), which may be anything where masked, and its mask (B, T').
        """
        y = self.layer(zero_masked(x, mask).transpose(1, 2)).transpose(1, 2)
        return y, (halved(mask) if self.stride == 2 else mask)


class NarrowingConv1d(nn.Module):
    """Convolution over time without padding and without a bias: a sequence loses ``kernel - 1`` steps.

    One that is shorter than the kernel is filled with zeros, and keeps one step.

    Args:
        dim: width of the input.
        filters: width of the output.
        kernel: steps that it sees.
    """

    def __init__(self, dim: int, filters: int, kernel: int) -> None:
        super().__init__()
        self.layer = nn.Conv1d(dim, filters, kernel, bias=False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve (B, T, dim), zero from ``lengths`` (B,) on.

        Returns:
            (B, T', filters), zero from the new lengths on, and these (B,); 0 stays 0.
        """
        kernel = self.layer.kernel_size[0]
        if kernel == 1:  # a linear layer, and faster as one
            return linear(x, self.layer.weight.squeeze(2)), lengths
        # in plain form what is too much stays, and is masked
        filled = F.pad(x, (0, 0, 0, kernel - 1 if is_plain() else max(kernel - x.shape[1], 0)))
        y = self.layer(filled.transpose(1, 2)).transpose(1, 2)
        left = (lengths - (kernel - 1)).clamp(min=1) * (lengths > 0)
        return zero_masked(y, real_steps(left, y.shape[1])), left


def stretched(x: Tensor, mask: Tensor, steps: int, factor: int) -> Tensor:
    """Interpolate linearly between the steps of a sequence that was shortened by a factor.

    Step t stands at t / factor of the short sequence, between two of its steps; a masked one has no weight, so that the
    length of the padding changes nothing. Of a sequence shortened by :func:`halved` the step before is real for every
    real t.

    Args:
        x: (B, T', d).
        mask: (B, T') bool.
        steps: T of the result.
        factor: by which the sequence was shortened.

    Returns:
        (B, T, d); zero between two masked steps.
    """
    if factor == 1:
        return zero_masked(x, mask)
    t = torch.arange(steps, device=x.device)
    lower = t // factor
    upper = (lower + 1).clamp(max=x.shape[1] - 1)
    share = ((t % factor) / factor).to(x)
    clean = zero_masked(x, mask)
    near = (1 - share) * mask[:, lower]  # (B, T)
    far = share * mask[:, upper]
    total = (near + far).clamp(min=1e-6)
    return clean[:, lower] * (near / total).unsqueeze(-1) + clean[:, upper] * (far / total).unsqueeze(-1)
