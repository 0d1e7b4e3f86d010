"""Averaging of the weights over the steps of training."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from affectus.training.module import FitModule


class AverageWeights(Callback):
    """Keeps an exponential moving average of the weights, and has it judged, recorded and stored instead of them.

    average <- d average + (1 - d) weights after each step, with d = min(decay, (1 + steps) / (10 + steps)), so that the
    first steps are soon forgotten. Source: Polyak and Juditsky 1992 for the averaging, Tarvainen and Valpola 2017 for
    its exponential form. From the last step of an epoch to the epoch's end the model holds the average.

    Stands after :class:`affectus.training.callbacks.EpochEnd` among the Trainer's callbacks, so that the epoch is
    judged before the weights come back.

    Args:
        decay: d after many steps, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.average: list[Tensor] | None = None
        self.weights: list[Tensor] | None = None
        """The weights themselves while the model holds the average."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"steps": self.steps, "average": self.average, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.steps, self.average, self.weights = (state_dict[name] for name in ("steps", "average", "weights"))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give a resumed model its weights back: the checkpoint was written while it held the average."""
        self._put_back(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average; at the end of the epoch, let the model hold it."""
        parameters = _parameters(pl_module)
        with torch.no_grad():
            if self.average is None:
                self.average = [parameter.detach().clone() for parameter in parameters]
            self.steps += 1
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.average, parameters, 1 - decay)
            if trainer.is_last_batch:
                self.weights = [parameter.detach().clone() for parameter in parameters]
                torch._foreach_copy_(parameters, self.average)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train on with the weights themselves."""
        self._put_back(pl_module)

    def _put_back(self, module: LightningModule) -> None:
        if self.weights is not None:
            with torch.no_grad():
                parameters = _parameters(module)
                torch._foreach_copy_(parameters, [weight.to(parameters[0].device) for weight in self.weights])
                assert self.average is not None
                self.average = [average.to(parameters[0].device) for average in self.average]
            self.weights = None


def _parameters(module: LightningModule) -> list[Tensor]:
    assert isinstance(module, FitModule)
    return list(module.model.parameters())
