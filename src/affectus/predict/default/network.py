"""The network that ships: evidence of each modality, added up.

Every modality has a branch that turns an utterance into evidence, a vector of ``hidden`` numbers. The heads are linear,
so what they say of the sum is the sum of what they say of each modality, plus a prior:

    logits = prior + W (h_text + h_audio + h_vision)

A modality that is missing adds nothing; what one modality says alone is the same heads on its own evidence. Text reads
the transcripts around it too (attention over the other utterances of the recording); whether annotators would mark an
emotion depends on what is said before and after as well, on the mean of the text's evidence near by and in all. Sources
of labels differ in how often they say what (television series, opinion videos, acted clips), so in training each has a
prior of its own, and the evidence need not explain it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from affectus.vocabulary import AUDIO, SEVEN_EMOTIONS, SIX_EMOTIONS, TEXT, VISION

POLARITIES = ("negative", "neutral", "positive")
RAVDESS_EMOTIONS = ("none", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
SOURCES = ("mosei", "mosi", "meld", "sims", "ravdess")
"""Whose labels were learned; the shipped prior comes last, see :class:`OpinionNetwork`."""
HEADS = {"emotions": len(SEVEN_EMOTIONS), "polarity": len(POLARITIES), "intensity": 1, "present": len(SIX_EMOTIONS)}
"""What is told and how many numbers it takes: one of seven emotions, one of three polarities, sentiment intensity, and
for each of six emotions whether annotators of opinion videos would mark it."""
NEAR = 8
"""Utterances further away than this are as far as any."""
REACH = 2.0
"""Utterances: how fast the weight of those near by falls with distance."""
CLIP = 4.0
"""Features further from their mean, in standard deviations, are taken back to this: they come from another world."""


class Neighbours(nn.Module):
    """Attention over the other utterances of a recording, by what they say, how far they are and who speaks.

    Args:
        dim: of an utterance's vector.
        heads: of the attention.
    """

    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.queries, self.keys, self.values = (nn.Linear(dim, dim) for _ in range(3))
        self.distance = nn.Parameter(torch.zeros(heads, 2 * NEAR + 1))
        self.speaker = nn.Parameter(torch.zeros(heads))
        self.nothing = nn.Parameter(torch.zeros(heads))  # the score of looking at none of them
        self.out = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.out.weight)  # begins as if there were no neighbours

    def forward(self, x: Tensor, mask: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: (B, U, dim).
            mask: (B, U) bool, utterances that have a text.
            speakers: (B, U) numbers; -1 unknown.

        Returns:
            (B, U, dim) what the others add, zero where nothing is; (B, U, U) weights, mean over the heads, whose rows
            sum to at most 1.
        """
        batch, count, dim = x.shape
        split = (batch, count, self.heads, dim // self.heads)
        q, k, v = (layer(x).reshape(split).transpose(1, 2) for layer in (self.queries, self.keys, self.values))
        place = torch.arange(count, device=x.device)
        apart = (place[None] - place[:, None]).clamp(-NEAR, NEAR) + NEAR
        same = (speakers[:, None] == speakers[:, :, None]) & (speakers[:, None] >= 0)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + self.distance[:, apart]
        scores = scores + self.speaker[:, None, None] * same[:, None]  # (B, heads, U, U)
        others = mask[:, None, None] & ~torch.eye(count, dtype=torch.bool, device=x.device)
        scores = scores.masked_fill(~others, torch.finfo(scores.dtype).min)
        nothing = self.nothing[None, :, None, None].expand(batch, -1, count, 1)
        weights = torch.cat([scores, nothing], dim=-1).softmax(dim=-1)[..., :count] * others
        found = (weights @ v).transpose(1, 2).reshape(batch, count, dim)
        return self.out(found) * mask[..., None], weights.mean(dim=1)


@dataclass(frozen=True)
class Evidence:
    """What each modality adds.

    Attributes:
        parts: per modality (B, U, hidden); zero where it is missing.
        attention: (B, U, U) weights of the transcripts over each other.
        around: (B, U, 2 hidden) of :func:`surroundings`; None without text.
    """

    parts: dict[str, Tensor]
    attention: Tensor
    around: Tensor | None = None


def surroundings(text: Tensor, there: Tensor) -> Tensor:
    """Return (B, U, 2 hidden): the mean of the text's evidence over a recording, and over what is near.

    Args:
        text: (B, U, hidden), zero where it is missing.
        there: (B, U) bool.
    """
    place = torch.arange(there.shape[1], device=there.device)
    near = torch.exp(-(place[None] - place[:, None]).abs() / REACH) * there[:, None]
    near = near / near.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    mean = text.sum(dim=1, keepdim=True) / there.sum(dim=1).clamp(min=1)[:, None, None]
    return torch.cat([mean.expand_as(text), near @ text], dim=-1) * there[..., None]


class OpinionNetwork(nn.Module):
    """See the module.

    Args:
        dims: width of each modality's features.
        hidden: width of the evidence.
        widths: of the hidden layer of each branch; ``hidden`` if absent.
        dropout: in the branches.
        input_dropout: of sound's and vision's features.
    """

    priors: Mapping[str, Tensor]

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        hidden: int = 128,
        widths: Mapping[str, int] | None = None,
        dropout: float = 0.2,
        input_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        wide = widths or {}
        self.dims = dict(dims)
        branches = {}
        for name, dim in dims.items():
            width = wide.get(name, hidden)
            first = nn.LayerNorm(dim) if name == TEXT else nn.Dropout(input_dropout)
            branches[name] = nn.Sequential(
                first, nn.Linear(dim, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, hidden)
            )
        self.branches = nn.ModuleDict(branches)
        self.neighbours = Neighbours(hidden)
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size, bias=False) for name, size in HEADS.items()})
        self.around = nn.Linear(2 * hidden, HEADS["present"], bias=False)
        nn.init.zeros_(self.around.weight)  # learned last, see benchmarks/default_card.py
        # one prior for each source, and last the one that ships
        self.priors = nn.ParameterDict(  # type: ignore[assignment]
            {name: nn.Parameter(torch.zeros(len(SOURCES) + 1, size)) for name, size in HEADS.items()}
        )
        self.ravdess = nn.Linear(hidden, len(RAVDESS_EMOTIONS))

    def evidence(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor], speakers: Tensor | None = None
    ) -> Evidence:
        """Turn features into evidence.

        Args:
            features: per modality (B, U, dim); sound's and vision's scaled.
            present: per modality (B, U) bool.
            speakers: (B, U) numbers, -1 unknown; None for all unknown.
        """
        parts: dict[str, Tensor] = {}
        nearby = None
        any_of = next(iter(present.values()))
        attention = torch.zeros(*any_of.shape, any_of.shape[1], device=any_of.device)
        for name, branch in self.branches.items():
            if name not in features:
                continue
            x, there = features[name], present[name]
            x = x.masked_fill(~there[..., None], 0.0)
            h = branch(x if name == TEXT else x.clamp(-CLIP, CLIP)) * there[..., None]
            if name == TEXT:
                unknown = torch.full_like(there, -1, dtype=torch.long) if speakers is None else speakers
                around, attention = self.neighbours(h, there, unknown)
                h = h + around
                nearby = surroundings(h, there)
            parts[name] = h
        return Evidence(parts, attention, nearby)

    def say(self, evidence: Tensor, source: Tensor | int = -1, around: Tensor | None = None) -> dict[str, Tensor]:
        """Tell what evidence (B, U, hidden) means.

        Args:
            evidence: the sum over modalities, or one modality's.
            source: whose prior, (B,) or one; -1 for the one that ships.
            around: what text is around, of :class:`Evidence`.

        Returns:
            Per head (B, U, size): logits; ``intensity`` in [-3, 3].
        """
        said = {}
        for name, head in self.heads.items():
            prior = self.priors[name][source]
            logits = head(evidence) + (prior if prior.ndim == 1 else prior[:, None])
            if name == "present" and around is not None:
                logits = logits + self.around(around)
            said[name] = 3 * torch.tanh(logits / 3) if name == "intensity" else logits
        return said

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        speakers: Tensor | None = None,
        source: Tensor | int = -1,
    ) -> dict[str, Tensor]:
        """Tell what all modalities together say; ``ravdess`` holds logits of RAVDESS's eight classes."""
        evidence = self.evidence(features, present, speakers)
        total = torch.stack(list(evidence.parts.values())).sum(dim=0)
        return {**self.say(total, source, evidence.around), "ravdess": self.ravdess(total)}


MODALITIES = (TEXT, AUDIO, VISION)
