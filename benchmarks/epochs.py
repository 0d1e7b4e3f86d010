"""Where a training epoch's time goes, for every neural model, and how far it is from its floor.

    python benchmarks/epochs.py [--shape mosi] [--models lf_dnn,tfn] [--json FILE]

Two shapes. ``mosi``: utterances of sequences, as ``versus_mmsa.py`` draws them (text 50 x 768, audio 375 x 5, vision
500 x 20), for every model that reads sequences, with its preset ``mosi`` where it has one. ``mosei``: videos of 1 to 98
utterances, as ``contextual.py`` draws them (300, 74 and 35 columns), for every model that reads those.

An epoch is one of the loop that ``affectus train`` runs, on one thread, its parts clocked where that loop calls them:
``data`` makes batches, ``forward`` includes the losses and what a model does after a batch, ``backward`` is autograd,
``optimiser`` includes clipping and the forgetting of gradients, ``rest`` is Lightning and our book-keeping. Going
through valid and writing weights come after and are not in it. Each model has a process of its own, which trains three
times: on the clock, with everything counted, and under PyTorch's profiler.

The floor is the larger of two times. Products: the operations of all matrix products and convolutions, at the speed of
one large product. Memory: the bytes that have to be moved, at the speed of a copy of as many bytes as a batch moves. To
be moved are, for each batch, the weights three times (forward and backward read them, backward writes their gradient),
what the optimiser goes through (it reads gradients, it reads and writes weights and its own state), and, written once
and read once, the batch's features and what is kept for the backward pass. Both speeds are measured in the process of
the model.
"""

import argparse
import json
import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from contextual import make_corpus
from versus_mmsa import child, count_operations, import_pickle, make_pickle, products_per_second

SHAPES = ("mosi", "mosei")
TASKS = {"mosi": ["intensity"], "mosei": ["polarity", "emotions"]}
UNENCODED = {"text_encoder": None, "text_layers": 0}
"""Some presets train a text encoder along; here the text is vectors."""
PARTS = ("data", "forward", "backward", "optimiser", "rest")
PROFILED = 4
"""Batches that the profiler looks at."""
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "conv", "_scaled_dot_product")
DRAWS = ("bernoulli", "random", "uniform", "normal", "multinomial", "randperm")
"""How operators begin that are products, or random numbers."""
SMALLEST, LARGEST = 1 << 20, 1 << 28
"""Of a copy that is timed, in bytes."""


def choose(shape: str, names: str | None) -> list[str]:
    """Return the neural models of a shape, or those of them that are wanted."""
    from affectus.models import MODELS, Estimator
    from affectus.vocabulary import View

    view = View.UNALIGNED if shape == "mosi" else View.CONTEXTUAL
    fitting = [n for n in MODELS if not issubclass(MODELS[n].build, Estimator) and view in MODELS[n].views]
    return [name for name in fitting if names is None or name in names.split(",")]


def choose_all(parser: argparse.ArgumentParser, settings: argparse.Namespace) -> dict[str, list[str]]:
    """Return the models by shape that ``--shape`` and ``--models`` ask for; an unknown one ends the script."""
    shapes = (settings.shape,) if settings.shape else SHAPES
    wanted = {shape: choose(shape, settings.models) for shape in shapes}
    for name in settings.models.split(",") if settings.models else ():
        if not any(name in names for names in wanted.values()):
            parser.error(f"unknown model {name!r}; expected some of: {', '.join(choose(shapes[0], None))}")
    return wanted


class Clock:
    """Seconds of the processor by part; a part that begins within another stops the other's clock.

    The loop tells it of an epoch's begin and end. What is not of the stage that is looked at does not count.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.open: list[str] = []
        self.last = 0.0

    def begin(self) -> None:
        self.epochs.append(dict.fromkeys((*PARTS, "system"), 0.0) | {"faults": 0.0, "batches": 0.0})
        self.open, self.last = ["rest"], time.process_time()
        self.used = resource.getrusage(resource.RUSAGE_SELF)

    def end(self) -> None:
        if self.open:
            self._pass()
            self.open = []
            used = resource.getrusage(resource.RUSAGE_SELF)
            self.epochs[-1]["system"] = used.ru_stime - self.used.ru_stime
            self.epochs[-1]["faults"] = float(used.ru_minflt - self.used.ru_minflt)

    def _pass(self) -> None:
        now = time.process_time()
        self.epochs[-1][self.open[-1]] += now - self.last
        self.last = now

    def enter(self, part: str) -> None:
        if self.open:
            self._pass()
            self.open.append(part)

    def leave(self) -> None:
        if len(self.open) > 1:
            self._pass()
            self.open.pop()

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        self.enter(part)
        try:
            yield
        finally:
            self.leave()


@contextmanager
def watched(
    clock: Clock,
    on_begin: Callable[[Any], None] = lambda module: None,
    on_end: Callable[[], None] = lambda: None,
    on_batch: Callable[[Any, int], None] = lambda batch, index: None,
) -> Iterator[None]:
    """Within the block, let the loop of ``affectus train`` tell the clock what it does.

    Args:
        clock: to be told.
        on_begin: called when an epoch begins, with what is trained.
        on_end: when it ends.
        on_batch: called after each batch, with it and its number.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from affectus.training.callbacks import EpochEnd
    from affectus.training.module import FitModule
    from affectus.training.passes import Passes

    with ExitStack() as stack:

        def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
            old, own = getattr(owner, name), name in vars(owner)
            setattr(owner, name, make(old))
            stack.callback(lambda: setattr(owner, name, old) if own else delattr(owner, name))

        def timed(part: str) -> Callable[[Any], Any]:
            def make(old: Any) -> Any:
                def new(*given: Any, **named: Any) -> Any:
                    with clock.within(part):
                        return old(*given, **named)

                return new

            return make

        def batches(old: Any) -> Any:
            def new(self: Any) -> Iterator[Any]:
                inner, end = old(self), object()
                while True:
                    with clock.within("data"):
                        batch = next(inner, end)
                    if batch is end:
                        return
                    if clock.open:
                        clock.epochs[-1]["batches"] += 1
                    yield batch

            return new

        def starting(old: Any) -> Any:
            def new(self: Any) -> None:
                if self.current_stage is self.model.stages()[-1] or self.stage_number == len(self.model.stages()) - 1:
                    on_begin(self)
                    clock.begin()
                old(self)

            return new

        def ending(old: Any) -> Any:
            def new(*given: Any) -> Any:
                if clock.open:
                    clock.end()
                    on_end()
                return old(*given)

            return new

        def before_step(old: Any) -> Any:
            def new(*given: Any) -> Any:
                clock.enter("optimiser")  # until the step's end, below
                return old(*given)

            return new

        def after_batch(old: Any) -> Any:
            def new(*given: Any) -> Any:
                found = old(*given)
                on_batch(*given[-2:])
                return found

            return new

        replace(Passes, "__iter__", batches)
        replace(FitModule, "on_train_epoch_start", starting)
        replace(FitModule, "training_step", timed("forward"))
        replace(FitModule, "backward", timed("backward"))
        replace(FitModule, "on_before_optimizer_step", before_step)
        replace(FitModule, "optimizer_zero_grad", timed("optimiser"))
        replace(FitModule, "on_train_batch_end", after_batch)
        replace(FitModule, "on_validation_start", ending)
        replace(EpochEnd, "on_train_epoch_end", ending)
        handle = register_optimizer_step_post_hook(lambda *_: clock.leave())
        stack.callback(handle.remove)
        yield


def fit(name: str, shape: str, corpus: Any, epochs: int) -> None:
    """Train, as the command does."""
    from affectus.api import train
    from affectus.models import MODELS
    from affectus.vocabulary import View

    options = {"pretraining_epochs": 1} if name == "cdbn" else {}
    with tempfile.TemporaryDirectory() as folder:
        train(
            name,
            corpus,
            tasks=TASKS[shape],
            out=Path(folder) / "run",
            preset=shape if shape in MODELS[name].presets else None,
            view=View.UNALIGNED if shape == "mosi" else View.CONTEXTUAL,
            options=options,
            training={"epochs": epochs, "patience": None, "scale": "none", "record_epochs": False, **UNENCODED},
            device="cpu",
        )


class Counted:
    """What an epoch has to compute and to move, counted in the loop itself."""

    def __init__(self) -> None:
        self.operations = self.batches = self.kept = self.weights = self.optimiser = 0.0
        self.stack = ExitStack()
        self.seen: set[tuple[int, int]] = set()
        self.module: Any = None

    def begin(self, module: Any) -> None:
        import torch

        self.module = module
        self.own = {p.untyped_storage().data_ptr() for p in module.model.parameters()}
        self.counter = self.stack.enter_context(count_operations())
        self.stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self._keep, lambda x: x))

    def _keep(self, x: Any) -> Any:
        storage = x.untyped_storage()
        key = storage.data_ptr(), storage.nbytes()
        if key not in self.seen and key[0] not in self.own:
            self.seen.add(key)
            self.kept += min(storage.nbytes(), x.numel() * x.element_size())
        return x.detach()

    def batch(self, batch: Any, index: int) -> None:
        """Add what a batch and the weights take; called when its step is done."""
        import torch

        self.seen.clear()
        if self.module is None:
            return
        self.batches += sum(x.numel() * x.element_size() for x in batch.features.values())
        place, _ = self.module.passes.place(index)
        optimizer = self.module.trainer.optimizers[place]
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        own = sum(p.numel() * p.element_size() for p in trained)
        states = (x for p in trained for x in optimizer.state[p].values() if isinstance(x, torch.Tensor))
        state = sum(x.numel() * x.element_size() for x in states)
        self.weights += 3.0 * own
        self.optimiser += 3.0 * own + 2.0 * state

    def end(self) -> None:
        self.operations = float(self.counter.get_total_flops())
        self.stack.close()
        self.module = None


class Profiled:
    """The operators that the first batches of an epoch spend their time in."""

    def __init__(self) -> None:
        self.left, self.calls = 0, 0.0
        self.rows: list[dict[str, Any]] = []
        self.shares: dict[str, float] = {}

    def begin(self, module: Any) -> None:
        import torch

        self.count = self.left = min(PROFILED, len(module.passes))
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        self.profile.start()

    def batch(self, batch: Any, index: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.profile.stop()
            events = [e for e in self.profile.key_averages() if e.key.startswith("aten::")]
            total = sum(e.self_cpu_time_total for e in events)
            events.sort(key=lambda e: -e.self_cpu_time_total)
            for kind, begins in (("products", PRODUCTS), ("draws", DRAWS)):
                own = [e for e in events if e.key.removeprefix("aten::").removeprefix("mkldnn_").startswith(begins)]
                self.shares[kind] = sum(e.self_cpu_time_total for e in own) / total
            self.calls = sum(e.count for e in events) / self.count
            self.rows = [
                {
                    "name": e.key.removeprefix("aten::"),
                    "share": e.self_cpu_time_total / total,
                    "calls": e.count / self.count,
                    "microseconds": e.self_cpu_time_total / e.count,
                }
                for e in events[:8]
            ]


def copied_per_second(moved: float) -> float:
    """Return the bytes a second that a copy moves (read and written), as large as what is given, at its best."""
    import torch

    size = int(min(max(moved, SMALLEST), LARGEST)) // 8
    a, b = torch.zeros(size), torch.zeros(size)  # half of it each
    times = []
    repeats = max(1, LARGEST // (16 * size))
    for _ in range(12):
        begin = time.process_time()
        for _ in range(repeats):
            b.copy_(a)
        times.append((time.process_time() - begin) / repeats)
    return 8 * size / min(times)


def measure(name: str, shape: str, corpus: Any, epochs: int) -> dict[str, Any]:
    """Return where the time of a model's epoch goes, and its floor."""
    import torch

    torch.set_num_threads(1)
    clock = Clock()
    with watched(clock):
        fit(name, shape, corpus, epochs + 1)
    found = clock.epochs[1:]  # the first is a warm-up
    middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
    counted = Counted()
    with watched(Clock(), counted.begin, counted.end, counted.batch):
        fit(name, shape, corpus, 1)
    profiled = Profiled()
    with watched(Clock(), profiled.begin, on_batch=profiled.batch):
        fit(name, shape, corpus, 1)
    count = middle["batches"]
    moved = {"weights": counted.weights, "optimiser": counted.optimiser}
    moved |= {"batches": 2 * counted.batches, "kept": 2 * counted.kept}
    bytes_moved = sum(moved.values())
    speed, copies = products_per_second(), copied_per_second(bytes_moved / count)
    floors = {"products": counted.operations / speed, "memory": bytes_moved / copies}
    seconds = sum(middle[part] for part in PARTS)
    return {
        "name": name,
        "shape": shape,
        "seconds": seconds,
        "seconds_range": [f(sum(one[part] for part in PARTS) for one in found) for f in (min, max)],
        "parts": {part: middle[part] for part in PARTS},
        "batches": count,
        "system_seconds": middle["system"],
        "page_faults": middle["faults"],
        "giga_operations": counted.operations / 1e9,
        "giga_products_per_second": speed / 1e9,
        "moved_mb": {what: size / 1e6 for what, size in moved.items()},
        "giga_bytes_per_second": copies / 1e9,
        "floors": floors,
        "times_the_floor": seconds / max(floors.values()),
        "operator_calls": profiled.calls,
        "operators": profiled.rows,
        "operator_shares": profiled.shares,
    }


def show(row: dict[str, Any]) -> None:
    """Print a model's figures."""
    parts = ", ".join(f"{part} {100 * value / row['seconds']:.0f} %" for part, value in row["parts"].items())
    each = 1000 * row["seconds"] / row["batches"]
    print(f"{row['name']} at {row['shape']}: {row['seconds']:.2f} s, {each:.1f} ms a batch")
    print(f"  {parts}; of it in the system {100 * row['system_seconds'] / row['seconds']:.0f} %")
    floors = row["floors"]
    print(
        f"  floor: products {floors['products']:.3f} s ({row['giga_operations']:.1f} G operations at "
        f"{row['giga_products_per_second']:.0f} G/s), memory {floors['memory']:.3f} s ("
        f"{sum(row['moved_mb'].values()):,.0f} MB at {row['giga_bytes_per_second']:.1f} GB/s); "
        f"{row['times_the_floor']:.1f} times it"
    )
    listed = "; ".join(
        f"{o['name']} {100 * o['share']:.0f} % ({o['calls']:,.0f} of {o['microseconds']:,.0f} us)"
        for o in row["operators"]
    )
    shares = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in row["operator_shares"].items())
    print(f"  a batch calls {row['operator_calls']:,.0f} operators ({shares}): {listed}", flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    head = [
        "model",
        "ms a batch",
        *(f"{part} %" for part in PARTS),
        "of it system %",
        "operators a batch",
        "of their time products %",
        "random numbers %",
    ]
    head += ["products' floor, ms", "memory's floor, ms", "times the floor"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in rows:
        count, seconds = row["batches"], row["seconds"]
        cells = [f"`{row['name']}`", f"{1000 * seconds / count:.1f}"]
        cells += [f"{100 * row['parts'][part] / seconds:.0f}" for part in PARTS]
        cells += [f"{100 * row['system_seconds'] / seconds:.0f}", f"{row['operator_calls']:,.0f}"]
        cells += [f"{100 * row['operator_shares'][kind]:.0f}" for kind in ("products", "draws")]
        cells += [f"{1000 * row['floors'][kind] / count:.2f}" for kind in ("products", "memory")]
        lines.append("| " + " | ".join([*cells, f"{row['times_the_floor']:.1f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, shape, folder, epochs, videos = sys.argv[2:]
        print(json.dumps(measure(name, shape, folder if shape == "mosi" else make_corpus(int(videos)), int(epochs))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="default: all that fit")
    parser.add_argument("--shape", choices=SHAPES, help="default: both")
    parser.add_argument("--utterances", type=int, default=256, help="of the shape mosi (its corpus has 1,284)")
    parser.add_argument("--videos", type=int, default=160, help="of the shape mosei (its corpus has 2,250)")
    parser.add_argument("--epochs", type=int, default=3, help="on the clock, after a warm-up")
    parser.add_argument("--json", type=Path, help="figures; models in it already are not measured again")
    settings = parser.parse_args()
    wanted = choose_all(parser, settings)
    rows: list[dict[str, Any]] = []
    if settings.json and settings.json.is_file():
        rows = json.loads(settings.json.read_text(encoding="utf-8"))["models"]
    done = {(row["shape"], row["name"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        if any(("mosi", name) not in done for name in wanted.get("mosi", ())):
            few = math.ceil(settings.utterances / 16)
            make_pickle(path, "real", {"train": settings.utterances, "valid": few, "test": few})
            import_pickle(path, corpus)
            path.unlink()
        for shape, names in wanted.items():
            for name in names:
                if (shape, name) in done:
                    continue
                print(f"{name} at {shape} ...", file=sys.stderr, flush=True)
                given = [name, shape, str(corpus), str(settings.epochs), str(settings.videos)]
                rows.append(child(__file__, *given))
                show(rows[-1])
                if settings.json:
                    settings.json.write_text(json.dumps({"models": rows}, indent=1) + "\n", encoding="utf-8")
    for shape in wanted:
        print(f"\n{shape}\n\n{table([row for row in rows if row['shape'] == shape])}")


if __name__ == "__main__":
    main()
