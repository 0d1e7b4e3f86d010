"""The word-level pickle that MISA and MMIM read: per utterance words, visual and acoustic vectors, and a label."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers import mosei
from affectus.corpus.readers.arrays import check_range
from affectus.corpus.readers.base import PICKLE, ReadOptions, check_file, make_corpus, register_reader
from affectus.corpus.readers.pickles import as_text, load_pickle
from affectus.corpus.readers.tables import split_of_file
from affectus.errors import AffectusError

_SEGMENT = re.compile(r"(.+)\[(\d+)\]\Z")
_LAYOUT = "((word ids, visual (L, D), acoustic (L, D), words, ...), label (1, 1) or (1, 7), 'video[segment]')"


@register_reader(
    "misa",
    summary="the word-level pickles of MISA and MMIM",
    sources="one pickle per split; the split comes from the file's name",
    example="misa train.pkl dev.pkl test.pkl --out mosi",
    kind=PICKLE,
)
def read_misa(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read lists of ``((word ids, visual, acoustic, words, ...), label, "video[segment]")``.

    The words give the text; the word ids mean nothing without their vocabulary and are not read. A label of one
    number is a sentiment in [-3, 3], one of seven adds the six emotions in [0, 3]. The split is the part of the file's
    name that is one (``train``, ``dev``, ``valid``, ``test``). Pickles are read without running what they name.

    Raises:
        AffectusError: a pickle is damaged, hostile or of another layout, or a label is out of range.
    """
    records: list[dict[str, Any]] = []
    sequences: dict[str, list[npt.NDArray[Any] | None]] = {"audio": [], "vision": []}
    aligned = True
    labels: list[list[float]] = []
    for path in sources:
        check_file(path, PICKLE)
        entries = load_pickle(path)
        if not isinstance(entries, list) or not entries:
            raise AffectusError(
                "Not MISA's layout", where=path, got=type(entries).__name__, expected="a list of tuples"
            )
        for row, entry in enumerate(entries):
            record, visual, acoustic = _entry(entry, f"{path}, row {row}")
            record["split"] = split_of_file(path)
            values = record.pop("labels")
            if labels and len(values) != len(labels[0]):
                raise AffectusError(
                    "The labels differ in width",
                    where=f"{path}, row {row}",
                    got=len(values),
                    expected=str(len(labels[0])),
                )
            labels.append(values)
            record.update(zip(map(mosei.label_name, mosei.LABELS), values, strict=False))
            records.append(record)
            aligned &= all(len(part) in (0, len(record["words"])) for part in (visual, acoustic))
            sequences["vision"].append(visual)
            sequences["audio"].append(acoustic)
    source = ", ".join(path.name for path in sources)
    matrix, ids = np.array(labels), [record["id"] for record in records]
    for column, name in enumerate(mosei.LABELS[: matrix.shape[1]]):
        check_range(matrix[:, column], *mosei.label_range(name), label=name, where=source, ids=ids)
    features = {}
    for name, parts in sequences.items():
        dims = {part.shape[1] for part in parts if part is not None and len(part)}
        if len(dims) > 1:
            raise AffectusError(f"The utterances differ in width of {name}", where=sources[0], got=sorted(dims))
        if dims:
            features[name] = Ragged.from_sequences(parts, dims.pop())
    card = Card(
        name="MISA pickle",
        source=source,
        language="en",
        word_aligned=aligned,
        modalities={name: ModalityCard(dim=ragged.dim) for name, ragged in features.items()},
        schemes=mosei.schemes(mosei.LABELS[: matrix.shape[1]]),
        notes=["The word ids were not read: their vocabulary is not in the file; the text comes from the words."],
    )
    return make_corpus(records, features, card, options)


def _entry(entry: Any, where: str) -> tuple[dict[str, Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return id, words and labels of one utterance, its visual and its acoustic sequence."""
    try:
        (_, visual, acoustic, words, *_), label, name = entry
        visual, acoustic = np.asarray(visual), np.asarray(acoustic)
        label = np.asarray(label, np.float64).ravel()
        words = [as_text(word) for word in words]
        name = as_text(name.item() if isinstance(name, np.ndarray) else name)
    except (TypeError, ValueError) as error:
        raise AffectusError("Not MISA's layout", where=where, got=error, expected=_LAYOUT) from None
    for kind, part in (("visual", visual), ("acoustic", acoustic)):
        if part.ndim != 2 or part.dtype.kind not in "fiu":
            raise AffectusError(
                f"The {kind} sequence has the wrong shape", where=where, got=part.shape, expected="(steps, width)"
            )
    if len(label) not in (1, 7):
        raise AffectusError("The label has the wrong size", where=where, got=label.size, expected="1 or 7 numbers")
    match = _SEGMENT.match(name)
    record = {
        "id": name,
        "video": match[1] if match else name,
        "segment": int(match[2]) if match else 0,
        "text": " ".join(words) or None,
        "words": words,
        "labels": label.tolist(),
    }
    return record, visual, acoustic
