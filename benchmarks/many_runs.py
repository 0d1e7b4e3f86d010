"""Runs per hour: seeds one after another, with ``--jobs 2``, and as one stacked model; and cells of a study.

    python benchmarks/many_runs.py --model mmmu_ba --seeds 6 --epochs 5 --cells 8

All three train the same model on the embedded corpus with the same seeds, each in a process of its own, as
``affectus train`` does (starting up counts), one thread per process, one after another in this call. The ratio counts,
not the run per hour. Without dropout (``--no-dropout``) the results are compared too.
With ``--cells`` so many cells of a study, a seed each, are trained as by ``affectus benchmark``, one after another and
with ``--jobs 2``.
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

STUDY = """
import sys
from pathlib import Path
from affectus.studies.cells import Cell, run_cells

model, corpus, out, count, epochs, jobs = sys.argv[1:]
tasks, training = ("polarity",), {"epochs": int(epochs)}
cells = [Cell(f"seed-{i}", model, tasks, training=training, seeds=(i,)) for i in range(int(count))]
found = run_cells(cells, Path(corpus), Path(out), jobs=int(jobs))
sys.exit(any(outcome.failure for outcome in found.values()))
"""


def python(*words: str) -> float:
    begun = time.perf_counter()
    given = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], check=True, env=given, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def command(*words: str) -> float:
    return python("-m", "affectus", *words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mmmu_ba")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--no-dropout", action="store_true")
    parser.add_argument("--cells", type=int, default=0)
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
        if chosen.cells:
            study = [chosen.model, str(folder / "corpus")]
            one, two = (
                python("-c", STUDY, *study, str(folder / f"study{jobs}"), str(chosen.cells), str(chosen.epochs), jobs)
                for jobs in ("1", "2")
            )
            print(f"{chosen.cells} cells of a study: {3600 * chosen.cells / one:.0f} an hour, one after another;")
            print(f"{3600 * chosen.cells / two:.0f} with --jobs 2, {one / two:.2f} times as many")
        if chosen.no_dropout:
            largest = 0.0
            for seed in range(chosen.seeds):
                expected, found = (load_file(folder / f"run{i}/seed-{seed}/valid.safetensors") for i in (0, 2))
                key = "probabilities.polarity"
                largest = max(largest, float(np.abs(expected[key] - found[key]).max()))
            print(f"Largest difference between a probability of separate and of stacked seeds: {largest:.1e}")


if __name__ == "__main__":
    main()
