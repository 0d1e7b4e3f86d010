"""Multimodal sentiment and emotion analysis, utterance by utterance."""

from affectus._version import __version__

__all__ = ["__version__"]
