"""One file per published model; importing this package registers them all."""

from affectus.models import mtmm_es
from affectus.models.base import MODELS, Estimator, Model, ModelEntry, ModelOutput, Paper, Stage, register_model

__all__ = [
    "MODELS",
    "Estimator",
    "Model",
    "ModelEntry",
    "ModelOutput",
    "Paper",
    "Stage",
    "mtmm_es",
    "register_model",
]
