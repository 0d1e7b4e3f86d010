"""Training steps with the compiled kernels and without, in turns in one process, for every neural model.

    python benchmarks/kernels.py [--shape mosi] [--models ef_lstm,mtmm_es] [--json FILE]

The shapes are those of ``epochs.py``: ``mosi`` for models that read sequences, with their preset ``mosi`` where they
have one, ``mosei`` for contextual ones. A step is forward, losses, backward and Adam, on one thread. On each batch both
forms take it in turns, several times; the fastest of each counts, since other programs disturb single ones. Seconds are
those of the processor.
"""

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contextual import make_corpus
from epochs import SHAPES, TASKS, choose_all
from versus_mmsa import child, import_pickle, make_pickle


def measure(name: str, shape: str, corpus: Any, batches: int, rounds: int) -> dict[str, Any]:
    """Let a network take its steps with kernels and without."""
    import torch

    from affectus.batches import Loader, Scale, fit_scaler
    from affectus.models import MODELS, Model
    from affectus.nn.kernels import level, no_kernels
    from affectus.objectives import choose_tasks
    from affectus.training.config import resolve_settings
    from affectus.training.module import build_optimizer
    from affectus.vocabulary import View

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    entry = MODELS[name]
    options, settings = resolve_settings(entry, preset=shape if shape in entry.presets else None)
    view, modalities = (View.UNALIGNED if shape == "mosi" else View.CONTEXTUAL), tuple(corpus.dims)
    scaler = fit_scaler(corpus, view, modalities, Scale.NONE)
    loader = Loader(corpus, "train", view, modalities, scaler, batch_size=settings.batch_size, shuffle=True)
    model = entry.create(dict(corpus.dims), choose_tasks(TASKS[shape], corpus.schemes), options)
    assert isinstance(model, Model)
    model.train()
    stage = model.stages()[-1]
    model.stage = stage.name
    groups = [(key, group, list(group.parameters)) for key, group in stage.groups.items()]
    optimizer = build_optimizer(groups, settings)

    def step(batch: Any) -> float:
        begin = time.process_time()
        output = model(batch)
        torch.stack(list(model.losses(output, batch).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        spent = time.process_time() - begin
        model.on_batch_end(output, batch)
        return spent

    spent = {"with": [], "without": []}  # type: dict[str, list[float]]
    for batch in itertools.islice(loader, batches):
        best = dict.fromkeys(spent, float("inf"))
        for _ in range(rounds):
            for form in spent:
                with no_kernels() if form == "without" else contextlib.nullcontext():
                    best[form] = min(best[form], step(batch))
        for form, seconds in best.items():
            spent[form].append(seconds)
    with_them, without = (1000 * sum(spent[form]) / len(spent[form]) for form in spent)
    return {
        "name": name,
        "shape": shape,
        "level": level(),
        "batches": len(spent["with"]),
        "with_ms": with_them,
        "without_ms": without,
        "times_as_fast": without / with_them,
    }


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        from affectus.corpus import load_corpus

        name, shape, folder, batches, rounds = sys.argv[2:]
        corpus = load_corpus(Path(folder)) if shape == "mosi" else make_corpus(160)
        print(json.dumps(measure(name, shape, corpus, int(batches), int(rounds))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="default: all that fit")
    parser.add_argument("--shape", choices=SHAPES, help="default: both")
    parser.add_argument("--batches", type=int, default=16, help="at most")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each form on a batch")
    parser.add_argument("--json", type=Path, help="write the rows there")
    settings = parser.parse_args()
    wanted = choose_all(parser, settings)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        if wanted.get("mosi"):
            make_pickle(path, "real", {"train": 1284, "valid": 16, "test": 16})
            import_pickle(path, corpus)
            path.unlink()
        print(
            "| model | shape | without kernels, ms a batch | with | times as fast |\n| --- | --- | ---: | ---: | ---: |"
        )
        for shape, names in wanted.items():
            for name in names:
                row = child(__file__, name, shape, str(corpus), str(settings.batches), str(settings.rounds))
                rows.append(row)
                cells = f"{row['without_ms']:.1f} | {row['with_ms']:.1f} | {row['times_as_fast']:.2f}"
                print(f"| `{name}` | {shape} | {cells} |", flush=True)
                if settings.json:
                    settings.json.write_text(json.dumps({"models": rows}, indent=1) + "\n", encoding="utf-8")
    if rows:
        print(f"\nThe kernels here: {rows[0]['level']}")


if __name__ == "__main__":
    main()
