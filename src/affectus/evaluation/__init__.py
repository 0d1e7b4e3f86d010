"""Protocols, thresholds and figures of a run."""

from affectus.evaluation.evaluate import Evaluation, evaluate_run
from affectus.evaluation.protocols import PROTOCOLS, Protocol
from affectus.evaluation.scoring import Scorer, Thresholds

__all__ = ["PROTOCOLS", "Evaluation", "Protocol", "Scorer", "Thresholds", "evaluate_run"]
