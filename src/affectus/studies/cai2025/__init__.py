"""Cai et al. 2025, repeated: comparison, ablations, hyper-parameters, and whether the paper's claims hold."""

from affectus.studies.cai2025.reproduction import reproduce

__all__ = ["reproduce"]
