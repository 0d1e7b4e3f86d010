"""How long a thread that waits should look before it sleeps: epochs on several threads, the machine idle and busy.

    python benchmarks/spinning.py [--models lf_dnn,mfn] [--threads 2] [--busy 0,1,2] [--counts 1000,3000,30000]

GNU's OpenMP, by which PyTorch and our kernels start their threads, lets a thread that waits for the others look some
300,000 times before it sleeps (``GOMP_SPINCOUNT``), or 1,000 times when it knows that it has more threads than cores.
It does not know of other programs. The script trains at CMU-MOSI's shape (as ``versus_mmsa.py`` draws it, its preset)
in a process of its own for each measurement, with OpenMP's own count and with others in turns, while so many endless
loops run beside it (``--busy``). Seconds are those of the clock, medians over the epochs after the first.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import versus_mmsa
from versus_mmsa import MODELS, child, chosen, import_pickle, make_pickle

from affectus.files import write_json


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Let so many programs compute within the block."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="lf_dnn,mfn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", default="0,1,2", help="how many endless loops run beside it, by commas")
    parser.add_argument("--counts", default="1000,3000,30000", help="GOMP_SPINCOUNT, by commas, beside OpenMP's own")
    parser.add_argument("--epochs", type=int, default=3, help="of each measurement, after the warm-up")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the seconds there")
    settings = parser.parse_args()
    names = chosen(parser, settings.models, MODELS)
    counts = [None, *settings.counts.split(",")]
    rows = []
    print(f"| model | loops beside it | {' | '.join(count or 'its own count: s' for count in counts)} |")
    print(f"| --- | --- | {' | '.join('---:' for _ in counts)} |")
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        make_pickle(path, "real")
        import_pickle(path, corpus)
        for name in names:
            for loops in map(int, settings.busy.split(",")):
                walls: dict[str | None, list[float]] = {count: [] for count in counts}
                with busy(loops):
                    for _ in range(settings.repeats):
                        for count in counts:
                            found = child(
                                versus_mmsa.__file__,
                                *("ours", name, str(corpus), str(settings.epochs), str(settings.threads)),
                                environment={} if count is None else {"GOMP_SPINCOUNT": count},
                                threads=settings.threads,
                            )
                            walls[count].append(found["seconds_wall"])
                own = statistics.median(walls[None])
                shown = [f"{own:.2f}", *(f"{own / statistics.median(walls[count]):.2f}" for count in counts[1:])]
                print(f"| `{name}` | {loops} | {' | '.join(shown)} |", flush=True)
                rows.append(
                    {"model": name, "loops": loops, "seconds": {count or "own": walls[count] for count in counts}}
                )
                if settings.json:
                    write_json(settings.json, {"threads": settings.threads, "rows": rows})


if __name__ == "__main__":
    main()
