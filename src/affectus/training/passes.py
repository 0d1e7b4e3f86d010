"""Several passes over train in one epoch."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from types import SimpleNamespace

from affectus.batches import Batch, Loader


class Passes:
    """A loader that is gone through more than once in an epoch, in the same order each time.

    Args:
        loader: of train.
        shares: of each pass, the share of the batches that it sees.
    """

    def __init__(self, loader: Loader, shares: Sequence[float]) -> None:
        self.loader = loader
        self.counts = [math.ceil(share * len(loader)) for share in shares]

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where the Trainer looks for ``sampler.set_epoch``."""
        return self.loader.batch_sampler

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[Batch]:
        for count in self.counts:
            yield from islice(self.loader, count)

    def place(self, index: int) -> tuple[int, int]:
        """Return which pass the batch of an index belongs to, and which batch of that pass it is."""
        number = 0
        while index >= self.counts[number]:
            index -= self.counts[number]
            number += 1
        return number, index

    def group(self, number: int, index: int, every: int) -> int:
        """Return how many batches step together with one of a pass: ``every``, or what is left for its last step."""
        return min(every, self.counts[number] - index // every * every)
