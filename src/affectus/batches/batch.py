"""What a model sees at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from affectus.vocabulary import View


@dataclass(frozen=True, eq=False)
class Tokens:
    """Text before the trained part of its encoder; ``...`` is B, U in the contextual view and B in the others.

    Attributes:
        states: (..., L, dim) float, what the encoder's frozen layers say of each token; or (..., L) int64, the tokens'
            ids, if every layer is trained.
        mask: (..., L) bool; False at padding, and everywhere if the utterance has no text.
        words: (B, L) int64, the step to which each token belongs, -1 for none; aligned view only.
    """

    states: Tensor
    mask: Tensor
    words: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Tokens":
        """Return tokens with ``function`` applied to every tensor."""
        words = None if self.words is None else function(self.words)
        return Tokens(function(self.states), function(self.mask), words)


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
        tokens: the text, where an encoder is trained with the model; ``features`` has no text then, until the encoder
            has made it, while ``masks`` has.
    """

    view: View
    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    mask: Tensor
    labels: dict[str, Tensor]
    rows: Tensor
    tokens: Tokens | None = None

    @property
    def size(self) -> int:
        """Number of samples B."""
        return int(self.mask.shape[0])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in affectus's order."""
        return tuple(self.masks)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a batch with ``function`` applied to every tensor."""
        return replace(
            self,
            features={k: function(v) for k, v in self.features.items()},
            masks={k: function(v) for k, v in self.masks.items()},
            mask=function(self.mask),
            labels={k: function(v) for k, v in self.labels.items()},
            rows=function(self.rows),
            tokens=None if self.tokens is None else self.tokens.map(function),
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the batch on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory."""
        return self.map(lambda tensor: tensor.pin_memory())

    def emptied(self) -> "Batch":
        """Return a batch of the same shape with nothing in it: all is padding."""
        empty = self.without(*self.masks)
        tokens = self.tokens
        if tokens is not None:
            tokens = replace(tokens, mask=torch.zeros_like(tokens.mask))
        return replace(
            empty,
            mask=torch.zeros_like(self.mask),
            labels={name: torch.full_like(values, torch.nan) for name, values in self.labels.items()},
            rows=torch.full_like(self.rows, -1),
            tokens=tokens,
        )

    def without(self, *modalities: str) -> "Batch":
        """Return the batch as if the given modalities were missing everywhere."""
        features = {k: torch.zeros_like(v) if k in modalities else v for k, v in self.features.items()}
        masks = {k: torch.zeros_like(v) if k in modalities else v for k, v in self.masks.items()}
        return replace(self, features=features, masks=masks)
