"""Heads of single modalities beside the common one, and what they learn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError, unknown_name
from affectus.models.base import Heads, ModelOutput, ParameterGroup, check_choice, check_share
from affectus.models.options import check_number, check_positive, check_size, modality_values
from affectus.nn.dropping import Dropout
from affectus.nn.matmul import Linear
from affectus.objectives import Task
from affectus.vocabulary import KNOWN_MODALITIES

FUSED = "fused"
"""The head of all modalities together."""


class Branch(nn.Module):
    """Dropout, two dense layers and the heads.

    Args:
        dim: width of the input.
        dense: width of both layers.
        tasks: what to predict.
        dropout: share of the input dropped.
    """

    def __init__(self, dim: int, dense: int, tasks: Sequence[Task], dropout: float) -> None:
        super().__init__()
        self.drop, self.first, self.second = Dropout(dropout), Linear(dim, dense), Linear(dense, dense)
        self.heads = Heads(dense, tasks)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Map (B, dim) to the first layer's features (B, dense) and the heads' outputs."""
        features = torch.relu(self.first(self.drop(x)))
        return features, self.heads(torch.relu(self.second(features)))


class UnimodalHeads(nn.Module):
    """A branch upon each modality's vector, with losses of their own beside that of the prediction.

    Args:
        vectors: width of each modality's vector.
        tasks: what to predict.
        dense: width of each branch's layers.
        widths: the same for single modalities; the option ``unimodal_widths``.
        dropout: share of each vector dropped.
        weights: factor of each head's loss, ``fused`` being the prediction's, 1 if not named; a modality of weight 0
            has no branch. The option ``loss_weights``.
        labels: ``own`` (the modality's label, such as ``sentiment_text``, where the corpus has it) or ``joint``. The
            option ``unimodal_labels``.

    Raises:
        AffectusError: an option is out of range or names what there is not.
    """

    def __init__(
        self,
        vectors: Mapping[str, int],
        tasks: Sequence[Task],
        *,
        dense: int,
        widths: Mapping[str, int] | None,
        dropout: float,
        weights: Mapping[str, float] | None,
        labels: str,
    ) -> None:
        super().__init__()
        check_choice("unimodal_labels", labels, ("own", "joint"))
        check_share("unimodal_dropout", dropout)
        sizes = modality_values("unimodal_widths", vectors, dense, widths, check_size)
        self.tasks, self.names, self.own = tuple(tasks), tuple(vectors), labels == "own"
        self.weights = _weights(weights, self.names)
        self.branches = nn.ModuleDict(
            {name: Branch(vectors[name], int(sizes[name]), tasks, dropout) for name in vectors if self.weights[name]}
        )

    def forward(self, vectors: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return ``prediction.<modality>.<task>`` and ``present`` (B, modalities), which utterance has which."""
        said: dict[str, Tensor] = {}
        for name, branch in self.branches.items():
            said |= {f"prediction.{name}.{task}": y for task, y in branch(vectors[name])[1].items()}
        here = [(batch.masks[name] & batch.mask.unsqueeze(1)).any(dim=1) for name in self.names]
        return said | {"present": torch.stack(here, dim=1)}

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return ``<task>`` of the prediction and ``<task>.<modality>`` of each branch, times their weights."""
        found = {}
        for task in self.tasks:
            joint = task.target(batch.labels)
            found[task.name] = self.weights[FUSED] * task.loss_of(output.predictions[task.name], joint)
            for name in self.branches:
                mine = replace(task, scheme=f"{task.scheme}_{name}")
                wanted = mine.target(batch.labels) if self.own and mine.scheme in batch.labels else joint
                there = output.extras["present"][:, self.names.index(name)].unsqueeze(1)
                said = output.extras[f"prediction.{name}.{task.name}"]
                found[f"{task.name}.{name}"] = self.weights[name] * task.loss_of(
                    said, wanted.masked_fill(~there, torch.nan)
                )
        return found


def _weights(given: Mapping[str, float] | None, names: Sequence[str]) -> dict[str, float]:
    heads = [FUSED, *names]
    if FUSED in names:
        raise AffectusError("A modality has the name of a head", got=FUSED, remedy="Give it another name")
    if given is not None and not isinstance(given, Mapping):
        raise AffectusError(
            "The option 'loss_weights' is no mapping", got=repr(given), expected="for instance {fused: 0.6, text: 0.2}"
        )
    for name, weight in (given or {}).items():
        if name not in heads and name not in KNOWN_MODALITIES:
            raise unknown_name("head", str(name), heads, where="the option 'loss_weights'")
        (check_positive if name == FUSED else check_number)(f"loss_weights.{name}", weight)
    return {name: float((given or {}).get(name, 1.0)) for name in heads}


def net_groups(nets: nn.ModuleDict, decays: Mapping[str, float] | None) -> dict[str, ParameterGroup]:
    """Return each modality's network as a group, with a weight decay of its own if ``weight_decays`` has one.

    Raises:
        AffectusError: the option names what is no modality, or has a value below 0.
    """
    chosen = modality_values("weight_decays", nets, -1.0, decays, check_number)
    return {
        f"net.{name}": ParameterGroup(list(net.parameters()), weight_decay=chosen[name] if chosen[name] >= 0 else None)
        for name, net in nets.items()
    }


def others(module: nn.Module, *taken: ParameterGroup) -> list[nn.Parameter]:
    """Return the parameters of a module that are in none of the groups."""
    inside = {id(parameter) for group in taken for parameter in group.parameters}
    return [parameter for parameter in module.parameters() if id(parameter) not in inside]
