"""MMSA's feature pickle: padded arrays per split, aligned or not, with CH-SIMS's labels per modality."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import TOKEN_COLUMN, Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers.arrays import check_range
from affectus.corpus.readers.base import PICKLE, ReadOptions, make_corpus, one_source, register_reader
from affectus.corpus.readers.pickles import as_text, load_pickle
from affectus.corpus.readers.tables import segment_numbers
from affectus.errors import AffectusError, suggest
from affectus.labels import LabelKind, LabelScheme
from affectus.vocabulary import KNOWN_MODALITIES, SPLIT_ALIASES, Split, canonical_split

Array = npt.NDArray[Any]
UNIMODAL = {"text": "regression_labels_T", "audio": "regression_labels_A", "vision": "regression_labels_V"}
ANNOTATIONS = ("Negative", "Neutral", "Positive")
"""The words of the classes 0, 1, 2."""
SPLITS = "train, valid, test -> dictionary"
"""The keys of the file, as errors say it."""
OWN = "affectus"
"""The key under which our writer keeps what the layout has no place for."""
OWN_FORMAT = 1


class OwnKey(BaseModel):
    """What the key ``affectus`` of a split holds, one entry of each list per utterance."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: int = OWN_FORMAT
    name: str
    licence: str
    language: str | None
    generated: bool
    tokenizer: str | None = None
    aligned: bool
    """Whether the corpus is word-aligned; an unaligned file may hold one that is."""
    range: list[float | None]
    """Smallest and largest sentiment."""
    modalities: dict[str, dict[str, Any]]
    """The card of each modality of the corpus; a modality that is not here stands in the file for MMSA's sake."""
    lengths: dict[str, list[int]]
    columns: dict[str, list[str] | list[int | None] | list[float | None] | list[str | None]]
    """Columns of the utterance table."""


OWN_COLUMNS = ("video", "start", "end", "speaker", "segment")
"""The columns that are kept, where the table has them."""


def annotations_of(labels: Array) -> list[str]:
    """Return the word for each label's sign; none for NaN."""
    return ["" if np.isnan(label) else ANNOTATIONS[int(np.sign(label)) + 1] for label in labels.tolist()]


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
    or *sims* in the file's name, in [-1, 1]. Values that are not finite are kept; in training they take no part.
    ``annotations`` become the column ``annotation`` if they say anything else than the label's sign, and the ids of
    ``text_bert`` the column ``token_ids``; which tokenizer made them the file does not say. A file that
    ``affectus export-features`` wrote has a further key, which gives back what the layout has no place for.

    Raises:
        AffectusError: the pickle is damaged, hostile or of another layout, or a label is out of range.
    """
    path = one_source(sources, PICKLE)
    data = load_pickle(path)
    if not isinstance(data, dict):
        raise AffectusError("Not MMSA's layout", where=path, got=type(data).__name__, expected="a dictionary of splits")
    parts = {as_text(name): part for name, part in data.items()}
    if not parts:
        raise AffectusError("Not MMSA's layout", where=path, got="an empty dictionary", expected=SPLITS)
    for name, part in parts.items():
        if name.lower() not in SPLIT_ALIASES or not isinstance(part, dict):
            raise AffectusError("Not MMSA's layout", where=path, got=f"the key {name!r}", expected=SPLITS)
    found = [_Part(part, path, canonical_split(name)) for name, part in parts.items()]
    unimodal = [m for m in KNOWN_MODALITIES if any(UNIMODAL[m] in part for part in found)]
    bound = 1.0 if unimodal or "sims" in path.stem.lower() else 3.0
    own = found[0].own
    low, high = own.range if own else (-bound, bound)
    records: list[dict[str, Any]] = []
    plain = True
    for part in found:
        labels = {"sentiment": part.labels("regression_labels", low, high)}
        labels |= {f"sentiment_{m}": part.labels(UNIMODAL[m], low, high) for m in unimodal if UNIMODAL[m] in part}
        plain &= part.annotations() in (None, annotations_of(labels["sentiment"]))
        records += part.records(labels)
    if plain:
        for record in records:
            del record["annotation"]
    features, aligned = {}, all(part.aligned for part in found)
    for modality in KNOWN_MODALITIES:
        sequences = [sequence for part in found for sequence in part.sequences(modality)]
        dims = {sequence.shape[1] for sequence in sequences if sequence is not None}
        if len(dims) > 1:
            raise AffectusError(f"The splits differ in width of {modality}", where=path, got=sorted(dims))
        if dims:
            features[modality] = Ragged.from_sequences(sequences, dims.pop())
    card = Card(
        name=own.name if own else path.stem,
        source=path.name,
        word_aligned=aligned,
        modalities={m: found[0].card(m, ragged.dim) for m, ragged in features.items()},
        schemes=[
            LabelScheme(name=name, kind=LabelKind.REAL, columns=(name,), low=low, high=high)
            for name in ("sentiment", *(f"sentiment_{modality}" for modality in unimodal))
        ],
        notes=["Padding was trimmed by the lengths that the file gives." if not aligned else "Padding was trimmed."],
    )
    if own:
        card.licence, card.language, card.generated = own.licence, own.language, own.generated
        card.tokenizer = own.tokenizer
    return make_corpus(records, features, card, options)


class _Part:
    """One split of the file."""

    def __init__(self, part: Mapping[Any, Any], path: Path, split: str) -> None:
        self.where, self.split = f"{path}, split {split}", Split(split)
        self._data = {as_text(key): value for key, value in part.items()}
        ids = self._get("id")
        # a NumPy array of strings would lose what ends in a zero byte
        self.ids = [as_text(name) for name in (ids if isinstance(ids, list) else np.asarray(ids).ravel().tolist())]
        self.names = [self._split_name(name) for name in self.ids]
        raw = self._data.get("raw_text")
        if raw is not None and len(raw) != len(self.ids):
            self._wrong("raw_text", f"{len(raw)} entries", f"{len(self.ids)}")
        self.texts = [None] * len(self.ids) if raw is None else [as_text(text) or None for text in list(raw)]
        self.own = self._own_key()
        kept = KNOWN_MODALITIES if self.own is None else self.own.modalities
        self._arrays = {m: self._sequence_array(m) for m in KNOWN_MODALITIES if m in self._data and m in kept}
        self._tokens = self._text_bert()
        self._mask = None if self._tokens is None else self._tokens[:, 1] > 0
        steps = {array.shape[1] for array in self._arrays.values()}
        self.aligned = len(steps) == 1 and "audio_lengths" not in self and "vision_lengths" not in self
        if self.own is not None:
            self.aligned = self.own.aligned

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

    def _own_key(self) -> OwnKey | None:
        """Read the key that our writer adds."""
        raw = self._data.get(OWN)
        if raw is None:
            return None
        where = f"{self.where}, key {OWN!r}"
        if isinstance(raw, dict) and raw.get("format", OWN_FORMAT) != OWN_FORMAT:
            raise AffectusError(
                "The file was written by a newer affectus", where=where, remedy="Upgrade affectus to read it"
            )
        try:
            own = OwnKey.model_validate(raw)
            for name, card in own.modalities.items():
                ModalityCard.model_validate(card)
                if name not in own.lengths:
                    raise ValueError(f"there are no lengths of {name!r}")
            for name, column in [*own.lengths.items(), *own.columns.items()]:
                if len(column) != len(self.ids):
                    raise ValueError(f"{name!r} has {len(column)} entries, not {len(self.ids)}")
            if len(own.range) != 2 or "video" not in own.columns or not set(own.columns) <= set(OWN_COLUMNS):
                raise ValueError("the range or the columns are not those of our writer")
        except ValueError as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            got = ": ".join([".".join(map(str, first["loc"])), str(first["msg"])]).removeprefix(": ")
            raise AffectusError(
                "The key is not as our writer makes it", where=where, got=got, remedy="Export the file again"
            ) from None
        return own

    def records(self, labels: Mapping[str, Array]) -> list[dict[str, Any]]:
        """Return one record per utterance."""
        columns: dict[str, Sequence[Any]] = {
            "video": [video for video, _ in self.names],
            "segment": segment_numbers([clip for _, clip in self.names]),
        }
        if self.own is not None:
            columns = dict(self.own.columns)
        blank: list[None] = [None] * len(self.ids)
        columns |= {"id": self.ids, "text": self.texts, "annotation": self.annotations() or blank}
        columns |= {name: column.astype(np.float64).tolist() for name, column in labels.items()}
        tokens = self._token_ids()
        if tokens is not None:
            columns[TOKEN_COLUMN] = tokens
        return [
            {"split": str(self.split), **{name: column[row] for name, column in columns.items()}}
            for row in range(len(self.ids))
        ]

    def annotations(self) -> list[str] | None:
        """Return the word for each utterance's class."""
        raw = self._data.get("annotations")
        if raw is None:
            return None
        if len(raw) != len(self.ids):
            self._wrong("annotations", f"{len(raw)} entries", f"{len(self.ids)}")
        return [as_text(word) for word in list(raw)]

    def card(self, modality: str, dim: int) -> ModalityCard:
        """Return what the file says of a modality."""
        if self.own is not None and modality in self.own.modalities:
            return ModalityCard.model_validate({**self.own.modalities[modality], "dim": dim})
        return ModalityCard(dim=dim, encoder="BERT" if modality == "text" else None)

    def labels(self, key: str, low: float | None, high: float | None) -> Array:
        """Return one real label per utterance."""
        values = np.asarray(self._get(key))
        if values.dtype.kind not in "fiu" or values.size != len(self.ids):
            self._wrong(key, values.shape, f"({len(self.ids)},) numbers")
        flat: Array = values.astype(np.float32).ravel()
        low, high = -np.inf if low is None else low, np.inf if high is None else high
        check_range(flat, low, high, label=key, where=self.where, ids=self.ids)
        return flat

    def _sequence_array(self, modality: str) -> Array:
        array = np.asarray(self._data[modality])
        if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or len(array) != len(self.ids):
            self._wrong(modality, f"{array.dtype} {array.shape}", f"numbers ({len(self.ids)}, steps, width)")
        return array[:, None, :] if array.ndim == 2 else array

    def _text_bert(self) -> Array | None:
        """Return (N, 3, tokens): ids, mask, segments."""
        if "text_bert" not in self:
            return None
        tokens = np.asarray(self._data["text_bert"])
        if tokens.dtype.kind not in "fiu" or tokens.ndim != 3 or tokens.shape[:2] != (len(self.ids), 3):
            shape = f"numbers ({len(self.ids)}, 3, tokens): ids, mask, segments"
            self._wrong("text_bert", f"{tokens.dtype} {tokens.shape}", shape)
        ids = tokens[:, 0]
        bad = ~((ids >= 0) & (ids == np.floor(ids)) & (ids < 1 << 31))
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            raise AffectusError(
                "A token of 'text_bert' is no id",
                where=f"{self.where}, utterance {self.ids[row]!r}",
                got=ids[row][bad[row]][0],
                expected="a whole number from 0",
            )
        return tokens

    def _token_ids(self) -> list[list[int]] | None:
        if self._tokens is None or self._mask is None:
            return None
        ids = self._tokens[:, 0].astype(np.int64)
        return [row[mask].tolist() for row, mask in zip(ids, self._mask, strict=True)]

    def _lengths(self, modality: str, steps: int) -> list[int] | None:
        key = f"{modality}_lengths"
        if self.own is not None:
            lengths = np.asarray(self.own.lengths[modality])
        elif key in self:
            lengths = np.asarray(self._data[key]).ravel()
        else:
            return None
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
