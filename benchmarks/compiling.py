"""Which networks ``compile`` compiles: graphs, what runs apart, seconds, and losses beside those of the network itself.

    python benchmarks/compiling.py [--models mult,teney] [--steps 8] [--backend inductor] [--json FILE]
    python benchmarks/compiling.py --pays [--models lf_dnn,lmf]

Each registered network is made twice with the same weights, small and without dropout, and trained side by side for
some steps of Adam on random batches of different size and length: compiled and as it is. Every network is measured in a
process of its own, with a cache of compiled code of its own, so the seconds are those of a first compilation; they are
the processor's, those of the C++ compiler included, which other programs disturb less.

With ``--pays``: whether a compiled step takes less time on this processor, at the shape of MMSA's CMU-MOSI (corpus of
``versus_mmsa.py``) with the preset ``mosi``, if there is one. Both forms take the same batches in turns, in one process
with one thread, after all of them were gone through once: forward, losses, backward and Adam.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from versus_mmsa import SHAPE, child, chosen, import_pickle, make_pickle

from affectus.models import MODELS, Model
from affectus.testing import cases
from affectus.training import compiling
from affectus.training.config import Compile


def processor() -> float:
    """Return seconds of the processor that this process and those it has waited for have taken."""
    return sum(os.times()[:4])


def measure(name: str, steps: int, backend: str) -> dict[str, Any]:
    """Train a network and its compiled form side by side."""
    from torch._dynamo.utils import counters

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    compiling.BACKEND = backend
    case = next(case for case in cases() if case.model == name)
    models = [case.build(dropout=False) for _ in range(2)]
    assert all(isinstance(model, Model) for model in models)
    models[1].load_state_dict(models[0].state_dict())  # type: ignore[union-attr]
    graphs, seconds, apart = [], [], 0.0
    device = torch.device("cpu")
    with compiling.compiled(models[0], Compile.DEFAULT, device) as network:  # type: ignore[arg-type]
        assert network is not None
        sides: list[Any] = []
        for model, call in zip(models, (network, models[1]), strict=True):
            model.train()  # type: ignore[union-attr]
            model.stage = model.stages()[-1].name  # type: ignore[union-attr]
            sides.append((model, call, torch.optim.Adam(model.parameters(), 1e-2)))  # type: ignore[union-attr]
        for step in range(steps):
            drawn = torch.randint(2, 9, (4 + step % 3,), generator=torch.Generator().manual_seed(step))
            batch = case.batch(seed=step, lengths=tuple(drawn.tolist()))
            losses, spent = [], []
            for model, call, optimizer in sides:
                begin = processor()
                output = call(batch)
                loss = torch.stack(list(model.losses(output, batch).values())).sum()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                model.on_batch_end(output, batch)
                losses.append(loss.item())
                spent.append(processor() - begin)
            graphs.append(counters["stats"]["unique_graphs"])
            seconds.append(spent)
            apart = max(apart, abs(losses[0] - losses[1]) / abs(losses[1]))
    return {
        "name": str(case),
        "graphs": graphs[0],
        "graphs_after": graphs[-1],
        "breaks": sum(counters["graph_break"].values()),
        "reasons": sorted(key.splitlines()[0][:100] for key in counters["graph_break"]),
        "first_seconds": seconds[0][0],
        "difference": apart,
    }


def pays(name: str, folder: str, steps: int, backend: str) -> dict[str, Any]:
    """Let a network and its compiled form take the same steps in turns."""
    from affectus.batches import Loader, Scale, fit_scaler
    from affectus.corpus import load_corpus
    from affectus.objectives import choose_tasks
    from affectus.training.config import resolve_settings
    from affectus.training.module import build_optimizer
    from affectus.vocabulary import View

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    compiling.BACKEND = backend
    corpus, entry = load_corpus(Path(folder)), MODELS[name]
    options, settings = resolve_settings(entry, preset="mosi" if "mosi" in entry.presets else None)
    scaler = fit_scaler(corpus, View.UNALIGNED, tuple(SHAPE), Scale.NONE)
    size = settings.batch_size
    loader = Loader(corpus, "train", View.UNALIGNED, tuple(SHAPE), scaler, batch_size=size, shuffle=True)
    batches = list(itertools.islice(loader, steps))
    sides: list[Any] = []
    with contextlib.ExitStack() as stack:
        for mode in (Compile.OFF, Compile.DEFAULT):
            torch.manual_seed(0)
            model = entry.create(dict(corpus.dims), choose_tasks(["intensity"], corpus.schemes), options)
            assert isinstance(model, Model)
            model.train()
            network = stack.enter_context(compiling.compiled(model, mode, torch.device("cpu")))
            groups = [(key, group, list(group.parameters)) for key, group in model.stages()[-1].groups.items()]
            sides.append((model, network or model, build_optimizer(groups, settings)))

        def step(side: int, batch: Any) -> float:
            model, call, optimizer = sides[side]
            begin = time.process_time()
            output = call(batch)
            torch.stack(list(model.losses(output, batch).values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            return time.process_time() - begin

        begin = processor()
        for batch in batches:
            step(1, batch)
        first = processor() - begin
        spent = [[step(side, batch) for side in (0, 1)] for _ in range(2) for batch in batches]
    plain, compiled = (sum(each[side] for each in spent) for side in (0, 1))
    return {
        "name": name,
        "batch_size": size,
        "steps": len(spent),
        "plain_ms": 1000 * plain / len(spent),
        "compiled_ms": 1000 * compiled / len(spent),
        "times_as_fast": plain / compiled,
        "first_pass_seconds": first,
    }


def show_whether_it_pays(names: list[str], settings: argparse.Namespace) -> None:
    """Measure and print networks at the shape of CMU-MOSI."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        make_pickle(path, "real")
        import_pickle(path, corpus)
        path.unlink()
        print("| network | samples | as it is, ms | compiled, ms | times as fast | first pass, seconds |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name in names:
            more = {"TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / name), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            given = ("pays", name, str(corpus), str(settings.steps), settings.backend)
            row = child(__file__, *given, environment=more)
            rows.append(row)
            print(
                f"| `{name}` | {row['batch_size']} | {row['plain_ms']:.1f} | {row['compiled_ms']:.1f} | "
                f"{row['times_as_fast']:.2f} | {row['first_pass_seconds']:.0f} |",
                flush=True,
            )
            if settings.json:
                settings.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, name, *rest = sys.argv[2:]
        if what == "pays":
            folder, steps, backend = rest
            print("\n" + json.dumps(pays(name, folder, int(steps), backend)))
        else:
            steps, backend = rest
            print("\n" + json.dumps(measure(name, int(steps), backend)))
        return
    networks = sorted({case.model for case in cases() if issubclass(MODELS[case.model].build, Model)})
    networks = [name for name in networks if name not in compiling.RECURRENT]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(networks))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--backend", default=compiling.BACKEND, help="of torch.compile; eager and aot_eager are fast")
    parser.add_argument("--pays", action="store_true", help="measure steps at the shape of CMU-MOSI instead")
    parser.add_argument("--json", type=Path, help="write the rows there")
    settings = parser.parse_args()
    names = chosen(parser, settings.models, networks)
    if settings.pays:
        show_whether_it_pays(names, settings)
        return
    rows = []
    print("| network | graphs | after all steps | left out, times | first step, seconds | losses apart |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            more = {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            row = child(__file__, "measure", name, str(settings.steps), settings.backend, environment=more)
        rows.append(row)
        print(
            f"| `{row['name']}` | {row['graphs']} | {row['graphs_after']} | {row['breaks']} | "
            f"{row['first_seconds']:.0f} | {row['difference']:.1e} |",
            flush=True,
        )
        if settings.json:
            settings.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
