"""MulT: the multimodal transformer, in which each modality attends to each other one over their own steps.

Tsai, Bai, Liang, Kolter, Morency, Salakhutdinov 2019: Multimodal Transformer for Unaligned Multimodal Language
Sequences. ACL 2019, https://aclanthology.org/P19-1656

Deviations:
    - The defaults are those of the released code (word-aligned CMU-MOSI). The presets ``mosi``, ``mosei`` and ``sims``
      have MMSA's hyper-parameters and, like MMSA, no positions (``positions=False``); the weight decay that MMSA's file
      names is not in them, since its trainer gives none to the optimiser.
    - Padding is masked everywhere, and each stream is read off at an utterance's own last step; the released code and
      MMSA attend to padding and read its last step. Their mask of the future, which depends on the padded lengths
      (step t of T may look at step s of S up to t + |S - T|), depends on the real ones here. A masked step within a
      sequence is taken out.
    - A sequence that is shorter than the convolution's kernel is filled with zeros. Every modality is convolved, one
      that is as wide as the model too.
    - Attention has no bias of the keys, which the softmax takes away. A step's position counts even if its first
      feature is exactly zero, which the released code takes for padding.
    - Of n modalities each attends to the n - 1 others; a lone one goes to its self-attention transformer at once. What
      attends to a missing modality keeps what it has; the stream of a missing one is zero.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
from affectus.models.base import Heads, Model, ModelOutput, Paper, register_model
from affectus.models.options import check_rate, check_size, modality_values
from affectus.models.space import DROPOUT, Real, Whole, one_of
from affectus.nn.convolution import NarrowingConv1d
from affectus.nn.dropping import Dropout
from affectus.nn.masking import real_steps, to_front, zero_masked
from affectus.nn.matmul import Linear
from affectus.nn.transformer import PreNormBlock, sinusoids
from affectus.objectives import Task
from affectus.vocabulary import TEXT, View

MEMORY_LAYERS = 3
"""The self-attention transformers have so many layers, or as many as the others if those are more."""


class _Transformer(nn.Module):
    """Blocks upon scaled, perhaps positioned steps, and a layer normalisation; within a modality or between two."""

    def __init__(
        self,
        dim: int,
        heads: int,
        layers: int,
        *,
        positions: bool,
        causal: bool,
        attention_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        self.positions, self.causal = positions, causal
        self.drop = Dropout(embedding_dropout)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                dim, heads, attention_dropout=attention_dropout, relu_dropout=relu_dropout, dropout=residual_dropout
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def _enter(self, x: Tensor) -> Tensor:
        x = math.sqrt(x.shape[-1]) * x
        if self.positions:
            x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
        dropped: Tensor = self.drop(x)
        return dropped

    def attend(self, x: Tensor, lengths: Tensor, y: Tensor, y_lengths: Tensor) -> Tensor:
        """Let each step of ``x`` (B, T, dim) attend to those of ``y`` (B, S, dim); (B, T, dim)."""
        x, memory = self._enter(x), self._enter(y)
        # as released, what is asked and what is found there are dropped apart
        values = self._enter(y) if self.training and self.drop.p else None
        keys = real_steps(y_lengths, y.shape[1])
        reach = (y_lengths - lengths).abs() if self.causal else None
        for block in self.blocks:
            x = block(x, memory, keys, values=values, reach=reach)
        result: Tensor = self.norm(x)
        return result

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Let each step of ``x`` (B, T, dim) attend to the others; return the last real one (B, dim)."""
        x, keys = self._enter(x), real_steps(lengths, x.shape[1])
        reach = torch.zeros_like(lengths) if self.causal else None
        for block in self.blocks[:-1]:
            x = block(x, None, keys, reach=reach)
        # the last block needs one step alone, which sees all
        index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2])
        result: Tensor = self.norm(self.blocks[-1](x.gather(1, index), x, keys))
        return zero_masked(result.squeeze(1), lengths > 0)


_MMSA = {"positions": False, "layers": 4}
_MMSA_TRAINING = {
    "batch_size": 16,
    "accumulate": 8,
    "clip": 0.6,
    "clip_by": "value",
    "epochs": 100,
    "patience": 8,
    "plateau_factor": 0.1,
}


@register_model(
    "mult",
    paper=Paper(
        "Tsai et al.",
        2019,
        "Multimodal Transformer for Unaligned Multimodal Language Sequences",
        "ACL",
        "https://aclanthology.org/P19-1656",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    # the heads share the width: it must be a multiple of them
    space={
        "dim": one_of(20, 30, 40, 60),
        "layers": Whole(2, 6),
        "attention_dropout": Real(0.0, 0.4),
        "residual_dropout": Real(0.0, 0.4),
        "text_dropout": DROPOUT,
        "output_dropout": DROPOUT,
    },
    training={
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "batch_size": 24,
        "clip": 0.8,
        "epochs": 40,
        "plateau": 20,
        "real_loss": "l1",
    },
    presets={
        "mosi": {
            "options": {
                **_MMSA,
                **{"dim": 50, "heads": 10, "kernel": 5, "attention_dropout": 0.3, "relu_dropout": 0.0},
                **{"attention_dropouts": {"audio": 0.2, "vision": 0.0}, "embedding_dropout": 0.2},
                **{"residual_dropout": 0.0, "text_dropout": 0.5, "output_dropout": 0.5},
            },
            "training": {**_MMSA_TRAINING, "learning_rate": 2e-3, "plateau": 5},
        },
        "mosei": {
            "options": {
                **_MMSA,
                **{"dim": 30, "heads": 6, "kernel": 5, "kernels": {"audio": 1, "vision": 3}},
                **{"attention_dropout": 0.4, "attention_dropouts": {"audio": 0.0, "vision": 0.0}, "relu_dropout": 0.0},
                **{"embedding_dropout": 0.0, "residual_dropout": 0.0, "text_dropout": 0.3, "output_dropout": 0.5},
            },
            "training": {**_MMSA_TRAINING, "batch_size": 4, "learning_rate": 5e-4, "plateau": 20},
        },
        "sims": {
            "options": {
                **_MMSA,
                **{"dim": 50, "heads": 10, "layers": 2, "kernel": 5, "kernels": {"audio": 1, "vision": 1}},
                **{"attention_dropout": 0.2, "attention_dropouts": {"audio": 0.1, "vision": 0.0}, "relu_dropout": 0.0},
                **{"embedding_dropout": 0.1, "residual_dropout": 0.2, "text_dropout": 0.3, "output_dropout": 0.1},
            },
            "training": {**_MMSA_TRAINING, "learning_rate": 2e-3, "plateau": 10},
        },
    },
)
class MulT(Model):
    """Cross-modal transformers between all ordered pairs of modalities, then a transformer per modality.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        dim: common width.
        heads: of every attention; they divide ``dim``.
        layers: of each cross-modal transformer; the self-attention ones have as many, three at least.
        kernel: steps that the first convolution sees, without padding.
        kernels: the same for single modalities, for instance {audio: 1, vision: 3}.
        positions: add sinusoidal positions to the steps.
        causal: hide the future; a modality of other length may be looked at so much further ahead.
        attention_dropout: share dropped of the weights of attention to a modality.
        attention_dropouts: the same for single modalities.
        relu_dropout: share dropped inside the feed-forward parts.
        residual_dropout: share dropped of what each part of a layer adds.
        embedding_dropout: share dropped of what enters each transformer.
        text_dropout: share dropped of the text's vectors.
        output_dropout: share dropped in the residual block before the heads.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        dim: int = 30,
        heads: int = 5,
        layers: int = 5,
        kernel: int = 1,
        kernels: Mapping[str, int] | None = None,
        positions: bool = True,
        causal: bool = True,
        attention_dropout: float = 0.1,
        attention_dropouts: Mapping[str, float] | None = None,
        relu_dropout: float = 0.1,
        residual_dropout: float = 0.1,
        embedding_dropout: float = 0.25,
        text_dropout: float = 0.25,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        for name, share in (
            ("attention_dropout", attention_dropout),
            ("relu_dropout", relu_dropout),
            ("residual_dropout", residual_dropout),
            ("embedding_dropout", embedding_dropout),
            ("text_dropout", text_dropout),
            ("output_dropout", output_dropout),
        ):
            check_rate(name, share)
        if dim % heads:
            raise AffectusError(
                "The option 'dim' does not fit", got=f"dim={dim}, heads={heads}", expected="a number that heads divide"
            )
        sizes = modality_values("kernels", inputs, kernel, kernels, check_size)
        drops = modality_values("attention_dropouts", inputs, attention_dropout, attention_dropouts, check_rate)
        names = tuple(self.inputs)
        width = max(len(names) - 1, 1) * dim  # of each modality's streams together

        def transformer(of: str, dim: int, layers: int) -> _Transformer:
            return _Transformer(
                dim,
                heads,
                layers,
                positions=positions,
                causal=causal,
                attention_dropout=drops[of],
                relu_dropout=relu_dropout,
                residual_dropout=residual_dropout,
                embedding_dropout=embedding_dropout,
            )

        self.text_drop = Dropout(text_dropout)
        self.project = nn.ModuleDict(
            {name: NarrowingConv1d(self.inputs[name], dim, int(sizes[name])) for name in names}
        )
        self.cross = nn.ModuleDict({f"{x}_{y}": transformer(y, dim, layers) for x in names for y in names if x != y})
        self.memory = nn.ModuleDict({name: transformer(name, width, max(layers, MEMORY_LAYERS)) for name in names})
        combined = len(names) * width
        self.residual = nn.Sequential(
            Linear(combined, combined), nn.ReLU(), Dropout(output_dropout), Linear(combined, combined)
        )
        self.heads = Heads(combined, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (B, n (n - 1) dim), the last steps after the residual block."""
        x, lengths = {}, {}
        for name, convolution in self.project.items():
            front, count = to_front(batch.features[name], batch.masks[name] & batch.mask.unsqueeze(1))
            front = self.text_drop(front) if name == TEXT else front
            x[name], lengths[name] = convolution(front, count)  # (B, T, dim)
        last = []
        for name in x:
            streams = []
            for other in x:
                if other != name:
                    cross = self.cross[f"{name}_{other}"]
                    assert isinstance(cross, _Transformer)
                    streams.append(cross.attend(x[name], lengths[name], x[other], lengths[other]))
            memory = self.memory[name]
            assert isinstance(memory, _Transformer)
            last.append(memory.last(torch.cat(streams or [x[name]], dim=-1), lengths[name]))
        read = torch.cat(last, dim=-1)
        fused = read + self.residual(read)
        return ModelOutput(self.heads(fused), {"fused": fused})
