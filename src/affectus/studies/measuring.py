"""What a cell costs: parameters, seconds and memory, measured in a process of its own."""

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from affectus.api import train
from affectus.corpus import load_corpus
from affectus.errors import AffectusError
from affectus.files import read_json, write_json
from affectus.studies.cells import Cell
from affectus.threads import end_with_parent, start_process, torch_threads
from affectus.training.optional import without_unused

EPOCHS = 4
"""Trained to be measured; the first, which warms up, is not counted in the seconds."""


@dataclass(frozen=True)
class Cost:
    """What training and using a cell costs.

    Attributes:
        parameters: trainable numbers.
        epoch_seconds: median over epochs, validation included.
        predict_seconds: for one split, median of three.
        peak_bytes: the most memory that the process took while it trained, above what it held before (libraries and
            corpus); None where the system does not tell.
    """

    parameters: int | None
    epoch_seconds: float
    predict_seconds: float
    peak_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


def measure(cell: Cell, corpus: Path, split: str, *, threads: int = 1) -> Cost:
    """Train a cell for some epochs and predict a split, alone in a process.

    Args:
        cell: its first seed is used.
        corpus: its folder.
        split: to predict.
        threads: of torch.

    Raises:
        AffectusError: the cell cannot be trained, or its process was ended.
    """
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_in_process, args=(sender, cell, corpus, split, threads)
    )
    found = None
    try:
        start_process(process)
        sender.close()
        found = receiver.recv()
    except EOFError:
        process.join()
        raise AffectusError(
            f"The process that measured {cell.name!r} was ended", got=f"the code {process.exitcode}"
        ) from None
    finally:
        if process.pid is not None:
            if found is None:
                process.kill()  # the command is told to end
            process.join(timeout=30)
    if isinstance(found, AffectusError):
        raise found
    assert isinstance(found, Cost)
    return found


def measure_once(
    path: Path, key: str, cell: Cell, corpus: Path, split: str, *, identity: str, threads: int = 1
) -> tuple[Cost, bool]:
    """Return what a cell costs, measured now unless a file knows it of this very cell and corpus.

    Args:
        path: a JSON file of costs, written anew when a cell was measured.
        key: of the cell in it.
        cell: to measure.
        corpus: its folder.
        split: to predict.
        identity: the corpus's hash.
        threads: of torch.

    Returns:
        The cost, and whether it was measured now.

    Raises:
        AffectusError: the cell cannot be trained, or its process was ended.
    """
    known: dict[str, Any] = read_json(path) if path.is_file() else {}
    of = {"cell": cell.to_json() | {"seeds": 0}, "corpus": identity, "threads": threads}
    if known.get(key, {}).get("of") == of:
        return Cost(**known[key]["cost"]), False
    cost = measure(cell, corpus, split, threads=threads)
    write_json(path, known | {key: {"of": of, "cost": cost.to_json()}})
    return cost, True


def _in_process(sender: Connection, cell: Cell, corpus: Path, split: str, threads: int) -> None:
    end_with_parent()
    try:
        sender.send(_measure(cell, corpus, split, threads))
    except Exception as error:
        # errors are told as text: not every exception survives the way between processes
        sender.send(AffectusError(f"The cell {cell.name!r} could not be measured", got=" ".join(str(error).split())))
    sender.close()


def _measure(cell: Cell, corpus: Path, split: str, threads: int) -> Cost:
    with without_unused():
        import lightning.pytorch  # noqa: F401 - its seconds and memory are not the cell's

    opened = load_corpus(corpus)
    settings = {"epochs": EPOCHS, "patience": None, "record_epochs": False, "keep_epochs": False}
    short = {**cell.training, **settings}
    before = resident_bytes()
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            cell.model,
            opened,
            tasks=cell.tasks,
            out=Path(folder) / "run",
            modalities=cell.modalities,
            seeds=[0],
            preset=cell.preset,
            view=cell.view,
            options=cell.options,
            training=short,
            threads=threads,
        )
        peak = peak_bytes()
        lines = (run.seed_folder(0) / "history.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = [float(json.loads(line)["seconds"]) for line in lines]
        result = read_json(run.seed_folder(0) / "result.json")
        model, took = run.model(0), []
        with torch_threads(threads):
            for _ in range(3):
                started = time.perf_counter()
                run.predict(model, opened, split)
                took.append(time.perf_counter() - started)
    above = None if peak is None or before is None else max(0, peak - before)
    return Cost(
        parameters=result.get("parameters"),
        epoch_seconds=statistics.median(seconds[1:] or [float(result["seconds"])]),
        predict_seconds=statistics.median(took),
        peak_bytes=above,
    )


def _status(key: str) -> int | None:
    """Return a line of this process's status in bytes; None where the system has none."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def resident_bytes() -> int | None:
    """Return the memory that this process holds now; None where the system does not tell."""
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """Return the most memory that this process held since :func:`reset_peak`; None where the system does not tell."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let the peak begin anew, where the system can."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
