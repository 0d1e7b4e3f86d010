"""A corpus whose text is tokens, for an encoder that is trained with the model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus, Ragged
from affectus.vocabulary import TEXT, order_modalities

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenCorpus(Corpus):
    """A corpus in memory whose modality ``text`` is token sequences; ``features`` holds the other modalities.

    Attributes:
        tokens: what the encoder's frozen layers say of each token (steps, dim); or each token's id (steps, 1), if every
            layer is trained.
        width: of the vectors that the encoder makes of them.
        words: (steps,) the word of each token within its utterance, -1 for none; None if nothing is aligned.
        word_counts: (N,) words of each utterance.
    """

    tokens: Ragged
    width: int
    words: IntArray | None = None
    word_counts: IntArray | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, the text among them."""
        return order_modalities((*self.features, TEXT))

    @property
    def dims(self) -> dict[str, int]:
        """Width of each modality's vectors; of the text, as the encoder makes them."""
        dims = {name: ragged.dim for name, ragged in self.features.items()} | {TEXT: self.width}
        return {name: dims[name] for name in self.modalities}

    @property
    def reads_ids(self) -> bool:
        """True if the tokens are ids."""
        return self.tokens.values.dtype.kind == "i"

    def steps(self, rows: IntArray) -> IntArray:
        """Return how many steps the text of each row has in a sequence view: tokens, or words if it is aligned."""
        return self.tokens.lengths[rows] if self.word_counts is None else self.word_counts[rows]
