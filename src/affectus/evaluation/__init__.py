"""Protocols, thresholds and figures of a run."""

from affectus.evaluation.evaluate import Evaluation, evaluate_run
from affectus.evaluation.protocols import PROTOCOLS, Protocol
from affectus.evaluation.robustness import CORRUPTIONS, Robustness, measure_robustness
from affectus.evaluation.scoring import Scorer, Thresholds

__all__ = [
    "CORRUPTIONS",
    "PROTOCOLS",
    "Evaluation",
    "Protocol",
    "Robustness",
    "Scorer",
    "Thresholds",
    "evaluate_run",
    "measure_robustness",
]
