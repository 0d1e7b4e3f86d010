"""Several seeds trained as one model whose weights have an axis more: one pass through Python for all of them.

Each seed keeps its own start, its own order of batches, its own best epoch and its own end, and its folder is the one
that training by itself writes. The batches of a step are padded to a common shape, which no model notices; the network
runs in plain form (:mod:`affectus.nn.tracing`) under ``torch.vmap``. Without dropout the results are those of separate
runs but for rounding. Dropout draws for every seed by itself, but other numbers than a separate run does.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from affectus.batches import Batch, Loader
from affectus.errors import AffectusError
from affectus.files import atomic_path
from affectus.models import Model
from affectus.models.with_text import TextModel
from affectus.nn.tracing import plain
from affectus.objectives import Weighing
from affectus.objectives.weighing import loss_weights
from affectus.training.callbacks import EpochEnd
from affectus.training.config import PER_TASK, TASK_LOSS, Clip, Precision, TrainingSettings
from affectus.training.inference import Collector, EpochScorer, Predictions
from affectus.training.losses import LossMeans, task_loss
from affectus.training.module import build_optimizer, epoch_number
from affectus.vocabulary import Split

Arrays = Mapping[str, Tensor]


def why_apart(model: Model, settings: TrainingSettings) -> str | None:
    """Return why the seeds of a model cannot be trained as one, if they cannot."""
    stages = model.stages()
    if isinstance(model, TextModel):
        return "a text encoder is trained with it"
    if len(stages) > 1 or stages[0].before:
        return "it is trained in several stages or passes"
    if type(model).on_batch_end is not Model.on_batch_end or type(model).on_epoch_end is not Model.on_epoch_end:
        return "it remembers training utterances"
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        return "it normalises by batches"
    wanted = (
        ("weighing", settings.weighing, Weighing.FIXED),
        ("precision", settings.precision, Precision.FP32),
        ("accumulate", settings.accumulate, 1),
        ("plateau", settings.plateau, None),
        ("average_weights", settings.average_weights, None),
        ("modality_dropout", settings.modality_dropout, 0.0),
        ("select", settings.select == PER_TASK, False),
    )
    for name, value, needed in wanted:
        if value != needed:
            return f"the setting {name!r} needs each by itself"
    return None


class _Learner(nn.Module):
    """A model with its losses: to the weighed total, the losses and the predictions."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        output = self.model(batch)
        losses = self.model.losses(output, batch)
        weights = loss_weights(self.model.tasks, losses)
        return torch.stack([weights[k] * x for k, x in losses.items()]).sum(), losses, dict(output.predictions)


class StackedFit:
    """Trains models of one kind together.

    Args:
        models: as they start, one of each seed; each holds its own weights again when an epoch is judged.
        settings: of the run.
        seeds: of the models.
        train: each seed's batches.
        valid: batches that all are judged on; None without.
        scorer: scores valid after each epoch.
        ends: what judges each seed's epochs.
        device: where.
    """

    def __init__(
        self,
        models: Sequence[Model],
        settings: TrainingSettings,
        seeds: Sequence[int],
        train: Sequence[Loader],
        valid: Loader | None,
        scorer: EpochScorer | None,
        ends: Sequence[EpochEnd],
        device: torch.device,
    ) -> None:
        self.models, self.settings, self.seeds = list(models), settings, list(seeds)
        self.train, self.valid, self.scorer, self.ends, self.device = list(train), valid, scorer, list(ends), device
        learners = [_Learner(model.to(device)) for model in models]
        self.learner = learners[0]
        self.parameters, self.buffers = stack_module_state(learners)
        self.said: dict[str, list[Predictions]] = {}
        """By split, what each seed says of it after the epoch."""
        stage = models[0].stages()[0]
        names = {id(parameter): name for name, parameter in self.learner.named_parameters()}
        groups = [
            (name, group, [self.parameters[names[id(parameter)]] for parameter in group.parameters])
            for name, group in stage.groups.items()
        ]
        self.optimizer = build_optimizer(groups, settings)

    def run(self, epochs: int, recorded: Mapping[str, Loader]) -> None:
        """Train until every seed has stopped, or so many epochs."""
        stage = self.models[0].stages()[0].name
        for model in self.models:
            model.stage = stage
        going = [True] * len(self.seeds)
        for epoch in range(epochs):
            started = time.monotonic()
            figures = self._train(epoch)
            for mine, told in zip(figures, self._judge(), strict=True):
                mine |= told
            for split, loader in recorded.items():
                if split != Split.VALID or self.valid is None:
                    self.said[split] = [said for said, _ in self._predict(loader)]
            self._give_back()
            seconds = (time.monotonic() - started) / len(self.seeds)
            for i, end in enumerate(self.ends):
                if going[i]:
                    rounded = {name: round(value, 6) for name, value in figures[i].items()}
                    going[i] = not end.judge(self.models[i], stage, epoch, rounded, seconds)
            if not any(going):
                break

    def _call(self, batch: Arrays, shared: bool) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        view = self.train[0].view

        def one(parameters: Arrays, buffers: Arrays, tensors: Arrays) -> Any:
            return functional_call(self.learner, (dict(parameters), dict(buffers)), (_batch_of(view, tensors),))

        each: Callable[..., Any] = torch.vmap(one, in_dims=(0, 0, None if shared else 0), randomness="different")
        with plain():
            found: tuple[Tensor, dict[str, Tensor], dict[str, Tensor]] = each(self.parameters, self.buffers, batch)
        return found

    def _train(self, epoch: int) -> list[dict[str, float]]:
        torch.manual_seed(epoch_number(self.seeds[0], 0, epoch))
        self.learner.train()
        for loader in self.train:
            loader.set_epoch(epoch)
        sums: dict[str, Tensor] = {}
        total = torch.zeros(len(self.seeds))
        for batches in zip(*self.train, strict=True):
            self.optimizer.zero_grad()
            loss, losses, _ = self._call({k: x.to(self.device) for k, x in stack_batches(batches).items()}, False)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            self._clip()
            self.optimizer.step()
            count = torch.tensor([float(batch.mask.sum()) for batch in batches])
            total += count
            for name, value in {"loss": loss, **{f"loss.{k}": x for k, x in losses.items()}}.items():
                term = value.detach() * count.to(value.device)
                sums[name] = sums[name] + term if name in sums else term
        found = [
            {f"train.{name}": float(x[i]) / max(float(total[i]), 1.0) for name, x in sums.items()}
            for i in range(len(self.seeds))
        ]
        for seed, mine in zip(self.seeds, found, strict=True):
            if not torch.tensor(mine["train.loss"]).isfinite():
                raise AffectusError(
                    "The loss is no longer a number",
                    where=f"seed {seed}, epoch {epoch}",
                    remedy="Lower the learning rate, or set clip=1.0; `affectus corpus check` shows odd features",
                )
        return found

    def _clip(self) -> None:
        if self.settings.clip is None:
            return
        gradients = [x.grad for x in self.parameters.values() if x.grad is not None]
        if self.settings.clip_by is Clip.VALUE:
            torch._foreach_clamp_min_(gradients, -self.settings.clip)
            torch._foreach_clamp_max_(gradients, self.settings.clip)
            return
        norms = torch.stack([x.flatten(1).norm(dim=1) for x in gradients]).norm(dim=0)  # (seeds,)
        factor = (self.settings.clip / (norms + 1e-6)).clamp(max=1.0)
        for x in gradients:
            x.mul_(factor.view(-1, *[1] * (x.dim() - 1)))

    def _judge(self) -> list[dict[str, float]]:
        """Return each seed's figures on valid."""
        if self.valid is None:
            return [{} for _ in self.seeds]
        found = self._predict(self.valid)
        self.said[Split.VALID] = [said for said, _ in found]
        figures = []
        for said, losses in found:
            mine = {f"valid.{name}": value for name, value in losses.items()}
            tasks = self.models[0].tasks
            if self.settings.select == TASK_LOSS:
                mine[f"valid.{TASK_LOSS}"] = task_loss(tasks, losses)
            if self.scorer is not None:
                scores = self.scorer(tasks, said.probabilities, said.targets)
                mine |= {f"valid.{name}": value for name, value in scores.items()}
            figures.append(mine)
        return figures

    def _predict(self, loader: Loader) -> list[tuple[Predictions, dict[str, float]]]:
        """Return what each seed says of a split, and its mean losses."""
        self.learner.eval()
        collectors = [Collector(self.models[0].tasks) for _ in self.seeds]
        means = LossMeans(self.models[0].tasks)
        weights: dict[str, float] = {}
        with torch.no_grad():
            for batch in loader:
                moved = batch.to(self.device)
                loss, losses, predictions = self._call(_tensors_of(moved), True)
                weights, beside = loss_weights(self.models[0].tasks, losses), {}
                if self.settings.select == TASK_LOSS:
                    for task in self.models[0].tasks:
                        if task.name not in losses:
                            told = [task.loss_of(y, task.target(moved.labels)) for y in predictions[task.name]]
                            beside[task.name] = torch.stack(told)
                means.add(moved, loss, losses, beside)
                for i, collector in enumerate(collectors):
                    collector.add(moved, {name: y[i] for name, y in predictions.items()})
        return [(Predictions(*collector.result()), means.result(weights, i)) for i, collector in enumerate(collectors)]

    def _give_back(self) -> None:
        """Let each model hold its own weights."""
        with torch.no_grad():
            for i, model in enumerate(self.models):
                own = {f"model.{name}": x for name, x in model.named_parameters()}
                for name, stacked in self.parameters.items():
                    own[name].copy_(stacked[i])


def recorder(fit: StackedFit, index: int, splits: Sequence[str], folder: Path) -> Callable[[int], None]:
    """Return what writes down an epoch's predictions of one seed; nothing is chosen by them."""
    from safetensors.numpy import save_file

    def record(epoch: int) -> None:
        arrays: dict[str, Any] = {}
        for split in splits:
            arrays |= {f"{split}.{name}": values for name, values in fit.said[split][index].arrays().items()}
        with atomic_path(folder / f"{epoch:04d}.safetensors") as temporary:
            save_file(arrays, temporary)

    return record


def _tensors_of(batch: Batch) -> dict[str, Tensor]:
    return {
        "mask": batch.mask,
        "rows": batch.rows,
        **{f"feature.{name}": x for name, x in batch.features.items()},
        **{f"mask.{name}": x for name, x in batch.masks.items()},
        **{f"label.{name}": x for name, x in batch.labels.items()},
    }


def _batch_of(view: Any, tensors: Arrays) -> Batch:
    def named(kind: str) -> dict[str, Tensor]:
        return {name.partition(".")[2]: x for name, x in tensors.items() if name.startswith(f"{kind}.")}

    return Batch(view, named("feature"), named("mask"), tensors["mask"], named("label"), tensors["rows"])


def _filler(name: str) -> float:
    """What stands at padding, as in a loader's batch."""
    return {"rows": -1, "label": torch.nan}.get(name.partition(".")[0], 0)


def stack_batches(batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Return the tensors of several batches by name, padded to one shape, with an axis more in front."""
    every = [_tensors_of(batch) for batch in batches]
    found = {}
    for name in every[0]:
        parts = [each[name] for each in every]
        shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
        whole = parts[0].new_full((len(parts), *shape), _filler(name))
        for target, part in zip(whole, parts, strict=True):
            target[tuple(map(slice, part.shape))] = part
        found[name] = whole
    return found


__all__ = ["StackedFit", "recorder", "stack_batches", "why_apart"]
