"""The list of analyses: a SQLite file beside their folders."""

import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from affectus.errors import AffectusError

DATABASE, JOBS = "affectus.db", "jobs"
RESULT = "result"
"""Folder, within that of an analysis, of all that came of it."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
  created REAL NOT NULL, started REAL, ended REAL, attempts INTEGER NOT NULL DEFAULT 0,
  file TEXT, mime TEXT, bytes INTEGER, error TEXT,
  options TEXT NOT NULL DEFAULT '{}', summary TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX jobs_created ON jobs (created DESC, id);
CREATE INDEX jobs_state ON jobs (state);
CREATE TABLE corrections (
  job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, utterance TEXT NOT NULL,
  sentiment REAL, emotion TEXT, changed REAL NOT NULL, PRIMARY KEY (job, utterance)
);
"""


class State(StrEnum):
    """What has become of an analysis."""

    UPLOADING = "uploading"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETING = "deleting"
    """Taken from the list; its folder may still be there."""


class JobKind(StrEnum):
    """What is analysed."""

    MEDIA = "media"
    """An uploaded or recorded file."""
    REVIEW = "review"
    """A corpus, by a run."""


@dataclass(frozen=True)
class Job:
    """One analysis.

    Attributes:
        id: 16 hexadecimal digits.
        kind: media or review.
        name: shown to people.
        state: what has become of it.
        created: seconds since 1970.
        started: likewise, of the last attempt.
        ended: likewise.
        attempts: how often it was begun.
        file: name of the uploaded file in its folder.
        mime: its type.
        bytes: its length.
        error: one sentence, if it failed.
        options: what it was asked with.
        summary: what came of it, in short.
    """

    id: str
    kind: JobKind
    name: str
    state: State
    created: float
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    file: str | None = None
    mime: str | None = None
    bytes: int | None = None
    error: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Correction:
    """What a person says of an utterance.

    Attributes:
        utterance: its id.
        sentiment: -3 to 3; None if the person leaves it.
        emotion: one of seven; None if the person leaves it.
        changed: seconds since 1970.
    """

    utterance: str
    sentiment: float | None
    emotion: str | None
    changed: float


class Store:
    """Analyses and corrections. Every change is on the disk when the call returns.

    Args:
        folder: made if it is not there, for its owner alone.

    Raises:
        AffectusError: the folder cannot be used, or its list is damaged or of a later affectus.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        try:
            (folder / JOBS).mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            self._db = sqlite3.connect(folder / DATABASE, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA secure_delete = ON")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        except sqlite3.DatabaseError as error:
            raise AffectusError(
                "The list of analyses cannot be read", where=folder / DATABASE, got=str(error),
                remedy="Name another --folder, or move this one away",
            ) from None  # fmt: skip
        except OSError as error:
            raise AffectusError("The folder of analyses cannot be used", where=folder, got=error.strerror) from None
        if version > _VERSION:
            raise AffectusError(
                "The list of analyses is of a later affectus", where=folder / DATABASE, got=f"version {version}",
                expected=f"at most {_VERSION}",
            )  # fmt: skip

    def close(self) -> None:
        """Close the list."""
        with self._lock:
            self._db.close()

    def job_folder(self, job: str) -> Path:
        """Return the folder of an analysis."""
        return self.folder / JOBS / job

    def add(
        self,
        kind: JobKind,
        name: str,
        state: State,
        *,
        options: Mapping[str, Any] | None = None,
        most: int | None = None,
    ) -> Job | None:
        """Add an analysis and make its folder.

        Args:
            kind: media or review.
            name: shown to people.
            state: uploading or queued.
            options: kept with it.
            most: None is returned, and nothing added, if so many are being uploaded or wait already.
        """
        job = Job(secrets.token_hex(8), kind, name, state, time.time(), options=dict(options or {}))
        with self._lock:
            if most is not None and self.waiting() >= most:
                return None
            self._db.execute(
                "INSERT INTO jobs (id, kind, name, state, created, options) VALUES (?, ?, ?, ?, ?, ?)",
                (job.id, job.kind, job.name, job.state, job.created, json.dumps(dict(job.options))),
            )
            self.job_folder(job.id).mkdir(mode=0o700)
        return job

    def get(self, job: str) -> Job | None:
        """Return an analysis; None if there is none, or it is being deleted."""
        with self._lock:
            row = self._db.execute("SELECT * FROM jobs WHERE id = ? AND state != 'deleting'", (job,)).fetchone()
        return None if row is None else _job(row)

    def newest(self, count: int, skip: int = 0) -> tuple[list[Job], int]:
        """Return analyses, the newest first, and how many there are."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM jobs WHERE state != 'deleting' ORDER BY created DESC, id LIMIT ? OFFSET ?", (count, skip)
            ).fetchall()
            total = self._db.execute("SELECT count(*) FROM jobs WHERE state != 'deleting'").fetchone()[0]
        return [_job(row) for row in rows], total

    def of_state(self, *states: State) -> list[Job]:
        """Return the analyses in a state, the oldest first."""
        marks = ", ".join("?" * len(states))
        with self._lock:
            rows = self._db.execute(
                f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY created, id", states
            ).fetchall()
        return [_job(row) for row in rows]

    def waiting(self) -> int:
        """Return how many are being uploaded or wait."""
        with self._lock:
            found = self._db.execute("SELECT count(*) FROM jobs WHERE state IN ('uploading', 'queued')").fetchone()
        return int(found[0])

    def change(self, job: str, *, only: Iterable[State] | None = None, **values: Any) -> bool:
        """Change an analysis.

        Args:
            job: which.
            only: it is changed only if in one of these states.
            **values: columns.

        Returns:
            Whether it was changed.
        """
        if "summary" in values:
            values["summary"] = json.dumps(values["summary"], ensure_ascii=False)
        given = ", ".join(f"{name} = ?" for name in values)
        states = list(only) if only is not None else [state for state in State if state is not State.DELETING]
        marks = ", ".join("?" * len(states))
        with self._lock:
            found = self._db.execute(
                f"UPDATE jobs SET {given} WHERE id = ? AND state IN ({marks})", (*values.values(), job, *states)
            )
            return found.rowcount == 1

    def delete(self, job: str) -> None:
        """Remove an analysis: its media, features, results and corrections."""
        with self._lock:
            self._db.execute("UPDATE jobs SET state = 'deleting' WHERE id = ?", (job,))
        shutil.rmtree(self.job_folder(job), ignore_errors=True)
        if self.job_folder(job).exists():
            return  # tried again at the next start
        with self._lock:
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def correct(self, job: str, utterance: str, sentiment: float | None, emotion: str | None) -> Correction:
        """Keep what a person says of an utterance, in place of what was said before."""
        said = Correction(utterance, sentiment, emotion, time.time())
        with self._lock:
            self._db.execute(
                "INSERT OR REPLACE INTO corrections VALUES (?, ?, ?, ?, ?)",
                (job, utterance, sentiment, emotion, said.changed),
            )
        return said

    def withdraw(self, job: str, utterance: str) -> bool:
        """Forget what a person said of an utterance; return whether there was anything."""
        with self._lock:
            found = self._db.execute("DELETE FROM corrections WHERE job = ? AND utterance = ?", (job, utterance))
            return found.rowcount == 1

    def corrections(self, job: str) -> list[Correction]:
        """Return what people said of the utterances of an analysis."""
        with self._lock:
            rows = self._db.execute(
                "SELECT utterance, sentiment, emotion, changed FROM corrections WHERE job = ? ORDER BY rowid", (job,)
            ).fetchall()
        return [Correction(*row) for row in rows]

    def recover(self, attempts: int) -> None:
        """Put right what a server that was ended left behind.

        Uploads that did not arrive are removed, analyses that ran wait again (or have failed, if that happened
        ``attempts`` times), half-written results and folders that belong to nothing are removed.
        """
        for job in self.of_state(State.UPLOADING, State.DELETING):
            self.delete(job.id)
        for job in self.of_state(State.RUNNING):
            self.give_back(job, attempts)
        with self._lock:
            known = {row[0] for row in self._db.execute("SELECT id FROM jobs")}
        for folder in (self.folder / JOBS).iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                self.tidy(folder.name)
        for job in self.of_state(State.QUEUED, State.DONE):
            if not self.job_folder(job.id).is_dir():
                self.change(job.id, state=State.FAILED, error="Its files are gone from the disk.")

    def give_back(self, job: Job, attempts: int) -> bool:
        """Let an analysis that was interrupted wait again; False if it failed, being interrupted too often."""
        self.tidy(job.id)
        if job.attempts < attempts:
            return self.change(job.id, only=[State.RUNNING], state=State.QUEUED, started=None)
        self.change(
            job.id, only=[State.RUNNING], state=State.FAILED, ended=time.time(),
            error=f"The process that analysed it ended {job.attempts} times before it was done.",
        )  # fmt: skip
        return False

    def tidy(self, job: str) -> None:
        """Remove what was half written in the folder of an analysis."""
        for part in self.job_folder(job).glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    values |= {"kind": JobKind(values["kind"]), "state": State(values["state"])}
    values |= {name: json.loads(values[name]) for name in ("options", "summary")}
    return Job(**values)
