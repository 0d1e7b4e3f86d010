"""Readers of outside formats; importing this package registers them all."""

from affectus.corpus.readers import (
    csd,
    manifest,
    meld,
    mfn,
    misa,
    mmsa,
    mosei_csv,
    mosei_video,
    mosi_npz,
    ravdess,
    sims,
)
from affectus.corpus.readers.base import READERS, Reader, ReadOptions, make_corpus, register_reader
from affectus.corpus.readers.importing import import_corpus

__all__ = ["READERS", "ReadOptions", "Reader", "import_corpus", "make_corpus", "register_reader"]

_READERS = (csd, manifest, meld, mfn, misa, mmsa, mosei_csv, mosei_video, mosi_npz, ravdess, sims)
