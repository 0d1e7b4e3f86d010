"""What a model sees at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from affectus.vocabulary import View


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded features with masks; True is a real frame or utterance.

    In the contextual view B counts recordings and U utterances; in the sequence views B counts utterances and T steps.

    Attributes:
        view: contextual, unaligned or aligned.
        features: per modality (B, U, dim) contextual, (B, T_m, dim) unaligned, (B, T, dim) aligned; zero at padding.
        masks: per modality (B, U) or (B, T_m) bool; False at padding and where the modality is missing.
        mask: (B, U) contextual, (B,) otherwise; True for real utterances.
        labels: per label scheme (B, U, size) or (B, size) float, NaN where missing and at padding.
        rows: (B, U) or (B,) int64; the row of each utterance in the corpus's table, -1 at padding.
    """

    view: View
    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    mask: Tensor
    labels: dict[str, Tensor]
    rows: Tensor

    @property
    def size(self) -> int:
        """Number of samples B."""
        return int(self.mask.shape[0])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in affectus's order."""
        return tuple(self.features)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a batch with ``function`` applied to every tensor."""
        return replace(
            self,
            features={k: function(v) for k, v in self.features.items()},
            masks={k: function(v) for k, v in self.masks.items()},
            mask=function(self.mask),
            labels={k: function(v) for k, v in self.labels.items()},
            rows=function(self.rows),
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the batch on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory."""
        return self.map(lambda tensor: tensor.pin_memory())

    def without(self, *modalities: str) -> "Batch":
        """Return the batch as if the given modalities were missing everywhere."""
        features = {k: torch.zeros_like(v) if k in modalities else v for k, v in self.features.items()}
        masks = {k: torch.zeros_like(v) if k in modalities else v for k, v in self.masks.items()}
        return replace(self, features=features, masks=masks)
