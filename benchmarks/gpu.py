"""Utterances a second of training on a GPU: single precision, bfloat16 and the processor, by model.

    python benchmarks/gpu.py [--models lf_dnn,tfn] [--epochs 3] [--json FILE]
    python benchmarks/gpu.py --device cpu --models lf_dnn      # tries the script where there is no GPU

The corpus is the one of ``versus_mmsa.py``: made-up features at the shape of MMSA's CMU-MOSI, lengths as that corpus
has them, imported once; the models have their preset ``mosi``. An epoch is train and valid with the metrics on valid;
the first is a warm-up, and the median of the others counts. Every measurement is a process of its own, in turns.

The limit is what the matrix products and convolutions of an epoch's train would take at the speed of one large product
in the same precision on the same device, measured in the same process; the share is that time over the epoch's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from versus_mmsa import COUNTS, MODELS, anatomy, child, make_pickle, ours, products_per_second

WAYS = (("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16"))
"""Device and precision."""


def measure(name: str, corpus: str, device: str, precision: str, epochs: int) -> dict[str, float]:
    """Train a model and return the seconds of an epoch and the speed of products."""
    import torch

    torch.set_num_threads(1)
    return {
        "seconds": ours(name, Path(corpus), epochs, device, precision)["seconds_wall"],
        "products_per_second": products_per_second(device, precision, 8192 if device == "cuda" else 1024),
    }


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, name, corpus, *rest = sys.argv[2:]
        if what == "anatomy":
            print(json.dumps(anatomy(name, Path(corpus))))
        else:
            device, precision, epochs = rest
            print(json.dumps(measure(name, corpus, device, precision, int(epochs))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu leaves out what needs a GPU")
    parser.add_argument("--epochs", type=int, default=3, help="per measurement, after the warm-up")
    parser.add_argument("--json", type=Path, help="write the rows there")
    settings = parser.parse_args()
    names = settings.models.split(",")
    for name in names:
        if name not in MODELS:
            parser.error(f"unknown model {name!r}; expected one of: {', '.join(MODELS)}")
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU here; --device cpu tries the script on the processor")
    where = torch.cuda.get_device_name() if settings.device == "cuda" else "the processor, one thread"
    ways = WAYS if settings.device == "cuda" else (("cpu", "fp32"), ("cpu", "bf16"))
    print(f"PyTorch {torch.__version__}, {where}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        make_pickle(path, "real")
        affectus = [sys.executable, "-m", "affectus"]
        subprocess.run([*affectus, "import", "mmsa", str(path), "--out", str(corpus)], check=True, capture_output=True)
        path.unlink()
        for name in names:
            operations = child(__file__, "anatomy", name, str(corpus))["operations"]
            first = None
            for device, precision in ways:
                found = child(__file__, "measure", name, str(corpus), device, precision, str(settings.epochs))
                first = first or found["seconds"]
                row = {
                    "name": name, "device": device, "precision": precision,
                    "utterances_per_second": COUNTS["train"] / found["seconds"],
                    "times_the_processor": first / found["seconds"],
                    "share_of_limit": operations / found["products_per_second"] / found["seconds"],
                    "giga_operations": operations / 1e9, **found,
                }  # fmt: skip
                rows.append(row)
                print(
                    f"{name} {device} {precision}: {row['utterances_per_second']:,.0f} utterances of train a second, "
                    f"{row['times_the_processor']:.2f} times the processor in fp32, "
                    f"{100 * row['share_of_limit']:.1f} % of the limit",
                    flush=True,
                )
                if settings.json:
                    settings.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
