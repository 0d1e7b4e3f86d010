"""A model, its losses and its optimiser, as Lightning's Trainer wants them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from affectus.batches import Batch
from affectus.errors import AffectusError
from affectus.models import Model, Stage
from affectus.models.with_text import GROUP as TEXT_GROUP
from affectus.objectives import Weighing
from affectus.objectives.weighing import UncertaintyWeights, loss_weights, surgery
from affectus.training.config import PER_TASK, TASK_LOSS, Optimizer, TrainingSettings
from affectus.training.inference import Collector, EpochScorer


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
    """

    def __init__(
        self,
        model: Model,
        stage: Stage,
        stage_number: int,
        settings: TrainingSettings,
        seed: int,
        scorer: EpochScorer | None,
    ) -> None:
        super().__init__()
        self.model, self.current_stage, self.stage_number = model, stage, stage_number
        self.settings, self.seed, self.scorer = settings, seed, scorer
        self.uncertainty = UncertaintyWeights(model.tasks) if settings.weighing is Weighing.UNCERTAINTY else None
        # gradient surgery needs each loss's gradient by itself, so the Trainer must not call backward
        self.automatic_optimization = settings.weighing is not Weighing.PCGRAD
        self.epoch_row: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._collector = Collector(model.tasks)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimiser over the stage's parameter groups, by name."""
        groups = []
        for name, group in self.current_stage.groups.items():
            entry: dict[str, Any] = {"params": list(group.parameters), "name": name}
            if group.learning_rate is not None:
                entry["lr"] = group.learning_rate
            if group.weight_decay is not None:
                entry["weight_decay"] = group.weight_decay
            groups.append(entry)
        if self.uncertainty is not None:
            groups.append({"params": list(self.uncertainty.parameters()), "name": "uncertainty", "weight_decay": 0.0})
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        kinds: dict[Optimizer, type[torch.optim.Optimizer]] = {
            Optimizer.ADAM: torch.optim.Adam,
            Optimizer.ADAMW: torch.optim.AdamW,
            Optimizer.ADADELTA: torch.optim.Adadelta,
            Optimizer.RMSPROP: torch.optim.RMSprop,
            Optimizer.SGD: torch.optim.SGD,
        }
        return kinds[self.settings.optimizer](groups, lr=rate, weight_decay=decay)  # type: ignore[call-arg]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch."""
        return batch.to(device, non_blocking=True)

    def _losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Mapping[str, Tensor]]:
        output = self.model(batch)
        losses = self.model.losses(output, batch)
        return self._weighed(losses), losses, output.predictions

    def _weighed(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self._times_weight(losses).values())).sum()

    def _times_weight(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = loss_weights(self.model.tasks, losses)
        return {name: weights[name] * loss for name, loss in losses.items()}

    def _remember(self, batch: Batch, total: Tensor, losses: Mapping[str, Tensor]) -> None:
        # sums stay on the device: reading them in each step would wait for it
        count = int(batch.mask.numel()) if batch.mask.is_cuda else int(batch.mask.sum())
        self._count += count
        for name, value in {"loss": total, **{f"loss.{name}": loss for name, loss in losses.items()}}.items():
            term = value.detach() * count
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def _means(self, prefix: str) -> dict[str, float]:
        means = {f"{prefix}.{name}": float(value) / max(self._count, 1) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def on_train_epoch_start(self) -> None:
        """Seed the epoch."""
        torch.manual_seed((self.seed * 1009 + self.stage_number) * 100_003 + self.current_epoch)
        self._sums, self._count = {}, 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let the text encoder's learning rate rise, if it does."""
        if self.settings.text_warmup:
            # from the number of steps alone, so that a resumed run has it too
            steps = self.settings.text_warmup * int(self.trainer.num_training_batches)
            share = min(1.0, (self.global_step + 1) / steps)
            optimizer = self.optimizers()
            assert isinstance(optimizer, LightningOptimizer)
            for group in optimizer.param_groups:
                if group["name"].partition(".")[0] == TEXT_GROUP:
                    group["lr"] = share * self.settings.text_learning_rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss to go down, or go down by gradient surgery."""
        total, losses, _ = self._losses(batch)
        self._remember(batch, total, losses)
        if not self.automatic_optimization:
            self._surgery(list(self._times_weight(losses).values()))
        elif self.uncertainty is not None:
            combined: Tensor = self.uncertainty(self._times_weight(losses))
            return combined
        return total

    def _surgery(self, losses: list[Tensor]) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        parameters = [p for group in self.current_stage.groups.values() for p in group.parameters if p.requires_grad]
        surgery(losses, parameters)
        if self.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        optimizer.step()
        optimizer.zero_grad()

    def on_validation_epoch_start(self) -> None:
        """Keep the training losses; start collecting."""
        self.epoch_row = self._train_means()
        self._collector = Collector(self.model.tasks)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect predictions."""
        total, losses, predictions = self._losses(batch)
        if self.settings.select in (PER_TASK, TASK_LOSS):
            # a model with losses of its own may have none that bears the task's name
            own = {t.name: t for t in self.model.tasks if t.name not in losses}
            losses |= {name: t.loss_of(predictions[name], t.target(batch.labels)) for name, t in own.items()}
        self._remember(batch, total, losses)
        self._collector.add(batch, predictions)

    def on_validation_epoch_end(self) -> None:
        """Score valid."""
        self.epoch_row |= self._means("valid")
        if self.settings.select == TASK_LOSS:
            own = [task.weight * self.epoch_row[f"valid.loss.{task.name}"] for task in self.model.tasks]
            self.epoch_row[f"valid.{TASK_LOSS}"] = sum(own)
        if self.scorer is not None:
            _, probabilities, targets = self._collector.result()
            scores = self.scorer(self.model.tasks, probabilities, targets)
            self.epoch_row |= {f"valid.{name}": value for name, value in scores.items()}

    def finish_epoch(self) -> dict[str, float]:
        """Return the figures of the epoch, after the model did what it does between epochs."""
        figures = self.epoch_row or self._train_means()
        self.epoch_row = {}
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
