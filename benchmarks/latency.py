"""How long one utterance, or one video, takes: affectus's own path, the same run in onnxruntime, and torch.export.

    python benchmarks/latency.py --folder latency            # export every network once (minutes), then measure
    python benchmarks/latency.py --folder latency mfn mult   # some of them

Networks have the sizes of their defaults and random weights (time does not depend on them), the widths of CMU-MOSI in
MMSA's form (768, 5, 20). An utterance has 50 steps in each modality, a video 30 utterances; one thread. What is
compared is asked in turn, request by request, so that whatever else the machine does meets all alike; the ratio counts,
not the millisecond.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affectus.batches import Scaler
from affectus.files import atomic_path
from affectus.models import MODELS, Model
from affectus.predict.portable import (
    Format,
    PortableFile,
    PortableNetwork,
    check_file,
    predict_inputs,
    random_inputs,
    trace,
    write_program,
)
from affectus.testing import make_tasks
from affectus.vocabulary import View

WIDTHS = {"text": 768, "audio": 5, "vision": 20}
STEPS, UTTERANCES = 50, 30
TORCH_EXPORT = ("mtmm_es", "lf_dnn", "mult")
"""Also asked as programs of torch.export, whose recurrences run in Python."""


def network_of(name: str) -> PortableNetwork:
    entry = MODELS[name]
    view = next(view for view in View if view in entry.views)
    tasks = [task for task in make_tasks("intensity", "polarity") if task.kind in entry.kinds][:1]
    generator = np.random.default_rng(0)
    scaler = Scaler(
        {k: generator.normal(size=d).astype(np.float32) for k, d in WIDTHS.items()},
        {k: generator.uniform(0.5, 2, size=d).astype(np.float32) for k, d in WIDTHS.items()},
    )
    torch.manual_seed(0)
    model = entry.create(WIDTHS, tasks)
    assert isinstance(model, Model)
    network = PortableNetwork([model.eval()], tasks, view, scaler).eval()
    return network.requires_grad_(False)


def export(name: str, network: PortableNetwork, folder: Path) -> dict[Format, Path]:
    kinds = (Format.ONNX, Format.TORCH_EXPORT) if name in TORCH_EXPORT else (Format.ONNX,)
    paths = {kind: folder / f"{name}.{kind}" for kind in kinds}
    if not all(path.is_file() for path in paths.values()):
        program = trace(network)
        for kind, path in paths.items():
            with atomic_path(path) as temporary:  # what fails the check is not measured by the next call
                write_program(program, network, kind, temporary)
                check_file(network, kind, temporary)
    return paths


def times(asked: dict[str, Callable[[dict[str, Any]], Any]], inputs: dict[str, Any], requests: int) -> dict[str, Any]:
    spent: dict[str, list[float]] = {name: [] for name in asked}
    for round_ in range(requests + 5):
        for name, ask in asked.items():
            begun = time.perf_counter()
            ask(inputs)
            if round_ >= 5:
                spent[name].append(1000 * (time.perf_counter() - begun))
    return {name: np.percentile(values, [50, 99]) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("latency"))
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--only-export", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    names = chosen.models or [name for name in MODELS.names() if issubclass(MODELS[name].build, Model)]
    print("| model | view | eager p50 | p99 | onnxruntime p50 | p99 | eager / onnxruntime | torch.export p50 |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in names:
        network = network_of(name)
        paths = export(name, network, chosen.folder)
        if chosen.only_export:
            continue
        length = UTTERANCES if network.view is View.CONTEXTUAL else STEPS
        inputs = random_inputs(network, 1, length, np.random.default_rng(0))
        asked: dict[str, Callable[[dict[str, Any]], Any]] = {"eager": lambda x, n=network: predict_inputs(n, x)}
        asked |= {str(kind): PortableFile(path, kind) for kind, path in paths.items()}
        found = times(asked, inputs, chosen.requests)
        eager, onnx = found["eager"], found["onnx"]
        other = f"{found['torch-export'][0]:.2f}" if "torch-export" in found else ""
        print(
            f"| `{name}` | {network.view} | {eager[0]:.2f} | {eager[1]:.2f} | {onnx[0]:.2f} | {onnx[1]:.2f} | "
            f"{eager[0] / onnx[0]:.1f} | {other} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
