"""What a model remembers of each utterance of a corpus, by the stable number of its row."""

import torch
from torch import Tensor, nn


class RowTable(nn.Module):
    """A table that grows to the largest row number it has seen; NaN stands where nothing was written.

    It is saved with the model's state, so that training resumes with it, and taken back at any size.

    Args:
        width: numbers per row.
    """

    values: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.empty(0, width), persistent=False)

    def get_extra_state(self) -> Tensor:
        """Return the whole table; it is no buffer of the state, since those must keep their size."""
        return self.values

    def set_extra_state(self, state: Tensor) -> None:
        """Take a table back."""
        self.values = state.to(self.values.device, copy=True)

    def clear(self) -> None:
        """Forget everything."""
        self.values = self.values[:0].clone()

    def read(self, rows: Tensor) -> Tensor:
        """Return (n, width) of the numbers ``rows`` (n,) from 0."""
        if not len(self.values):
            return self.values.new_full((len(rows), self.values.shape[1]), torch.nan)
        known = rows < len(self.values)
        return self.values[torch.where(known, rows, 0)].masked_fill(~known.unsqueeze(1), torch.nan)

    def write(self, rows: Tensor, values: Tensor) -> None:
        """Write (n, width), which bears no gradient, into ``rows`` (n,)."""
        more = int(rows.max()) + 1 - len(self.values) if len(rows) else 0
        if more > 0:
            self.values = torch.cat([self.values, self.values.new_full((more, self.values.shape[1]), torch.nan)])
        self.values[rows] = values.detach()


class RecentRows(nn.Module):
    """The rows of the last few batches; saved with the model's state, and taken back at any size.

    Args:
        width: numbers per row.
        batches: how many are kept.
    """

    stored: Tensor

    def __init__(self, width: int, batches: int) -> None:
        super().__init__()
        self.batches = batches
        # the first column is the age, 1 for the batch before
        self.register_buffer("stored", torch.empty(0, 1 + width), persistent=False)

    @property
    def values(self) -> Tensor:
        """(n, width), the oldest first."""
        return self.stored[:, 1:]

    @property
    def full(self) -> bool:
        """True if the oldest batch is as old as any may be."""
        return len(self.stored) > 0 and int(self.stored[0, 0]) >= self.batches

    def get_extra_state(self) -> Tensor:
        """Return all rows with their ages."""
        return self.stored

    def set_extra_state(self, state: Tensor) -> None:
        """Take them back."""
        self.stored = state.to(self.stored.device, copy=True)

    def clear(self) -> None:
        """Forget everything."""
        self.stored = self.stored[:0].clone()

    def push(self, values: Tensor) -> None:
        """Append a batch (n, width), which bears no gradient, and forget what is too old."""
        old = self.stored.clone()
        old[:, 0] += 1
        new = torch.cat([values.new_ones(len(values), 1), values.detach()], dim=1)
        self.stored = torch.cat([old[old[:, 0] <= self.batches], new.to(old)])
