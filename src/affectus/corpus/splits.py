"""Which videos are learnt from, selected on and judged on: the splits that a user may set on import."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from affectus.corpus.corpus import Corpus, build_corpus
from affectus.corpus.ragged import Ragged
from affectus.errors import AffectusError, unknown_name
from affectus.files import read_json
from affectus.vocabulary import Split, canonical_split

NO_SPLIT = ("", "none", "-")
"""How sources say that an utterance is in no split."""


@dataclass(frozen=True)
class SplitTable:
    """The split of each video, as a JSON file gives it.

    Attributes:
        source: the file's name and the key in it, for notes and errors.
        videos: video id -> train, valid or test.
    """

    source: str
    videos: Mapping[str, str]


def load_splits(path: str | Path, key: str | None = None) -> SplitTable:
    """Read a JSON file of splits: ``{"train": [video ids], "valid": [...]}``, or several of these under keys.

    The SDK's ``standard_train_fold`` and its like, ``dev`` and ``validation`` are aliases.

    Raises:
        AffectusError: the file is no such JSON, the key is not in it, a split is unknown or empty, or a video stands
            in two splits.
    """
    path = Path(path)
    data = read_json(path)
    if not isinstance(data, dict) or not data:
        raise AffectusError("The splits file holds no splits", where=path, expected='{"train": [video ids], ...}')
    divisions = {name: value for name, value in data.items() if isinstance(value, dict)}
    if key is not None:
        if key not in divisions:
            raise unknown_name("splits key", key, divisions, where=path)
        data = divisions[key]
    elif divisions:
        raise AffectusError(
            "The splits file holds several divisions",
            where=path,
            remedy="Choose one with --splits-key: " + ", ".join(sorted(divisions)),
        )
    where = f"{path}, key {key!r}" if key else str(path)
    source = f"{path.name}, key {key!r}" if key else path.name
    videos: dict[str, str] = {}
    for name, listed in data.items():
        try:
            split = canonical_split(name)
        except AffectusError as error:
            raise AffectusError(error.what, where=where, expected=error.expected, remedy=error.remedy) from None
        if not isinstance(listed, list) or not all(isinstance(video, str | int) for video in listed):
            raise AffectusError(
                f"The split {name!r} is not a list of video ids", where=where, got=type(listed).__name__
            )
        if not listed:
            raise AffectusError(f"The split {name!r} has no videos", where=where, remedy="Remove it or fill it")
        for video in map(str, listed):
            if videos.setdefault(video, split) != split:
                raise AffectusError(f"The video {video!r} stands in two splits", where=where)
    return SplitTable(source, videos)


def assign_splits(
    table: pl.DataFrame,
    features: Mapping[str, Ragged],
    *,
    split_name: str | None = None,
    splits: SplitTable | None = None,
) -> tuple[pl.DataFrame, Mapping[str, Ragged], list[str]]:
    """Set the ``split`` of each row, and drop the rows that are in none.

    Args:
        table: with ``video`` and ``split``, the latter as the source names it or null.
        features: per modality the sequences of all rows.
        split_name: put all rows there.
        splits: take the split of each video from here.

    Returns:
        The table and features of the rows that stay, and what was dropped, one sentence each.

    Raises:
        AffectusError: a split is unknown, or none of its videos is there.
    """
    notes = []
    if split_name is not None and splits is not None:
        raise AffectusError("--split-name and --splits exclude each other", remedy="Give one of them")
    if split_name is not None:
        found = pl.Series("split", [canonical_split(split_name)] * len(table), pl.String())
        reason = ""
    elif splits is not None:
        found = table["video"].cast(pl.String()).replace_strict(splits.videos, default=None, return_dtype=pl.String())
        reason = f"in no split of {splits.source}"
        for split in sorted(set(splits.videos.values())):
            if not (found == split).any():
                raise AffectusError(
                    f"None of the videos of the split {split!r} is in the corpus",
                    where=splits.source,
                    got=f"videos such as {table['video'][0]!r} in the corpus",
                    remedy="Check that the splits file belongs to this data set, or remove the split from it",
                )
    else:
        own = table["split"].cast(pl.String())
        names = {
            name: None if name.lower() in NO_SPLIT else canonical_split(name) for name in own.drop_nulls().unique()
        }
        found = own.replace_strict(names, default=None, return_dtype=pl.String())
        reason = "in no split of the source"
        if found.is_null().all():
            found = pl.Series("split", [str(Split.TRAIN)] * len(table), pl.String())
            notes.append("The source names no split; all utterances are in train.")
    table = table.with_columns(found.alias("split"))
    kept = found.is_not_null().to_numpy()
    if not kept.all():
        gone = table.filter(~pl.Series(kept))
        notes.append(f"{gone['video'].n_unique()} videos ({len(gone)} utterances) are {reason} and were dropped.")
        rows = np.flatnonzero(kept)
        table, features = table[rows], {name: ragged.take(rows) for name, ragged in features.items()}
    return table, features, notes


def parse_renames(text: str) -> dict[str, str]:
    """Parse ``test=train,valid=test`` into a mapping of split names.

    Raises:
        AffectusError: a part is not of the form old=new, a split is unknown, or one is renamed twice.
    """
    renames: dict[str, str] = {}
    for part in text.split(","):
        old, equals, new = part.partition("=")
        if not equals:
            raise AffectusError("--rename-splits is not a list of old=new", got=repr(part), expected="test=train,...")
        old, new = canonical_split(old), canonical_split(new)
        if old in renames:
            raise AffectusError(f"--rename-splits renames {old!r} twice", got=repr(text))
        renames[old] = new
    return renames


def apply_renames(corpus: Corpus, renames: Mapping[str, str]) -> Corpus:
    """Rename splits, all at once, so that ``test=train, valid=test`` makes no detour.

    Two splits may become one. A video that stands in both becomes one recording, since readers make ids that differ
    where a source restarts them.

    Raises:
        AffectusError: the corpus has no such split.
    """
    renames = {canonical_split(old): canonical_split(new) for old, new in renames.items()}
    present = sorted(set(corpus.splits.tolist()))
    for old in renames:
        if old not in present:
            raise unknown_name("split", old, present, where=f"the corpus {corpus.name!r}")
    return _with_splits(corpus, corpus.table["split"].replace(renames))


def move_to_valid(corpus: Corpus, fraction: float, seed: int = 0) -> Corpus:
    """Move whole videos from train to valid.

    The videos are those with the smallest SHA-256 of seed and id, so that the choice depends on neither the order of
    the source nor the version of a random generator.

    Args:
        corpus: with a train split of two videos or more.
        fraction: of the training videos, in (0, 1); at least one moves and one stays.
        seed: another seed chooses other videos.

    Raises:
        AffectusError: the fraction is out of range, or there are too few videos.
    """
    if not 0 < fraction < 1:
        raise AffectusError("--valid-fraction is out of range", got=fraction, expected="a number between 0 and 1")
    videos = corpus.table[corpus.rows(Split.TRAIN)]["video"].unique().to_list()
    if len(videos) < 2:
        raise AffectusError("--valid-fraction needs two training videos or more", where=corpus.name, got=len(videos))
    count = min(max(round(fraction * len(videos)), 1), len(videos) - 1)
    moved = sorted(videos, key=lambda video: hashlib.sha256(f"{seed}:{video}".encode()).digest())[:count]
    table = corpus.table
    is_moved = (table["split"] == Split.TRAIN.value) & table["video"].is_in(moved)
    splits = table.select(pl.when(is_moved).then(pl.lit(Split.VALID.value)).otherwise("split").alias("split"))["split"]
    note = f"{count} of {len(videos)} training videos were moved to valid (fraction {fraction:g}, seed {seed})."
    return _with_splits(corpus, splits, note)


def _with_splits(corpus: Corpus, splits: pl.Series, note: str | None = None) -> Corpus:
    before = corpus.table.select("video", "split").n_unique()
    table = corpus.table.with_columns(splits.alias("split"))
    merged = before - table.select("video", "split").n_unique()
    card = corpus.card.model_copy(deep=True)
    if note:
        card.notes.append(note)
    if merged:
        card.notes.append(f"{merged} videos stood in two splits that became one; each is now one recording.")
    return build_corpus(table, corpus.features, card)
