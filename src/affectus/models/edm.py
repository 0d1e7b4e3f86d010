"""EDM: deep multimodal fusion, a network for each modality and one over their confidences.

Nojavanasghari, Gopinath, Koushik, Baltrušaitis, Morency 2016: Deep Multimodal Fusion for Persuasiveness Prediction.
ICMI 2016, https://doi.org/10.1145/2993148.2993176

Deviations:
    - No code was released; the sizes, the number of layers and the dropout are ours.
    - The article keeps the features whose t-test between persuasive and non-persuasive videos has p < .05. That test
      knows two classes; here, with tasks of every kind, all features are used.
    - A confidence is the probability of the positive class (two classes), of each class (more) or of each label, beside
      its complement, one minus it. A number is given between 0 and 1 in its range, with the same complement, or, where
      its range is not known, as it is and negated.
    - A modality's network does not learn while the fusion does, and each goes on from its best epoch on valid.
    - An utterance that lacks a modality has no part in that network's loss; the fusion gets 0 for its confidences and
      for their complements, which no modality that is there can say.
    - With one modality there is no fusion. Features of a sequence are averaged over its steps; utterances of a video
      are seen one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

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
from affectus.models.space import DROPOUT, Whole, one_of
from affectus.nn.dense import FeedForward
from affectus.nn.masking import zero_masked
from affectus.nn.pooling import utterance_means
from affectus.objectives import Task, TaskKind
from affectus.vocabulary import TEXT, View


def confidences(task: Task, output: Tensor) -> Tensor:
    """Return what a network is sure of, and the complement of each.

    Args:
        task: what the output (..., outputs) is about.
        output: logits, or numbers.

    Returns:
        (..., 2 * values), where two classes count as one value.
    """
    said = task.probabilities(output)
    if task.kind is TaskKind.BINARY:
        said = said[..., 1:]
    elif task.kind is TaskKind.REAL:
        if task.low is None or task.high is None:
            return torch.cat([said, -said], dim=-1)
        said = (said - task.low) / (task.high - task.low)
    return torch.cat([said, 1 - said], dim=-1)


class _Network(nn.Module):
    """Layers, then a head per task."""

    def __init__(self, dim: int, tasks: Sequence[Task], widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.layers = FeedForward(dim, widths, dropout=dropout)
        self.heads = Heads(self.layers.width, tasks)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (..., dim) to (..., outputs) per task."""
        said: dict[str, Tensor] = self.heads(self.layers(x))
        return said


@register_model(
    "edm",
    paper=Paper(
        "Nojavanasghari et al.",
        2016,
        "Deep Multimodal Fusion for Persuasiveness Prediction",
        "ICMI",
        "https://doi.org/10.1145/2993148.2993176",
    ),
    views=set(View),
    space={
        "hidden": one_of(32, 64, 128),
        "layers": Whole(1, 3),
        "fusion_hidden": one_of(16, 32, 64),
        "fusion_layers": Whole(1, 2),
        "dropout": DROPOUT,
    },
)
class EDM(Model):
    """A network per modality, then one over their confidences and the complements, trained one after the other.

    The stages are ``unimodal.<modality>`` for each modality, then ``fusion``.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: width of each layer of a modality's network.
        layers: of a modality's network.
        fusion_hidden: width of each layer of the fusion.
        fusion_layers: of the fusion.
        dropout: share dropped after each layer.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 64,
        layers: int = 2,
        fusion_hidden: int = 32,
        fusion_layers: int = 1,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        self.unimodal = nn.ModuleDict(
            {name: _Network(dim, tasks, (hidden,) * layers, dropout) for name, dim in self.inputs.items()}
        )
        self.fusion: _Network | None = None
        if len(self.inputs) > 1:
            values = sum(confidences(task, torch.zeros(task.outputs)).shape[-1] for task in tasks)
            self.fusion = _Network(len(self.inputs) * values, tasks, (fusion_hidden,) * fusion_layers, dropout)

    def stages(self) -> list[Stage]:
        """Return one stage per modality, then the fusion's."""
        parts = {f"unimodal.{name}": part for name, part in self.unimodal.items()}
        if self.fusion is not None:
            parts["fusion"] = self.fusion
        return [
            Stage(name, {name: ParameterGroup(list(part.parameters()))}, trains_text=name == f"unimodal.{TEXT}")
            for name, part in parts.items()
        ]

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return one loss per task; an utterance that lacks the modality of a unimodal stage has no part in it."""
        if self._alone is not None:
            _, present = utterance_means(batch, (self._alone,))
            gone = ~present[self._alone].unsqueeze(-1)
            batch = replace(batch, labels={k: v.masked_fill(gone, torch.nan) for k, v in batch.labels.items()})
        return super().losses(output, batch)

    @property
    def _alone(self) -> str | None:
        """The modality that the present stage trains, if it trains one."""
        return self.stage.removeprefix("unimodal.") if self.stage.startswith("unimodal.") else None

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; while a unimodal stage is trained, from that modality alone.

        Extras: ``unimodal.<modality>.<task>``, what the modality's own network says, and ``fused``, the confidences and
        complements that enter the fusion.
        """
        alone = self._alone
        said = {}
        # the fusion learns from fixed confidences: no dropout, no gradient
        self.unimodal.train(self.training and self.stage != "fusion")
        vectors, present = utterance_means(batch, self.inputs if alone is None else (alone,))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stage != "fusion"):
            for name, x in vectors.items():
                said[name] = self.unimodal[name](x)
        extras = {f"unimodal.{name}.{task}": y for name, heads in said.items() for task, y in heads.items()}
        fused = torch.cat(
            [
                zero_masked(torch.cat([confidences(task, heads[task.name]) for task in self.tasks], -1), present[name])
                for name, heads in said.items()
            ],
            dim=-1,
        )
        extras["fused"] = fused
        if alone is not None or self.fusion is None:
            return ModelOutput(next(iter(said.values())), extras)
        return ModelOutput(self.fusion(fused), extras)
