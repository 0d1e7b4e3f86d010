"""A million utterances: time and memory of every command, from 10,000 utterances up.

    python benchmarks/million.py [--sizes 10000,30000,100000,300000,1000000] [--repeats 3] [--work DIR] [--json FILE]

Utterances are generated in shards of up to 100,000, each from (seed, shard) alone: three modalities of 32 numbers, one
vector per utterance, videos of 2 to 18 utterances, nine tenths of them in train. A shard is a NumPy bundle in the form
of CMU-MOSI's. Then, each a command of its own as a user would type it: every shard is imported, the shards are joined,
the corpus is checked, `mtmm_es` (contextual) and `lmf` (utterance by utterance) are trained for an epoch, and the one
with context predicts every utterance.

Anonymous memory (RssAnon; pages of mapped files do not count) is the largest sum over a command's processes, looked at
20 times a second. Time is that of the processor, so that other work on the machine matters little; the median of the
repeats. Up to 100,000 utterances starting up is most of it, so that a growth in proportion is a line that does not
begin at zero. One is fitted through all sizes (the least sum of squared shares by which it misses them; import starts
once for each shard), and the largest share by which it misses one is told.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np

SHARD = 100_000
DIM = 32
MODALITIES = ("text", "audio", "video")
LIMIT_MIB = 2e9 / 2**20
COMMANDS = ("import", "join", "check", "train mtmm_es", "train lmf", "predict")
TRAINING = ["--tasks", "intensity", "--set", "epochs=1", "-q"]
CONTEXT = ["--set", "hidden=16", "--set", "dense=16", "--set", "batch_size=256"]
FUSION = ["--set", "batch_size=2048"]


def write_shard(path: Path, number: int, count: int, seed: int = 0) -> None:
    """Write so many utterances as a NumPy bundle; they depend on the seed and the shard's number alone."""
    rng = np.random.default_rng([seed, number])
    lengths = rng.integers(2, 19, count)
    video = np.repeat(np.arange(count), lengths)[:count]
    segment = np.concatenate([np.arange(length) for length in lengths[: video[-1] + 1]])[:count]
    split = np.array(["train", "valid", "test"])[np.digitize(rng.random(video[-1] + 1), (0.9, 0.95))][video]
    sentiment = rng.uniform(-3, 3, count).astype(np.float32)
    features = {f"{name}_feat": rng.normal(size=(count, DIM)).astype(np.float32) for name in MODALITIES}
    for values in features.values():
        values[:, 0] += sentiment
    np.savez(
        path,
        id=np.array([f"s{number}-{i}" for i in range(count)]),
        video_id=np.array([f"s{number}-v{i}" for i in video]),
        segment=segment,
        split_std=split,
        start=segment * 4.0,
        end=segment * 4.0 + 4.0,
        text=np.array([f"utterance {i}" for i in range(count)]),
        sentiment=sentiment,
        **features,
    )


def anonymous(process: int) -> float:
    """Return RssAnon of a process and of all that it has started, in MiB; 0 for one that has gone."""
    total = 0.0
    try:
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) / 1024
        for thread in Path(f"/proc/{process}/task").iterdir():
            total += sum(anonymous(int(child)) for child in (thread / "children").read_text().split())
    except (OSError, ValueError):
        pass
    return total


def measure(arguments: Sequence[str]) -> dict[str, float]:
    """Run a command and return its processor seconds, its wall seconds and its peak of anonymous memory."""
    begun, peak = time.monotonic(), 0.0
    process = subprocess.Popen([sys.executable, "-m", "affectus", *arguments], stdout=subprocess.DEVNULL)
    while True:
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"affectus {' '.join(arguments)} ended with {process.returncode}")
    return {
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "wall_seconds": round(time.monotonic() - begun, 2),
        "peak_mib": round(peak, 1),
    }


def run_size(count: int, work: Path, known: dict[str, Any], keep: Path | None) -> None:
    """Run all commands on so many utterances; what ``known`` holds already is not run again."""
    work.mkdir(parents=True, exist_ok=True)
    corpus = work / "corpus"
    shards = [min(SHARD, count - begin) for begin in range(0, count, SHARD)]
    if "import" not in known:
        parts = []
        for number, size in enumerate(shards):
            bundle = work / "shard.npz"
            write_shard(bundle, number, size)
            parts.append(measure(["import", "mosi-npz", str(bundle), "--out", str(work / f"shard-{number}"), "--json"]))
            bundle.unlink()
        seconds = {key: round(sum(part[key] for part in parts), 2) for key in ("cpu_seconds", "wall_seconds")}
        known["import"] = {**seconds, "peak_mib": max(part["peak_mib"] for part in parts), "commands": len(parts)}
    calls = {
        "join": ["corpus", "join", *(str(work / f"shard-{n}") for n in range(len(shards))), "--out", str(corpus)],
        "check": ["corpus", "check", str(corpus)],
        "train mtmm_es": ["train", "mtmm_es", str(corpus), *TRAINING, *CONTEXT, "--out", str(work / "mtmm_es")],
        "train lmf": ["train", "lmf", str(corpus), *TRAINING, *FUSION, "--out", str(work / "lmf")],
        "predict": ["predict", str(work / "mtmm_es"), str(corpus), "--out", str(work / "said.parquet")],
    }
    for name, call in calls.items():
        if name not in known:
            known[name] = measure(call)
            print(f"{count:>9,} {name:<14} {known[name]}", flush=True)
            if keep:
                keep.write_text(json.dumps(FIGURES, indent=1) + "\n", encoding="utf-8")


FIGURES: dict[str, dict[str, Any]] = {}
"""By size and repeat (``10000/0``), and command."""


def line(sizes: Sequence[int], seconds: Sequence[float], starts: Sequence[int]) -> tuple[float, float, float]:
    """Return the seconds of a start and of 100,000 utterances, and the largest share by which their line misses."""
    share, ones = 1 / np.array(seconds), np.ones(len(sizes))
    matrix = np.stack([np.array(starts) * share, np.array(sizes) / 100_000 * share], axis=1)
    start, slope = np.linalg.lstsq(matrix, ones, rcond=None)[0]
    return float(start), float(slope), float(np.abs(matrix @ (start, slope) - ones).max())


def _size(key: str) -> int:
    return int(key.partition("/")[0])


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    sizes = sorted({_size(key) for key in found})
    head = [f"{size:,}: s" for size in sizes]
    head += ["a start, s", "100,000 more, s", "farthest from the line, %", *(f"{size:,}: MiB" for size in sizes)]
    lines = ["| command | " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(head)]
    for command in COMMANDS:
        entries = [[each[command] for key, each in found.items() if _size(key) == n and command in each] for n in sizes]
        if not all(entries):
            continue
        seconds = [statistics.median(entry["cpu_seconds"] for entry in some) for some in entries]
        start, slope, missed = line(sizes, seconds, [some[0].get("commands", 1) for some in entries])
        cells = [f"{each:.1f}" for each in seconds] + [f"{start:.1f}", f"{slope:.2f}", f"{100 * missed:.0f}"]
        cells += [f"{max(entry['peak_mib'] for entry in some):.0f}" for some in entries]
        lines.append(f"| {command} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,30000,100000,300000,1000000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where corpora are written, and kept; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="figures; those in it already are not measured again")
    arguments = parser.parse_args()
    if arguments.json and arguments.json.is_file():
        FIGURES.update(json.loads(arguments.json.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(arguments.repeats):
            for size in map(int, arguments.sizes.split(",")):
                folder = (arguments.work or Path(scratch)) / str(size) / str(repeat)
                run_size(size, folder, FIGURES.setdefault(f"{size}/{repeat}", {}), arguments.json)
                if not arguments.work:
                    shutil.rmtree(folder)
    print(table(FIGURES))
    worst = max(entry["peak_mib"] for commands in FIGURES.values() for entry in commands.values())
    print(
        f"largest RssAnon {worst:.0f} MiB, {'below' if worst < LIMIT_MIB else 'NOT below'} 2 GB ({LIMIT_MIB:.0f} MiB)"
    )
    if worst >= LIMIT_MIB:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
