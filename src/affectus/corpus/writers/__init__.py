"""Writers of outside formats; importing this package registers them all."""

from affectus.corpus.writers import mmsa
from affectus.corpus.writers.base import WRITERS, Export, Writer, export_features, register_writer

__all__ = ["WRITERS", "Export", "Writer", "export_features", "register_writer"]

_WRITERS = (mmsa,)
