"""Blanchard: sentiment from sound and sight alone.

Blanchard, Moreira, Bharati, Scheirer 2018: Getting the subtext without the text: Scalable multimodal sentiment
classification from visual and acoustic modalities. Challenge-HML 2018, https://aclanthology.org/W18-3301

Deviations:
    - The article's layers are not known, and no code was released. What is known is kept: no text, high-level features
      of the voice and of the face that were made for other ends, one vector per utterance, and a fusion that is
      learned. Chosen here: a dense layer with ReLU per modality, their outputs concatenated, another dense layer with
      ReLU over them, then the heads; dropout after each layer.
    - The features are the corpus's own, averaged over an utterance's steps; utterances of a video are seen one by one.
    - Text is left out though the corpus has it, unless ``text=True``, or there is nothing else.
    - Modalities that the article does not know are read as well. A missing one gives zeros to the fusion.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from affectus.batches.batch import Batch
from affectus.models.base import (
    Heads,
    Model,
    ModelOutput,
    Paper,
    ParameterGroup,
    Stage,
    check_share,
    register_model,
)
from affectus.models.space import DROPOUT, one_of
from affectus.nn.dense import FeedForward
from affectus.nn.masking import zero_masked
from affectus.nn.pooling import utterance_means
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View


@register_model(
    "blanchard",
    paper=Paper(
        "Blanchard et al.",
        2018,
        "Getting the subtext without the text: Scalable multimodal sentiment classification from visual and acoustic "
        "modalities",
        "Challenge-HML",
        "https://aclanthology.org/W18-3301",
    ),
    views=set(View),
    space={"hidden": one_of(16, 32, 64, 128, 256), "dense": one_of(16, 32, 64, 128), "dropout": DROPOUT},
    breaks=("modality_matters",),  # of the text, which is left out
)
class Blanchard(Model):
    """A dense layer for each modality but the text, then one over them all.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: width of each modality's layer.
        dense: width of the layer over all modalities.
        dropout: share dropped after each layer.
        text: let the text in.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 64,
        dense: int = 64,
        dropout: float = 0.3,
        text: bool = False,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        read = {name: dim for name, dim in self.inputs.items() if text or name != TEXT} or self.inputs
        self.unimodal = nn.ModuleDict(
            {name: FeedForward(dim, (hidden,), dropout=dropout) for name, dim in read.items()}
        )
        self.fusion = FeedForward(len(read) * hidden, (dense,), dropout=dropout)
        self.heads = Heads(dense, tasks)

    def stages(self) -> list[Stage]:
        """Return the one stage, in which a text encoder has no part unless the text is read."""
        return [Stage("main", {"all": ParameterGroup(list(self.parameters()))}, trains_text=TEXT in self.unimodal)]

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (..., modalities * hidden), what enters the fusion."""
        vectors, present = utterance_means(batch, self.unimodal)
        parts = [zero_masked(self.unimodal[name](x), present[name]) for name, x in vectors.items()]
        fused = torch.cat(parts, dim=-1)
        return ModelOutput(self.heads(self.fusion(fused)), {"fused": fused})
