"""MMSA's feature pickle, as ``aligned_50.pkl``, ``unaligned_50.pkl`` and ``unaligned_39.pkl`` are laid out.

Beside MMSA's own keys each split has one more, ``affectus``, which MMSA does not read: what its layout cannot say and
our reader needs to give the same corpus back (the video and the times of each utterance, the lengths of every
modality, the range of the labels).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.corpus.corpus import TOKEN_COLUMN, Corpus
from affectus.corpus.ragged import CHUNK_BYTES, Ragged
from affectus.corpus.readers.mmsa import OWN, OWN_COLUMNS, UNIMODAL, OwnKey, annotations_of
from affectus.corpus.writers.base import Export, register_writer
from affectus.corpus.writers.pickles import StreamedArray, write_pickle
from affectus.errors import AffectusError
from affectus.files import atomic_path
from affectus.labels import LabelKind
from affectus.vocabulary import KNOWN_MODALITIES, Split, View


@register_writer("mmsa", summary="MMSA's feature pickle: padded arrays per split, aligned or unaligned")
def write_mmsa(corpus: Corpus, out: Path, view: View, drop_unlabelled: bool) -> Export:
    """Write train/valid/test -> ``id, raw_text, text, audio, vision, regression_labels, ...``.

    The arrays are (N, steps, width) float32, zero behind the end of a sequence, where ``steps`` is the longest sequence
    of all splits; they are written utterance by utterance. Values that are not finite stay as they are (MMSA turns the
    -inf in audio into 0 when it reads). ``regression_labels_T``, ``_A``, ``_V`` are there if the corpus has labels of
    one modality alone, ``audio_lengths`` and ``vision_lengths`` in the unaligned view, and ``text_bert`` if the corpus
    has the column ``token_ids``.

    Raises:
        AffectusError: there is no sentiment to write, no utterance is left, the aligned view is asked of a corpus that
            is not word-aligned, or the file cannot be written.
    """
    labels = _labels(corpus)
    rows = np.arange(len(corpus))
    if drop_unlabelled:
        rows = rows[~np.isnan(labels["sentiment"])]
    if len(rows) == 0:
        raise AffectusError("There is no utterance to write", where=corpus.name)
    if not any(name in corpus.modalities for name in KNOWN_MODALITIES):
        raise AffectusError(
            f"The corpus {corpus.name!r} has no features that MMSA knows",
            got=", ".join(corpus.modalities) or "no features",
            expected="one of: text, audio, vision",
        )
    if view is View.ALIGNED:
        _check_aligned(corpus)
    features = {name: corpus.features[name] for name in KNOWN_MODALITIES if name in corpus.modalities}
    steps = {name: max(int(ragged.lengths[rows].max()), 1) for name, ragged in features.items()}
    tokens = 0
    if TOKEN_COLUMN in corpus.table.columns:
        # MMSA's text and text_bert are equally long
        tokens = max(map(len, corpus.table[TOKEN_COLUMN][rows].drop_nulls()), default=0)
        tokens = steps["text"] = max(tokens, steps.get("text", 1))
    steps = {name: steps.get(name, 1) for name in KNOWN_MODALITIES}
    if view is View.ALIGNED:
        steps = dict.fromkeys(steps, max(steps.values()))
    splits = [split for split in Split if (corpus.splits[rows] == split).any()]
    data = {
        str(split): _part(corpus, rows[corpus.splits[rows] == split], features, steps, labels, tokens, view)
        for split in splits
    }
    with atomic_path(out) as temporary, temporary.open("wb") as stream:
        write_pickle(data, stream)
    shapes = {name: (steps[name], features[name].dim if name in features else 1) for name in KNOWN_MODALITIES}
    return Export(
        path=out,
        view=view,
        utterances={str(split): int((corpus.splits[rows] == split).sum()) for split in splits},
        shapes=shapes,
        notes=tuple(_notes(corpus, rows, labels, features, splits)),
    )


def _labels(corpus: Corpus) -> dict[str, npt.NDArray[np.float32]]:
    names = ["sentiment", *(f"sentiment_{name}" for name in KNOWN_MODALITIES)]
    found = {
        name: corpus.label(name)[:, 0]
        for name in names
        if name in corpus.schemes and corpus.schemes[name].kind is LabelKind.REAL
    }
    if "sentiment" not in found:
        raise AffectusError(
            f"The corpus {corpus.name!r} has no sentiment intensity, which MMSA's layout is about",
            got=", ".join(corpus.schemes) or "no labels",
            expected="the label scheme sentiment",
        )
    return found


def _check_aligned(corpus: Corpus) -> None:
    lengths = np.stack([corpus.features[name].lengths for name in KNOWN_MODALITIES if name in corpus.modalities])
    wrong = ((lengths != lengths.max(axis=0)) & (lengths != 0)).any(axis=0)
    if wrong.any():
        row = int(wrong.argmax())
        raise AffectusError(
            f"The corpus {corpus.name!r} is not word-aligned",
            where=f"utterance {corpus.table['id'][row]!r}",
            got=f"{' and '.join(map(str, sorted(set(lengths[:, row].tolist()))))} steps",
            expected="as many steps in each modality",
            remedy="Export it with --view unaligned, or align it with: affectus corpus align DIR --to words",
        )


def _part(
    corpus: Corpus,
    rows: npt.NDArray[np.int64],
    features: Mapping[str, Ragged],
    steps: Mapping[str, int],
    labels: Mapping[str, npt.NDArray[np.float32]],
    tokens: int,
    view: View,
) -> dict[str, Any]:
    """Return one split in MMSA's layout."""
    table = corpus.table[rows]
    sentiment = labels["sentiment"][rows]
    annotations = annotations_of(sentiment)
    if "annotation" in table.columns:
        annotations = [said or derived for said, derived in zip(table["annotation"], annotations, strict=True)]
    part: dict[str, Any] = {
        "id": table["id"].to_list(),
        "raw_text": table["text"].fill_null("").to_list(),
        "annotations": annotations,
        "classification_labels": (np.sign(sentiment) + 1).astype(np.float32),
        "regression_labels": sentiment,
    }
    for name, key in UNIMODAL.items():
        if f"sentiment_{name}" in labels:
            part[key] = labels[f"sentiment_{name}"][rows]
    if TOKEN_COLUMN in table.columns:
        part["text_bert"] = _text_bert(table[TOKEN_COLUMN].to_list(), tokens)
    lengths = {}
    for name in KNOWN_MODALITIES:
        ragged = features.get(name)
        part[name] = (
            np.zeros((len(rows), steps[name], 1), np.float32) if ragged is None else _padded(ragged, rows, steps[name])
        )
        lengths[name] = [1] * len(rows) if ragged is None else ragged.lengths[rows].tolist()
    if view is View.UNALIGNED:
        part |= {"audio_lengths": lengths["audio"], "vision_lengths": lengths["vision"]}
    scheme = corpus.schemes["sentiment"]
    own = OwnKey(
        name=corpus.name,
        licence=corpus.card.licence,
        language=corpus.card.language,
        generated=corpus.card.generated,
        tokenizer=corpus.card.tokenizer,
        aligned=corpus.card.word_aligned,
        range=[scheme.low, scheme.high],
        modalities={name: corpus.card.modalities[name].model_dump(mode="json") for name in features},
        lengths={name: lengths[name] for name in features},
        columns={column: table[column].to_list() for column in OWN_COLUMNS if column in table.columns},
    )
    part[OWN] = own.model_dump()
    return part


def _text_bert(tokens: list[list[int] | None], width: int) -> npt.NDArray[np.int64]:
    """Return (N, 3, width): ids, mask, and segments, of which there is one, number 0."""
    joined = np.zeros((len(tokens), 3, width), np.int64)
    for row, ids in enumerate(tokens):
        joined[row, 0, : len(ids or ())] = ids or ()
        joined[row, 1, : len(ids or ())] = 1
    return joined


def _padded(ragged: Ragged, rows: npt.NDArray[np.int64], steps: int) -> StreamedArray:
    def chunks() -> Iterator[npt.NDArray[np.float32]]:
        count = max(CHUNK_BYTES // (steps * ragged.dim * 4), 1)
        for begin in range(0, len(rows), count):
            some = rows[begin : begin + count]
            values = np.zeros((len(some), steps, ragged.dim), np.float32)
            values[np.arange(steps) < ragged.lengths[some][:, None]] = ragged.values[ragged.step_index(some)]
            yield values

    return StreamedArray((len(rows), steps, ragged.dim), np.dtype("<f4"), chunks())


def _notes(
    corpus: Corpus,
    rows: npt.NDArray[np.int64],
    labels: Mapping[str, npt.NDArray[np.float32]],
    features: Mapping[str, Ragged],
    splits: list[Split],
) -> Iterator[str]:
    dropped = len(corpus) - len(rows)
    if dropped:
        yield f"{dropped} utterances without a sentiment label were left out."
    missing = int(np.isnan(labels["sentiment"][rows]).sum())
    if missing:
        yield (
            f"{missing} utterances have no sentiment label, written as NaN, of which MMSA cannot learn; "
            "--drop-unlabelled leaves them out."
        )
    for name in KNOWN_MODALITIES:
        if name not in features:
            yield f"The corpus has no {name}; MMSA needs some, so one step of one zero stands for it."
        else:
            lacking = int((features[name].lengths[rows] == 0).sum())
            if lacking:
                yield f"{name}: {lacking} utterances lack it; written as zeros of length 0."
    absent = [str(split) for split in Split if split not in splits]
    if absent:
        yield f"MMSA reads train, valid and test; the file has no {' and no '.join(absent)}."
    left = [f"the modality {name}" for name in corpus.modalities if name not in features]
    left += [f"the labels {name}" for name in corpus.schemes if name not in labels]
    left += [f"the times of {name}'s steps" for name, ragged in features.items() if ragged.times is not None]
    left += [
        f"the column {column}"
        for column in corpus.table.columns
        if column not in (*OWN_COLUMNS, "id", "split", "text", "annotation", TOKEN_COLUMN)
        and not any(column in scheme.columns for scheme in corpus.card.schemes)
    ]
    if left:
        yield f"The layout has no place for {', '.join(left)}."
