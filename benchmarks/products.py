"""Large products of single precision, by the kernels and by PyTorch's library, side by side.

    python benchmarks/products.py [--rounds 15] [--threads 1] [--json FILE]

Shapes are those of layers at CMU-MOSI's shape in MMSA's form. Of each layer there are three products: forward, the
gradient of what enters it, and that of its weights. Both sides take turns in one process; the fastest round counts.
What the processor can do at most is near what the kernel does with 512 x 256 x 512, whose parts stay in the caches.

On an Intel processor affectus leaves products to PyTorch; the script measures the kernels there all the same, so that
the choice can be looked at.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from affectus.files import write_json
from affectus.nn import kernels, matmul

SHAPES = {
    "text into an LSTM, a batch of 32": (1154, 768, 1024),
    "text into an LSTM, a batch of 128": (4115, 768, 1024),
    "vision into an LSTM": (2300, 20, 1024),
    "a state of 256": (1154, 256, 1024),
    "a memory's gates": (4115, 1088, 288),
    "a memory's candidate": (4115, 64, 400),
    "attention, narrow": (4115, 1088, 32),
    "a dense layer of few rows": (32, 768, 512),
    "small": (3000, 64, 64),
}
"""Rows, terms of a sum, columns."""


def fastest(sides: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Return the least seconds of each side, in turns."""
    seconds = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, run in sides.items():
            begin = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return seconds


def by_pytorch(a: Tensor, b: Tensor) -> Tensor:
    """Multiply with PyTorch's library."""
    return a @ b


def measure(rounds: int) -> list[dict[str, Any]]:
    """Measure every shape."""
    found = []
    for name, (rows, terms, columns) in SHAPES.items():
        x, weight, grad = torch.randn(rows, terms), torch.randn(columns, terms), torch.randn(rows, columns)
        row: dict[str, Any] = {"layer": name, "shape": [rows, terms, columns]}
        for what, a, b in (("forward", x, weight.T), ("inputs", grad, weight), ("weights", grad.T, x)):
            operations = 2.0 * rows * terms * columns
            seconds = fastest(
                {"kernels": lambda a=a, b=b: matmul.matmul(a, b), "pytorch": lambda a=a, b=b: by_pytorch(a, b)}, rounds
            )
            row[what] = {side: operations / value / 1e9 for side, value in seconds.items()}
        found.append(row)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: G operations a second by the kernels / by PyTorch."""
    lines = [
        "| layer | rows x terms x columns | forward | gradient of inputs | gradient of weights |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        sides = (row[what] for what in ("forward", "inputs", "weights"))
        figures = " | ".join(f"{side['kernels']:.0f} / {side['pytorch']:.0f}" for side in sides)
        lines.append(f"| {row['layer']} | {' x '.join(map(str, row['shape']))} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    if kernels.level() == kernels.NONE:
        parser.error("There are no kernels here: python -m affectus.nn.kernels")
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    chosen = kernels.multiplies()
    matmul.multiplies = lambda: True  # type: ignore[assignment]
    matmul.LEAST = matmul.WORTH = 1
    warm = torch.randn(512, 256), torch.randn(256, 512)
    peak = 2.0 * 512 * 256 * 512 / fastest({"kernels": lambda: matmul.matmul(*warm)}, 50)["kernels"] / 1e9
    rows = measure(settings.rounds)
    print(f"kernels for {kernels.level()}; affectus takes {'the kernels' if chosen else 'PyTorch'} for products here")
    print(f"near the peak: {peak:.0f} G operations a second with {settings.threads} thread(s); kernels / PyTorch:\n")
    print(table(rows))
    if settings.json:
        write_json(settings.json, {"chosen": chosen, "level": kernels.level(), "peak": peak, "rows": rows})


if __name__ == "__main__":
    main()
