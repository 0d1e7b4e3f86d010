"""What may be opened: runs, corpora and manifests below the folders that the server was started with.

A client names them by an id that the server made, never by a path.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_DEEP = 4
"""Levels below a root that are searched."""
_MOST = 500
_MOST_FOLDERS = 20_000


@dataclass(frozen=True)
class Entry:
    """Something that can be opened.

    Attributes:
        id: made of its path.
        kind: ``run``, ``corpus`` or ``manifest``.
        name: its path within the root.
        path: where it is; never told to a client.
        about: its model and tasks, or its utterances.
        modalities: those it has.
        splits: of a corpus.
    """

    id: str
    kind: Literal["run", "corpus", "manifest"]
    name: str
    path: Path
    about: str
    modalities: tuple[str, ...]
    splits: tuple[str, ...] = ()


class Catalog:
    """Runs and corpora below some folders.

    Args:
        roots: the folders.
    """

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self.roots = tuple(root.resolve() for root in roots)

    def entries(self) -> list[Entry]:
        """Return what is there now, by kind and name."""
        found: dict[str, Entry] = {}
        for root in self.roots:
            for entry in _search(root):
                found.setdefault(entry.id, entry)
                if len(found) >= _MOST:
                    break
        return sorted(found.values(), key=lambda entry: (entry.kind, entry.name))

    def path(self, entry: str) -> Path | None:
        """Return where something is; None if there is nothing of this id."""
        return next((one.path for one in self.entries() if one.id == entry), None)


def _search(root: Path) -> Iterator[Entry]:
    for count, (place, folders, files) in enumerate(os.walk(root, followlinks=False)):
        folder = Path(place)
        depth = len(folder.relative_to(root).parts)
        if depth >= _DEEP or count > _MOST_FOLDERS:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        name = f"{root.name}/{folder.relative_to(root).as_posix()}".removesuffix("/.")
        if "run.json" in files:
            folders.clear()
            if (entry := _run(folder, name)) is not None:
                yield entry
        elif "card.json" in files and "utterances.parquet" in files:
            folders.clear()
            if (entry := _corpus(folder, name)) is not None:
                yield entry
        else:
            for file in sorted(files):
                if file.lower().endswith(".csv") and (entry := _manifest(folder / file, f"{name}/{file}")) is not None:
                    yield entry


def _run(folder: Path, name: str) -> Entry | None:
    file = _json(folder / "run.json")
    config = file.get("config")
    inputs = file.get("inputs")
    if not isinstance(config, dict) or not isinstance(inputs, dict):
        return None
    tasks = ", ".join(map(str, config.get("tasks", [])))
    return Entry(_id(folder), "run", name, folder, f"{config.get('model')}: {tasks}", tuple(map(str, inputs)))


def _corpus(folder: Path, name: str) -> Entry | None:
    card = _json(folder / "card.json")
    counts, modalities = card.get("counts"), card.get("modalities")
    if not isinstance(counts, dict) or not isinstance(modalities, dict):
        return None
    total = sum(int(one.get("utterances", 0)) for one in counts.values() if isinstance(one, dict))
    return Entry(
        _id(folder), "corpus", name, folder, f"{card.get('name')}: {total} utterances", tuple(modalities), tuple(counts)
    )


def _manifest(path: Path, name: str) -> Entry | None:
    """Return the entry of a CSV that names feature files."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            head = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    modalities = tuple(column.removesuffix("_features") for column in head if column.endswith("_features"))
    if not modalities or not {"id", "video"} & set(head):
        return None
    return Entry(_id(path), "manifest", name, path, "feature files", modalities)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _id(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]
