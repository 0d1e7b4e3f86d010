"""What happens between epochs: the best weights are kept, the history is written, the run can be resumed."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from affectus.errors import AffectusError
from affectus.files import atomic_path
from affectus.models import Model
from affectus.models.storage import save_weights
from affectus.training.module import FitModule

CHECKPOINT_SECONDS = 2.0
"""Runs are resumable to within this time; epochs shorter than it are not each written to disk."""

EpochReporter = Callable[[str, int, dict[str, float]], None]
"""Called after each epoch with the stage's name, the epoch and its figures."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there.

    Lightning's own writes it to the system's temporary folder first, which may be another disk, whence moving is
    copying: a killed process could leave half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            stream = _Stream(file)
            torch.save(checkpoint, stream)  # type: ignore[arg-type]
            if stream.error is not None:
                raise stream.error


class _Stream:
    """A file that remembers what went wrong with writing, since torch does not tell a full disk from other failures."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write, as far as all went well before."""
        size = memoryview(data).nbytes
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Leave that to the file's end."""


class EpochEnd(Callback):
    """Selects, stops, records and checkpoints, in this order, at the end of each epoch.

    Lightning's own callbacks for these would each look at a metric that was logged; here one place decides, so that
    what is recorded, kept and stopped on is the same number.

    Args:
        folder: of the seed.
        checkpoint: the file from which the stage can be resumed.
        select: which figure of the epoch is to be best (None keeps the last epoch), by the name of the file that keeps
            its weights; several names choose an epoch each.
        higher: larger is better.
        patience: stop after so many epochs without improvement of any.
        keep_epochs: keep the weights of every epoch.
        record: told to record each epoch, by number.
        report: told of each epoch.
        every: seconds between checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        *,
        select: Mapping[str, str | None],
        higher: bool,
        patience: int | None,
        keep_epochs: bool,
        record: Callable[[int], None] | None,
        report: EpochReporter | None,
        every: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        self.select, self.higher = dict(select), higher
        self.patience, self.keep_epochs, self.record, self.report = patience, keep_epochs, record, report
        self.every = every
        self.best: dict[str, float] = {}
        self.best_epochs = dict.fromkeys(self.select, -1)
        self.history: list[dict[str, Any]] = []
        self._saved = self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"best": self.best, "best_epochs": self.best_epochs, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.best, self.best_epochs = dict(state_dict["best"]), dict(state_dict["best_epochs"])
        self.history = list(state_dict["history"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the epoch."""
        assert isinstance(pl_module, FitModule)
        # asked here, since the Trainer calls a module's own hook only after those of the callbacks
        figures = {name: round(value, 6) for name, value in pl_module.finish_epoch().items()}
        seconds = time.monotonic() - self._started
        if self.judge(pl_module.model, pl_module.current_stage.name, trainer.current_epoch, figures, seconds):
            trainer.should_stop = True
        # a run that was resumed from its last epoch would not know that it was to stop
        if not trainer.should_stop and time.monotonic() - self._saved >= self.every:
            trainer.save_checkpoint(self.checkpoint)
            self._saved = time.monotonic()

    def judge(self, model: Model, stage: str, epoch: int, figures: dict[str, float], seconds: float) -> bool:
        """Select, keep, record and report an epoch.

        Args:
            model: as it is after the epoch.
            stage: of its training.
            epoch: from 0.
            figures: of the epoch.
            seconds: that it took so far.

        Returns:
            True if training should stop.
        """
        started = time.monotonic()
        for name, figure in self.select.items():
            if self._improved(name, figure, figures):
                self.best_epochs[name] = epoch
                save_weights(model, self.folder / f"{name}.safetensors")
        if self.keep_epochs:
            save_weights(model, self.folder / "epochs" / f"{stage}-{epoch:04d}.safetensors")
        seconds = round(seconds + time.monotonic() - started, 4)
        if self.record:
            self.record(epoch)
        self.history.append({"stage": stage, "epoch": epoch, **figures, "seconds": seconds})
        if self.report:
            self.report(stage, epoch, figures)
        last_best = max(0, *self.best_epochs.values())
        return self.patience is not None and any(self.select.values()) and epoch - last_best >= self.patience

    def check_chosen(self) -> None:
        """Check that every epoch was chosen.

        Raises:
            AffectusError: a figure to select by was undefined in all of them.
        """
        for name, figure in self.select.items():
            if self.best_epochs[name] < 0:
                raise AffectusError(
                    f"The figure to select by, {figure!r}, is undefined in every epoch",
                    where=self.folder,
                    expected="labels on valid that it can be told from (a correlation needs two that differ)",
                    remedy="Select by another, such as --set select=loss, into another folder",
                )

    def _improved(self, name: str, figure: str | None, figures: Mapping[str, float]) -> bool:
        if figure is None:
            return True
        value, best = figures[figure], self.best.get(name)
        # a metric that is undefined (NaN) never counts as better
        if not math.isfinite(value) or not (best is None or (value > best if self.higher else value < best)):
            return False
        self.best[name] = value
        return True
