"""One file per published model; importing this package registers them all."""

from affectus.models import bc_lstm, edm, linear, majority, marn, mmmu_ba, mtmm_es, mv_lstm, ufen_mtfn
from affectus.models.base import (
    MODELS,
    Estimator,
    Model,
    ModelEntry,
    ModelOutput,
    Paper,
    ParameterGroup,
    Stage,
    register_model,
)

__all__ = [
    "MODELS",
    "Estimator",
    "Model",
    "ModelEntry",
    "ModelOutput",
    "Paper",
    "ParameterGroup",
    "Stage",
    "bc_lstm",
    "edm",
    "linear",
    "majority",
    "marn",
    "mmmu_ba",
    "mtmm_es",
    "mv_lstm",
    "register_model",
    "ufen_mtfn",
]
