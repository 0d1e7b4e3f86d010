import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.labels import emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.vocabulary import SIX_EMOTIONS


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data sets; tests on real data are skipped where there is none."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("AFFECTUS_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data here; set AFFECTUS_DATA to a folder that holds it")
    return folder


def _toy_corpus(
    videos: int = 24, seed: int = 0, splits: tuple[str, ...] = ("train", "train", "valid", "test")
) -> Corpus:
    """Utterances whose text vector tells the sentiment and whose audio vector tells the emotions."""
    rng = np.random.default_rng(seed)
    records, text, audio = [], [], []
    for video in range(videos):
        for position in range(int(rng.integers(2, 6))):
            sentiment, strength = rng.uniform(-3, 3), rng.uniform(-2, 3, 6).clip(0)
            records.append(
                {
                    "id": f"v{video}_{position}",
                    "video": f"v{video}",
                    "split": splits[video % len(splits)],
                    "sentiment": None if rng.random() < 0.05 else sentiment,
                    **dict(zip(SIX_EMOTIONS, strength, strict=True)),
                    "emotion_class": ["anger", "none"][int(strength[0] == 0)],
                }
            )
            text.append(np.concatenate([[sentiment], rng.normal(size=4)]))
            audio.append(np.concatenate([strength, rng.normal(size=2)]) if rng.random() > 0.1 else None)
    card = Card(
        name="toy",
        generated=True,
        schemes=[sentiment_scheme(), emotions_scheme(), emotion_class_scheme(("anger", "none"))],
    )
    features = {
        "text": Ragged.from_rows(np.array(text)),
        "audio": Ragged.from_sequences([None if a is None else a[None] for a in audio], 8),
    }
    return build_corpus(records, features, card)


@pytest.fixture
def make_corpus() -> Callable[..., Corpus]:
    return _toy_corpus


@pytest.fixture
def corpus() -> Corpus:
    return _toy_corpus()


@pytest.fixture(scope="module")
def module_corpus() -> Corpus:
    return _toy_corpus(videos=60)
