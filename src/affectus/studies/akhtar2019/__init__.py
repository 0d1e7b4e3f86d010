"""Akhtar et al. 2019, repeated: every table that a corpus allows, and whether the paper's claims hold on it."""

from affectus.studies.akhtar2019.reproduction import reproduce

__all__ = ["reproduce"]
