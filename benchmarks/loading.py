"""From starting Python to the first batch, and the memory of it: affectus and MMSA on the same pickle.

    python benchmarks/loading.py --mmsa-python mmsa-venv/bin/python [--repeats 3] [--json FILE]

The pickle is that of ``versus_mmsa.py``, in the shape of MMSA's CMU-MOSI. MMSA reads it whole whenever something is
trained. affectus imports it once and then opens a corpus; both are measured, each in a process of its own and in turns:
seconds of the processor from the start of the process, and the memory that the process had at most, libraries included,
all of it (VmHWM) and what is not a mapped file (RssAnon, when the batch is there). ``libraries`` is a process that
imports what the other needs and ends.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from versus_mmsa import child_environment, clocks, make_pickle, mmsa_arguments, peak_mib

KINDS = {
    "theirs": "MMSA, each time",
    "import": "affectus, import, once",
    "ours": "affectus, each time",
    "their libraries": "MMSA's libraries alone",
    "our libraries": "affectus's libraries alone",
}


def anonymous_mib() -> float:
    """Return what this process holds that is not a mapped file, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def found() -> dict[str, Any]:
    """Return what is measured of this process so far."""
    return {"seconds": clocks()[0], "peak_mib": peak_mib(), "anonymous_mib": anonymous_mib()}


def theirs(path: Path, batch: bool) -> dict[str, Any]:
    """Go to MMSA's first batch as its users do."""
    with tempfile.TemporaryDirectory() as folder:
        args = mmsa_arguments("lf_dnn", path, Path(folder))
        from MMSA.data_loader import MMDataLoader

        if batch:
            assert len(next(iter(MMDataLoader(args, 0)["train"]))["labels"]["M"]) == args.batch_size
        return found()


def ours(path: Path, batch: bool) -> dict[str, Any]:
    """Go to our first batch of the same size, from the corpus or, for ``import``, to the corpus from the pickle."""
    import torch

    from affectus.batches import Loader, Scale, fit_scaler
    from affectus.corpus import load_corpus
    from affectus.training import load_run  # noqa: F401  # what training imports
    from affectus.vocabulary import View

    torch.set_num_threads(1)
    if batch:
        corpus = load_corpus(path)
        scaler = fit_scaler(corpus, View.UNALIGNED, corpus.modalities, Scale.NONE)
        loader = Loader(corpus, "train", View.UNALIGNED, corpus.modalities, scaler, batch_size=128, shuffle=True)
        assert next(iter(loader)).size == 128
    return found()


def importing(path: Path) -> dict[str, Any]:
    """Import the pickle into a corpus."""
    from affectus.corpus.readers import import_corpus

    with tempfile.TemporaryDirectory() as folder:
        import_corpus("mmsa", path, out=Path(folder) / "corpus")
        return found()


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        kind, path = sys.argv[2], Path(sys.argv[3])
        if kind == "import":
            result = importing(path)
        else:
            result = (theirs if kind.startswith("their") else ours)(path, "libraries" not in kind)
        print("\n" + json.dumps(result))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmsa-python", required=True, help="the Python of an environment with MMSA")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / "unaligned_50.pkl", Path(folder) / "corpus"
        make_pickle(path, "real")
        size = path.stat().st_size / 2**20
        call = [sys.executable, "-m", "affectus", "import", "mmsa", str(path), "--out", str(corpus)]
        subprocess.run(call, check=True, capture_output=True)
        for _ in range(arguments.repeats):
            for kind, list_ in rows.items():
                python = arguments.mmsa_python if kind.startswith("their") else sys.executable
                source = corpus if kind in ("ours", "our libraries") else path
                done = subprocess.run(
                    [python, __file__, "--child", kind, str(source)],
                    capture_output=True, text=True, env=child_environment(),
                )  # fmt: skip
                if done.returncode:
                    raise SystemExit(f"{kind} failed:\n{done.stderr[-3000:]}")
                list_.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        k: {what: statistics.median(one[what] for one in list_) for what in list_[0]} for k, list_ in rows.items()
    }
    print(f"a pickle of {size:.0f} MiB, median of {arguments.repeats}")
    print("| | seconds | peak, MiB | of it not a mapped file, MiB |")
    print("| --- | ---: | ---: | ---: |")
    for kind, title in KINDS.items():
        one = medians[kind]
        print(f"| {title} | {one['seconds']:.1f} | {one['peak_mib']:.0f} | {one['anonymous_mib']:.0f} |")
    ratios = sorted(a["seconds"] / b["seconds"] for a, b in zip(rows["theirs"], rows["ours"], strict=True))
    print(
        f"to the first batch {statistics.median(ratios):.1f} times as fast ({ratios[0]:.1f} to {ratios[-1]:.1f}), "
        f"with {medians['ours']['peak_mib'] / medians['theirs']['peak_mib']:.2f} of the peak memory"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"pickle_mib": size, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
