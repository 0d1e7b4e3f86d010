"""A corpus as a folder: ``utterances.parquet``, ``features/<modality>.safetensors``, ``card.json``."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import ValidationError

from affectus.corpus.card import FORMAT_VERSION, Card
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import CHUNK_BYTES, Ragged
from affectus.errors import AffectusError
from affectus.files import atomic_path, read_json, sha256, write_json

TABLE, CARD, FEATURES = "utterances.parquet", "card.json", "features"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
"""How safetensors calls NumPy's types."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


def check_modality_name(name: str, *, where: str | Path | None = None) -> None:
    """Check that a modality can be a file of its name.

    Raises:
        AffectusError: it is no plain word.
    """
    if not _SAFE_NAME.match(name):
        raise AffectusError("A modality's name must be a plain word", where=where, got=repr(name))


def counts(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Return per split the number of videos and of utterances."""
    grouped = corpus.table.group_by("split").agg(
        pl.col("video").n_unique().alias("videos"), pl.len().alias("utterances")
    )
    found = {row["split"]: {"videos": row["videos"], "utterances": row["utterances"]} for row in grouped.to_dicts()}
    return {split: found[split] for split in ("train", "valid", "test") if split in found}


def save_corpus(corpus: Corpus, folder: str | Path) -> None:
    """Write a corpus folder; a reader sees the old folder or the whole new one.

    Raises:
        AffectusError: the disk is full, the place cannot be written, or a modality's name is no file name.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file():
        raise AffectusError(
            "The output folder holds something else than a corpus", where=folder, remedy="Choose an empty folder"
        )
    with atomic_path(folder) as temporary:
        (temporary / FEATURES).mkdir(parents=True)
        corpus.table.write_parquet(temporary / TABLE)
        for name, ragged in corpus.features.items():
            check_modality_name(name, where=folder)
            tensors = {"values": ragged.values, "offsets": ragged.offsets}
            if ragged.times is not None:
                tensors["times"] = ragged.times
            write_safetensors(tensors, temporary / FEATURES / f"{name}.safetensors")
        card = corpus.card.model_copy(deep=True)
        card.modalities = {name: card.modalities[name] for name in corpus.modalities}
        card.counts = counts(corpus)
        files = sorted(p for p in temporary.rglob("*") if p.is_file())
        card.files = {p.relative_to(temporary).as_posix(): sha256(p) for p in files}
        write_json(temporary / CARD, card.model_dump(mode="json"))


def write_safetensors(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    """Write arrays as the safetensors package does, byte for byte, but a part of each at a time.

    Its own function copies every array in memory first.
    """
    # the package puts the types in this order, and arrays of one type by name
    order = ("I64", "F64", "F32", "I32", "F16", "U8", "BOOL")
    codes = {np.dtype(DTYPES[code]): code for code in order}
    named = [(codes[array.dtype.newbyteorder("<")], name, array) for name, array in arrays.items()]
    named.sort(key=lambda entry: (order.index(entry[0]), entry[1]))
    header, end = {}, 0
    for code, name, array in named:
        begin, end = end, end + array.size * array.dtype.itemsize
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for code, _, array in named:
            count = max(CHUNK_BYTES * len(array) // max(array.nbytes, 1), 1)
            for start in range(0, len(array), count):
                stream.write(np.ascontiguousarray(array[start : start + count], DTYPES[code]).tobytes())


def map_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a safetensors file as read-only memory maps.

    The format is an 8-byte little-endian header length, a JSON header, then the bytes; safetensors' own NumPy reader
    copies, so the file is mapped here.

    Raises:
        AffectusError: the file is absent, truncated or not safetensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
            begin, end = entry["data_offsets"]
            if 8 + length + end > size:
                raise ValueError(f"the array {name!r} ends after the file")
            if end - begin != int(np.prod(shape)) * dtype.itemsize:
                raise ValueError(f"the array {name!r} has another size than its shape says")
            if end == begin:
                arrays[name] = np.zeros(shape, dtype)
            else:
                arrays[name] = np.memmap(path, dtype, "r", offset=8 + length + begin, shape=shape)
        return arrays
    except FileNotFoundError:
        raise AffectusError("There is no file", where=path) from None
    except OSError as error:
        raise AffectusError("Could not read", where=path, got=error.strerror or error) from None
    except RecursionError:
        raise AffectusError(
            "Not a whole safetensors file", where=path, got="a header nested too deep", remedy="Import the corpus again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AffectusError(
            "Not a whole safetensors file", where=path, got=error, remedy="Import the corpus again"
        ) from None


def load_corpus(folder: str | Path) -> Corpus:
    """Open a corpus folder; features stay on disk and are read through a memory map.

    Raises:
        AffectusError: the folder is no corpus, or a part of it is damaged.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        what = "The folder holds no corpus (no card.json)" if folder.is_dir() else "There is no corpus folder"
        raise AffectusError(what, where=folder, remedy="Make one with: affectus import FORMAT SOURCE --out DIR")
    raw = read_json(folder / CARD)
    version = raw.get("format_version") if isinstance(raw, dict) else None
    # before the rest, since a newer card may have other keys; what is no number is refused with the rest
    if isinstance(version, int | float) and version > FORMAT_VERSION:
        raise AffectusError(
            "The corpus was written by a newer affectus", where=folder / CARD, remedy="Upgrade affectus to read it"
        )
    try:
        card = Card.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise AffectusError("The card is not valid", where=f"{folder / CARD}, key {key!r}", got=first["msg"]) from None
    try:
        table = pl.read_parquet(folder / TABLE)
    except FileNotFoundError:
        raise AffectusError("There is no file", where=folder / TABLE, remedy="Import the corpus again") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise AffectusError(
            "Not a whole Parquet file", where=folder / TABLE, got=reason, remedy="Import the corpus again"
        ) from None
    features = {}
    for name in card.modalities:
        check_modality_name(name, where=folder / CARD)
        path = folder / FEATURES / f"{name}.safetensors"
        arrays = map_safetensors(path)
        try:
            offsets = np.array(arrays["offsets"])
            features[name] = Ragged(arrays["values"], offsets, arrays.get("times"))
        except (KeyError, ValueError) as error:
            raise AffectusError("The feature file does not hold together", where=path, got=error) from None
    return Corpus(table, features, card, sha256=sha256(folder / CARD))


def verify_files(folder: str | Path) -> list[str]:
    """Return the files of a corpus folder whose SHA-256 is not the card's (or that are absent)."""
    folder = Path(folder)
    card = Card.model_validate(read_json(folder / CARD))
    return [
        name for name, digest in card.files.items() if not (folder / name).is_file() or sha256(folder / name) != digest
    ]


def corpus_hash(folder: str | Path) -> str:
    """Return the SHA-256 of the card, which holds those of all other files: the identity of the corpus."""
    return sha256(Path(folder) / CARD)


def content_hash(corpus: Corpus) -> str:
    """Return a SHA-256 of what a corpus holds, its name and notes aside: what tells it from others in memory."""
    digest = hashlib.sha256()

    def add(*facts: object) -> None:
        digest.update(json.dumps(facts, default=str).encode())

    add(corpus.card.model_dump(mode="json", include={"schemes", "tokenizer", "word_aligned"}))
    for column in sorted(corpus.table.columns):
        add(column, corpus.table[column].to_list())
    for name, ragged in corpus.features.items():
        for part, array in (("values", ragged.values), ("offsets", ragged.offsets), ("times", ragged.times)):
            if array is None:
                continue
            add(name, part, str(array.dtype), array.shape)
            count = max(CHUNK_BYTES * len(array) // max(array.nbytes, 1), 1)
            for start in range(0, len(array), count):
                digest.update(np.ascontiguousarray(array[start : start + count]).tobytes())
        ragged.release()
    return digest.hexdigest()


def identity(corpus: Corpus) -> str:
    """Return the hash of a corpus's folder, as :func:`corpus_hash`, or that of its content if it has none."""
    return corpus.sha256 or content_hash(corpus)


def remove_corpus(folder: str | Path) -> None:
    """Delete a corpus folder, and only a corpus folder."""
    folder = Path(folder)
    if (folder / CARD).is_file():
        shutil.rmtree(folder)
    elif os.path.lexists(folder):
        raise AffectusError("The folder holds no corpus", where=folder)
