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
