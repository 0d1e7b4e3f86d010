"""Fitting a model: configuration, stages, checkpoints, resume, many seeds."""

from affectus.training.config import RunConfig, TrainingSettings
from affectus.training.inference import Predictions
from affectus.training.loading import Run, load_run
from affectus.training.run import SeedEvent, build_config, train_run

__all__ = [
    "Predictions",
    "Run",
    "RunConfig",
    "SeedEvent",
    "TrainingSettings",
    "build_config",
    "load_run",
    "train_run",
]
