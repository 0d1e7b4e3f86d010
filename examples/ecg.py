"""A fourth modality from a chest strap: import an ECG beside text, audio and vision, and train with it.

    python examples/ecg.py --work ecg [--model linear]

No recording of a real heart is at hand. The utterances are those of the embedded corpus, and the heart is generated
too: it beats faster where the emotions' labels say anger, fear or surprise, and slower at sadness. So the figures show
that the way from a strap's file to a prediction works, and nothing about people.

What it writes is what a data set of one's own looks like: a manifest, feature files, one EDF file per video.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from edfio import Edf, EdfSignal

from affectus import evaluate, train
from affectus.corpus import save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.corpus.readers import import_corpus
from affectus.vocabulary import SIX_EMOTIONS

STRAP_RATE = 128
"""Samples of the ECG per second, as cheap straps have."""
RESTING, AROUSED = 70.0, 8.0
"""Beats per minute at rest, and more of them per unit of arousal."""


def heart(seconds: float, spans: list[tuple[float, float, float]], draw: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Generate an ECG in millivolts and the heart rate that the strap counts, once a second.

    Args:
        seconds: length of the recording.
        spans: start, end and arousal of each utterance.
        draw: of the noise.
    """
    time = np.arange(round(seconds * STRAP_RATE)) / STRAP_RATE
    wanted = np.full(len(time), RESTING)
    for start, end, arousal in spans:
        wanted[(time >= start) & (time < end)] += AROUSED * arousal
    # a heart does not jump: half a second of smoothing, and a wandering of its own
    smooth = np.convolve(np.pad(wanted, STRAP_RATE // 4, "edge"), np.ones(STRAP_RATE // 2), "valid")[: len(time)]
    wander = np.cumsum(draw.normal(scale=0.05, size=len(time)))
    beats = smooth / (STRAP_RATE // 2) + wander
    phase = np.cumsum(beats / 60 / STRAP_RATE) % 1.0
    # the R peak, the T wave and the P wave of each beat, as bumps over its phase
    wave = sum(size * np.exp(-((((phase - at + 0.5) % 1) - 0.5) ** 2) / (2 * width**2)) for at, size, width in
               ((0.30, 1.0, 0.012), (0.58, 0.25, 0.045), (0.16, 0.12, 0.03)))  # fmt: skip
    counted = beats[::STRAP_RATE] + draw.normal(scale=2.0, size=len(beats[::STRAP_RATE]))
    return wave + draw.normal(scale=0.03, size=len(time)), counted


def write_data_set(folder: Path, videos: int) -> Path:
    """Write the manifest, the feature files and the strap's recordings."""
    corpus = make_embedded(videos=videos, steps=True, emotion_labels=1.0, missing=0.0)
    draw = np.random.default_rng(0)
    for part in ("features", "strap"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    strength = corpus.table.select(SIX_EMOTIONS).fill_null(0)
    arousal = strength["anger"] + strength["fear"] + strength["surprise"] - strength["sadness"]
    rows = corpus.table.select("id", "video", "split", "start", "end", "speaker", "text", "sentiment", *SIX_EMOTIONS)
    for name, ragged in corpus.features.items():
        files = [f"features/{name}-{row:05d}.npy" for row in range(len(corpus))]
        for row, file in enumerate(files):
            np.save(folder / file, ragged[row])
        rows = rows.with_columns(pl.Series(f"{name}_features", files))
    for rows_of_video in corpus.recordings():
        of = corpus.table[rows_of_video]
        spans = list(zip(of["start"], of["end"], arousal[rows_of_video], strict=True))
        seconds = float(np.ceil(max(of["end"]) + 1))
        ecg, counted = heart(seconds, spans, draw)
        strap = Edf([EdfSignal(ecg, STRAP_RATE, label="ECG"), EdfSignal(counted, 1, label="HeartRate")])
        strap.write(folder / "strap" / f"{of['video'][0]}.edf")
    rows = rows.with_columns((pl.lit("strap/") + pl.col("video") + ".edf").alias("strap"))
    rows.write_csv(folder / "manifest.csv")
    return folder / "manifest.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("ecg"))
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--model", default="linear")
    arguments = parser.parse_args()
    manifest = write_data_set(arguments.work / "data", arguments.videos)
    # as: affectus import manifest manifest.csv --signal ecg=strap:rate=32 --out corpus
    imported = import_corpus("manifest", manifest, name="strap", signals=["ecg=strap:rate=32"])
    imported.card.generated, imported.card.licence = True, "CC0-1.0"
    corpus = arguments.work / "corpus"
    save_corpus(imported, corpus)
    for modalities in (["text"], ["ecg"], ["text", "ecg"]):
        run = arguments.work / f"{arguments.model}-{'-'.join(modalities)}"
        train(arguments.model, corpus, tasks=["emotions"], modalities=modalities, out=run)
        found = evaluate(run, corpus, split="test")
        metric = "emotions.weighted_accuracy"
        print(
            f"{arguments.model} on {' and '.join(modalities)}: {metric} {found.mean(metric):.3f}"
            f" (majority {found.majority[metric]:.3f})"
        )


if __name__ == "__main__":
    main()
