"""Corpus -> padded batches with masks."""

from affectus.batches.batch import Batch, Tokens
from affectus.batches.loaders import Loader, choose_modalities, fit_scaler
from affectus.batches.scaling import Scale, Scaler
from affectus.batches.tokens import TokenCorpus

__all__ = ["Batch", "Loader", "Scale", "Scaler", "TokenCorpus", "Tokens", "choose_modalities", "fit_scaler"]
