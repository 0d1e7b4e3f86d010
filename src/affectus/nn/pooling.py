"""One vector per utterance and modality, for models that look at an utterance as a whole."""

from collections.abc import Iterable

import torch
from torch import Tensor

from affectus.batches.batch import Batch
from affectus.nn.masking import masked_mean, zero_masked
from affectus.vocabulary import View


def utterance_means(batch: Batch, names: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return each utterance's vector of each modality: as it is (contextual), or the mean over its real steps.

    Args:
        batch: of any view.
        names: of the modalities.

    Returns:
        Per modality (..., dim), zero where the utterance lacks it, and (...) bool, True where it has it; ``...`` is
        B, U in the contextual view and B in the others.
    """
    vectors, present = {}, {}
    for name in names:
        x, mask = batch.features[name], batch.masks[name]
        if batch.view is View.CONTEXTUAL:
            present[name] = mask & batch.mask
            vectors[name] = zero_masked(x, present[name])
        else:
            present[name] = mask.any(dim=1) & batch.mask
            vectors[name] = masked_mean(x, mask & batch.mask.unsqueeze(1))
    return vectors, present


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """Take the largest of (..., T, d) over the steps that ``mask`` (..., T) admits; zero if it admits none.

    >>> masked_max(torch.tensor([[1.0], [3.0], [float("nan")]]), torch.tensor([True, True, False]))
    tensor([3.])
    """
    largest = torch.where(mask.unsqueeze(-1), x, -torch.inf).amax(dim=-2)
    return zero_masked(largest, mask.any(dim=-1))
