"""Multimodal sentiment and emotion analysis, utterance by utterance."""

from typing import TYPE_CHECKING, Any

from affectus._version import __version__

if TYPE_CHECKING:
    from affectus.api import evaluate, train
    from affectus.corpus import load_corpus
    from affectus.training import load_run

__all__ = ["__version__", "evaluate", "load_corpus", "load_run", "train"]

_HOMES = {
    "train": "affectus.api",
    "evaluate": "affectus.api",
    "load_corpus": "affectus.corpus",
    "load_run": "affectus.training",
}


def __getattr__(name: str) -> Any:
    # loaded on first use, since torch takes seconds to import
    if name not in _HOMES:
        raise AttributeError(f"module 'affectus' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
