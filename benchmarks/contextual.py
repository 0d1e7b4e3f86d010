"""Seconds per epoch and peak memory of mtmm_es at CMU-MOSEI's shape: length buckets against padding to 98 utterances.

    python benchmarks/contextual.py [--videos 2250] [--repeats 3] [--json FILE]

The released code pads every video to 98 utterances. The corpus here is drawn at the shape of MOSEI's train split: 2,250
videos of 1 to 98 utterances, 7.2 on average, 300/74/35 columns. Each arrangement trains in a process of its own, in
turn, so that both meet the same load; an epoch is a whole pass of the loop that `affectus train` runs, on one thread.
Quote the ratios: the seconds belong to the machine and its load.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "buckets": {"buckets": True},
    "padded to the batch's longest": {"buckets": False},
    "padded to 98, as released": {"buckets": False, "pad_to": 98},
}
DIMS = {"text": 300, "audio": 74, "vision": 35}


def make_corpus(videos: int) -> Any:
    """Draw a corpus of MOSEI's shape; the labels are random, since only time counts here."""
    import numpy as np

    from affectus.corpus import Card, Ragged, build_corpus
    from affectus.labels import emotions_scheme, sentiment_scheme
    from affectus.vocabulary import SIX_EMOTIONS

    rng = np.random.default_rng(0)
    # a lognormal's long tail, cut at 98: the mean is MOSEI's 16,216 / 2,250
    lengths = np.clip(np.round(rng.lognormal(1.72, 0.72, videos)), 1, 98).astype(int)
    lengths[0] = 98
    count = int(lengths.sum())
    video = np.repeat(np.arange(videos), lengths)
    emotions = rng.uniform(-2, 3, (count, 6)).clip(0)
    sentiment = rng.uniform(-3, 3, count)
    records = [
        {
            "id": f"{v}_{i}",
            "video": f"{v}",
            "split": "train",
            "sentiment": s,
            **dict(zip(SIX_EMOTIONS, e, strict=True)),
        }
        for i, (v, s, e) in enumerate(zip(video.tolist(), sentiment.tolist(), emotions.tolist(), strict=True))
    ]
    features = {name: Ragged.from_rows(rng.normal(size=(count, dim)).astype(np.float32)) for name, dim in DIMS.items()}
    return build_corpus(
        records, features, Card(name="shape", generated=True, schemes=[sentiment_scheme(), emotions_scheme()])
    )


def measure(arrangement: str, videos: int, epochs: int) -> dict[str, Any]:
    """Train some epochs and return seconds per epoch, peak memory and where the time goes."""
    import torch

    from affectus.api import train
    from affectus.batches import Scale
    from affectus.batches.loaders import Loader, fit_scaler
    from affectus.models import MODELS
    from affectus.vocabulary import View

    torch.set_num_threads(1)
    corpus = make_corpus(videos)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stamps = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            "mtmm_es",
            corpus,
            tasks=["polarity", "emotions"],
            out=Path(folder) / "run",
            training={"epochs": epochs, "scale": "none", "record_epochs": False, **ARRANGEMENTS[arrangement]},
            device="cpu",
            report=lambda event: stamps.append(time.perf_counter()),
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scaler = fit_scaler(corpus, View.CONTEXTUAL, tuple(DIMS), Scale.NONE)
    padding = {"buckets": True, **ARRANGEMENTS[arrangement]}
    loader = Loader(corpus, "train", View.CONTEXTUAL, tuple(DIMS), scaler, batch_size=16, shuffle=True, **padding)
    started = time.perf_counter()
    batches = list(loader)
    loading = time.perf_counter() - started
    model = MODELS["mtmm_es"].create(DIMS, run.tasks)
    spent = {"loading": loading} | step_times(model, batches[:: max(1, len(batches) // 30)], len(batches))
    shapes = [batch.mask.shape for batch in batches]
    seconds = [later - earlier for earlier, later in itertools.pairwise(stamps[1:])]
    positions = sum(b * u for b, u in shapes)
    return {
        "seconds": statistics.median(seconds),
        "peak_mib": peak / 1024,
        "above_corpus_mib": (peak - before) / 1024,
        "positions": positions,
        "steps": sum(u for _, u in shapes),
        "keys": sum(b * u * u for b, u in shapes),
        "utterances": len(corpus),
        "spent": spent,
        # forward and twice as much backward; products only
        "floor": 3 * 2 * positions * products_per_position() / matmul_rate(),
    }


def step_times(model: Any, batches: list[Any], of: int) -> dict[str, float]:
    """Return seconds an epoch of ``of`` batches spends in the recurrence, in the rest of forward, and backward."""
    import torch

    recurrent = model.encoder.recurrent
    clock: dict[str, float] = {"recurrence, forward": 0.0, "rest, forward": 0.0, "backward": 0.0, "optimiser": 0.0}
    opened: list[float] = []
    recurrent.register_forward_pre_hook(lambda *_: opened.append(time.perf_counter()))

    def close(*_: Any) -> None:
        clock["recurrence, forward"] += time.perf_counter() - opened.pop()

    recurrent.register_forward_hook(close)
    optimizer = torch.optim.Adam(model.parameters())
    for batch in batches:
        start = time.perf_counter()
        within = clock["recurrence, forward"]
        loss = torch.stack(list(model.losses(model(batch), batch).values())).sum()
        middle = time.perf_counter()
        clock["rest, forward"] += middle - start - (clock["recurrence, forward"] - within)
        loss.backward()
        end = time.perf_counter()
        clock["backward"] += end - middle
        optimizer.step()
        optimizer.zero_grad()
        clock["optimiser"] += time.perf_counter() - end
    return {name: value * of / len(batches) for name, value in clock.items()}


def products_per_position() -> int:
    """Multiplications of the matrix products for one position of a batch (attention's are less than a hundredth)."""
    hidden, dense = 200, 100
    recurrence = sum(2 * 3 * hidden * (dim + hidden) for dim in DIMS.values())
    return recurrence + len(DIMS) * 2 * hidden * dense + 9 * dense * 9


def matmul_rate() -> float:
    """Return operations a second of a plain product of the recurrence's shape, best of several."""
    import torch

    x, w = torch.randn(16, 200), torch.randn(200, 600)
    best = 0.0
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(100):
            x @ w
        best = max(best, 100 * 2 * 16 * 200 * 600 / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2250)
    parser.add_argument("--epochs", type=int, default=3, help="per measurement; the first is a warm-up")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.videos, arguments.epochs)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ARRANGEMENTS}
    run: Callable[..., Any] = subprocess.run
    for repeat in range(arguments.repeats):
        for name in ARRANGEMENTS:
            command = [sys.executable, __file__, "--only", name, "--videos", str(arguments.videos)]
            done = run([*command, "--epochs", str(arguments.epochs)], capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"repeat {repeat + 1}  {name}: {found[name][-1]['seconds']:.2f} s an epoch", file=sys.stderr)
    released = found["padded to 98, as released"]
    rows = []
    for name, measured in found.items():
        # each repeat is a ratio of its own, since the load changes from one to the next
        ratios = [slow["seconds"] / one["seconds"] for slow, one in zip(released, measured, strict=True)]
        last = measured[-1]
        rows.append(
            {
                "arrangement": name,
                "seconds_per_epoch": statistics.median(m["seconds"] for m in measured),
                "times_faster": statistics.median(ratios),
                "times_faster_range": [min(ratios), max(ratios)],
                "peak_mib": max(m["peak_mib"] for m in measured),
                "above_corpus_mib": max(m["above_corpus_mib"] for m in measured),
                "positions_per_utterance": last["positions"] / last["utterances"],
                "recurrent_steps": last["steps"],
                "attention_scores_per_pair": last["keys"],
                "spent": last["spent"],
                "times_the_floor": statistics.median(m["seconds"] / m["floor"] for m in measured),
            }
        )
    if arguments.json:
        from affectus.files import write_json

        write_json(arguments.json, rows)
    for row in rows:
        low, high = row["times_faster_range"]
        print(
            f"{row['arrangement']}: {row['seconds_per_epoch']:.2f} s an epoch, {row['times_faster']:.1f} times as fast "
            f"as released ({low:.1f} to {high:.1f}); peak {row['peak_mib']:.0f} MiB ({row['above_corpus_mib']:.0f} "
            f"above the corpus); {row['positions_per_utterance']:.2f} positions an utterance, "
            f"{row['recurrent_steps']:,} steps of recurrence, {row['attention_scores_per_pair']:,} attention scores a "
            f"pair; {row['times_the_floor']:.1f} times the floor of its matrix products"
        )
        total = sum(row["spent"].values())
        print("    " + ", ".join(f"{part} {100 * value / total:.0f} %" for part, value in row["spent"].items()))


if __name__ == "__main__":
    main()
