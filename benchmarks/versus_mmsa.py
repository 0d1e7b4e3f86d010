"""affectus and MMSA side by side on one pickle: seconds of an epoch, peak memory, and where ours go.

    python benchmarks/versus_mmsa.py --mmsa-python mmsa-venv/bin/python [--models lf_dnn,tfn] [--json FILE]

MMSA 2.2.1 wants an environment of its own; ``tests/golden/make_mmsa_metrics.py`` says how to make it. It is run as its
users run it, through its own loader, model and trainer; what it needs on a machine without a GPU is done around it.

The script writes a pickle in MMSA's layout at the shape of its CMU-MOSI: 1,284, 229 and 686 utterances, text 50 x 768,
audio 375 x 5, vision 500 x 20. Features are random; lengths are drawn as that corpus has them (``--lengths real``) or
are all at their longest (``full``). MMSA reads the pickle each time, affectus a corpus that was imported from it once.
Both have MMSA's published hyper-parameters for CMU-MOSI, which are the preset ``mosi`` of our models, as many threads
(``--threads``), and a process of its own for every measurement, in turns. An epoch is train and valid with the metrics
on valid; the first is a warm-up. Where MMSA takes minutes for one, it is given some batches of each split, all alike in
size, and its seconds are scaled up; ours are always of whole epochs.

Seconds are those of the processor with one thread, which other programs disturb less, and those of the clock with more;
the others stand beside them. The peak is
that of the whole process, libraries and data included. The floor is what the epoch's matrix products and convolutions
would take at the speed of one large product on one thread, measured in the same process.
"""

import argparse
import contextlib
import itertools
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COUNTS = {"train": 1284, "valid": 229, "test": 686}
SHAPE = {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}
"""Steps and width."""
PER_SECOND = {"audio": 12.5, "vision": 15.0}
LOG_SECONDS, WORDS = (1.23, 0.67), (3.04, 0.36)
"""Mean and deviation of an utterance's seconds, as logarithm; words per second, and the deviation of its logarithm."""
MODELS = ("lf_dnn", "lmf", "tfn", "ef_lstm", "mfn", "graph_mfn", "mult")
SAMPLED = {"mult": 2}
"""Models of which MMSA is given so many batches of each split for an epoch."""


def make_pickle(path: Path, lengths: str, counts: Mapping[str, int] = COUNTS) -> None:
    """Write the features, as MMSA's users have them."""
    rng = np.random.default_rng(0)
    whole: dict[str, Any] = {}
    for split, count in counts.items():
        seconds = rng.lognormal(*LOG_SECONDS, count)
        words = np.round(seconds * WORDS[0] * rng.lognormal(0.0, WORDS[1], count)) + 2
        steps = {"text": words} | {name: np.round(seconds * rate) for name, rate in PER_SECOND.items()}
        part: dict[str, Any] = {}
        for name, (longest, width) in SHAPE.items():
            real = np.clip(steps[name], 1, longest).astype(int) if lengths == "real" else np.full(count, longest)
            values = rng.standard_normal((count, longest, width), np.float32)
            mask = np.arange(longest) < real[:, None]
            if name == "text":
                ids = np.where(mask, rng.integers(1000, 30_000, mask.shape), 0)
                part["text_bert"] = np.stack([ids, mask, np.zeros_like(ids)], axis=1).astype(np.float32)
            else:
                values[~mask] = 0.0
                part[f"{name}_lengths"] = real.tolist()
            part[name] = values
        part["id"] = [f"{split}{row // 20}$_${row % 20}" for row in range(count)]
        part["raw_text"] = np.array(["made up"] * count)
        part["regression_labels"] = rng.uniform(-3, 3, count).astype(np.float32)
        part["annotations"] = ["Negative" if y < 0 else "Positive" for y in part["regression_labels"]]
        whole[split] = part
    with path.open("wb") as file:
        pickle.dump(whole, file, protocol=4)


def import_pickle(path: Path, corpus: Path) -> None:
    """Make a corpus of a pickle, as our users do."""
    command = [sys.executable, "-m", "affectus", "import", "mmsa", str(path), "--out", str(corpus)]
    subprocess.run(command, check=True, capture_output=True)


def peak_mib() -> float:
    """Return the most memory this process has had, in MiB; getrusage would count what came before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def clocks() -> tuple[float, float]:
    """Return seconds of the processor and of the clock."""
    return time.process_time(), time.perf_counter()


class EnoughError(Exception):
    """Raised to end MMSA's training."""


def mmsa_arguments(name: str, path: Path, folder: Path, device: str = "cpu", threads: int = 1) -> Any:
    """Return what MMSA's loader and trainer take for a pickle, after what it needs with this PyTorch and device."""
    import torch
    from torch.optim import lr_scheduler

    torch.set_num_threads(threads)
    scheduler = lr_scheduler.ReduceLROnPlateau

    class Plateau(scheduler):  # type: ignore[misc,valid-type]
        """PyTorch's, whose argument ``verbose`` is gone."""

        def __init__(self, *args: Any, verbose: bool = False, **named: Any) -> None:
            super().__init__(*args, **named)

    lr_scheduler.ReduceLROnPlateau = Plateau  # type: ignore[misc]
    if device == "cpu":  # which it calls on any device
        torch.cuda.set_device = lambda device: None  # type: ignore[assignment]
    import MMSA
    from easydict import EasyDict
    from MMSA.config import get_config_regression

    config = Path(MMSA.__file__).parent / "config" / "config_regression.json"
    args = get_config_regression(name, "mosi", config)
    args.update(
        EasyDict(
            {
                "featurePath": str(path), "device": torch.device(device), "train_mode": "regression", "cur_seed": 1,
                "model_save_path": folder / "model.pth", "early_stop": 10**6,
                "custom_feature": "", "feature_T": "", "feature_A": "", "feature_V": "",
            }
        )
    )  # fmt: skip
    return args


def theirs(
    name: str, path: Path, epochs: int, batches: int | None, device: str = "cpu", threads: int = 1
) -> dict[str, Any]:
    """Train MMSA's model, epochs after a warm-up."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        args = mmsa_arguments(name, path, Path(folder), device, threads)
        from MMSA.data_loader import MMDataLoader
        from MMSA.models import AMIO
        from MMSA.trains import ATIO

        torch.manual_seed(0)
        loaders = MMDataLoader(args, 0)
        model = AMIO(args).to(args.device)
        stamps: list[tuple[str, tuple[float, float]]] = []

        class Counted:
            """A loader that notes when it is gone through, and gives the first batches alone."""

            def __init__(self, split: str) -> None:
                self.split, self.loader = split, loaders[split]
                self.count = min(batches or len(self.loader), len(self.loader))
                self.scale = len(self.loader) / self.count

            def __len__(self) -> int:
                return len(self.loader)

            def __iter__(self) -> Any:
                if self.split == "train" and sum(what == "train" for what, _ in stamps) > epochs:
                    stamps.append(("train", clocks()))
                    raise EnoughError
                stamps.append((self.split, clocks()))
                for number, batch in enumerate(self.loader):
                    if number == self.count:
                        break
                    yield batch
                stamps.append(("between", clocks()))

        counted = {split: Counted(split) for split in loaders}
        with contextlib.suppress(EnoughError):
            ATIO().getTrain(args).do_train(model, counted)
        scale = {split: loader.scale for split, loader in counted.items()} | {"between": 1.0}
        starts = [i for i, (what, _) in enumerate(stamps) if what == "train"]
        spent = []
        for begin, end in list(itertools.pairwise(starts))[1:]:
            spans = [(stamps[i][0], np.subtract(stamps[i + 1][1], stamps[i][1])) for i in range(begin, end)]
            spent.append(sum(scale[what] * seconds for what, seconds in spans))
        return {
            "seconds": statistics.median(float(both[0]) for both in spent),
            "seconds_wall": statistics.median(float(both[1]) for both in spent),
            "peak_mib": peak_mib(),
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "batches": counted["train"].count,
            "of_batches": len(loaders["train"]),
        }


def ours(
    name: str,
    corpus: Path,
    epochs: int,
    device: str = "cpu",
    precision: str = "fp32",
    compile: str = "off",
    threads: int = 1,
) -> dict[str, Any]:
    """Train our model, epochs after a warm-up."""
    from affectus.api import train
    from affectus.files import read_json
    from affectus.vocabulary import View

    stamps: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            name,
            corpus,
            tasks=["intensity"],
            out=Path(folder) / "run",
            preset="mosi",
            view=View.UNALIGNED,
            training={
                "epochs": epochs + 1, "patience": None, "scale": "none", "record_epochs": False, "precision": precision,
                "compile": compile,
            },
            device=device,
            threads=threads,
            report=lambda event: stamps.append(clocks()),
        )  # fmt: skip
        result = read_json(Path(folder) / "run" / "seed-0" / "result.json")
    spent = np.diff(np.array(stamps), axis=0)
    return {
        "seconds": float(np.median(spent[:, 0])),
        "seconds_wall": float(np.median(spent[:, 1])),
        "walls": [float(x) for x in spent[:, 1]],
        "peak_mib": peak_mib(),
        "parameters": result["parameters"],
    }


@contextlib.contextmanager
def count_operations() -> Iterator[Any]:
    """Count the operations of matrix products and convolutions, without kernels, whose own nobody can see."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from affectus.nn import lstm
    from affectus.nn.kernels import no_kernels

    def product(added: Any, a: Any, b: Any, **_: Any) -> int:
        return 2 * int(np.prod(a)) * int(b[-1])

    # the counter does not know the forms that write in place
    mapping = {torch.ops.aten.addmm_: product, torch.ops.aten.baddbmm_: product}
    small, lstm.SMALL = lstm.SMALL, 0  # nor what oneDNN's layer multiplies
    try:
        with no_kernels(), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            yield counter
    finally:
        lstm.SMALL = small


def products_per_second(device: str = "cpu", precision: str = "fp32", size: int = 1024) -> float:
    """Return how many operations a second one large product takes here, at its best of several."""
    import torch

    def clock() -> float:
        """Seconds of the processor; of the clock on the wall where the device is another."""
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    from affectus.nn.matmul import matmul  # PyTorch's or ours, whichever is the faster one here

    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    times = []
    for _ in range(8):
        begin = clock()
        matmul(a, a)
        times.append(clock() - begin)
    return 2 * size**3 / min(times)


def anatomy(name: str, corpus_folder: Path) -> dict[str, Any]:
    """Return where the seconds of our training epoch go, the operations of its products, and how fast one is here."""
    import torch

    from affectus.batches import Loader, Scale, fit_scaler
    from affectus.corpus import load_corpus
    from affectus.models import MODELS as REGISTERED
    from affectus.models import Model
    from affectus.objectives import choose_tasks
    from affectus.training.config import resolve_settings
    from affectus.vocabulary import View

    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus = load_corpus(corpus_folder)
    entry = REGISTERED[name]
    options, settings = resolve_settings(entry, preset="mosi")
    modalities = tuple(SHAPE)
    scaler = fit_scaler(corpus, View.UNALIGNED, modalities, Scale.NONE)
    size = settings.batch_size
    loader = Loader(corpus, "train", View.UNALIGNED, modalities, scaler, batch_size=size, shuffle=True)
    model = entry.create(dict(corpus.dims), choose_tasks(["intensity"], corpus.schemes), options)
    assert isinstance(model, Model)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    spent = dict.fromkeys(("batches", "forward", "backward", "optimiser"), 0.0)
    operations = 0.0
    for counting in (False, True):  # apart, since counting takes time; the first is a warm-up of the second's as well
        begin = time.process_time()
        for batch in loader:
            at = [begin, time.process_time()]
            if counting:
                with count_operations() as counter:
                    torch.stack(list(model.losses(model(batch), batch).values())).sum().backward()
                operations += counter.get_total_flops()
            else:
                loss = torch.stack(list(model.losses(model(batch), batch).values())).sum()
                at.append(time.process_time())
                loss.backward()
                at.append(time.process_time())
                optimizer.step()
                optimizer.zero_grad()
                at.append(time.process_time())
                for part, seconds in zip(spent, np.diff(at), strict=True):
                    spent[part] += float(seconds)
            begin = time.process_time()
    return {"spent": spent, "operations": operations, "products_per_second": products_per_second()}


def child_environment(threads: int = 1) -> dict[str, str]:
    """Return the environment of a process that is measured, with so many threads."""
    return os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def child(
    script: str,
    *arguments: str,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Run a script's ``--child`` in a process of its own and return what it found."""
    command = [python, script, "--child", *arguments]
    where = child_environment(threads) | dict(environment or {})
    done = subprocess.run(command, capture_output=True, text=True, env=where)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, path: Path, corpus: Path, settings: argparse.Namespace) -> dict[str, Any]:
    """Measure one model on both sides, in turns."""
    found: dict[str, list[dict[str, Any]]] = {"theirs": [], "ours": []}
    batches = SAMPLED.get(name, 0) if settings.batches is None else settings.batches
    for _ in range(settings.repeats):
        last = (str(settings.epochs), str(settings.threads))
        given = (name, str(path), *last, str(batches))
        found["theirs"].append(child(__file__, "theirs", *given, python=settings.mmsa_python, threads=settings.threads))
        found["ours"].append(child(__file__, "ours", name, str(corpus), *last, threads=settings.threads))
    inside = child(__file__, "anatomy", name, str(corpus))

    def pick(side: str, what: str) -> float:
        return statistics.median(one[what] for one in found[side])

    floor = inside["operations"] / inside["products_per_second"]
    # each repeat is a ratio of its own, since the load changes from one to the next
    what = "seconds" if settings.threads == 1 else "seconds_wall"
    ratios = [a[what] / b[what] for a, b in zip(found["theirs"], found["ours"], strict=True)]
    return {
        "name": name,
        "threads": settings.threads,
        "speedup": statistics.median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
        "memory_ratio": pick("ours", "peak_mib") / pick("theirs", "peak_mib"),
        "ours": {what: pick("ours", what) for what in ("seconds", "seconds_wall", "peak_mib", "parameters")},
        "theirs": {what: pick("theirs", what) for what in ("seconds", "seconds_wall", "peak_mib", "parameters")}
        | {what: found["theirs"][0][what] for what in ("batches", "of_batches")},
        "spent": inside["spent"] | {"rest": max(pick("ours", "seconds") - sum(inside["spent"].values()), 0.0)},
        "giga_operations": inside["operations"] / 1e9,
        "giga_products_per_second": inside["products_per_second"] / 1e9,
        "floor_seconds": floor,
        "times_the_floor": pick("ours", "seconds") / floor,
    }


def chosen(parser: argparse.ArgumentParser, given: str, known: Sequence[str]) -> list[str]:
    """Return the models that ``--models`` names; an unknown one ends the script."""
    names = given.split(",")
    for name in names:
        if name not in known:
            parser.error(f"unknown model {name!r}; expected one of: {', '.join(known)}")
    return names


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    mine, other = row["ours"], row["theirs"]
    low, high = row["speedup_range"]
    print(
        f"{row['name']}: {row['speedup']:.1f} times as fast ({low:.1f} to {high:.1f}), "
        f"{row['memory_ratio']:.2f} of the memory"
    )
    whole = (
        "" if other["batches"] == other["of_batches"] else f", from {other['batches']} of {other['of_batches']} batches"
    )
    for title, side, note in (("ours", mine, ""), ("MMSA", other, whole)):
        print(
            f"  {title}: {side['seconds']:.2f} s of the processor ({side['seconds_wall']:.2f} s by the clock) an "
            f"epoch{note}; peak {side['peak_mib']:.0f} MiB; {side['parameters']:,.0f} parameters"
        )
    total = sum(row["spent"].values())
    print("  our epoch: " + ", ".join(f"{part} {100 * value / total:.0f} %" for part, value in row["spent"].items()))
    print(
        f"  floor {row['floor_seconds']:.2f} s: {row['giga_operations']:,.0f} G operations of products at "
        f"{row['giga_products_per_second']:.0f} G/s; we take {row['times_the_floor']:.1f} times as long"
    )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        which, name, path, *rest = sys.argv[2:]
        if which == "theirs":
            epochs, threads, batches = map(int, rest)
            print("\n" + json.dumps(theirs(name, Path(path), epochs, batches or None, threads=threads)))
        elif which == "ours":
            epochs, threads = map(int, rest)
            print(json.dumps(ours(name, Path(path), epochs, threads=threads)))
        else:
            print(json.dumps(anatomy(name, Path(path))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmsa-python", required=True, help="the Python of an environment with MMSA")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--lengths", choices=("real", "full"), default="real")
    parser.add_argument("--epochs", type=int, default=2, help="per measurement, after the warm-up")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--batches", type=int, help="of each split for MMSA's epoch; 0 for all; default: all, mult 2")
    parser.add_argument("--json", type=Path, help="write the rows there")
    settings = parser.parse_args()
    names = chosen(parser, settings.models, MODELS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        make_pickle(path, settings.lengths)
        import_pickle(path, corpus)
        for name in names:
            rows.append(compare(name, path, corpus, settings))
            show(rows[-1])
            if settings.json:
                settings.json.write_text(json.dumps({"models": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
