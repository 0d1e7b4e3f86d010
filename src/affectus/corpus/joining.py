"""Several corpora of one form into one, on disk: what was imported or extracted in shards."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus.card import Card
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Parts, Ragged
from affectus.corpus.storage import load_corpus, save_corpus
from affectus.errors import AffectusError
from affectus.files import claim
from affectus.vocabulary import order_modalities


def join_corpora(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Write the utterances of several corpora, one corpus after another, as one corpus, and return it.

    Features are copied from file to file, a part at a time. A corpus that lacks a modality lacks it in each of its
    utterances. Splits stay as they are.

    Args:
        folders: of the corpora, one at least.
        out: the folder to write.
        name: of the new corpus; None for that of the first.
        progress: called with (done, total) corpora that have been opened.

    Raises:
        AffectusError: two of them differ in their labels, in a modality's width or encoder, or have an utterance or
            the recording of a split in common.
    """
    if not folders:
        raise AffectusError("There is nothing to join", expected="a corpus folder at least")
    with claim(out):
        corpora = []
        for done, folder in enumerate(folders):
            corpora.append(load_corpus(folder))
            _check(corpora[0], corpora[-1], Path(folders[0]), Path(folder))
            if progress is not None:
                progress(done + 1, len(folders))
        save_corpus(_joined(corpora, name), out)
    return load_corpus(out)


def _check(first: Corpus, other: Corpus, here: Path, there: Path) -> None:
    if first.card.schemes != other.card.schemes:
        raise AffectusError(
            "The corpora have other labels",
            where=there,
            got=_labels(other),
            expected=f"those of {here}: {_labels(first)}",
            remedy="Give the sources the same label columns and classes and import them again, or put their rows into "
            "one source",
        )
    if first.card.tokenizer != other.card.tokenizer:
        raise AffectusError(
            "The token ids are of another tokenizer",
            where=there,
            got=str(other.card.tokenizer),
            expected=f"{first.card.tokenizer}, as in {here}",
        )
    for modality in set(first.modalities) & set(other.modalities):
        one, two = first.card.modalities[modality], other.card.modalities[modality]
        for what in ("dim", "encoder", "feature_names"):
            if getattr(one, what) != getattr(two, what):
                raise AffectusError(
                    f"The features of {modality} were made otherwise: they differ in {what!r}",
                    where=there,
                    got=str(getattr(two, what))[:80],
                    expected=f"{str(getattr(one, what))[:80]}, as in {here}",
                )


def _labels(corpus: Corpus) -> str:
    """Say what labels a corpus has: columns or classes of each scheme, and the range of numbers."""
    said = []
    for scheme in corpus.card.schemes:
        bounds = "" if scheme.low is None or scheme.high is None else f" in [{scheme.low:g}, {scheme.high:g}]"
        said.append(f"{scheme.name} ({', '.join(scheme.classes or scheme.columns)}{bounds})")
    return "; ".join(said) or "none"


def _joined(corpora: Sequence[Corpus], name: str | None) -> Corpus:
    modalities = order_modalities({modality for corpus in corpora for modality in corpus.modalities})
    table = pl.concat([corpus.table for corpus in corpora], how="diagonal_relaxed")
    shared = set.intersection(*(set(corpus.card.notes) for corpus in corpora))
    # what is said of a part need not hold for the whole
    notes = list(
        dict.fromkeys(
            note if note in shared or not card.source else f"{card.source}: {note}"
            for card in (corpus.card for corpus in corpora)
            for note in card.notes
        )
    )
    sources = list(dict.fromkeys(corpus.card.source for corpus in corpora if corpus.card.source))
    first = corpora[0].card
    cards = {modality: card for corpus in reversed(corpora) for modality, card in corpus.card.modalities.items()}
    card: Card = first.model_copy(
        deep=True,
        update={
            "name": name or first.name,
            "source": ", ".join(sources),
            "licence": "; ".join(dict.fromkeys(corpus.card.licence for corpus in corpora)),
            "modalities": cards,
            "notes": [*notes, f"Joined from {len(corpora)} corpora."],
            "generated": any(corpus.card.generated for corpus in corpora),
            "word_aligned": all(corpus.card.word_aligned for corpus in corpora),
            "files": {},
        },
    )
    return Corpus(table, {modality: _features(corpora, modality) for modality in modalities}, card)


def _features(corpora: Sequence[Corpus], modality: str) -> Ragged:
    here = [corpus.features[modality] for corpus in corpora if modality in corpus.features]
    steps = [
        corpus.features[modality].lengths if modality in corpus.features else np.zeros(len(corpus), np.int64)
        for corpus in corpora
    ]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(steps))]).astype(np.int64)
    times = [ragged.times for ragged in here if ragged.times is not None]
    # where one has steps without times, none of them says when a step was
    timed = len(times) == len([ragged for ragged in here if len(ragged.values)]) and bool(times)
    return Ragged(_parts([ragged.values for ragged in here]), offsets, _parts(times) if timed else None)


def _parts(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    # saving reads slices alone, which is all that it has of an array
    return cast("npt.NDArray[Any]", Parts(arrays))
