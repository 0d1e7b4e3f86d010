"""The one form of a data set, in memory and on disk, and the readers of outside formats."""

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus, build_corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.storage import load_corpus, save_corpus

__all__ = ["Card", "Corpus", "ModalityCard", "Ragged", "build_corpus", "load_corpus", "save_corpus"]
