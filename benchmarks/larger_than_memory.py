"""Memory of training on a corpus whose features are larger than the memory that the process may use.

    python benchmarks/larger_than_memory.py [--gigabytes 4] [--limit 512] [--json FILE] [--work DIR]

A corpus of word-aligned sequences as wide as the states of a large text encoder (24 steps of 4,096 numbers) and of an
audio encoder (1,024) is written to disk piece by piece, twice its size while it is written. Then, each in a process of
its own, it is checked, trained on for one epoch in the aligned view (`ufen_mtfn`) and the contextual one (`mtmm_es`),
both small, and judged on its test split. After everything is imported a process may allocate --limit MiB more
(RLIMIT_DATA, which counts what is allocated and not the mapped files), so it ends with an error where a modality is
read as a whole. The table shows the peak of what was allocated (RssAnon): pages of the mapped files come and go as the
system likes and are not in it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

DIMS = {"text": 4096, "audio": 1024}
STEPS = 24
BYTES = sum(DIMS.values()) * STEPS * 4
"""Of one utterance."""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "aligned": ("ufen_mtfn", {"dim": 16, "layers": 1, "filters": [16], "ffn": 32}),
    "contextual": ("mtmm_es", {"hidden": 16, "dense": 16}),
}
"""Small models: the features are what is large here."""
JOBS = ("check", *MODELS)


def write_corpus(folder: Path, gigabytes: float) -> int:
    """Write a corpus of about so many GB and return the exact size of its features in bytes."""
    import numpy as np

    from affectus.corpus import Card, Ragged, build_corpus, save_corpus
    from affectus.labels import sentiment_scheme

    count = max(int(gigabytes * 1e9 / BYTES), 40)
    rng = np.random.default_rng(0)
    sentiment = rng.uniform(-3, 3, count)
    split = np.array(["train", "valid", "test"])[np.digitize(np.arange(count) / count, (0.9, 0.95))]
    records = [
        {"id": f"u{i}", "video": f"v{i // 10}-{split[i]}", "split": split[i], "sentiment": float(sentiment[i])}
        for i in range(count)
    ]
    offsets = np.arange(count + 1, dtype=np.int64) * STEPS
    features = {}
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for name, dim in DIMS.items():
            values = np.memmap(Path(scratch) / name, np.float32, "w+", shape=(count * STEPS, dim))
            for begin in range(0, count, 100):
                some = sentiment[begin : begin + 100]
                part = rng.normal(size=(len(some), STEPS, dim)).astype(np.float32)
                part[:, :, 0] += some[:, None]
                values[begin * STEPS : (begin + len(some)) * STEPS] = part.reshape(-1, dim)
            features[name] = Ragged(values, offsets)
        card = Card(name="wide", generated=True, word_aligned=True, schemes=[sentiment_scheme()])
        save_corpus(build_corpus(records, features, card), folder)
    return count * BYTES


def status(key: str) -> float:
    """Return a figure of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("needs Linux's /proc")


class Peak:
    """The largest RssAnon while the block runs."""

    def __enter__(self) -> "Peak":
        self.mib, self._on = status("RssAnon"), True
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while self._on:
            self.mib = max(self.mib, status("RssAnon"))
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()


def work(job: str, folder: Path, out: Path) -> None:
    """Do one job on a corpus folder."""
    from affectus.api import evaluate, train
    from affectus.corpus.check import check_corpus

    if job == "check":
        check_corpus(folder)
        return
    model, options = MODELS[job]
    training = {"epochs": 1, "record_epochs": False}
    run = train(model, folder, tasks=["intensity"], out=out, view=job, options=options, training=training, device="cpu")
    evaluate(run, folder, split="test")


def measure(job: str, folder: Path, limit: int) -> dict[str, float]:
    """Do a job within a limit, after a rehearsal on a tiny corpus that loads all code."""
    with tempfile.TemporaryDirectory() as scratch:
        write_corpus(Path(scratch) / "tiny", 0)
        work(job, Path(scratch) / "tiny", Path(scratch) / "tiny-run")
        allowed = int((status("VmData") + limit) * 1024 * 1024)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
        before, started = status("RssAnon"), time.perf_counter()
        with Peak() as peak:
            work(job, folder, Path(scratch) / "run")
        return {"before_mib": before, "peak_mib": peak.mib, "seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--limit", type=int, default=512, help="MiB that a job may allocate")
    parser.add_argument("--work", type=Path, help="where the corpus is written; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(measure(arguments.job, arguments.corpus, arguments.limit)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as scratch:
        folder = Path(scratch) / "corpus"
        size = write_corpus(folder, arguments.gigabytes) / 2**20
        figures: dict[str, Any] = {"features_mib": size, "limit_mib": arguments.limit}
        for job in JOBS:
            call = [sys.executable, __file__, "--job", job, "--corpus", str(folder), "--limit", str(arguments.limit)]
            found = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
            figures[job] = json.loads(found.splitlines()[-1])
    print(f"features {size:,.0f} MiB; a job may allocate {arguments.limit} MiB")
    for job in JOBS:
        one = figures[job]
        grown = one["peak_mib"] - one["before_mib"]
        print(f"{job:<11} peak {one['peak_mib']:6.0f} MiB, {grown:4.0f} of them for it; {one['seconds']:6.1f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
