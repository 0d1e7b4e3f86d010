"""Padded sequences as their real steps alone, so that padding costs nothing and cannot matter.

The rows of all samples stand step after step, the longest sample first: the samples that have a t-th real step are the
first ``sizes[t]`` ones, so that a recurrence goes on with the first rows of the state that it has. PyTorch's packed
sequences have this order too; here masked steps may stand anywhere.

In plain form (:mod:`affectus.nn.tracing`) nothing is cut out: the rows are all padded steps, step after step in the
order of the samples, and there are no ``sizes``. A recurrence then leaves its state as it is at a masked row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from affectus.nn.choosing import choose
from affectus.nn.masking import front_order, zero_masked
from affectus.nn.tracing import is_plain


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the real steps of a batch stand, padded and packed.

    Attributes:
        mask: (B, T) bool, True for real steps.
        padded: in plain form.
    """

    mask: Tensor
    padded: bool = field(default_factory=is_plain)

    @cached_property
    def real(self) -> Tensor:
        """(T, B, 1) bool, in plain form: which rows are real steps, for :meth:`by_step`."""
        return self.mask.T.unsqueeze(-1)

    def by_step(self, rows: Tensor) -> Tensor:
        """Return (T, B, d) of (T * B, d), in plain form."""
        return rows.view(self.mask.shape[1], self.mask.shape[0], rows.shape[1])

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) number of real steps."""
        return self.mask.sum(dim=1)

    @cached_property
    def place(self) -> Tensor:
        """(B,) where each sample stands when the longest comes first."""
        return self.order.argsort()

    @cached_property
    def sizes(self) -> list[int]:
        """How many samples have a first real step, a second, and so on."""
        steps = torch.arange(int(self.lengths.max()), device=self.mask.device)
        found: list[int] = (self.lengths.unsqueeze(1) > steps).sum(dim=0).tolist()
        return found

    @cached_property
    def index(self) -> Tensor:
        """(N,) the place of each packed row among the B * T padded ones."""
        count, width = self.mask.shape
        if self.padded:
            return torch.arange(count * width, device=self.mask.device).view(count, width).T.flatten()
        longest = len(self.sizes)
        # real steps to the front, in their order
        step = (~self.mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (B, T')
        padded = (step + width * torch.arange(count, device=step.device).unsqueeze(1))[self.order]  # longest first
        real = torch.arange(longest, device=step.device) < self.lengths[self.order].unsqueeze(1)
        return padded.T[real.T]

    @cached_property
    def steps(self) -> Tensor:
        """(N,) which real step of its sample each packed row is, from 0; in plain form, of a masked one, the last."""
        if self.padded:
            return (self.mask.cumsum(dim=1) - 1).clamp(min=0).T.flatten()
        sizes = torch.tensor(self.sizes, dtype=torch.int64, device=self.mask.device)
        # what the length of the result is need not be read from the device
        return torch.arange(len(self.sizes), device=self.mask.device).repeat_interleave(
            sizes, output_size=sum(self.sizes)
        )

    @cached_property
    def order(self) -> Tensor:
        """(B,) the samples, the longest first."""
        return self.lengths.argsort(descending=True, stable=True)

    @cached_property
    def _starts(self) -> Tensor:
        """(T',) the row at which each step begins."""
        sizes = torch.tensor(self.sizes, dtype=torch.int64, device=self.mask.device)
        return sizes.cumsum(0) - sizes

    def pack(self, x: Tensor) -> Tensor:
        """Return the real steps (N, d) of (B, T, d)."""
        if self.padded:
            return zero_masked(x, self.mask).transpose(0, 1).flatten(0, 1)
        return choose([(x.flatten(0, 1), self.index)])

    def pack_together(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the real steps of several (B, T, d) side by side, (N, sum of the widths)."""
        if self.padded:
            return torch.cat([self.pack(x) for x in parts], dim=1)
        return choose([(x.flatten(0, 1), self.index) for x in parts])

    def unpack(self, rows: Tensor) -> Tensor:
        """Return (B, T, d), zero where masked, from (N, d)."""
        if self.padded:
            return zero_masked(self.by_step(rows).transpose(0, 1), self.mask)
        padded = rows.new_zeros(self.mask.numel(), rows.shape[-1])
        return padded.index_copy(0, self.index, rows).view(*self.mask.shape, -1)

    def rows_of(self, rank: Tensor) -> Tensor:
        """Return the packed rows of the ``rank``-th real steps (from 1) of each sample; N where the rank is 0.

        Args:
            rank: (B, ...) int64, at most the sample's number of real steps.
        """
        if self.padded:
            count, width = self.mask.shape
            at = front_order(self.mask).gather(1, (rank - 1).clamp(min=0).view(count, -1)).view_as(rank)
            sample = torch.arange(count, device=rank.device).view(-1, *[1] * (rank.dim() - 1))
            return torch.where(rank > 0, at * count + sample, count * width)
        if not self.sizes:
            return torch.zeros_like(rank)
        place = self.place.view(-1, *[1] * (rank.dim() - 1))
        row = self._starts[(rank - 1).clamp(min=0)] + place
        return torch.where(rank > 0, row, len(self.index))

    def last(self, rows: Tensor) -> Tensor:
        """Return each sample's last row (B, d) of (N, d); zero if it has none."""
        return choose([(rows, self.rows_of(self.lengths))])

    def first(self, rows: Tensor) -> Tensor:
        """Return each sample's first row (B, d) of (N, d); zero if it has none."""
        return choose([(rows, self.rows_of(self.lengths.clamp(max=1)))])

    @cached_property
    def turned(self) -> Tensor:
        """(N,) for each row the one that stands there when every sample is read from its end; its own inverse."""
        if self.padded:
            count, width = self.mask.shape
            mirrored = self.rows_of(self.lengths.unsqueeze(1) - (self.mask.cumsum(dim=1) - 1).clamp(min=0))
            own = torch.arange(count * width, device=self.mask.device).view(width, count)
            return torch.where(self.mask.T, mirrored.T, own).flatten()
        length = self.lengths[self.order][self.sample]  # of each row's sample
        return self._starts[length - 1 - self.steps] + self.sample

    @cached_property
    def blocks(self) -> "Blocks":
        """The packed rows with a little padding."""
        return Blocks.of(self.sizes, self.mask.device)

    @cached_property
    def sample(self) -> Tensor:
        """(N,) the sample of each row, the longest being 0."""
        return torch.arange(len(self.steps), device=self.mask.device) - self._starts[self.steps]


BLOCK_STEPS, BLOCK_SAMPLES = 32, 8
"""A block has so many steps (of fewer, their number rounded up to 8) and a multiple of so many samples."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Packed rows in a few padded blocks, each of as many samples as its first step has.

    A library that takes padded steps then goes through little padding, and sees few different shapes: it builds its
    code for every shape it has not seen.

    Attributes:
        steps: of each block.
        samples: of each block.
        place: (N,) where each packed row stands when the blocks, each (steps, samples), stand one after the other.
    """

    steps: int
    samples: list[int]
    place: Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], device: torch.device) -> "Blocks":
        """Lay out rows by the number of samples at each step."""
        steps = min(BLOCK_STEPS, _up(len(sizes), 8))
        samples = [_up(size, BLOCK_SAMPLES) for size in sizes[::steps]]
        count = torch.tensor(sizes, dtype=torch.int64, device=device)
        step = torch.arange(len(sizes), device=device).repeat_interleave(count, output_size=sum(sizes))
        before = count.cumsum(0) - count  # rows
        width = torch.tensor(samples, dtype=torch.int64, device=device).repeat_interleave(steps)[: len(sizes)]
        start = width.cumsum(0) - width
        return cls(steps, samples, torch.arange(len(step), device=device) + (start - before)[step])

    def spread(self, rows: Tensor) -> list[Tensor]:
        """Return the blocks (steps, samples, d) of (N, d), zero where there is no row."""
        padded = rows.new_zeros(self.steps * sum(self.samples), rows.shape[1]).index_copy(0, self.place, rows)
        parts = torch.split(padded, [self.steps * count for count in self.samples])
        return [part.view(self.steps, count, -1) for part, count in zip(parts, self.samples, strict=True)]

    def collect(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return the rows (N, d) of blocks."""
        return torch.cat([block.flatten(0, 1) for block in blocks]).index_select(0, self.place)


def _up(count: int, multiple: int) -> int:
    """Return the next multiple that is not smaller."""
    return -(-count // multiple) * multiple


def steps_before(rows: Tensor, sizes: list[int], begin: int = 0, end: int | None = None) -> Tensor:
    """Return, for the rows of some steps, each sample's row one step before; zero at the first step."""
    end = len(sizes) if end is None else end
    # no more views than are looked at: a caller that goes in parts would make all of them for each part
    first = max(begin - 1, 0)
    start, some = sum(sizes[:first]), sizes[first:end]
    blocks = torch.split(rows[start : start + sum(some)], some)
    parts = [
        rows.new_zeros(size, rows.shape[1]) if step == 0 else blocks[step - 1 - first][:size]
        for step, size in zip(range(begin, end), sizes[begin:end], strict=True)
    ]
    return torch.cat(parts) if parts else rows
