"""Utterances a second of training on a GPU: single precision, bfloat16, compiled, the processor, and MMSA's loop.

    python benchmarks/gpu.py [--mmsa-python mmsa-venv/bin/python] [--models lf_dnn,tfn] [--epochs 3] [--json FILE]
    python benchmarks/gpu.py --device cpu --models lf_dnn      # the same where there is no GPU

The corpus is the one of ``versus_mmsa.py``: made-up features at the shape of MMSA's CMU-MOSI, lengths as that corpus
has them, imported once; the models have their preset ``mosi``. An epoch is train and valid with the metrics on valid;
the first is a warm-up, in which a network is compiled too, and the median of the others counts. Every measurement is a
process of its own, in turns. MMSA's loop is that of ``versus_mmsa.py`` as well, on the same device; its environment
needs a PyTorch with CUDA of its own, and on a processor it is given two batches of each split where an epoch takes
minutes.

The limit is what the matrix products and convolutions of an epoch's train would take at the speed of one large product
in the same precision on the same device, measured in the same process; the share is that time over the epoch's.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from versus_mmsa import (
    COUNTS,
    MODELS,
    SAMPLED,
    anatomy,
    child,
    chosen,
    import_pickle,
    make_pickle,
    ours,
    products_per_second,
    theirs,
)

WAYS = (("cpu", "fp32", "off"), ("cuda", "fp32", "off"), ("cuda", "bf16", "off"))
COMPILED = (("cuda", "fp32", "default"), ("cuda", "bf16", "default"))
"""Device, precision and compile."""
ALONE = (("cpu", "fp32", "off"), ("cpu", "bf16", "off"))
ALONE_COMPILED = (("cpu", "fp32", "default"),)


def measure(name: str, corpus: str, device: str, precision: str, compile: str, epochs: int) -> dict[str, Any]:
    """Train a model and return the seconds of an epoch and the speed of products."""
    import torch

    torch.set_num_threads(1)
    found = ours(name, Path(corpus), epochs, device, precision, compile)
    return {
        "seconds": found["seconds_wall"],
        "each": found["walls"],
        "products_per_second": products_per_second(device, precision, 8192 if device == "cuda" else 1024),
    }


def ways(name: str, device: str) -> list[tuple[str, str, str]]:
    """Return how a model is measured: device, precision and compile."""
    from affectus.training.compiling import RECURRENT  # which an environment with MMSA does not have

    some, compiled = (WAYS, COMPILED) if device == "cuda" else (ALONE, ALONE_COMPILED)
    return [*some, *(() if name in RECURRENT else compiled)]


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    who = "MMSA" if row["who"] == "mmsa" else f"{row['precision']}{'' if row['compile'] == 'off' else ', compiled'}"
    parts = [
        f"{row['name']} {row['device']} {who}: {row['utterances_per_second']:,.0f} utterances of train a second",
        f"{row['times_the_processor']:.2f} times the processor in fp32",
    ]
    if row["who"] == "ours":
        parts.append(f"{100 * row['share_of_limit']:.1f} % of the limit")
    if row.get("times_mmsa"):
        parts.append(f"{row['times_mmsa']:.2f} times MMSA on the same device")
    print(", ".join(parts), flush=True)


def compare(name: str, path: Path, corpus: Path, settings: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one model in every way."""
    operations = child(__file__, "anatomy", name, str(corpus))["operations"]
    epochs, first, mmsa = str(settings.epochs), None, None
    rows = []
    if settings.mmsa_python:
        batches = SAMPLED.get(name, 0) if settings.device == "cpu" else 0
        given = (name, str(path), settings.device, epochs, str(batches))
        mmsa = child(__file__, "theirs", *given, python=settings.mmsa_python)
    for device, precision, compile in ways(name, settings.device):
        found = child(__file__, "measure", name, str(corpus), device, precision, compile, epochs)
        first = first or found["seconds"]
        row = {
            "name": name, "who": "ours", "device": device, "precision": precision, "compile": compile,
            "utterances_per_second": COUNTS["train"] / found["seconds"],
            "times_the_processor": first / found["seconds"],
            "share_of_limit": operations / found["products_per_second"] / found["seconds"],
            "times_mmsa": mmsa["seconds_wall"] / found["seconds"] if mmsa and device == settings.device else None,
            "giga_operations": operations / 1e9, **found,
        }  # fmt: skip
        rows.append(row)
        show(row)
    if mmsa and first:
        seconds = mmsa["seconds_wall"]
        row = {
            "name": name, "who": "mmsa", "device": settings.device, "precision": "fp32", "compile": "off",
            "utterances_per_second": COUNTS["train"] / seconds, "times_the_processor": first / seconds,
            "seconds": seconds, "batches": mmsa["batches"], "of_batches": mmsa["of_batches"],
        }  # fmt: skip
        rows.append(row)
        show(row)
    return rows


def run_child(what: str, name: str, path: str, rest: list[str]) -> dict[str, Any]:
    """Do what the parent process asks for."""
    if what == "anatomy":
        return anatomy(name, Path(path))
    if what == "theirs":
        device, epochs, batches = rest
        return theirs(name, Path(path), int(epochs), int(batches) or None, device)
    device, precision, compile, epochs = rest
    return measure(name, path, device, precision, compile, int(epochs))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, name, path, *rest = sys.argv[2:]
        print("\n" + json.dumps(run_child(what, name, path, rest)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu leaves out what needs a GPU")
    parser.add_argument("--mmsa-python", help="the Python of an environment with MMSA, to measure its loop as well")
    parser.add_argument("--epochs", type=int, default=3, help="per measurement, after the warm-up")
    parser.add_argument("--json", type=Path, help="write the rows there")
    settings = parser.parse_args()
    names = chosen(parser, settings.models, MODELS)
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU here; --device cpu tries the script on the processor")
    where = torch.cuda.get_device_name() if settings.device == "cuda" else "the processor, one thread"
    print(f"PyTorch {torch.__version__}, {where}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        make_pickle(path, "real")
        import_pickle(path, corpus)
        if not settings.mmsa_python:
            path.unlink()
        for name in names:
            rows += compare(name, path, corpus, settings)
            if settings.json:
                settings.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
