"""RAVDESS: acted clips of two sentences in eight emotions, with action units and MFCCs per clip."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectus.corpus.card import Card, ModalityCard
from affectus.corpus.corpus import Corpus
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers.arrays import Bundle
from affectus.corpus.readers.base import NPZ, ReadOptions, make_corpus, one_source, register_reader
from affectus.errors import AffectusError, suggest
from affectus.labels import emotion_class_scheme

EMOTIONS = {
    "neutral": "none",
    "calm": "calm",
    "happy": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "fearful": "fear",
    "disgust": "disgust",
    "surprised": "surprise",
}
FEATURES = {"audio": "audio_mfcc259", "vision": "visual_au35"}
ENCODERS = {"audio": "MFCC", "vision": "OpenFace action units (17 intensities, 18 presences)"}
VALID_ACTORS = (19, 20)


@register_reader(
    "ravdess",
    summary="RAVDESS, acted clips with action units and MFCCs, one of eight emotions",
    sources="one .npz file",
    example="ravdess ravdess_au_mfcc.npz --out ravdess",
    kind=NPZ,
)
def read_ravdess(sources: Sequence[Path], options: ReadOptions) -> Corpus:
    """Read ``id, flac, emotion_name, actor, text, audio_mfcc259, visual_au35``.

    Each actor is a video and a speaker; actors 1 to 18 are train, 19 and 20 valid, later ones test. ``path`` is the
    sound file, relative to the folder of the source.

    Raises:
        AffectusError: an array is absent, damaged or of another shape, or an emotion is unknown.
    """
    bundle = Bundle(one_source(sources, NPZ))
    ids = bundle.strings("id")
    rows = len(ids)
    emotions = bundle.strings("emotion_name", rows=rows)
    for row, name in enumerate(emotions):
        if name not in EMOTIONS:
            raise AffectusError(
                f"Unknown emotion {name!r}",
                where=f"{bundle.path}, row {row}",
                expected="one of: " + ", ".join(EMOTIONS),
                remedy=suggest(name, EMOTIONS),
            )
    actors = bundle.array("actor", ndim=1, rows=rows, numeric=True).tolist()
    first, last = VALID_ACTORS
    videos = [f"actor{actor:02d}" for actor in actors]
    table = pl.DataFrame(
        {
            "id": ids,
            "video": videos,
            "split": ["train" if actor < first else "valid" if actor <= last else "test" for actor in actors],
            "speaker": videos,
            "text": bundle.strings("text", rows=rows),
            "emotion_class": [EMOTIONS[name] for name in emotions],
            "path": _paths(bundle.path.parent, bundle.strings("flac", rows=rows)),
        }
    )
    features = {
        name: Ragged.from_rows(bundle.array(key, ndim=2, rows=rows, numeric=True)) for name, key in FEATURES.items()
    }
    card = Card(
        name="RAVDESS",
        source=bundle.path.name,
        licence="CC BY-NC-SA 4.0",
        language="en",
        modalities={name: ModalityCard(dim=r.dim, encoder=ENCODERS[name]) for name, r in features.items()},
        schemes=[emotion_class_scheme(tuple(EMOTIONS.values()))],
        notes=[
            "The text is one of two fixed sentences and says nothing of the emotion.",
            "Paths are relative to the folder of the source.",
        ],
    )
    return make_corpus(table, features, card, options)


def _paths(folder: Path, names: list[str]) -> list[str]:
    """Return the names, below the subfolder that holds the first of them, if one does."""
    if names and not (folder / names[0]).is_file():
        for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
            if (subfolder / names[0]).is_file():
                return [f"{subfolder.name}/{name}" for name in names]
    return names
