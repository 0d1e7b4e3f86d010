"""Multimodal sentiment and emotion analysis, utterance by utterance."""

import os
from typing import TYPE_CHECKING, Any

from affectus._version import __version__

# onnxruntime and pyannote.audio report uses to their makers unless they are told not to before they are imported
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["PYANNOTE_METRICS_ENABLED"] = "false"

if TYPE_CHECKING:
    from affectus.api import evaluate, train
    from affectus.corpus import load_corpus
    from affectus.predict.analyze import analyze
    from affectus.predict.predictor import Predictor
    from affectus.predict.results import Analysis
    from affectus.training import load_run

__all__ = ["Analysis", "Predictor", "__version__", "analyze", "evaluate", "load_corpus", "load_run", "train"]

_HOMES = {
    "analyze": "affectus.predict.analyze",
    "Analysis": "affectus.predict.results",
    "Predictor": "affectus.predict.predictor",
    "train": "affectus.api",
    "evaluate": "affectus.api",
    "load_corpus": "affectus.corpus",
    "load_run": "affectus.training",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # what a notebook offers


def __getattr__(name: str) -> Any:
    # loaded on first use, since torch takes seconds to import
    if name not in _HOMES:
        raise AttributeError(f"module 'affectus' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
