"""MMSA's feature pickle: padded arrays per split, aligned or not, with CH-SIMS's labels per modality."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers.arrays import check_range
from affectus.corpus.readers.base import PICKLE, ReadOptions, make_corpus, one_source, register_reader
from affectus.corpus.readers.pickles import as_text, load_pickle
from affectus.corpus.readers.tables import segment_numbers
from affectus.errors import AffectusError, suggest
from affectus.labels import sentiment_scheme
from affectus.vocabulary import KNOWN_MODALITIES, SPLIT_ALIASES, Split, canonical_split

Array = npt.NDArray[Any]
UNIMODAL = {"text": "regression_labels_T", "audio": "regression_labels_A", "vision": "regression_labels_V"}


@register_reader(
    "mmsa",
    summary="MMSA's feature pickle, aligned or unaligned, with CH-SIMS's labels per modality",
    sources="one pickle",
    example="mmsa unaligned_39.pkl --name CH-SIMS --out sims",
    kind=PICKLE,
)
def read_mmsa(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read a dictionary train/valid/test -> ``id, raw_text, text, audio, vision, regression_labels, ...``.

    The arrays are (N, steps, D), padded. ``audio_lengths`` and ``vision_lengths`` say what is real; for the text the
    mask in ``text_bert`` does. Where nothing says it (aligned files have no lengths), a step is padding if it is zero
    in every modality and outside the mask. Ids are ``video$_$clip``. Sentiment is in [-3, 3]; with labels per modality,
    or *sims* in the file's name, in [-1, 1]. Values that are not finite are kept.

    Raises:
        AffectusError: the pickle is damaged, hostile or of another layout, or a label is out of range.
    """
    path = one_source(sources, PICKLE)
    data = load_pickle(path)
    if not isinstance(data, dict):
        raise AffectusError("Not MMSA's layout", where=path, got=type(data).__name__, expected="a dictionary of splits")
    parts = {as_text(name): part for name, part in data.items()}
    for name, part in parts.items():
        if name.lower() not in SPLIT_ALIASES or not isinstance(part, dict):
            raise AffectusError(
                "Not MMSA's layout", where=path, got=f"the key {name!r}", expected="train, valid, test -> dictionary"
            )
    found = [_Part(part, path, canonical_split(name)) for name, part in parts.items()]
    unimodal = [m for m in KNOWN_MODALITIES if any(UNIMODAL[m] in part for part in found)]
    bound = 1.0 if unimodal or "sims" in path.stem.lower() else 3.0
    records: list[dict[str, Any]] = []
    for part in found:
        labels = {"sentiment": part.labels("regression_labels", bound)}
        labels |= {f"sentiment_{m}": part.labels(UNIMODAL[m], bound) for m in unimodal if UNIMODAL[m] in part}
        numbers = segment_numbers([clip for _, clip in part.names])
        for row, (video, _) in enumerate(part.names):
            values = {name: float(column[row]) for name, column in labels.items()}
            record = {"id": part.ids[row], "video": video, "split": str(part.split), "text": part.texts[row]}
            records.append({**record, "segment": numbers[row], **values})
    features, aligned = {}, all(part.aligned for part in found)
    for modality in KNOWN_MODALITIES:
        sequences = [sequence for part in found for sequence in part.sequences(modality)]
        dims = {sequence.shape[1] for sequence in sequences if sequence is not None}
        if len(dims) > 1:
            raise AffectusError(f"The splits differ in width of {modality}", where=path, got=sorted(dims))
        if dims:
            features[modality] = Ragged.from_sequences(sequences, dims.pop())
    card = Card(
        name=path.stem,
        source=path.name,
        word_aligned=aligned,
        modalities={m: ModalityCard(dim=r.dim, encoder="BERT" if m == "text" else None) for m, r in features.items()},
        schemes=[sentiment_scheme(-bound, bound)]
        + [sentiment_scheme(-bound, bound, modality=modality) for modality in unimodal],
        notes=["Padding was trimmed by the lengths that the file gives." if not aligned else "Padding was trimmed."],
    )
    return make_corpus(records, features, card, options)


class _Part:
    """One split of the file."""

    def __init__(self, part: Mapping[Any, Any], path: Path, split: str) -> None:
        self.where, self.split = f"{path}, split {split}", Split(split)
        self._data = {as_text(key): value for key, value in part.items()}
        self.ids = [as_text(name) for name in np.asarray(self._get("id")).ravel().tolist()]
        self.names = [self._split_name(name) for name in self.ids]
        raw = self._data.get("raw_text")
        if raw is not None and len(raw) != len(self.ids):
            self._wrong("raw_text", f"{len(raw)} entries", f"{len(self.ids)}")
        self.texts = [None] * len(self.ids) if raw is None else [as_text(text).strip() for text in list(raw)]
        self._arrays = {m: self._sequence_array(m) for m in KNOWN_MODALITIES if m in self._data}
        self._mask = self._text_mask()
        steps = {array.shape[1] for array in self._arrays.values()}
        self.aligned = len(steps) == 1 and "audio_lengths" not in self and "vision_lengths" not in self

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def _get(self, key: str) -> Any:
        if key not in self._data:
            listed = ", ".join(self._data)
            raise AffectusError(
                f"There is no key {key!r}", where=self.where, got=f"the keys {listed}", remedy=suggest(key, self._data)
            )
        return self._data[key]

    def _wrong(self, key: str, got: object, expected: str) -> None:
        raise AffectusError(f"The array {key!r} has the wrong shape", where=self.where, got=got, expected=expected)

    @staticmethod
    def _split_name(name: str) -> tuple[str, str]:
        video, mark, clip = name.partition("$_$")
        return (video, clip) if mark else (name, "0")

    def labels(self, key: str, bound: float) -> Array:
        """Return one real label per utterance."""
        values = np.asarray(self._get(key))
        if values.dtype.kind not in "fiu" or values.size != len(self.ids):
            self._wrong(key, values.shape, f"({len(self.ids)},) numbers")
        flat: Array = values.astype(np.float32).ravel()
        check_range(flat, -bound, bound, label=key, where=self.where, ids=self.ids)
        return flat

    def _sequence_array(self, modality: str) -> Array:
        array = np.asarray(self._data[modality])
        if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or len(array) != len(self.ids):
            self._wrong(modality, f"{array.dtype} {array.shape}", f"numbers ({len(self.ids)}, steps, width)")
        return array[:, None, :] if array.ndim == 2 else array

    def _text_mask(self) -> npt.NDArray[np.bool_] | None:
        if "text_bert" not in self:
            return None
        tokens = np.asarray(self._data["text_bert"])
        if tokens.ndim != 3 or tokens.shape[:2] != (len(self.ids), 3):
            self._wrong("text_bert", tokens.shape, f"({len(self.ids)}, 3, tokens): ids, mask, segments")
        mask: npt.NDArray[np.bool_] = tokens[:, 1] > 0
        return mask

    def _lengths(self, modality: str, steps: int) -> list[int] | None:
        key = f"{modality}_lengths"
        if key not in self:
            return None
        lengths = np.asarray(self._data[key]).ravel()
        if lengths.dtype.kind not in "iuf" or len(lengths) != len(self.ids):
            self._wrong(key, lengths.shape, f"({len(self.ids)},) numbers")
        if lengths.min(initial=0) < 0 or lengths.max(initial=0) > steps:
            row = int(np.argmax((lengths < 0) | (lengths > steps)))
            raise AffectusError(
                f"A length in {key!r} is out of range",
                where=f"{self.where}, utterance {self.ids[row]!r}",
                got=lengths[row],
                expected=f"0 to {steps}",
            )
        return [int(length) for length in lengths]

    def _real(self, modality: str) -> npt.NDArray[np.bool_]:
        """Return (N, steps), True where a step is no padding, for sequences without lengths."""
        names = list(self._arrays) if self.aligned else [modality]
        mask = self._mask if self.aligned or modality == "text" else None
        if mask is not None and mask.shape[1] == self._arrays[modality].shape[1]:
            # BERT's states of padded tokens are not zero, so with a mask the text has no say
            names = [name for name in names if name != "text"]
        else:
            mask = np.zeros(self._arrays[modality].shape[:2], bool)
        real: npt.NDArray[np.bool_] = np.logical_or.reduce(
            [mask, *((self._arrays[name] != 0).any(axis=2) for name in names)]
        )
        # only the ends are padding: a zero step between real ones is a step
        inner = np.logical_or.accumulate(real, axis=1) & np.logical_or.accumulate(real[:, ::-1], axis=1)[:, ::-1]
        return inner

    def sequences(self, modality: str) -> list[Array | None]:
        """Return the real steps of each utterance."""
        if modality not in self._arrays:
            return [None] * len(self.ids)
        array = self._arrays[modality]
        lengths = self._lengths(modality, array.shape[1])
        if lengths is not None:
            return [array[row, :length] for row, length in enumerate(lengths)]
        real = self._real(modality)
        return [array[row][real[row]] for row in range(len(array))]
