"""Corpus -> padded batches with masks."""

from affectus.batches.batch import Batch
from affectus.batches.loaders import Loader, choose_modalities, fit_scaler
from affectus.batches.scaling import Scale, Scaler

__all__ = ["Batch", "Loader", "Scale", "Scaler", "choose_modalities", "fit_scaler"]
