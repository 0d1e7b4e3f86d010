"""Self-attentive feature fusion: each utterance weighs its modalities.

Hazarika, Gorantla, Poria, Zimmermann 2018: Self-Attentive Feature-Level Fusion for Multimodal Emotion Detection.
MIPR 2018, https://doi.org/10.1109/MIPR.2018.00043

Deviations:
    - No code was released; the widths and the dropout are ours. A modality's vector is projected by one dense layer
      with ReLU to the common width, in which the attention works.
    - The article's text vector comes from a CNN over word vectors, its audio vector from openSMILE. Here each modality
      is averaged over its steps, which is the vector itself where a corpus has one per utterance; ``text_cnn=True`` has
      the CNN, trained along, for sequences of word vectors: three kernel sizes, the largest of each filter over time.
    - ``fusion="sum"`` is the weighted sum of the modalities, ``fusion="concat"`` puts the weighted ones side by side.
    - The softmax is over the modalities that the utterance has. One modality has nothing to weigh; any number may be
      more. Utterances of a video are seen one by one.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_choice, check_share, register_model
from affectus.models.space import DROPOUT, one_of
from affectus.nn.attention import masked_softmax
from affectus.nn.dropping import dropout
from affectus.nn.masking import zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.pooling import masked_max, utterance_means
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View

KERNELS = (3, 4, 5)
"""Steps that the CNN's filters see."""


class SentenceCNN(nn.Module):
    """Filters of several lengths over the steps, each with its largest value over time.

    Args:
        dim: width of the input.
        filters: of each length.
    """

    def __init__(self, dim: int, filters: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, filters, kernel) for kernel in KERNELS)
        self.width = filters * len(KERNELS)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) and its mask (B, T) to (B, width), zero without a real step."""
        clean = zero_masked(x, mask).transpose(1, 2)
        found = []
        for kernel, convolution in zip(KERNELS, self.convolutions, strict=True):
            # as long as the input: a filter stands on every real step
            y = convolution(F.pad(clean, ((kernel - 1) // 2, kernel // 2)))
            found.append(masked_max(torch.relu(y.transpose(1, 2)), mask))
        return torch.cat(found, dim=-1)


@register_model(
    "hazarika_sa",
    paper=Paper(
        "Hazarika et al.",
        2018,
        "Self-Attentive Feature-Level Fusion for Multimodal Emotion Detection",
        "MIPR",
        "https://doi.org/10.1109/MIPR.2018.00043",
    ),
    views=set(View),
    space={
        "dim": one_of(32, 64, 100, 200),
        "attention_dim": one_of(25, 50, 100),
        "fusion": one_of("sum", "concat"),
        "dropout": DROPOUT,
    },
)
class HazarikaSA(Model):
    """Modalities projected to one width, weighed by an attention of the utterance, and added.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        dim: common width.
        attention_dim: width inside the attention.
        dropout: share dropped of each projected modality and of what the heads see.
        fusion: ``sum`` (of the weighted modalities) or ``concat``.
        text_cnn: make the text's vector by a CNN over its steps, in place of their mean.
        text_filters: of each kernel size of that CNN.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        dim: int = 100,
        attention_dim: int = 50,
        dropout: float = 0.3,
        fusion: str = "sum",
        text_cnn: bool = False,
        text_filters: int = 50,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        check_choice("fusion", fusion, ("sum", "concat"))
        self.fusion, self.dropout = fusion, dropout
        widths = dict(self.inputs)
        self.cnn: SentenceCNN | None = None
        if text_cnn and TEXT in widths:
            self.cnn = SentenceCNN(widths[TEXT], text_filters)
            widths[TEXT] = self.cnn.width
        self.project = nn.ModuleDict({name: Linear(width, dim) for name, width in widths.items()})
        self.attention: nn.Sequential | None = None
        if len(widths) > 1:
            # a bias of the scores would be the same for all modalities, and the softmax would take it away
            self.attention = nn.Sequential(Linear(dim, attention_dim), nn.Tanh(), Linear(attention_dim, 1, bias=False))
        self.heads = Heads(dim * (len(widths) if fusion == "concat" else 1), tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``attention`` (..., modalities), the weights, and ``fused``."""
        vectors, present = utterance_means(batch, self.inputs)
        if self.cnn is not None:
            vectors[TEXT] = self._sentence(self.cnn, batch)
        projected = [
            dropout(torch.relu(layer(vectors[name])), self.dropout, self.training)
            for name, layer in self.project.items()
        ]
        features = torch.stack(projected, dim=-2)  # F, (..., modalities, dim)
        there = torch.stack([present[name] for name in self.project], dim=-1)
        weights = there.to(features)
        if self.attention is not None:
            weights = masked_softmax(self.attention(features).squeeze(-1), there)  # softmax(w^T tanh(W F + b))
        weighted = zero_masked(features, there) * weights.unsqueeze(-1)
        fused = weighted.sum(dim=-2) if self.fusion == "sum" else weighted.flatten(-2)
        said = self.heads(dropout(fused, self.dropout, self.training))
        return ModelOutput(said, {"attention": weights, "fused": fused})

    @staticmethod
    def _sentence(cnn: SentenceCNN, batch: Batch) -> Tensor:
        """(..., width); in the contextual view an utterance is a sequence of one step."""
        x, mask = batch.features[TEXT], batch.masks[TEXT]
        if batch.view is View.CONTEXTUAL:
            alone: Tensor = cnn(x.flatten(0, 1).unsqueeze(1), (mask & batch.mask).flatten().unsqueeze(1))
            return alone.view(*mask.shape, -1)
        sentence: Tensor = cnn(x, mask & batch.mask.unsqueeze(1))
        return sentence
