"""The CMU SDK's computational sequences (``.csd``, HDF5): several files, one per modality and one of labels."""

import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import BASE_COLUMNS, WORD_COLUMNS, Corpus
from affectus.corpus.intervals import overlap_ranges
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers import mosei
from affectus.corpus.readers.arrays import check_range
from affectus.corpus.readers.base import HDF5, ReadOptions, check_file, make_corpus, register_reader
from affectus.corpus.readers.word_times import PAUSE, lags
from affectus.errors import AffectusError
from affectus.labels import LabelKind, LabelScheme
from affectus.vocabulary import AUDIO, KNOWN_MODALITIES, TEXT, VISION

Array = npt.NDArray[Any]
_SEGMENT = re.compile(r"(.+)\[(\d+)\]\Z")

_HINTS = {
    AUDIO: ("covarep", "opensmile", "audio", "acoustic", "mfcc", "speech", "wav"),
    VISION: ("facet", "openface", "visual", "vision", "video", "face"),
    TEXT: ("glove", "bert", "word", "text", "language"),
}


@dataclass
class _File:
    """An open computational sequence: per key (a video, or ``video[segment]``) features and intervals."""

    path: Path
    root: str
    data: h5py.Group
    dimensions: list[str]
    """The names of the feature columns, nothing where the metadata say nothing usable."""
    data_set: str
    """The data set's name in the metadata, else the root's."""

    @property
    def hints(self) -> str:
        return f"{self.root} {self.path.stem}".lower()

    @property
    def is_labels(self) -> bool:
        return "label" in self.hints

    def entry(self, key: str) -> tuple[Array, Array] | None:
        """Return the (T, D) features and (T, 2) intervals of a key in order of their beginnings, None if absent."""
        if key not in self.data:
            return None
        where = f"{self.path}, {key!r}"
        try:
            group = self.data[key]
            arrays = {}
            for name in ("features", "intervals"):
                dataset = _local(group, name, where)
                if not isinstance(dataset, h5py.Dataset):
                    raise AffectusError(f"There is no data set {name!r}", where=where)
                if dataset.is_virtual or dataset.external:
                    raise AffectusError(f"The data set {name!r} points to another file", where=where)
                arrays[name] = dataset[()]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise AffectusError("Not a whole HDF5 file", where=where, got=_reason(error)) from None
        features, intervals = arrays["features"], arrays["intervals"]
        if features.ndim == 1:
            features = features[:, None]
        if features.ndim != 2 or intervals.shape != (len(features), 2):
            raise AffectusError(
                "The features and intervals do not fit together",
                where=where,
                got=f"shapes {features.shape} and {intervals.shape}",
                expected="(steps, width) and (steps, 2)",
            )
        intervals = intervals.astype(np.float64)
        order = np.argsort(intervals[:, 0], kind="stable")
        return features[order], intervals[order]


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _local(group: Any, name: str, where: str) -> Any:
    """Return a member of a group, None if absent; a link to another file is refused."""
    if not isinstance(group, h5py.Group) or name not in group:
        return None
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise AffectusError(f"The member {name!r} points to another file", where=where)
    return group[name]


def _open(path: Path, stack: ExitStack) -> _File:
    check_file(path, HDF5)
    try:
        file = stack.enter_context(h5py.File(path, "r"))
        roots = list(file)
        if len(roots) != 1:
            raise AffectusError(
                "Not a computational sequence", where=path, got=f"{len(roots)} roots", expected="one root with 'data'"
            )
        root = _local(file, roots[0], str(path))
        data = _local(root, "data", str(path))
        if not isinstance(data, h5py.Group):
            raise AffectusError("Not a computational sequence", where=path, expected=f"a group {roots[0]}/data")
        for key in data:
            if isinstance(data.get(key, getlink=True), h5py.ExternalLink):
                raise AffectusError(f"The member {key!r} points to another file", where=path)
        names, data_set = _metadata(root, "dimension names"), _metadata(root, "dataset name")
        dimensions = [str(name) for name in names] if isinstance(names, list) else []
        return _File(path, roots[0], data, dimensions, data_set if isinstance(data_set, str) else roots[0])
    except (OSError, RuntimeError, KeyError) as error:
        raise AffectusError(
            "Not a whole HDF5 file", where=path, got=_reason(error), remedy="Fetch the file again"
        ) from None


def _metadata(root: h5py.Group, key: str) -> Any:
    """Return an entry of the metadata, which hold JSON; None where it is absent or nonsense."""
    try:
        return json.loads(root["metadata"][key][0])
    except (KeyError, ValueError, TypeError, IndexError, OSError):
        return None


def _text(values: Array) -> list[str]:
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values[:, 0].tolist()]


@dataclass
class _Segments:
    """The utterances of one video or dialogue key: (U, 2) seconds, (U, L) labels."""

    key: str
    video: str
    ids: list[str]
    times: Array
    labels: Array
    whole: bool
    """True if the files are keyed by segment, so that an entry is one utterance and nothing is to be cut."""


@register_reader(
    "csd",
    summary="the CMU SDK's computational sequences, cut to the labelled segments",
    sources="one .csd file (HDF5) per modality and one of labels",
    example="csd CMU_MOSI_Labels.csd CMU_MOSI_ModifiedTimestampedWords.csd --splits splits.json "
    "--splits-key standard --out mosi",
    kind=HDF5,
)
def read_csd(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read files of the layout ``<root>/data/<video>/{features,intervals}``; times are in seconds.

    The file whose name or root says *label* gives the segments and their labels: one column is a sentiment in
    [-3, 3], six are emotions in [0, 3], seven both, in the SDK's order; others become ratings. Without such a file each
    video is one utterance. String features become transcript and word times (pauses, ``sp``, are dropped, and
    words that stand beside their neighbours' times are moved, see ``word_times``); a word belongs to the segment that
    holds its middle. Of a numeric sequence a segment gets the steps that overlap it. Files
    that the SDK has aligned, keyed ``video[segment]``, are taken as they are.

    Raises:
        AffectusError: a file is absent, damaged, of another layout or points to another file; or a label is out of
            range.
    """
    with ExitStack() as stack:
        files = [_open(path, stack) for path in sources]
        labels = [file for file in files if file.is_labels]
        if len(labels) > 1:
            raise AffectusError(
                "There are several files of labels", got=", ".join(str(file.path) for file in labels), expected="one"
            )
        others = [file for file in files if not file.is_labels]
        segments = _labelled_segments(labels[0]) if labels else _whole_videos(others)
        if not any(part.ids for part in segments):
            raise AffectusError("The source holds no utterance", where=", ".join(path.name for path in sources))
        columns, schemes = _schemes(labels[0], segments) if labels else ([], [])
        return _build(segments, others, columns, schemes, options, labels[0] if labels else None)


def _labelled_segments(file: _File) -> list[_Segments]:
    found = []
    for key in file.data:
        entry = file.entry(key)
        if entry is None:
            continue
        labels, times = entry
        if labels.dtype.kind not in "fiu":
            raise AffectusError("The labels are no numbers", where=f"{file.path}, {key!r}", got=labels.dtype)
        match = _SEGMENT.match(key)
        if match:
            found.append(_Segments(key, match[1], [key], times[:1], labels[:1].astype(np.float32), whole=True))
        else:
            ids = [f"{key}[{number}]" for number in range(len(times))]
            found.append(_Segments(key, key, ids, times, labels.astype(np.float32), whole=False))
    return found


def _whole_videos(files: list[_File]) -> list[_Segments]:
    spans: dict[str, Array] = {}
    for file in files:
        for key in file.data:
            entry = file.entry(key)
            if entry is not None and len(entry[1]):
                begin, end = entry[1][:, 0].min(), entry[1][:, 1].max()
                old = spans.get(key, np.array([begin, end]))
                spans[key] = np.array([min(begin, old[0]), max(end, old[1])])
    no_labels = np.zeros((1, 0), np.float32)
    found = []
    for key, span in spans.items():
        match = _SEGMENT.match(key)
        found.append(_Segments(key, match[1] if match else key, [key], span[None], no_labels, whole=True))
    return found


def _schemes(file: _File, segments: list[_Segments]) -> tuple[list[str], list[LabelScheme]]:
    widths = {part.labels.shape[1] for part in segments}
    if len(widths) != 1:
        raise AffectusError("The labels differ in width between videos", where=file.path, got=sorted(widths))
    width = widths.pop()
    by_count = {1: mosei.LABELS[:1], 6: mosei.LABELS[1:], 7: mosei.LABELS}
    named = [name.lower().split()[0] for name in file.dimensions if name.strip()]
    if len(named) == width and set(named) <= set(mosei.LABELS):
        names: Sequence[str] = named
    elif width in by_count:
        names = by_count[width]
    else:
        usable = len(set(file.dimensions)) == width and BASE_COLUMNS.keys().isdisjoint(file.dimensions)
        columns = file.dimensions if usable else [f"rating_{number:02d}" for number in range(1, width + 1)]
        return columns, [LabelScheme(name="ratings", kind=LabelKind.REAL, columns=tuple(columns))]
    values = np.concatenate([part.labels for part in segments])
    ids = [name for part in segments for name in part.ids]
    for column, name in enumerate(names):
        check_range(values[:, column], *mosei.label_range(name), label=name, where=file.path, ids=ids)
    return [mosei.label_name(name) for name in names], mosei.schemes(names)


def _modality(file: _File, taken: set[str]) -> str:
    """Return what a numeric file is, from its name; two of a kind are told apart by their roots."""
    slug = re.sub(r"[^a-z0-9]+", "_", file.root.lower()).strip("_") or "features"
    for modality in (AUDIO, VISION, TEXT):
        if modality not in taken and any(hint in file.hints for hint in _HINTS[modality]):
            return modality
    name, number = (f"{slug}_features" if slug in KNOWN_MODALITIES else slug), 2
    while name in taken:
        name, number = f"{slug}_{number}", number + 1
    return name


def _build(
    segments: list[_Segments],
    files: list[_File],
    columns: list[str],
    schemes: list[LabelScheme],
    options: ReadOptions,
    labels: _File | None,
) -> Corpus:
    rows: list[dict[str, Any]] = []
    for part in segments:
        for number, name in enumerate(part.ids):
            values = {c: float(v) for c, v in zip(columns, part.labels[number], strict=True)}
            start, end = part.times[number].tolist()
            rows.append({"id": name, "video": part.video, "start": start, "end": end, **values})
    table = pl.DataFrame(rows, infer_schema_length=None)
    features: dict[str, Ragged] = {}
    cards: dict[str, ModalityCard] = {}
    notes: list[str] = []
    has_words = False
    for position, file in enumerate(files):
        first = next((file.entry(part.key) for part in segments if part.key in file.data), None)
        if first is None:
            raise AffectusError("None of the videos is in the file", where=file.path, remedy="Check that it belongs")
        absent = sum(part.key not in file.data for part in segments)
        if absent:
            notes.append(f"{absent} of {len(segments)} videos are not in {file.path.name}.")
        if first[0].dtype.kind in "SOU":
            if has_words:
                notes.append(f"{file.path.name} holds strings too and was left out: the words come from the first.")
                continue
            has_words = True
            words, said = _words(segments, file)
            table = table.with_columns(words)
            notes.extend(said)
        else:
            name = _modality(file, set(features))
            features[name] = _cut(segments, file, options, position, len(files))
            known = file.dimensions if len(file.dimensions) == features[name].dim else None
            cards[name] = ModalityCard(dim=features[name].dim, feature_names=known, encoder=file.root)
    lengths = [ragged.lengths for ragged in features.values()]
    aligned = all(part.whole for part in segments) and labels is not None and bool(lengths)
    aligned = aligned and all(bool(((n == lengths[0]) | (n == 0) | (lengths[0] == 0)).all()) for n in lengths)
    source = ", ".join(file.path.name for file in ([labels] if labels else []) + files)
    card = Card(
        name=(labels or files[0]).data_set,
        source=source,
        word_aligned=aligned,
        modalities=cards,
        schemes=schemes,
        notes=notes,
    )
    return make_corpus(table, features, card, options)


def _words(segments: list[_Segments], file: _File) -> tuple[pl.DataFrame, list[str]]:
    """Return transcript, words and word times of every utterance, and what was repaired or dropped."""
    entries = [file.entry(part.key) for part in segments]
    words = [[] if entry is None else _text(entry[0]) for entry in entries]
    times = [np.zeros((0, 2)) if entry is None else entry[1] for entry in entries]
    notes = []
    moved, sentence = lags(words, times)
    if moved:
        words, times = [said[1:] for said in words], [intervals[:-1] for intervals in times]
        notes.append(sentence)
    columns: dict[str, list[Any]] = {"text": [], "words": [], "word_starts": [], "word_ends": []}
    pauses = 0
    for part, said, intervals in zip(segments, words, times, strict=True):
        spoken = np.array([word != PAUSE for word in said], bool)
        pauses += int((~spoken).sum())
        middles = intervals.mean(axis=1)
        for start, end in part.times:
            inside = spoken if part.whole else spoken & (middles >= start) & (middles < end)
            chosen = [said[index] for index in np.flatnonzero(inside)]
            columns["text"].append(" ".join(chosen) or None)
            columns["words"].append(chosen)
            columns["word_starts"].append(intervals[inside, 0].tolist())
            columns["word_ends"].append(intervals[inside, 1].tolist())
    notes.append(f"{pauses} pauses ({PAUSE!r}) among the words were dropped.")
    return pl.DataFrame(columns, schema_overrides={"text": pl.String(), **WORD_COLUMNS}), notes


def _cut(segments: list[_Segments], file: _File, options: ReadOptions, position: int, total: int) -> Ragged:
    """Return the steps of a numeric sequence that overlap each segment."""
    sequences: list[Array | None] = []
    times: list[Array | None] = []
    width: int | None = None
    for number, part in enumerate(segments):
        options.progress(position * len(segments) + number, total * len(segments))
        entry = file.entry(part.key)
        if entry is None or len(entry[0]) == 0:
            sequences += [None] * len(part.ids)
            times += [None] * len(part.ids)
            continue
        values, steps = entry
        if values.dtype.kind not in "fiu":
            raise AffectusError("The features are no numbers", where=f"{file.path}, {part.key!r}", got=values.dtype)
        width = values.shape[1] if width is None else width
        if values.shape[1] != width:
            raise AffectusError(
                "The features differ in width between videos",
                where=f"{file.path}, {part.key!r}",
                got=values.shape[1],
                expected=str(width),
            )
        if part.whole:
            bounds = [(0, len(values))]
        else:
            one, many = np.array([0, len(steps)]), np.array([0, len(part.times)])
            low, high = overlap_ranges(steps, one, part.times, many)
            bounds = list(zip(low.tolist(), high.tolist(), strict=True))
        # copies, so that a video's other frames are freed
        sequences += [values[low:high].astype(np.float32) for low, high in bounds]
        times += [steps[low:high] for low, high in bounds]
    return Ragged.from_sequences(sequences, width or 0, times=times)
