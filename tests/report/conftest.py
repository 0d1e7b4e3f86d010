import os
import time
from pathlib import Path

import polars as pl
import pytest

from affectus.api import train
from affectus.corpus import Corpus
from affectus.corpus.embedded import make_embedded
from affectus.corpus.storage import save_corpus
from affectus.errors import AffectusError
from affectus.files import lock_folder

HOSTILE = "<script>alert('x')</script> & \"quoted\" </style><img src=x onerror=alert(1)>"
TINY = {"hidden": 4, "dense": 4}
SHORT = {"epochs": 2, "learning_rate": 0.01}


@pytest.fixture(scope="session")
def spoken() -> Corpus:
    """The embedded corpus, small, in which somebody says HTML in every test utterance."""
    corpus = make_embedded(videos=24)
    said = pl.when(pl.col("split") == "test").then(pl.lit(HOSTILE)).otherwise("text").alias("text")
    return Corpus(corpus.table.with_columns(said), corpus.features, corpus.card)


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory, spoken: Corpus) -> Path:
    """A folder with ``corpus`` and the runs ``multi``, ``single``, ``polarity``, ``linear``, ``stages``, ``heads``."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _train_all(tmp_path_factory.mktemp("report"), spoken)
    # the workers share one folder: the first one trains, the others wait
    folder = tmp_path_factory.getbasetemp().parent / "report"
    folder.mkdir(exist_ok=True)
    for _ in range(1200):
        try:
            with lock_folder(folder):
                if not (folder / "done").exists():
                    _train_all(folder, spoken)
                    (folder / "done").touch()
                return folder
        except AffectusError as error:
            if "Another affectus is writing" not in str(error):
                raise
            time.sleep(0.1)
    raise AssertionError("another worker never finished training")


def _train_all(folder: Path, corpus: Corpus) -> Path:
    save_corpus(corpus, folder / "corpus")
    for name, model, tasks, options, training, seeds in (
        ("multi", "mtmm_es", ["polarity", "emotions", "intensity", "emotion_class"], TINY, SHORT, 2),
        ("single", "mtmm_es", ["emotions"], TINY, SHORT, 2),
        ("polarity", "mtmm_es", ["polarity"], TINY, {**SHORT, "keep_epochs": True}, 1),
        ("linear", "linear", ["polarity", "emotions"], {}, {}, 1),
        ("heads", "ufen_mtfn", ["intensity", "polarity"], {"dim": 8, "filters": [4], "ffn": 8}, {"epochs": 1}, 2),
        ("stages", "bc_lstm", ["polarity"], {**TINY, "fusion_dense": 4}, {"epochs": 1}, 1),
    ):
        train(
            model,
            folder / "corpus",
            tasks=tasks,
            out=folder / name,
            options=options,
            training=training,
            seeds=seeds,
        )
    return folder
