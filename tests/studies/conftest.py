from pathlib import Path

import pytest

from affectus.corpus import save_corpus
from affectus.corpus.embedded import make_embedded


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small embedded corpus, all label kinds and three modalities."""
    folder = tmp_path_factory.mktemp("embedded") / "embedded"
    save_corpus(make_embedded(videos=24, emotion_labels=1.0), folder)
    return folder
