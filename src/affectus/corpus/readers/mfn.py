"""MMMO, POM and YouTube as word-aligned arrays of 20 steps, the form in which the Memory Fusion Network used them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers.arrays import Array, Bundle, check_range
from affectus.corpus.readers.base import NPZ, ReadOptions, make_corpus, one_source, register_reader
from affectus.errors import AffectusError, unknown_name
from affectus.labels import LabelKind, LabelScheme, sentiment_scheme
from affectus.vocabulary import Split, order_modalities

KEYS = {"text": "text", "audio": "audio", "vision": "video"}
ENCODERS = {"text": "GloVe"}
DATASETS = {"mmmo": "MMMO", "pom": "POM", "youtube": "YouTube"}
RATINGS = {"mmmo": ("rating",), "pom": tuple(f"rating_{number:02d}" for number in range(1, 18))}
RANGES = {"mmmo": (1.0, 5.0), "pom": (1.0, 7.0)}


@register_reader(
    "mfn",
    summary="MMMO, POM or YouTube, word-aligned sequences of 20 steps",
    sources="one .npz file",
    options={"name": "which data set: mmmo, pom or youtube (required)"},
    example="mfn mfn_mmmo_pom_youtube.npz --name mmmo --out mmmo",
    kind=NPZ,
)
def read_mfn(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read the arrays ``<name>_{text,audio,video,y}_{train,valid,test}``, each (N, steps, D), as far as they are there.

    A step that is zero in every modality is padding and is trimmed; a modality that is zero throughout an utterance
    is missing. Each utterance is its own video, since the arrays carry no ids. MMMO has one rating in [1, 5], POM 17
    in [1, 7]; YouTube's three classes (one-hot, unnamed) become a sentiment of -1, 0 or 1.

    Raises:
        AffectusError: no data set is chosen, an array is absent or of another shape, or a label is out of range.
    """
    bundle = Bundle(one_source(sources, NPZ))
    known = [name for name in DATASETS if any(key.startswith(f"{name}_") for key in bundle.keys)]
    if options.name is None:
        raise AffectusError(
            "The file holds several data sets", where=bundle.path, remedy=f"Choose with --name: {', '.join(known)}"
        )
    name = options.name.lower()
    if name not in known:
        raise unknown_name("data set", name, known, where=bundle.path)
    splits = [split for split in Split if f"{name}_y_{split}" in bundle]
    if not splits:
        bundle.array(f"{name}_y_train", ndim=2)
    modalities = order_modalities(m for m, k in KEYS.items() if any(f"{name}_{k}_{s}" in bundle for s in splits))
    sequences: dict[str, list[Array | None]] = {modality: [] for modality in modalities}
    trimmed, tables = 0, []
    for split in splits:
        labels = _labels(bundle, name, f"{name}_y_{split}")
        arrays = {}
        for modality in modalities:
            key = f"{name}_{KEYS[modality]}_{split}"
            if key in bundle:
                arrays[modality] = bundle.array(key, ndim=3, rows=len(labels), numeric=True)
        steps = {modality: array.shape[1] for modality, array in arrays.items()}
        if len(set(steps.values())) > 1:
            raise AffectusError(f"The modalities of {name} {split} differ in steps", where=bundle.path, got=steps)
        nonzero = {modality: (array != 0).any(axis=2) for modality, array in arrays.items()}
        real = np.logical_or.reduce(list(nonzero.values()))
        trimmed += int((~real).sum())
        for modality in modalities:
            for row in range(len(labels)):
                there = modality in arrays and nonzero[modality][row].any()
                sequences[modality].append(arrays[modality][row][real[row]] if there else None)
        ids = [f"{name}_{split}_{row:04d}" for row in range(len(labels))]
        tables.append(labels.with_columns(pl.Series("id", ids), pl.Series("video", ids), split=pl.lit(str(split))))
    features = {}
    for modality, parts in sequences.items():
        dims = {part.shape[1] for part in parts if part is not None}
        if len(dims) > 1:
            raise AffectusError(f"The splits of {name} differ in width of {modality}", where=bundle.path, got=dims)
        if dims:
            features[modality] = Ragged.from_sequences(parts, dims.pop())
    notes = [
        "Each utterance is its own video: the arrays name no videos.",
        f"{trimmed} steps were zero in every modality and were trimmed as padding.",
    ]
    for modality, ragged in features.items():
        missing = int((ragged.lengths == 0).sum())
        if missing:
            notes.append(
                f"{missing} of {len(ragged)} utterances have no {modality}: it is zero throughout or not there."
            )
    if name == "youtube":
        scheme = sentiment_scheme(-1, 1)
        notes.append(
            "The three classes carry no names in the source; they are taken in the order negative, neutral, positive."
        )
    else:
        low, high = RANGES[name]
        scheme = LabelScheme(name="ratings", kind=LabelKind.REAL, columns=RATINGS[name], low=low, high=high)
    card = Card(
        name=DATASETS[name],
        source=bundle.path.name,
        language="en",
        word_aligned=True,
        modalities={m: ModalityCard(dim=r.dim, encoder=ENCODERS.get(m)) for m, r in features.items()},
        schemes=[scheme],
        notes=notes,
    )
    return make_corpus(pl.concat(tables), features, card, options)


def _labels(bundle: Bundle, name: str, key: str) -> pl.DataFrame:
    if name == "youtube":
        classes = bundle.array(key, ndim=2, columns=3, numeric=True)
        wrong = ((classes != 0) & (classes != 1)).any(axis=1) | (classes.sum(axis=1) != 1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise AffectusError("Not exactly one class", where=f"{bundle.path}, {key}, row {row}", got=classes[row])
        return pl.DataFrame({"sentiment": classes.argmax(axis=1) - 1.0})
    columns = RATINGS[name]
    values = bundle.array(key, ndim=1, numeric=True)[:, None] if name == "mmmo" else None
    if values is None:
        values = bundle.array(key, ndim=2, columns=len(columns), numeric=True)
    for number, column in enumerate(columns):
        check_range(values[:, number], *RANGES[name], label=column, where=f"{bundle.path}, {key}")
    return pl.DataFrame({column: values[:, number] for number, column in enumerate(columns)})
