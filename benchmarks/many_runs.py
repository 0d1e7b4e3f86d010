"""Runs per hour: seeds one after another, with ``--jobs 2``, and as one stacked model.

    python benchmarks/many_runs.py --model mmmu_ba --seeds 6 --epochs 5

All three train the same model on the embedded corpus with the same seeds, each in a process of its own, as
``affectus train`` does (starting up counts), one thread per process, one after another in this call. The ratio counts,
not the run per hour. Without dropout (``--no-dropout``) the results are compared too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from affectus.models import MODELS


def command(*words: str) -> float:
    begun = time.perf_counter()
    given = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "affectus", *words], check=True, env=given, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mmmu_ba")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--no-dropout", action="store_true")
    chosen = parser.parse_args()
    settings = [f"epochs={chosen.epochs}"]
    if chosen.no_dropout:
        settings += [f"{name}=0.0" for name in MODELS[chosen.model].options if name.endswith("dropout")]
    words = [part for setting in settings for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command("corpus", "embedded", "--videos", str(chosen.videos), "--out", str(folder / "corpus"))
        ways = {"one after another": [], "--jobs 2": ["--jobs", "2"], "--stacked": ["--stacked"]}
        seconds = {}
        for i, (way, more) in enumerate(ways.items()):
            train = ["train", chosen.model, str(folder / "corpus"), "--tasks", "polarity", "--quiet", *words]
            seconds[way] = command(*train, "--seeds", str(chosen.seeds), "--out", str(folder / f"run{i}"), *more)
        print(f"{chosen.model}, {chosen.seeds} seeds, {chosen.epochs} epochs, {chosen.videos} videos")
        print("| how | runs per hour | against one after another |")
        print("| --- | ---: | ---: |")
        first = seconds["one after another"]
        for way, spent in seconds.items():
            print(f"| {way} | {3600 * chosen.seeds / spent:.0f} | {first / spent:.2f} |")
        if chosen.no_dropout:
            largest = 0.0
            for seed in range(chosen.seeds):
                expected, found = (load_file(folder / f"run{i}/seed-{seed}/valid.safetensors") for i in (0, 2))
                key = "probabilities.polarity"
                largest = max(largest, float(np.abs(expected[key] - found[key]).max()))
            print(f"Largest difference between a probability of separate and of stacked seeds: {largest:.1e}")


if __name__ == "__main__":
    main()
