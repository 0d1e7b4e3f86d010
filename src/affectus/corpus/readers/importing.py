"""From a source in an outside format to a corpus, in memory and, if asked for, on disk."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from affectus.corpus.card import Card
from affectus.corpus.check import feature_notes
from affectus.corpus.corpus import TOKEN_COLUMN, Corpus
from affectus.corpus.readers.base import READERS, ReadOptions
from affectus.corpus.readers.signals import parse_signals
from affectus.corpus.splits import apply_renames, load_splits, move_to_valid, parse_renames
from affectus.corpus.storage import CARD, save_corpus
from affectus.errors import AffectusError, unknown_name
from affectus.files import claim, read_json


def import_corpus(
    format: str,
    sources: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    text_column: str | None = None,
    split_name: str | None = None,
    splits: str | Path | None = None,
    splits_key: str | None = None,
    rename_splits: str | Mapping[str, str] | None = None,
    valid_fraction: float | None = None,
    seed: int = 0,
    signals: Sequence[str] = (),
    tokenizer: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Read a source in an outside format.

    The splits are set in this order: ``split_name`` or ``splits`` in place of the source's own, then
    ``rename_splits``, then ``valid_fraction``.

    Args:
        format: a registered reader (``affectus import --help`` lists them).
        sources: the files or folder that it reads.
        name: which data set of the file, where it holds several, else the corpus's name.
        text_column: which column holds the transcript, where the format has several.
        split_name: put all utterances in this split.
        splits: a JSON file with the videos of each split; videos in none are dropped and counted.
        splits_key: which of several divisions in that file.
        rename_splits: ``{"test": "train", "valid": "test"}`` or ``test=train,valid=test``, all at once.
        valid_fraction: move this share of the training videos to valid.
        seed: chooses the videos that move.
        signals: ``NAME=COLUMN:rate=...``, what a manifest's columns of signal files mean.
        tokenizer: what made the token ids that the source brings: a model's name, or the SHA-256 of its vocabulary.
        out: the folder to write; nothing is written if anything fails. A corpus of the same source that is
            there is replaced.
        progress: called with (done, total) by readers that take long.

    Raises:
        AffectusError: an option or the source is wrong, or ``out`` holds another corpus; one sentence says what and
            where.
    """
    if format not in READERS:
        raise unknown_name("format", format, READERS.names())
    reader = READERS[format]
    if text_column is not None and "text_column" not in reader.options:
        raise AffectusError(f"The format {format!r} has no --text-column", got=repr(text_column), remedy="Leave it out")
    if signals and "signal" not in reader.options:
        raise AffectusError(f"The format {format!r} has no --signal", got=", ".join(signals), remedy="Leave it out")
    if splits_key is not None and splits is None:
        raise AffectusError("--splits-key needs --splits", got=repr(splits_key))
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    options = ReadOptions(
        name=name,
        text_column=text_column,
        split_name=split_name,
        splits=None if splits is None else load_splits(splits, splits_key),
        signals=parse_signals(signals),
    )
    if progress is not None:
        options = dataclasses.replace(options, progress=progress)
    with contextlib.nullcontext() if out is None else claim(out):
        corpus = reader.read([Path(source) for source in listed], options)
        if name is not None and "name" not in reader.options:
            corpus.card.name = name
        if tokenizer is not None:
            if TOKEN_COLUMN not in corpus.table.columns:
                raise AffectusError(
                    "The source brings no token ids", got=f"--tokenizer {tokenizer}", remedy="Leave it out"
                )
            corpus.card.tokenizer = tokenizer
        if rename_splits is not None:
            renames = parse_renames(rename_splits) if isinstance(rename_splits, str) else rename_splits
            corpus = apply_renames(corpus, renames)
        if valid_fraction is not None:
            corpus = move_to_valid(corpus, valid_fraction, seed)
        corpus.card.notes.extend(feature_notes(corpus))
        if out is not None:
            _check_replaced(corpus, Path(out), named="name" in reader.options)
            save_corpus(corpus, out)
    return corpus


def _check_replaced(corpus: Corpus, out: Path, *, named: bool) -> None:
    """Check that a corpus that would be replaced comes from the same source; a damaged card says nothing.

    Args:
        corpus: the new one.
        out: the folder.
        named: the source holds several data sets, told apart by their names.
    """
    try:
        old = Card.model_validate(read_json(out / CARD))
    except (AffectusError, OSError, ValidationError):
        return
    if old.source != corpus.card.source or (named and old.name != corpus.card.name):
        raise AffectusError(
            "The output folder holds another corpus",
            where=out,
            got=f"{old.name!r} from {old.source!r}",
            expected=f"an empty folder, or {corpus.card.name!r} from {corpus.card.source!r}",
            remedy="Choose another --out folder, or delete this one",
        )
