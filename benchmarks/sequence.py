"""Sequence models at the shape of MMSA's CMU-MOSI, on made-up features: seconds, memory, and where they go.

    python benchmarks/sequence.py [--lengths real,full] [--threads 1] [--device cpu] [--compare] [--json FILE]

1,284 training utterances, text 50 x 768, audio 375 x 5, vision 500 x 20 at most. ``real`` draws lengths as the corpus
has them: durations are log-normal as those of its utterances are (mean 4.3 s, a few above 30 s), vision has 15 steps a
second, audio 12.5, text 3 words a second and two marks. ``full`` has every sequence at its longest.

Each row is trained in a process of its own. Seconds are those of the processor, which other programs on the machine
disturb less; those of the clock stand beside them. Besides the epoch it shows

- the parts: each by itself, forward and backward, on what it gets in some batches of the epoch; ``rest`` is what a step
  takes beyond them;
- the floor: the operations of the epoch's matrix products and convolutions, padding included, at the speed of one large
  product on this machine;
- with ``--compare``: the same parts with PyTorch's own layers.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.utils.flop_counter import FlopCounterMode
from versus_mmsa import products_per_second

from affectus.batches import Loader, Scale, fit_scaler
from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.labels import sentiment_scheme
from affectus.models import MODELS, Model
from affectus.nn import gru, multihead
from affectus.nn.kernels import no_kernels
from affectus.objectives import choose_tasks
from affectus.vocabulary import View

UTTERANCES = 1284
LONGEST = {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}
"""Steps and width."""
PER_SECOND = {"audio": 12.5, "vision": 15.0}
LOG_SECONDS, WORDS = (1.23, 0.67), (3.04, 0.36)
"""Mean and deviation of an utterance's seconds, as logarithm; words per second, and the deviation of its logarithm."""
SAMPLED = 4
"""Batches on which the parts are measured."""
WEIGHTS = "weights of it"
"""What the six attentions take without their linear layers, a part of the cross-modal attention."""
PARTS = ("BiGRU", "convolution", "self-attention", "cross-modal attention", "encoder-decoder")


def draw_lengths(which: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Steps of each utterance per modality."""
    rng = np.random.default_rng(seed)
    if which == "full":
        return {name: np.full(count, steps) for name, (steps, _) in LONGEST.items()}
    seconds = rng.lognormal(*LOG_SECONDS, count)
    words = np.round(seconds * WORDS[0] * rng.lognormal(0.0, WORDS[1], count)) + 2
    lengths = {"text": words} | {name: np.round(seconds * rate) for name, rate in PER_SECOND.items()}
    return {name: np.clip(steps, 1, LONGEST[name][0]).astype(int) for name, steps in lengths.items()}


def make(which: str, count: int, seed: int = 0) -> Corpus:
    """Make up a corpus of that shape."""
    rng = np.random.default_rng(seed)
    features = {}
    for name, lengths in draw_lengths(which, count, seed).items():
        values = rng.standard_normal((int(lengths.sum()), LONGEST[name][1]), np.float32)
        features[name] = Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    ids = [str(row) for row in range(count)]
    table = pl.DataFrame({"id": ids, "video": ids, "split": ["train"] * count, "sentiment": rng.uniform(-3, 3, count)})
    return build_corpus(table, features, Card(name="made up", schemes=(sentiment_scheme(),), generated=True))


def kind_of(name: str) -> str | None:
    """The part to which a module belongs, by its name in the model."""
    parts = name.split(".")
    if parts[0] == "extract" and len(parts) > 2:
        kinds = {"recurrent": "BiGRU", "convolutions": "convolution", "gates": "self-attention"}
        return kinds.get(parts[2]) if len(parts) == (3 if parts[2] == "recurrent" else 4) else None
    return {"cross_modal": PARTS[3], "encoder": PARTS[4], "decoder": PARTS[4]}.get(name)


def clone(value: Any) -> Any:
    """A copy outside the graph whose numbers want a gradient."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    copied = value.detach().clone()
    return copied.requires_grad_() if copied.is_floating_point() else copied


def scalar(value: Any) -> torch.Tensor:
    """Something to go back from."""
    return (value[0] if isinstance(value, tuple) else value).sum()


class Measure:
    """One model on one loader."""

    def __init__(self, model: Model, loader: Loader, device: str) -> None:
        self.model, self.loader, self.device = model.to(device), loader, device
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def clock(self) -> float:
        """Seconds of the processor; of the wall where the device is another."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def step(self, batch: Any) -> None:
        """Train on a batch."""
        self.optimizer.zero_grad()
        output = self.model(batch)
        torch.stack(list(self.model.losses(output, batch).values())).sum().backward()
        self.optimizer.step()

    def epoch(self) -> tuple[float, float]:
        """Seconds of an epoch on the wall and of the processor."""
        self.model.train()
        wall, begin = time.perf_counter(), self.clock()
        for batch in self.loader:
            self.step(batch.to(self.device))
        seconds = self.clock() - begin
        return time.perf_counter() - wall, seconds

    def sampled(self) -> list[Any]:
        """Batches spread over the epoch by their length."""
        batches = sorted((b.to(self.device) for b in self.loader), key=lambda b: b.features["vision"].shape[1])
        places = np.linspace(0, len(batches) - 1, 2 * SAMPLED + 1)[1::2].round().astype(int)
        return [batches[i] for i in places]

    def arguments(self, modules: dict[str, torch.nn.Module], batch: Any) -> dict[str, tuple[Any, ...]]:
        """What each module gets of a batch."""
        seen: dict[str, tuple[Any, ...]] = {}
        hooks = [
            module.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args))
            for name, module in modules.items()
        ]
        self.model(batch)
        for hook in hooks:
            hook.remove()
        return seen

    def parts(self, batches: list[Any]) -> dict[str, float]:
        """Seconds per part of an epoch, estimated from some batches."""
        found: dict[str, float] = defaultdict(float)
        scale = len(self.loader) / len(batches)
        modules = {name: m for name, m in self.model.named_modules() if kind_of(name)}
        for batch in batches:
            seen = self.arguments(modules, batch)
            begin = self.clock()
            self.step(batch)
            total = self.clock() - begin
            for name, args in seen.items():
                copies = [clone(value) for value in args]
                if kind_of(name) == "BiGRU":
                    copies[0].requires_grad_(False)  # features
                begin = self.clock()
                scalar(modules[name](*copies)).backward()
                seconds = self.clock() - begin
                found[kind_of(name) or ""] += scale * seconds
                total -= seconds
                if name == "cross_modal":
                    found[WEIGHTS] += scale * self.weights(modules[name], args)
            found["rest"] += scale * total
        return dict(found)

    def weights(self, module: torch.nn.Module, args: tuple[Any, ...]) -> float:
        """Seconds of a module's attention without its linear layers: scores, softmax, dropout, and what they weigh."""
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        attend = multihead.attend

        def recording(*given: Any, **named: Any) -> torch.Tensor:
            calls.append((given, named))
            return attend(*given, **named)

        multihead.attend = recording
        with torch.no_grad():
            module(*args)
        multihead.attend = attend
        copies = [(tuple(clone(value) for value in given), named) for given, named in calls]
        begin = self.clock()
        for given, named in copies:
            attend(*given, **named).sum().backward()
        return self.clock() - begin

    def operations(self, batches: list[Any]) -> float:
        """Operations of an epoch's products, estimated from some batches."""
        with no_kernels(), FlopCounterMode(display=False) as counter:
            for batch in batches:
                self.step(batch)
        return float(counter.get_total_flops()) * len(self.loader) / len(batches)


@contextmanager
def torch_layers() -> Iterator[None]:
    """PyTorch's own GRU over packed sequences and its own dropout of attention weights."""
    stepwise, long = gru.BiGRU._stepwise, multihead.LONG
    gru.BiGRU._stepwise, multihead.LONG = gru.BiGRU._packed, 1 << 62  # type: ignore[method-assign]
    try:
        with no_kernels():
            yield
    finally:
        gru.BiGRU._stepwise, multihead.LONG = stepwise, long  # type: ignore[method-assign]


def measure(
    name: str, options: dict[str, Any], which: str, buckets: bool, batch_size: int, settings: argparse.Namespace
) -> dict[str, Any]:
    """One row."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    corpus = make(which, settings.utterances)
    tasks = choose_tasks(["intensity"], corpus.schemes)
    scaler = fit_scaler(corpus, View.UNALIGNED, tuple(LONGEST), Scale.NONE)
    loader = Loader(
        corpus, "train", View.UNALIGNED, tuple(LONGEST), scaler, batch_size=batch_size, shuffle=True, buckets=buckets
    )
    model = MODELS[name].create({m: dim for m, (_, dim) in LONGEST.items()}, tasks, options)
    assert isinstance(model, Model)
    measured = Measure(model, loader, settings.device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, seconds = measured.epoch()
    if settings.device == "cpu":
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    else:
        peak = torch.cuda.max_memory_allocated() / 2**20
    batches = measured.sampled()
    row = {
        "model": name,
        "lengths": which,
        "buckets": buckets,
        "batch_size": batch_size,
        "parameters": model.parameter_count(),
        "steps": {m: int(corpus.features[m].lengths.sum()) for m in LONGEST},
        "padded_steps": {m: sum(b.features[m].shape[0] * b.features[m].shape[1] for b in loader) for m in LONGEST},
        "seconds_wall": wall,
        "seconds": seconds,
        "peak_mib": peak,
        "parts": measured.parts(batches),
        "operations": measured.operations(batches),
        "rate": products_per_second(settings.device),
    }
    row["floor"] = row["operations"] / row["rate"]
    if settings.compare:
        with torch_layers():
            row["torch_parts"] = measured.parts(batches)
    return row


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    buckets = "buckets" if row["buckets"] else "no buckets"
    share = {m: round(row["padded_steps"][m] / row["steps"][m], 1) for m in LONGEST}
    print(f"{row['model']}, {row['lengths']} lengths, {buckets}: {row['parameters']:,} parameters")
    print(f"  an epoch {row['seconds']:.1f} s of the processor, {row['seconds_wall']:.1f} s by the clock")
    print(f"  floor {row['floor']:.1f} s: {row['operations'] / 1e9:,.0f} G operations, {row['rate'] / 1e9:.0f} G/s")
    print(f"  peak memory {row['peak_mib']:.0f} MiB beside the data; padded / real steps {share}")
    columns = [key for key in ("parts", "torch_parts") if key in row]
    totals = {key: sum(v for n, v in row[key].items() if n != WEIGHTS) for key in columns}
    titles = {"parts": "here", "torch_parts": "PyTorch's layers"}
    print(f"  {'':24}" + "".join(f"{titles[key]:>24}" for key in columns))
    for name in (*PARTS[:4], WEIGHTS, *PARTS[4:], "rest"):
        cells = [f"{row[key].get(name, 0.0):.1f} s {row[key].get(name, 0.0) / totals[key]:4.0%}" for key in columns]
        print(f"  {name:24}" + "".join(f"{cell:>24}" for cell in cells))
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ufen_mtfn")
    parser.add_argument("--options", type=json.loads, default={}, help="of the model, as JSON")
    parser.add_argument("--lengths", default="real,full")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--utterances", type=int, default=UTTERANCES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compare", action="store_true", help="measure the parts with PyTorch's own layers too")
    parser.add_argument("--json", type=Path, help="write the rows there")
    settings = parser.parse_args()
    rows = []
    for which in settings.lengths.split(","):
        for buckets in (True, False) if which == "real" else (True,):
            # a process of its own, so that the peak of its memory is its own
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                arguments = (settings.model, settings.options, which, buckets, settings.batch_size, settings)
                rows.append(pool.submit(measure, *arguments).result())
            show(rows[-1])
    if settings.json:
        settings.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
