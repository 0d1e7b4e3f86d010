"""What the server may do, and how much."""

import os
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Limits:
    """What is refused, and when something is given up.

    Attributes:
        upload_bytes: largest upload.
        text_bytes: largest upload of a text.
        media_seconds: longest recording.
        waiting: most analyses that are being uploaded or wait.
        stall_seconds: an upload of which nothing comes for so long is given up.
        slowest: bytes per second that an upload must reach after ``stall_seconds``.
        job_seconds: an analysis that takes longer is given up.
        silent_seconds: a worker that tells of no progress for so long is ended; models are loaded within it.
        worker_bytes: a worker that takes more memory is ended.
        free_bytes: so much of the disk stays free.
        attempts: how often an analysis is begun whose server or worker ended in the middle.
    """

    upload_bytes: int = 2 * 1024**3
    text_bytes: int = 5 * 1024**2
    media_seconds: float = 2 * 3600.0
    waiting: int = 8
    stall_seconds: float = 30.0
    slowest: int = 2048
    job_seconds: float = 6 * 3600.0
    silent_seconds: float = 600.0
    worker_bytes: int = 8 * 1024**3
    free_bytes: int = 256 * 1024**2
    attempts: int = 2


@dataclass(frozen=True)
class Settings:
    """How the server is set up.

    Attributes:
        folder: where recordings, features and results are kept.
        model: a run's folder; None for the model that ships.
        roots: folders in which runs and corpora may be opened.
        workers: analyses at once, each in a process.
        threads: of each network in each worker.
        limits: of uploads and analyses.
        hosts: names, with port, under which the server may be asked; empty accepts loopback names with any port.
        token: what a client must know; None asks for nothing.
    """

    folder: Path
    model: Path | None = None
    roots: tuple[Path, ...] = ()
    workers: int = 1
    threads: int = 1
    limits: Limits = field(default_factory=Limits)
    hosts: tuple[str, ...] = ()
    token: str | None = None


def default_folder() -> Path:
    """Return where analyses are kept: ``affectus/analyses`` in the user's data folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "affectus" / "analyses"
