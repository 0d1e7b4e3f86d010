"""A model, its losses and its optimiser, as Lightning's Trainer wants them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from affectus.batches import Batch
from affectus.batches.corruption import hide_modalities
from affectus.errors import AffectusError
from affectus.models import Model, ModelOutput, Stage
from affectus.models.base import ParameterGroup
from affectus.models.with_text import GROUP as TEXT_GROUP
from affectus.nn.together import together
from affectus.objectives import Weighing
from affectus.objectives.weighing import UncertaintyWeights, loss_weights, surgery
from affectus.training.config import PER_TASK, TASK_LOSS, Clip, Optimizer, TrainingSettings
from affectus.training.inference import Collector, EpochScorer
from affectus.training.losses import LossMeans, losses_of, task_loss
from affectus.training.mixed import run_model
from affectus.training.passes import Passes
from affectus.training.team import Team
from affectus.training.unlabelled import Unlabelled


class FitModule(LightningModule):
    """One stage of one model's training.

    Args:
        model: what is trained.
        stage: which of its stages.
        stage_number: 0 for the first.
        settings: of the run.
        seed: of the run; each epoch draws its random numbers from (seed, stage, epoch) alone, so that a resumed run
            goes on as if it had never been stopped.
        scorer: scores valid after each epoch.
        passes: the batches of train, gone through by each pass of the stage.
        unlabelled: adds the losses of utterances without labels.
        team: the workers that train together, of which this process is one.

    Attributes:
        network: what a training step calls in place of the model; None for the model itself.
    """

    def __init__(
        self,
        model: Model,
        stage: Stage,
        stage_number: int,
        settings: TrainingSettings,
        seed: int,
        scorer: EpochScorer | None,
        passes: Passes,
        unlabelled: Unlabelled | None = None,
        team: Team | None = None,
    ) -> None:
        super().__init__()
        self.network: Callable[[Batch], ModelOutput] | None = None
        self.model, self.current_stage, self.stage_number = model, stage, stage_number
        self.settings, self.seed, self.scorer, self.passes = settings, seed, scorer, passes
        self.uncertainty = UncertaintyWeights(model.tasks) if settings.weighing is Weighing.UNCERTAINTY else None
        # gradient surgery needs each loss's gradient by itself, and a pass an optimiser of its own: then the Trainer
        # must not call backward
        self.automatic_optimization = settings.weighing is not Weighing.PCGRAD and not stage.before
        self.unlabelled = unlabelled
        self.team = team
        self.epoch_row: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._collector, self._valid = Collector(model.tasks), LossMeans(model.tasks)
        self._weights: dict[str, float] = {}
        self._hiding = torch.Generator()
        self._schedulers: list[torch.optim.lr_scheduler.ReduceLROnPlateau] = []
        self._resumed: list[dict[str, Any]] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build an optimiser for each pass of the stage, over its parameter groups by name."""
        found = [self._optimizer_of(part) for part in self.current_stage.passes]
        if self.settings.plateau is not None:
            self._schedulers = [
                torch.optim.lr_scheduler.ReduceLROnPlateau(
                    optimizer, factor=self.settings.plateau_factor, patience=self.settings.plateau
                )
                for optimizer in found
            ]
        return found

    def _optimizer_of(self, part: Stage) -> torch.optim.Optimizer:
        groups = [(name, group, list(group.parameters)) for name, group in part.groups.items()]
        if self.uncertainty is not None and part is self.current_stage:
            own = list(self.uncertainty.parameters())
            groups.append(("uncertainty", ParameterGroup(own, weight_decay=0.0), own))
        return build_optimizer(groups, self.settings)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch."""
        return batch.to(device, non_blocking=True)

    def _losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Mapping[str, Tensor]]:
        output = self.model(batch)
        losses = losses_of(self.model, output, batch)
        return self._weighed(losses), losses, output.predictions

    def _weighed(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self._times_weight(losses).values())).sum()

    def _times_weight(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = loss_weights(self.model.tasks, losses)
        return {name: weights[name] * loss for name, loss in losses.items()}

    def _remember(self, batch: Batch, values: Mapping[str, Tensor]) -> None:
        # sums and counts stay on the device: reading them in each step would wait for it
        count, found = batch.mask.sum(), {name: value.detach() for name, value in values.items()}
        if self.team is not None and self.model.training:
            total = self.team.others.add(torch.stack([*found.values(), count.to(next(iter(found.values())))]))
            count, found = total[-1], dict(zip(found, (total[:-1] / self.team.workers).unbind(), strict=True))
        for name, value in found.items():
            term = value * count
            self._sums[name] = self._sums[name] + term if name in self._sums else term
            self._counts[name] = self._counts[name] + count if name in self._counts else count

    def _means(self, prefix: str) -> dict[str, float]:
        means = {f"{prefix}.{name}": float(x) / max(float(self._counts[name]), 1.0) for name, x in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def on_train_start(self) -> None:
        """Let a resumed run know how long the loss has stood still."""
        for scheduler, state in zip(self._schedulers, self._resumed, strict=False):
            scheduler.load_state_dict(state)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how long the loss has stood still."""
        checkpoint["plateau"] = [scheduler.state_dict() for scheduler in self._schedulers]
        if self.unlabelled is not None:
            checkpoint["unlabelled"] = self.unlabelled.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep it until there are optimisers."""
        self._resumed = checkpoint.get("plateau", [])
        if self.unlabelled is not None:
            self.unlabelled.load_state_dict(checkpoint["unlabelled"])

    def on_train_epoch_start(self) -> None:
        """Seed the epoch."""
        number = epoch_number(self.seed, self.stage_number, self.current_epoch)
        if self.team is not None:
            number += self.team.number << 48  # lest all workers drop the same
        torch.manual_seed(number)
        # numbers of its own, so that what a model draws is the same with and without
        self._hiding.manual_seed((1 << 40) + number)
        if self.unlabelled is not None:
            self.unlabelled.start_epoch(self.current_epoch, self.device)
        self._sums, self._counts = {}, {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tell the model of the pass, and let the text encoder's learning rate rise, if it does."""
        number, index = self.passes.place(batch_idx)
        self.model.stage = self.current_stage.passes[number].name
        if number < len(self.current_stage.before):
            return
        # from the number of batches alone, so that a resumed run has it too
        done = self.current_epoch * self.passes.counts[-1] + index
        steps = self.settings.text_warmup * self.passes.counts[-1]
        if done < steps:
            for group in self._optimizers[-1].param_groups:
                if group["name"].partition(".")[0] == TEXT_GROUP:
                    group["lr"] = min(1.0, (done + 1) / steps) * self.settings.text_learning_rate

    @property
    def _optimizers(self) -> list[LightningOptimizer]:
        found = self.optimizers()
        listed = found if isinstance(found, list) else [found]
        assert all(isinstance(optimizer, LightningOptimizer) for optimizer in listed)
        return listed

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss to go down, or go down by hand."""
        with together(None if self.team is None else self.team.others):
            return self._step(batch, batch_idx)

    def _step(self, batch: Batch, batch_idx: int) -> Tensor:
        number, index = self.passes.place(batch_idx)
        if self.settings.modality_dropout:
            batch = hide_modalities(batch, self.settings.modality_dropout, self._hiding)
        output = run_model(self.network or self.model, batch, self.settings.precision)
        losses = losses_of(self.model, output, batch)
        total = self._weighed(losses)
        own = number == len(self.current_stage.before)
        if self.unlabelled is not None and own:
            done = self.current_epoch + index / self.passes.counts[number]
            extra = self.unlabelled.losses(done, self.device, self._hiding)
            losses = {**losses, **extra}
            total = total + self._weighed(extra)
        prefix = "loss." if own else f"loss.{self.model.stage}."
        self._remember(batch, ({"loss": total} if own else {}) | {f"{prefix}{k}": loss for k, loss in losses.items()})
        self.model.on_batch_end(output, batch)
        if self.uncertainty is not None and own:
            total = self.uncertainty(self._times_weight(losses))
        if self.automatic_optimization:
            group = self.passes.group(number, index, self.settings.accumulate)
            # the Trainer divides by the setting whatever the group's size is
            return total if group == self.settings.accumulate else total * (self.settings.accumulate / group)
        apart = self.settings.weighing is Weighing.PCGRAD and own
        terms = list(self._times_weight(losses).values()) if apart else [total]
        self._go_down(number, terms, last=index == self.passes.counts[number] - 1, index=index)
        return total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Let what teaches the unlabelled utterances follow the model."""
        if self.unlabelled is not None:
            self.unlabelled.update()

    def _go_down(self, number: int, losses: Sequence[Tensor], *, last: bool, index: int) -> None:
        """Take a step of a pass, by gradient surgery if there is more than one loss, or gather gradients for it."""
        part, every = self.current_stage.passes[number], self.settings.accumulate
        group = self.passes.group(number, index, every)
        parameters = [p for group in part.groups.values() for p in group.parameters if p.requires_grad]
        if len(losses) > 1:
            before = [p.grad for p in parameters]
            surgery(losses, parameters)
            for p, grad in zip(parameters, before, strict=True):
                if p.grad is not None:
                    p.grad = p.grad / group if grad is None else grad + p.grad / group
        else:
            self.manual_backward(losses[0] / group)
        if not last and (index + 1) % every:
            return
        if self.settings.clip is not None and self.settings.clip_by is Clip.NORM:
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        elif self.settings.clip is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.settings.clip)
        self._optimizers[number].step()
        # what the other passes train must not gather gradients from this one
        self.zero_grad()

    def on_validation_epoch_start(self) -> None:
        """Keep the training losses; start collecting."""
        self.epoch_row = self._train_means()
        self._collector, self._valid = Collector(self.model.tasks), LossMeans(self.model.tasks)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect predictions."""
        total, losses, predictions = self._losses(batch)
        beside: dict[str, Tensor] = {}
        if self.settings.select in (PER_TASK, TASK_LOSS):
            # a model with losses of its own may have none that bears the task's name
            own = {t.name: t for t in self.model.tasks if t.name not in losses}
            beside = {name: t.loss_of(predictions[name], t.target(batch.labels)) for name, t in own.items()}
        self._weights = loss_weights(self.model.tasks, losses)
        self._valid.add(batch, total, losses, beside)
        self._collector.add(batch, predictions)

    def on_validation_epoch_end(self) -> None:
        """Score valid."""
        means = self._valid.result(self._weights)
        if self.settings.select == TASK_LOSS:
            means[TASK_LOSS] = task_loss(self.model.tasks, means)
        self.epoch_row |= {f"valid.{name}": value for name, value in means.items()}
        if self.scorer is not None:
            _, probabilities, targets = self._collector.result()
            scores = self.scorer(self.model.tasks, probabilities, targets)
            self.epoch_row |= {f"valid.{name}": value for name, value in scores.items()}

    def finish_epoch(self) -> dict[str, float]:
        """Return the figures of the epoch, after the model did what it does between epochs."""
        figures = self.epoch_row or self._train_means()
        self.epoch_row = {}
        for scheduler in self._schedulers:
            watched = TASK_LOSS if self.settings.select == TASK_LOSS else "loss"
            scheduler.step(figures.get(f"valid.{watched}", figures["train.loss"]))
        self.model.on_epoch_end(self.current_epoch)
        return figures

    def _train_means(self) -> dict[str, float]:
        means = self._means("train")
        if not math.isfinite(means["train.loss"]):
            raise AffectusError(
                "The loss is no longer a number",
                where=f"stage {self.current_stage.name!r}, epoch {self.current_epoch}",
                remedy="Lower the learning rate, or set clip=1.0; `affectus corpus check` shows odd features",
            )
        return means


def build_optimizer(
    groups: Sequence[tuple[str, ParameterGroup, Sequence[Tensor]]], settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Return a run's optimiser.

    Args:
        groups: of parameters: name, what is set for it, and the tensors themselves.
        settings: of the run.
    """
    entries = []
    for name, group, parameters in groups:
        entry: dict[str, Any] = {"params": list(parameters), "name": name}
        if group.learning_rate is not None:
            entry["lr"] = group.learning_rate
        if group.weight_decay is not None:
            entry["weight_decay"] = group.weight_decay
        entries.append(entry)
    kinds: dict[Optimizer, type[torch.optim.Optimizer]] = {
        Optimizer.ADAM: torch.optim.Adam,
        Optimizer.ADAMW: torch.optim.AdamW,
        Optimizer.ADADELTA: torch.optim.Adadelta,
        Optimizer.RMSPROP: torch.optim.RMSprop,
        Optimizer.SGD: torch.optim.SGD,
    }
    # PyTorch's own loop goes through the memory a dozen times for each weight
    fused: dict[str, Any] = {"fused": True} if settings.optimizer in (Optimizer.ADAM, Optimizer.ADAMW) else {}
    return kinds[settings.optimizer](entries, lr=settings.learning_rate, weight_decay=settings.weight_decay, **fused)  # type: ignore[call-arg]


def epoch_number(seed: int, stage: int, epoch: int) -> int:
    """Return what the random numbers of an epoch are seeded with."""
    return (seed * 1009 + stage) * 100_003 + epoch
