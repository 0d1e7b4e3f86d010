"""Teney: the text attends over the steps of each other modality, as a question does over an image's regions.

Teney, Anderson, He, van den Hengel 2018: Tips and Tricks for Visual Question Answering: Learnings from the 2017
Challenge. CVPR 2018, https://arxiv.org/abs/1708.02711

Deviations:
    - The article answers questions on images. Turned to fusion, the question is the text (without text, the first
      modality) and the regions are the steps of another modality; its word embeddings and region features are the
      corpus's vectors. A lone modality asks itself.
    - The article has one image. With several other modalities each has an attention and a layer of its own, and their
      products with the text stand side by side.
    - Where the text or the other modality is missing, its factor in the product is 1; where both are, the product is 0.
    - ``hidden`` is 512 in the article and 128 here, for much smaller corpora; dropout before the last layer is
      ours. The answers' pre-trained classifiers and the soft labels belong to that task; here each task has a head upon
      the last gated layer, with its own loss.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_share, register_model
from affectus.models.space import DROPOUT, one_of
from affectus.nn.attention import masked_softmax
from affectus.nn.dropping import dropout
from affectus.nn.gru import LastGRU
from affectus.nn.masking import zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.tracing import apart
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View


class GatedTanh(nn.Module):
    """``tanh(W x + b) * sigmoid(W' x + b')``.

    Args:
        dim: width of the input.
        width: of the result.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.value, self.gate = Linear(dim, width), Linear(dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., width)."""
        return torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))


class GuidedAttention(nn.Module):
    """Steps weighed by how they go with a question.

    Args:
        dim: width of the steps.
        question: width of the question.
        hidden: width inside.
    """

    def __init__(self, dim: int, question: int, hidden: int) -> None:
        super().__init__()
        self.match = GatedTanh(dim + question, hidden)
        # a bias would be the same for all steps, and the softmax would take it away
        self.score = Linear(hidden, 1, bias=False)

    @apart  # PyTorch 2.13 takes a stride of its gradient for fixed, and fails at another length
    def forward(self, steps: Tensor, mask: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            steps: (B, T, dim).
            mask: (B, T) bool.
            question: (B, question).

        Returns:
            (B, dim), zero without a real step, and the weights (B, T).
        """
        clean = zero_masked(steps, mask)
        asked = question.unsqueeze(1).expand(-1, steps.shape[1], -1)
        scores = self.score(self.match(torch.cat([clean, asked], dim=-1))).squeeze(-1)  # a_k = w . f([v_k; q])
        weights = masked_softmax(scores, mask)
        return (weights.unsqueeze(1) @ clean).squeeze(1), weights


@register_model(
    "teney",
    paper=Paper(
        "Teney et al.",
        2018,
        "Tips and Tricks for Visual Question Answering: Learnings from the 2017 Challenge",
        "CVPR",
        "https://arxiv.org/abs/1708.02711",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={"hidden": one_of(32, 64, 128, 256), "dropout": DROPOUT},
)
class Teney(Model):
    """A GRU reads the text, which attends over the steps of each other modality and is multiplied with what it finds.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of the GRU's state and width of every gated layer.
        dropout: share dropped before the last gated layer.
    """

    def __init__(
        self, *, inputs: Mapping[str, int], tasks: Sequence[Task], hidden: int = 128, dropout: float = 0.3
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        self.dropout = dropout
        self.asking = TEXT if TEXT in self.inputs else next(iter(self.inputs))
        asked = {name: dim for name, dim in self.inputs.items() if name != self.asking} or self.inputs
        self.question = LastGRU(self.inputs[self.asking], hidden)
        self.attention = nn.ModuleDict({name: GuidedAttention(dim, hidden, hidden) for name, dim in asked.items()})
        self.of_question = GatedTanh(hidden, hidden)
        self.of_found = nn.ModuleDict({name: GatedTanh(dim, hidden) for name, dim in asked.items()})
        self.joint = GatedTanh(len(asked) * hidden, hidden)
        self.heads = Heads(hidden, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task.

        Extras: ``attention.<modality>`` (B, T), the weights of its steps, and ``fused`` (B, modalities * hidden), the
        products.
        """
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        q = self.question(batch.features[self.asking], masks[self.asking])  # (B, hidden)
        asks = masks[self.asking].any(dim=1, keepdim=True)
        factor = torch.where(asks, self.of_question(q), 1.0)  # f(q)
        products, extras = [], {}
        for name, attention in self.attention.items():
            found, extras[f"attention.{name}"] = attention(batch.features[name], masks[name], q)
            there = masks[name].any(dim=1, keepdim=True)
            product = factor * torch.where(there, self.of_found[name](found), 1.0)  # h = f(q) * f(v)
            products.append(torch.where(asks | there, product, 0.0))
        fused = torch.cat(products, dim=-1)
        joint = self.joint(dropout(fused, self.dropout, self.training))
        return ModelOutput(self.heads(joint), extras | {"fused": fused})
