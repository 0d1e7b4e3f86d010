"""Deep belief networks, one per modality, joined by a layer above: pre-trained without labels, then fine-tuned.

Ranganathan, Chakraborty, Panchanathan 2016: Multimodal Emotion Recognition Using Deep Learning Architectures.
WACV 2016, https://doi.org/10.1109/WACV.2016.7477679

Deviations:
    - The article learns from pixels and signals, and its convolutional networks share their filters over the image. A
      corpus of feature vectors has no image left: the networks here are the article's plain ones (DBN), Boltzmann
      machines stacked per modality with one over all of them, pre-trained greedily by contrastive divergence (CD-1).
    - The lowest machine has Gaussian visible units of variance 1, which the usual scaling gives; the others are binary
      and see the probabilities of the layer below. The article's classifier on the learned features is a support vector
      machine; here each task has a linear head, and all layers are fine-tuned with it.
    - Sizes, learning rates and the number of epochs are ours. Adam takes the steps of the contrastive divergence.
    - Pre-training learns from every utterance of train, with labels or without; an utterance that lacks a modality has
      no part in that modality's machines, nor do the units of a missing modality in the joint one.
    - Features of a sequence are averaged over its steps; utterances of a video are seen one by one.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from affectus.batches.batch import Batch
from affectus.errors import AffectusError
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
from affectus.models.space import DROPOUT, Real, Whole, one_of
from affectus.nn.dropping import dropout
from affectus.nn.masking import zero_masked
from affectus.nn.pooling import utterance_means
from affectus.nn.rbm import RBM
from affectus.objectives import Task
from affectus.vocabulary import View

JOINT, FINE_TUNING = "joint", "fine_tuning"


@register_model(
    "cdbn",
    paper=Paper(
        "Ranganathan et al.",
        2016,
        "Multimodal Emotion Recognition Using Deep Learning Architectures",
        "WACV",
        "https://doi.org/10.1109/WACV.2016.7477679",
    ),
    views=set(View),
    space={
        "hidden": one_of(32, 64, 128, 256),
        "layers": Whole(1, 3),
        "joint_hidden": one_of(32, 64, 128),
        "dropout": DROPOUT,
        "pretraining_rate": Real(1e-4, 1e-2, log=True),
    },
    breaks=("missing_labels",),  # pre-training learns from utterances without labels too
)
class CDBN(Model):
    """Boltzmann machines stacked per modality and joined above, pre-trained one after the other, then fine-tuned.

    The stages are ``pretraining.<modality>.<layer>``, then ``pretraining.joint``, each with the error of its
    reconstruction as its loss, then ``fine_tuning``.

    Args:
        inputs: width of each modality's vectors.
        tasks: what to predict.
        hidden: hidden units of each machine of a modality.
        layers: machines of a modality, one upon the other.
        joint_hidden: hidden units of the joint machine.
        dropout: share of the joint units dropped before the heads.
        pretraining_epochs: of each machine.
        pretraining_rate: learning rate of the machines.
    """

    whole_batch = "its machines are trained by random draws for all of a batch"

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        tasks: Sequence[Task],
        hidden: int = 64,
        layers: int = 2,
        joint_hidden: int = 64,
        dropout: float = 0.2,
        pretraining_epochs: int = 30,
        pretraining_rate: float = 1e-3,
    ) -> None:
        super().__init__(inputs=inputs, tasks=tasks)
        check_share("dropout", dropout)
        if not 0 < pretraining_rate < float("inf"):
            raise AffectusError(
                "The option 'pretraining_rate' is out of range", got=pretraining_rate, expected="a positive number"
            )
        self.dropout = dropout
        self.pretraining_epochs, self.pretraining_rate = pretraining_epochs, pretraining_rate
        self.machines = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    RBM(hidden if layer else dim, hidden, gaussian=layer == 0) for layer in range(layers)
                )
                for name, dim in self.inputs.items()
            }
        )
        self.joint = RBM(len(self.inputs) * hidden, joint_hidden, gaussian=False)
        self.heads = Heads(joint_hidden, tasks)

    def stages(self) -> list[Stage]:
        """Return a stage for each machine, from below, then the fine-tuning."""
        every = {f"{name}.{i}": rbm for name, stack in self.machines.items() for i, rbm in enumerate(_stack(stack))}
        every[JOINT] = self.joint
        found = [
            Stage(
                f"pretraining.{name}",
                {name: ParameterGroup(list(rbm.parameters()), learning_rate=self.pretraining_rate)},
                epochs=self.pretraining_epochs,
                select=False,
                trains_text=False,
            )
            for name, rbm in every.items()
        ]
        # a classifier has no use for what a machine would make of its visible units
        upward = [p for name, p in self.named_parameters() if not name.endswith("visible_bias")]
        return [*found, Stage(FINE_TUNING, {"all": ParameterGroup(upward)})]

    def losses(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return one loss per task; while a machine is pre-trained ``reconstruction.<machine>`` alone."""
        if not self.stage.startswith("pretraining."):
            return super().losses(output, batch)
        machine = self.stage.removeprefix("pretraining.")
        with torch.no_grad():
            activations, present = self._activations(batch, machine)
        if machine == JOINT:
            units, known = self._side_by_side(activations, present)
            loss = self.joint.divergence(units, known.any(dim=-1), known)
        else:
            name, _, layer = machine.rpartition(".")
            loss = _stack(self.machines[name])[int(layer)].divergence(activations[name], present[name])
        return {f"reconstruction.{machine}": loss}

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict every task; extras: ``fused`` (..., joint_hidden), the probabilities of the joint units."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stage.startswith("pretraining.")):
            units, _ = self._side_by_side(*self._activations(batch))
            fused = self.joint.hidden(units)
            predictions = self.heads(dropout(fused, self.dropout, self.training))
        return ModelOutput(predictions, {"fused": fused})

    def _activations(self, batch: Batch, below: str = "") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return what each modality's machines make of a batch, only those below the named one, and which is there."""
        vectors, present = utterance_means(batch, self.inputs)
        for name, stack in self.machines.items():
            for i, rbm in enumerate(_stack(stack)):
                if below == f"{name}.{i}":
                    break
                vectors[name] = rbm.hidden(vectors[name])
        return vectors, present

    def _side_by_side(self, activations: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the joint machine's visible units, zero where their modality is missing, and which are there."""
        units = torch.cat([zero_masked(x, present[name]) for name, x in activations.items()], dim=-1)
        known = torch.cat([present[name].unsqueeze(-1).expand_as(x) for name, x in activations.items()], dim=-1)
        return units, known


def _stack(stack: nn.Module) -> list[RBM]:
    assert isinstance(stack, nn.ModuleList)
    return [rbm for rbm in stack if isinstance(rbm, RBM)]
