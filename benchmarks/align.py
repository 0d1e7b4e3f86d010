"""Word alignment at CMU-MOSEI's scale, on made-up features: seconds and peak memory.

Usage: python benchmarks/align.py [--utterances 23000] [--folder DIR]
"""

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl

from affectus.corpus import Card, Ragged, build_corpus, load_corpus, save_corpus
from affectus.corpus.align import align_corpus

SECONDS_PER_WORD = 0.37
RATES = {"audio": (100.0, 74), "vision": (30.0, 35)}
"""Steps per second and width: COVAREP and FACET."""


def make(folder: Path, utterances: int, seed: int) -> None:
    """Write a corpus of utterances of about 19 words (7.3 s), ten to a video, with frames of two modalities."""
    rng = np.random.default_rng(seed)
    lengths = np.maximum(rng.poisson(19.7, utterances), 1)
    starts, ends, frames = [], [], {name: [] for name in RATES}
    for length in lengths:
        bounds = np.concatenate([[0.0], np.cumsum(rng.gamma(4.0, SECONDS_PER_WORD / 4, length))])
        starts.append(bounds[:-1])
        ends.append(bounds[1:])
        for name, (rate, _) in RATES.items():
            begins = np.arange(0, bounds[-1], 1 / rate)
            frames[name].append(np.stack([begins, begins + 1 / rate], axis=1))
    features = {}
    for name, (_, dim) in RATES.items():
        times = np.concatenate(frames[name])
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in frames[name]])]).astype(np.int64)
        values = rng.standard_normal((len(times), dim), np.float32)
        features[name] = Ragged(values, offsets, times)
    videos = [f"video{row // 10}" for row in range(utterances)]
    table = pl.DataFrame(
        {
            "id": [str(row) for row in range(utterances)],
            "video": videos,
            "split": ["train"] * utterances,
            "words": [["word"] * length for length in lengths],
            "word_starts": starts,
            "word_ends": ends,
        }
    )
    save_corpus(build_corpus(table, features, Card(name="made up", generated=True)), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=23_000)
    parser.add_argument("--folder", type=Path, help="where to keep the corpus; made if absent, else a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "corpus"
        if not folder.exists():
            make(folder, options.utterances, seed=0)
        begin = time.perf_counter()
        corpus = load_corpus(folder)
        aligned = align_corpus(corpus)
        seconds = time.perf_counter() - begin
        # a second pass, since counting allocations takes time; mapped files are not counted, they need no memory
        tracemalloc.start()
        align_corpus(corpus)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        steps = {name: len(ragged.values) for name, ragged in corpus.features.items()}
        words = len(aligned.features["audio"].values)
        print(f"{len(corpus)} utterances, {words} words, steps {steps}")
        print(f"{seconds:.1f} s, peak {peak:.0f} MiB beside the mapped files")


if __name__ == "__main__":
    main()
