"""Graph-MFN: MFN with a dynamic fusion graph, whose nodes are all sets of modalities.

Zadeh, Liang, Poria, Cambria, Morency 2018: Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and
Interpretable Dynamic Fusion Graph. ACL 2018, https://aclanthology.org/P18-1208

Deviations:
    - The efficacies are linear, as in the authors' toolkit and in MMSA; the article squashes them by a sigmoid, which
      is ``efficacies="sigmoid"``.
    - A node's input is a linear layer on the state before and the present one, then ReLU, as MMSA has it.
    - MMSA keeps the networks of the nodes of two and three modalities where PyTorch does not find them: they are never
      trained, nor saved. Here they are both.
    - The two linear layers of a node's network, which have nothing between them, are multiplied with each other first:
      the same function and gradients, with less to compute.
    - A step that lacks a modality leaves that modality's LSTM as it is; padding leaves the memory too.
    - Unaligned sequences are brought into step first: as many steps as the text has (without text, as the shortest
      modality has), each the mean over that part of the other modality. MMSA does so for CH-SIMS, but its means are of
      every so-many-th step of the whole utterance.
    - n modalities have 2^n - 1 nodes and about 3^n edges: 7 and 19 for three, 15 and 65 for four, 63 and 665 for six.
      With one modality the graph is a single node.
    - The LSTMs and the graph do not depend on the memory, so they are computed for all steps at once, and only the
      memory's gates step by step.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, combinations, pairwise

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.models.base import (
    Heads,
    Model,
    ModelOutput,
    Paper,
    check_choice,
    check_share,
    register_model,
)
from affectus.models.options import check_size, modality_values
from affectus.models.space import Real, one_of
from affectus.nn.choosing import choose
from affectus.nn.dropping import Dropout
from affectus.nn.matmul import Linear, linear
from affectus.nn.memory import GatedMemory
from affectus.nn.stepping import in_step
from affectus.nn.systems import LSTMSystem
from affectus.nn.weighing import weigh
from affectus.objectives import Task
from affectus.vocabulary import View

PATTERN = 100
"""Width between the two layers of a node's network, as in the authors' toolkit."""


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every set of one or more names, the small ones first.

    >>> subsets("abc")
    [('a',), ('b',), ('c',), ('a', 'b'), ('a', 'c'), ('b', 'c'), ('a', 'b', 'c')]
    """
    return list(chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1)))


class LinearChain(nn.Module):
    """Linear layers with nothing between them, computed as the one that they are together.

    Args:
        widths: of the input, of what is between the layers, and of the output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, first width) to (N, last width)."""
        weight: Tensor | None = None
        bias: Tensor | None = None
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            bias = layer.bias if bias is None else layer.weight @ bias + layer.bias
            weight = layer.weight if weight is None else linear(layer.weight, weight.T)
        assert weight is not None
        return linear(x, weight, bias)


class DynamicFusionGraph(nn.Module):
    """Every set of modalities is a node that sees its own subsets, each edge weighed by an efficacy.

    Args:
        widths: width of each modality's node.
        inner: width of every other node and of the result.
        sigmoid: squash the efficacies.
    """

    def __init__(self, widths: Mapping[str, int], inner: int, *, sigmoid: bool) -> None:
        super().__init__()
        self.names, self.sigmoid = tuple(widths), sigmoid
        self.nodes = subsets(self.names)
        width = {node: widths[node[0]] if len(node) == 1 else inner for node in self.nodes}
        # what each node sees, and what the top sees: every node
        self.seen = {node: subsets(node)[:-1] for node in self.nodes if len(node) > 1}
        self.networks = nn.ModuleDict(
            {
                "+".join(node): LinearChain(sum(width[part] for part in parts), PATTERN, inner)
                for node, parts in self.seen.items()
            }
        )
        self.top = LinearChain(sum(width.values()), PATTERN, inner)
        edges = sum(map(len, self.seen.values())) + len(self.nodes)
        self.efficacy = LinearChain(sum(widths.values()), PATTERN, inner, edges)

    def forward(self, modalities: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Run over rows that have nothing to do with each other.

        Args:
            modalities: per modality (N, width).

        Returns:
            (N, inner) the result; (N, edges) the efficacies, node by node in the order of ``seen``, then the top's.
        """
        efficacies = self.efficacy(torch.cat([modalities[name] for name in self.names], dim=1))
        if self.sigmoid:
            efficacies = torch.sigmoid(efficacies)
        counts = [*map(len, self.seen.values()), len(self.nodes)]
        weights = iter(efficacies.split(counts, dim=1))
        outputs: dict[tuple[str, ...], Tensor] = {(name,): modalities[name] for name in self.names}
        for node, parts in self.seen.items():
            entering = weigh(next(weights), [outputs[part] for part in parts])
            outputs[node] = self.networks["+".join(node)](entering)
        entering = weigh(next(weights), [outputs[node] for node in self.nodes])
        return self.top(entering), efficacies


@register_model(
    "graph_mfn",
    paper=Paper(
        "Zadeh et al.",
        2018,
        "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph",
        "ACL",
        "https://aclanthology.org/P18-1208",
    ),
    views={View.UNALIGNED, View.ALIGNED},
    space={
        "hidden": one_of(32, 64, 128, 256),
        "inner": one_of(32, 64, 128),
        "memory": one_of(64, 128, 300, 400),
        "dense": one_of(64, 128, 256),
        "retain_dropout": Real(0.0, 0.7),
        "update_dropout": Real(0.0, 0.7),
        "dropout": Real(0.0, 0.7),
    },
    training={
        "learning_rate": 2e-3,
        "weight_decay": 5e-3,
        "batch_size": 32,
        "epochs": 200,
        "patience": 8,
        "real_loss": "l1",
    },
    presets={
        "mosi": {
            "options": {
                "hidden": 256,
                "widths": {"audio": 32},
                "inner": 64,
                "memory": 300,
                "candidate": 32,
                "retain": 128,
                "update": 64,
                "dense": 256,
                "candidate_dropout": 0.0,
                "retain_dropout": 0.5,
                "update_dropout": 0.5,
                "dropout": 0.0,
            },
            "training": {"learning_rate": 2e-3, "weight_decay": 5e-3, "batch_size": 32},
        },
        "mosei": {
            "options": {
                "hidden": 64,
                "widths": {"audio": 16},
                "inner": 128,
                "memory": 300,
                "candidate": 32,
                "retain": 64,
                "update": 256,
                "dense": 128,
                "candidate_dropout": 0.5,
                "retain_dropout": 0.0,
                "update_dropout": 0.7,
                "dropout": 0.7,
            },
            "training": {"learning_rate": 2e-3, "weight_decay": 1e-3, "batch_size": 64},
        },
        "sims": {
            "options": {
                "hidden": 256,
                "widths": {"audio": 32},
                "inner": 128,
                "memory": 64,
                "candidate": 256,
                "retain": 32,
                "update": 32,
                "dense": 256,
                "candidate_dropout": 0.5,
                "retain_dropout": 0.2,
                "update_dropout": 0.7,
                "dropout": 0.2,
            },
            "training": {"learning_rate": 5e-4, "weight_decay": 1e-3, "batch_size": 64},
        },
    },
)
class GraphMFN(Model):
    """One LSTM per modality, a graph that fuses every set of them at each step, and a gated memory of what it gives.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: size of each modality's LSTM and of its node in the graph.
        widths: sizes of the modalities that have another than ``hidden``.
        inner: width of the nodes of more than one modality.
        efficacies: ``linear`` (as in the authors' toolkit) or ``sigmoid`` (as in the article).
        memory: size of the memory.
        candidate: width inside the network that says what could be written to the memory.
        retain: width inside the network of the gate that keeps the memory.
        update: width inside the network of the gate that writes to it.
        dense: width of the layer before the heads.
        candidate_dropout: share dropped inside the network of what could be written.
        retain_dropout: inside that of the gate that keeps.
        update_dropout: inside that of the gate that writes.
        dropout: before the heads.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 256,
        widths: Mapping[str, int] | None = None,
        inner: int = 64,
        efficacies: str = "linear",
        memory: int = 300,
        candidate: int = 32,
        retain: int = 128,
        update: int = 64,
        dense: int = 256,
        candidate_dropout: float = 0.0,
        retain_dropout: float = 0.5,
        update_dropout: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_choice("efficacies", efficacies, ("linear", "sigmoid"))
        for name, share in (
            ("candidate_dropout", candidate_dropout),
            ("retain_dropout", retain_dropout),
            ("update_dropout", update_dropout),
            ("dropout", dropout),
        ):
            check_share(name, share)
        sizes = modality_values("widths", self.inputs, hidden, widths, check_size)
        self.system = LSTMSystem(self.inputs, sizes, cells=False)
        self.singletons = nn.ModuleDict({name: Linear(2 * size, size) for name, size in sizes.items()})
        self.graph = DynamicFusionGraph(sizes, inner, sigmoid=efficacies == "sigmoid")
        self.memory = GatedMemory(
            inner,
            memory,
            candidate=candidate,
            retain=retain,
            update=update,
            candidate_dropout=candidate_dropout,
            retain_dropout=retain_dropout,
            update_dropout=update_dropout,
        )
        self.dense = Linear(sum(sizes.values()) + memory, dense)
        self.drop = Dropout(dropout)
        self.heads = Heads(dense, tasks)

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task.

        Extras: ``fused`` (B, width), the last states and the last memory; ``efficacies`` (B, T, edges), the weight of
        each edge of the graph at each step, zero at padding, in the order of ``graph.seen``.
        """
        masks = {name: batch.masks[name] & batch.mask.unsqueeze(1) for name in self.inputs}
        seen = self.system(*in_step({name: batch.features[name] for name in masks}, masks, batch.view, zeros=False))
        nodes = {
            name: torch.relu(_upon_both(layer, choose([seen.before[name]]), choose([seen.now[name]])))
            for name, layer in self.singletons.items()
        }
        attended, efficacies = self.graph(nodes)
        fused = torch.cat([seen.last, seen.packing.last(self.memory(attended, seen.packing))], dim=1)
        extras = {"fused": fused, "efficacies": seen.packing.unpack(efficacies)}
        return ModelOutput(self.heads(self.drop(torch.relu(self.dense(fused)))), extras)


def _upon_both(layer: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """A linear layer upon two vectors side by side, which need not be put there."""
    assert isinstance(layer, nn.Linear)
    to_first, to_second = torch.split(layer.weight, [first.shape[1], second.shape[1]], dim=1)
    return linear(second, to_second, linear(first, to_first, layer.bias))
