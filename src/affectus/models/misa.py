"""MISA: each modality as what it shares with the others and what it has alone.

Hazarika, Zimmermann, Poria 2020: MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment
Analysis. ACM Multimedia 2020, https://arxiv.org/abs/2005.03545

Deviations:
    - The text comes as vectors of tokens; BERT is the run's text encoder (``text_encoder``, ``text_layers``), as the
      presets have it. ``text="mean"`` averages them as the paper does; ``first`` takes the first one (BERT's [CLS]),
      ``recurrent`` reads them with LSTMs, as the paper does without BERT.
    - Every modality is read along all of its own steps. MMSA cuts audio and vision to as many steps as the text has
      tokens.
    - Similarity is the central moment discrepancy, as in the paper; the adversarial loss, which the paper tried and
      left, is not here. MMSA's discriminator of shared and private codes gets no gradient, nor does a normalisation of
      the text, so neither is here.
    - The difference loss is the mean of the squared products, as in the released code, which the article writes as a
      sum.
    - An utterance that lacks a modality has no part in what concerns it, and its codes are not attended to; one
      without any label has no part in any loss.
    - Of n modalities there are n private and n shared codes, compared in all pairs; a lone modality has no similarity.
    - The weight decay that MMSA's file names is not in the presets, since its trainer gives none to the optimiser.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Heads, Model, ModelOutput, Paper, check_choice, register_model
from affectus.models.options import check_number, check_rate, check_size
from affectus.models.space import DROPOUT, one_of
from affectus.nn.dropping import Dropout
from affectus.nn.lstm import LSTM
from affectus.nn.masking import first_real, masked_mean, zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.packing import Packing
from affectus.nn.tracing import apart
from affectus.nn.transformer import PostNormBlock
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View

SMALLEST = 1e-6
"""Added to the length of a row before it is divided by it, as released."""


class _Reader(nn.Module):
    """Two bidirectional LSTMs with a normalisation between them; all four last states."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first = LSTM(dim, hidden, bidirectional=True)
        self.norm = nn.LayerNorm(2 * hidden)
        self.second = LSTM(2 * hidden, hidden, bidirectional=True)
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)

    @apart
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, dim) to (B, 4 * hidden): the last forward states of both, then the backward ones."""
        packing = Packing(mask)
        rows = self.first.rows(packing.pack(x), packing)
        again = self.second.rows(self.norm(rows), packing)
        ends = [self.first.last_of(rows, packing), self.second.last_of(again, packing)]  # (B, 2 * hidden) each
        halves = [end.chunk(2, dim=-1) for end in ends]
        return torch.cat([half[direction] for direction in (0, 1) for half in halves], dim=-1)


def central_moment_discrepancy(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, moments: int) -> Tensor:
    """Sum of the distances of two samples' means and of their central moments up to an order (Zellinger et al. 2017).

    Args:
        x: (B, d).
        y: (B, d).
        of_x: (B,) bool, the rows of ``x`` that count.
        of_y: (B,) bool, those of ``y``.
        moments: the highest order.

    Returns:
        A number; 0 if one of the samples is empty.
    """
    means = masked_mean(x, of_x), masked_mean(y, of_y)
    total: Tensor = torch.linalg.vector_norm(means[0] - means[1])
    centred = x - means[0], y - means[1]
    for order in range(2, moments + 1):
        total = total + torch.linalg.vector_norm(
            masked_mean(centred[0] ** order, of_x) - masked_mean(centred[1] ** order, of_y)
        )
    result: Tensor = total * (of_x.any() & of_y.any())
    return result


def squared_overlap(x: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    """Mean of the squared products between the columns of two (B, d), centred and each row of length one.

    The lengths are taken for constants by the gradient, as released.

    Args:
        x: (B, d).
        y: (B, d).
        rows: (B,) bool, which count.
    """

    def unit(z: Tensor) -> Tensor:
        centred = zero_masked(z - masked_mean(z, rows), rows)
        length: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True).detach()
        return centred / (length + SMALLEST)

    overlap: Tensor = (unit(x).T @ unit(y)).square().mean()
    return overlap


_BERT = {"text_layers": -1, "text_learning_rate": 1e-4}
_MMSA_TRAINING = {"accumulate": 2, "clip": 0.8, **_BERT}


@register_model(
    "misa",
    paper=Paper(
        "Hazarika et al.",
        2020,
        "MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis",
        "ACM Multimedia",
        "https://arxiv.org/abs/2005.03545",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "dim": one_of(32, 64, 128, 256),
        "ffn": one_of(128, 512, 2048),
        "dropout": DROPOUT,
        "difference_weight": one_of(0.1, 0.3, 0.5, 1.0),
        "similarity_weight": one_of(0.3, 0.7, 1.0),
        "reconstruction_weight": one_of(0.3, 0.7, 1.0),
    },
    training={
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "batch_size": 64,
        "clip": 1.0,
        "clip_by": "value",
        "epochs": 100,
        "patience": 8,
        "select": "task_loss",
    },
    presets={
        "mosi": {
            "options": {"dropout": 0.2, "difference_weight": 0.1, "similarity_weight": 0.3},
            "training": {**_MMSA_TRAINING, "batch_size": 16, "text_encoder": "bert-base-uncased"},
        },
        "mosei": {
            "options": {"dropout": 0.5, "difference_weight": 0.3, "similarity_weight": 0.8},
            "training": {**_MMSA_TRAINING, "batch_size": 64, "text_encoder": "bert-base-uncased"},
        },
        "sims": {
            "options": {
                **{"dropout": 0.0, "difference_weight": 0.3, "similarity_weight": 1.0},
                "reconstruction_weight": 0.8,
            },
            "training": {
                **_MMSA_TRAINING,
                **{"batch_size": 64, "clip": 1.0, "text_encoder": "bert-base-chinese", "text_max_tokens": 39},
            },
        },
    },
)
class MISA(Model):
    """A shared and a private code per modality, held alike and apart by losses, fused by a transformer.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        dim: width of the codes.
        text: how the text becomes one vector: ``mean`` over its tokens, ``first`` (BERT's [CLS]) or ``recurrent``.
        hidden: size of the LSTMs' states per direction; empty: as wide as each modality's vectors.
        heads: of the transformer's attention.
        ffn: width inside the transformer's feed-forward part.
        dropout: share dropped in the fusion.
        encoder_dropout: share dropped in the transformer.
        moments: highest order that the similarity compares.
        difference_weight: of the loss that keeps codes apart.
        similarity_weight: of the loss that makes shared codes alike.
        reconstruction_weight: of the loss that makes both codes together tell the modality.
    """

    whole_batch = "its losses of similarity and difference compare the utterances of a batch"

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        dim: int = 128,
        text: str = "mean",
        hidden: int | None = None,
        heads: int = 2,
        ffn: int = 2048,
        dropout: float = 0.5,
        encoder_dropout: float = 0.1,
        moments: int = 5,
        difference_weight: float = 0.3,
        similarity_weight: float = 1.0,
        reconstruction_weight: float = 1.0,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("text", text, ("mean", "first", "recurrent"))
        check_rate("dropout", dropout)
        check_rate("encoder_dropout", encoder_dropout)
        if hidden is not None:
            check_size("hidden", hidden)
        if dim % heads:
            raise AffectusError(
                "The option 'dim' does not fit", got=f"dim={dim}, heads={heads}", expected="a number that heads divide"
            )
        self.weights = {
            "difference": difference_weight,
            "similarity": similarity_weight,
            "reconstruction": reconstruction_weight,
        }
        for name, weight in self.weights.items():
            check_number(f"{name}_weight", weight)
        self.text, self.moments = text, moments
        names = tuple(self.inputs)
        self.readers = nn.ModuleDict()
        self.project = nn.ModuleDict()
        for name, width in self.inputs.items():
            entering = width
            if name != TEXT or text == "recurrent":
                self.readers[name] = _Reader(width, hidden or width)
                entering = 4 * (hidden or width)
            self.project[name] = nn.Sequential(Linear(entering, dim), nn.ReLU(), nn.LayerNorm(dim))
        self.private = nn.ModuleDict({name: Linear(dim, dim) for name in names})
        self.shared = Linear(dim, dim)
        # what has no loss is not trained, so it is not there
        rebuilt = names if reconstruction_weight else ()
        self.reconstruct = nn.ModuleDict({name: Linear(dim, dim) for name in rebuilt})
        self.encoder = PostNormBlock(dim, heads, ffn, dropout=encoder_dropout)
        self.fusion = nn.Sequential(Linear(2 * len(names) * dim, len(names) * dim), Dropout(dropout), nn.ReLU())
        self.heads = Heads(len(names) * dim, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task.

        Extras: ``projected.<modality>``, ``private.<modality>``, ``shared.<modality>`` and
        ``reconstructed.<modality>`` (B, dim), which mean nothing where the modality is missing; ``present``
        (B, modalities); ``fused`` (B, n * dim).
        """
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        extras: dict[str, Tensor] = {}
        private, shared = [], []
        for name in self.inputs:
            projected = self.project[name](self._utterance(name, batch.features[name], masks[name]))  # (B, dim)
            private.append(torch.sigmoid(self.private[name](projected)))
            shared.append(torch.sigmoid(self.shared(projected)))
            extras |= {f"projected.{name}": projected, f"private.{name}": private[-1], f"shared.{name}": shared[-1]}
            if name in self.reconstruct:
                extras[f"reconstructed.{name}"] = self.reconstruct[name](private[-1] + shared[-1])
        present = torch.stack([mask.any(dim=1) for mask in masks.values()], dim=1)  # (B, n)
        real = torch.cat([present, present], dim=1)
        tokens = zero_masked(torch.stack([*private, *shared], dim=1), real)  # (B, 2 n, dim)
        fused = self.fusion(zero_masked(self.encoder(tokens, real), real).flatten(1))
        return ModelOutput(self.heads(fused), extras | {"fused": fused, "present": present})

    def _utterance(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        """One vector of a modality."""
        if name in self.readers:
            found: Tensor = self.readers[name](x, mask)
            return found
        return masked_mean(x, mask) if self.text == "mean" else first_real(x, mask)

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the tasks' losses, and ``difference``, ``similarity`` and ``reconstruction`` with their weights."""
        targets = [task.target(batch.labels) for task in self.tasks]
        known = torch.stack([(~torch.isnan(target)).any(dim=-1) for target in targets]).any(dim=0)
        here = {name: output.extras["present"][:, i] & known for i, name in enumerate(self.inputs)}
        codes = {kind: {name: output.extras[f"{kind}.{name}"] for name in here} for kind in ("private", "shared")}
        pairs = list(combinations(here, 2))
        found = {
            "difference": sum(squared_overlap(codes["private"][x], codes["shared"][x], here[x]) for x in here)
            + sum(squared_overlap(codes["private"][x], codes["private"][y], here[x] & here[y]) for x, y in pairs)
        }
        if pairs:
            alike = [
                central_moment_discrepancy(codes["shared"][x], codes["shared"][y], here[x], here[y], self.moments)
                for x, y in pairs
            ]
            found["similarity"] = torch.stack(alike).mean()
        if len(self.reconstruct):
            errors = [
                masked_mean(
                    (output.extras[f"reconstructed.{x}"] - output.extras[f"projected.{x}"]).square().mean(1, True),
                    here[x],
                )
                for x in here
            ]
            found["reconstruction"] = torch.cat(errors).mean()
        added = {name: self.weights[name] * torch.as_tensor(loss) for name, loss in found.items() if self.weights[name]}
        return super().losses(output, batch) | added
