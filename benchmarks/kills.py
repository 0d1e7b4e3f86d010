"""Kill commands at random moments, let them go on, and compare with what they give undisturbed.

    python benchmarks/kills.py [--kills 60] [--seed 0] [--jobs train,import,extract,benchmark,tune] [--json FILE]

Each command is run to its end twice without a disturbance: what differs between the two (seconds, dates) is what the
comparison leaves out, and must be nothing else than that. Then the same command is killed (SIGKILL) and started again,
several times in a row, until it is left to end. Half of the kills come after a random time, half just before a random
change of a file's name, a removal or an opening for writing, so that narrow moments are met as well. After each kill
every file that has its final name must be whole; what was finished must not be done again; at the end the files must be
those of the undisturbed run, byte for byte where they hold no times, and nothing temporary may be left.

Commands run in forks of one process that has imported everything, and write a checkpoint after each epoch, so that a
kill costs the command and not the import of PyTorch. Needs Linux and the extras tune and media.
"""

import argparse
import builtins
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np

JOBS = ("train", "import", "extract", "benchmark", "tune")
IN_A_ROW = 4
"""At most so many kills before a command is left to end."""
PATIENCE = 600.0
SMALL = ["--set", "hidden=4", "--set", "dense=4"]
# the last is the hash of a file that holds seconds
TIMES = ("seconds", "date", "datetime_start", "datetime_complete", "duration", "history.jsonl")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SECONDS = re.compile(r'"seconds": [\d.]+,? ?')


def write_sources(work: Path) -> None:
    """Write what the commands read: a bundle for import, sound with subtitles, a small corpus."""
    rng = np.random.default_rng(0)
    count, video = 4000, np.arange(4000) // 10
    split = np.array(["train", "valid", "test"])[np.digitize(video, (300, 350))]
    np.savez(
        work / "bundle.npz",
        id=np.array([f"u{i}" for i in range(count)]),
        video_id=np.array([f"v{i}" for i in video]),
        segment=np.arange(count) % 10,
        split_std=split,
        start=np.arange(count) % 10 * 1.0,
        end=np.arange(count) % 10 + 1.0,
        text=np.array([f"word {i}" for i in range(count)]),
        sentiment=rng.uniform(-3, 3, count),
        **{f"{name}_feat": rng.normal(size=(count, 100)).astype(np.float32) for name in ("text", "audio", "video")},
    )
    media = work / "media"
    media.mkdir()
    for number in range(4):
        with wave.open(str(media / f"c{number}.wav"), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(16_000)
            moments = np.arange(32_000) / 16_000
            sound = sum(np.sin(2 * np.pi * (110 + 20 * number) * k * moments) / k for k in range(1, 9))
            stream.writeframes((5000 * sound).astype("<i2").tobytes())
        lines = "1\n00:00:00,100 --> 00:00:00,900\ngood film\n\n2\n00:00:01,000 --> 00:00:01,900\nbad end\n"
        (media / f"c{number}.srt").write_text(lines, encoding="utf-8")


@dataclass
class Job:
    """A command, and what it writes.

    Attributes:
        name: of the command.
        arguments: from the folder that it works in.
        finished: files that are not to be made again once they are there.
        seconds: that it takes undisturbed.
        steps: changes of files that it makes undisturbed.
        expected: the files of the undisturbed run, their contents as they are compared.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    finished: str = ""
    seconds: float = 0.0
    steps: int = 0
    expected: dict[str, Any] = field(default_factory=dict)


def make_jobs(work: Path) -> dict[str, Job]:
    """Return the commands."""
    corpus = str(work / "corpus")
    quick = ["--set", "epochs=6", "--tasks", "polarity,emotions"]

    def train(out: Path) -> list[str]:
        # two stages of training, a checkpoint in each
        return [
            "train",
            "bc_lstm",
            corpus,
            *quick,
            "--set",
            "hidden=4",
            "--seeds",
            "2",
            "--out",
            str(out / "run"),
            "-q",
        ]

    def read(out: Path) -> list[str]:
        return ["import", "mosi-npz", str(work / "bundle.npz"), "--out", str(out / "corpus"), "--json"]

    def extract(out: Path) -> list[str]:
        switches = ["--text", "none", "--no-vision", "--recognizer", "none", "--json"]
        places = ["--out", str(out / "corpus"), "--cache", str(out / "cache")]
        return ["extract", str(work / "media"), *switches, *places]

    def benchmark(out: Path) -> list[str]:
        models = ["--models", "mtmm_es", "--seeds", "2", "--set", "mtmm_es.hidden=4", "--view", "any"]
        return ["benchmark", corpus, *models, "--set", "epochs=3", "--no-costs", "--out", str(out / "study"), "-q"]

    def tune(out: Path) -> list[str]:
        search = ["--trials", "4", "--search", "learning_rate=log:1e-3..1e-1", "--search", "dropout=0.1..0.5"]
        fixed = [*SMALL, "--set", "epochs=4"]
        return ["tune", "mtmm_es", corpus, *search, *fixed, "--out", str(out / "study"), "-q"]

    return {
        "train": Job("train", train, "run/seed-*/result.json"),
        "import": Job("import", read),
        "extract": Job("extract", extract, "cache/*/card.json"),
        "benchmark": Job("benchmark", benchmark, "study/runs/*/seed-*/result.json"),
        "tune": Job("tune", tune),
    }


def import_everything() -> None:
    """Load the code of all commands, so that forks have it."""
    import importlib

    for name in ("optuna", "sqlalchemy.dialects.sqlite", "lightning.pytorch", "sklearn.linear_model", "scipy.stats"):
        importlib.import_module(name)
    for name in ("affectus.features.media.recording", "affectus.features.media.acoustic", "librosa", "pyworld"):
        importlib.import_module(name)
    import affectus.cli.main
    import affectus.studies.tuning
    import affectus.training.averaging
    import affectus.training.callbacks
    import affectus.training.module
    from affectus.studies.benchmarking import ranking

    affectus.training.callbacks.CHECKPOINT_SECONDS = 0.0
    # the seconds of training stand in the benchmark's pages among figures that are compared
    spent = ranking._spent
    ranking._spent = lambda outcome: (spent(outcome)[0], None)


class Steps:
    """Counts changes of files, and ends the process before one of them.

    Args:
        until: before which one; None for none.
    """

    def __init__(self, until: int | None) -> None:
        self.count, self.until = 0, until
        for module, name in ((os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (shutil, "rmtree")):
            setattr(module, name, self._counting(getattr(module, name)))
        builtins.open = self._opening(builtins.open)  # type: ignore[assignment]

    def step(self) -> None:
        self.count += 1
        if self.count == self.until:
            os.kill(os.getpid(), signal.SIGKILL)

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            self.step()
            return function(*arguments, **more)

        # os and shutil look some of their functions up in these sets
        for known in ("supports_dir_fd", "supports_fd", "supports_follow_symlinks"):
            if function in getattr(os, known):
                getattr(os, known).add(counted)
        counted.avoids_symlink_attacks = getattr(function, "avoids_symlink_attacks", False)  # type: ignore[attr-defined]
        return counted

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
            if "w" in mode:
                self.step()
            return function(file, mode, *arguments, **more)

        return opened


def start(arguments: Sequence[str], log: Path, until: int | None = None) -> int:
    """Start a command in a fork and return its process's number."""
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        steps = Steps(until)
        from affectus.cli.main import main

        code = main(list(arguments))
        log.with_suffix(".steps").write_text(str(steps.count), encoding="utf-8")
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int, seconds: float) -> int | None:
    """Wait for a process and return its exit status (minus the signal that ended it); None if it still runs."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def end_group(leader: int) -> None:
    """Wait until no process that a killed command started is alive: forked ones hold its locks as long as they live."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        alive = False
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = place.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue  # it has ended
            alive |= int(group) == leader and state not in "ZX"
        if not alive:
            return
        time.sleep(0.01)
    raise SystemExit("a process of a killed command goes on")


def run_to_end(job: Job, out: Path, log: Path) -> float:
    """Run a command undisturbed and return its seconds; anything but success ends the benchmark."""
    begun = time.monotonic()
    process = start(job.arguments(out), log)
    code = wait(process, PATIENCE)
    if code is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    if code != 0:
        raise SystemExit(f"{job.name} ended with {code}:\n{log.read_text(encoding='utf-8')}")
    return time.monotonic() - begun


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _plain(value) for name, value in data.items() if name not in TIMES}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    return data


def contents(path: Path) -> Any:
    """Return what is compared of a file, which must be whole: all of it but times.

    Raises:
        Exception: it is not whole.
    """
    import torch
    from safetensors.numpy import load_file

    if path.suffix == ".json":
        return _DATE.sub("", json.dumps(_plain(json.loads(path.read_text(encoding="utf-8")))))
    if path.suffix == ".jsonl":
        return [_plain(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".safetensors":
        return {name: (values.dtype.str, values.shape, values.tobytes()) for name, values in load_file(path).items()}
    if path.suffix == ".parquet":
        data = path.read_bytes()
        assert data[:4] == data[-4:] == b"PAR1", "not a whole Parquet file"
        return data
    if path.suffix == ".ckpt":
        torch.load(path, weights_only=True)
        return None
    if path.suffix == ".db":
        with sqlite3.connect(path) as base:  # rolls back what a killed process began
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            asked = "SELECT number, state FROM trials ORDER BY number"
            values = "SELECT trial_id, value FROM trial_values ORDER BY trial_id"
            params = "SELECT trial_id, param_name, param_value FROM trial_params ORDER BY trial_id, param_name"
            steps = "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values ORDER BY trial_id, step"
            return [base.execute(question).fetchall() for question in (asked, values, params, steps)]
    return _SECONDS.sub("", _DATE.sub("", path.read_text(encoding="utf-8")))


def snapshot(out: Path) -> dict[str, Any]:
    """Return the contents of all files of a folder; what is unfinished has its own name and is passed over."""
    found = {}
    for path in sorted(out.rglob("*")):
        inside = path.relative_to(out)
        if path.is_file() and not any(part.endswith(".part") for part in inside.parts):
            if path.name.endswith("-journal"):
                continue
            try:
                found[inside.as_posix()] = contents(path)
            except Exception as error:
                raise SystemExit(f"{inside} is not whole: {type(error).__name__}: {error}") from error
    return found


def names(out: Path) -> set[str]:
    """Return the names of all files and of unfinished folders."""
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() or p.name.endswith(".part")}


def compare(job: Job, out: Path) -> None:
    """End the benchmark unless a folder holds what the undisturbed command wrote, and nothing else."""
    if names(out) != set(job.expected):
        raise SystemExit(f"{job.name}: other files than undisturbed: {sorted(names(out) ^ set(job.expected))}")
    for name, found in snapshot(out).items():
        if found != job.expected[name]:
            raise SystemExit(
                f"{job.name}: {name} differs from that of the undisturbed run{_where(found, job.expected[name])}"
            )


def _where(found: Any, expected: Any) -> str:
    if not isinstance(found, str):
        return ""
    place = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), 0)
    around = slice(max(place - 60, 0), place + 60)
    return f": {found[around]!r} instead of {expected[around]!r}"


def finished(job: Job, out: Path) -> dict[str, tuple[int, int]]:
    """Return which files that are not to be made again are there, and when they were made."""
    if not job.finished:
        return {}
    return {str(p.relative_to(out)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in out.glob(job.finished)}


def disturb(job: Job, out: Path, log: Path, kills: int, rng: random.Random) -> int:
    """Kill a command up to so many times in a row, let it end, compare, and return how many kills met it."""
    met, done = 0, {}
    for _ in range(kills):
        by_step = rng.random() < 0.5
        until = rng.randint(1, max(job.steps, 1)) if by_step else None
        seconds = PATIENCE if by_step else rng.uniform(0.0, job.seconds)
        process = start(job.arguments(out), log, until)
        code = wait(process, seconds)
        if code is None:
            os.kill(process, signal.SIGKILL)
            code = wait(process, PATIENCE)
        if code == -signal.SIGKILL:
            met += 1
        elif code != 0:
            raise SystemExit(f"{job.name} ended with {code}:\n{log.read_text(encoding='utf-8')}")
        end_group(process)
        snapshot(out)
        now = finished(job, out)
        for name, made in done.items():
            if now.get(name) != made:
                raise SystemExit(f"{job.name}: {name} was finished, and made again")
        done = now
        if code == 0:
            break
    run_to_end(job, out, log)
    now = finished(job, out)
    if any(now.get(name) != made for name, made in done.items()):
        raise SystemExit(f"{job.name}: something that was finished was made again")
    compare(job, out)
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="in all, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--brief", action="store_true", help="run each command undisturbed once, not twice")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    chosen = arguments.jobs.split(",")
    rng = random.Random(arguments.seed)
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_sources(work)
        corpus = Job("corpus", lambda out: ["corpus", "embedded", "--videos", "24", "--out", str(out)])
        run_to_end(corpus, work / "corpus", work / "log")
        jobs = [make_jobs(work)[name] for name in chosen]
        for job in jobs:
            for attempt in ("whole",) if arguments.brief else ("whole", "again"):
                out = work / job.name / attempt
                out.mkdir(parents=True)
                job.seconds = run_to_end(job, out, work / "log")
            job.steps = int((work / "log.steps").read_text(encoding="utf-8"))
            job.expected = snapshot(work / job.name / "whole")
            if not arguments.brief:
                compare(job, work / job.name / "again")
        figures: dict[str, dict[str, Any]] = {}
        for number, job in enumerate(jobs):
            wanted = arguments.kills * (number + 1) // len(jobs) - arguments.kills * number // len(jobs)
            met = rounds = 0
            while met < wanted:
                out = work / job.name / f"killed-{rounds}"
                out.mkdir()
                met += disturb(job, out, work / "log", min(rng.randint(1, IN_A_ROW), wanted - met), rng)
                shutil.rmtree(out)
                rounds += 1
            figures[job.name] = {"kills": met, "rounds": rounds, "seconds": round(job.seconds, 2), "steps": job.steps}
            print(f"{job.name:<10} killed {met:3d} times in {rounds:3d} runs: as undisturbed", flush=True)
    total = sum(found["kills"] for found in figures.values())
    print(f"{total} kills, seed {arguments.seed}: every run went on, no damaged file, nothing left behind")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
