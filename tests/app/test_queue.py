"""The queue: refusals, order, cancelling, and what becomes of it all when a process is killed."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from affectus.app.server import create_app
from affectus.app.settings import Limits, Settings
from affectus.app.store import JobKind, State, Store
from affectus.app.workers import Event, Order
from affectus.errors import AffectusError
from affectus.files import atomic_path
from affectus.threads import end_with_parent

HOST = "127.0.0.1:8765"
BODY = {"content-type": "application/octet-stream"}
ENDED = ("done", "failed", "cancelled")


def copying_worker(pipe: Any, *_: Any) -> None:
    """A worker that copies what it is given, after as many seconds as it says; ``die`` makes it kill itself."""
    end_with_parent()
    while True:
        try:
            order: Order = pipe.recv()
        except EOFError:
            return
        text = Path(order.values["path"]).read_text()
        with contextlib.suppress(BrokenPipeError), atomic_path(order.values["out"]) as out:
            out.mkdir()
            (out / "copy.txt").write_text(text)
            pipe.send(Event(order.job, "copying", 0.5))
            if text.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if text.startswith("grow"):
                held = bytearray(400 * 1024**2)
                held[::4096] = b"x" * len(held[::4096])
            time.sleep(float(text.split()[-1]))
        pipe.send(Event(order.job, "done", 1.0, summary={"length": len(text)}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path / "kept", hosts=(HOST,), workers=2, limits=Limits(waiting=8))


@contextmanager
def opened(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings, target=copying_worker), base_url=f"http://{HOST}") as client:
        yield client


def upload(client: TestClient, text: str) -> Any:
    return client.post("/api/analyses", params={"name": text[:20]}, content=text.encode(), headers=BODY)


def state(client: TestClient, job: str) -> str:
    found: str = client.get(f"/api/analyses/{job}").json()["state"]
    return found


def wait_for(test: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def test_twenty_at_once_with_room_for_eight(settings: Settings) -> None:
    with opened(settings) as client, ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda i: upload(client, f"talk {i} 0.3"), range(20)))
        taken = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert 8 <= len(taken) <= 20
        for answer in refused:
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["error"].startswith("8 analyses wait already")
        assert refused
        wait_for(lambda: all(state(client, job) == "done" for job in taken))
        listed = client.get("/api/analyses", params={"count": 200}).json()
        assert listed["total"] == len(taken)
        # nothing of those that were refused is left
        assert {path.name for path in (settings.folder / "jobs").iterdir()} == set(taken)
        assert client.get("/api/status").json()["room"] == 8


def test_the_oldest_comes_first_and_the_list_tells_how_many_are_before(settings: Settings) -> None:
    with opened(replace(settings, workers=1)) as client:
        jobs = [upload(client, f"talk {i} 0.2").json()["id"] for i in range(4)]
        assert client.get(f"/api/analyses/{jobs[3]}").json()["ahead"] in (1, 2, 3)
        wait_for(lambda: state(client, jobs[3]) == "done")
        ends = [client.get(f"/api/analyses/{job}").json()["ended"] for job in jobs]
        assert ends == sorted(ends)
        page = client.get("/api/analyses", params={"count": 2, "skip": 1}).json()
        assert [one["id"] for one in page["analyses"]] == [jobs[2], jobs[1]]


def test_cancel_what_waits_and_what_runs(settings: Settings) -> None:
    with opened(replace(settings, workers=1)) as client:
        runs, waits, last = (upload(client, f"talk {seconds}").json()["id"] for seconds in (60, 60, 0))
        wait_for(lambda: (client.get(f"/api/analyses/{runs}").json()["progress"] or {}).get("share") == 0.5)
        found = client.get(f"/api/analyses/{runs}").json()["progress"]
        assert found["stage"] == "copying"
        assert found["seconds_left"] >= 0
        for job in (waits, runs):
            assert client.post(f"/api/analyses/{job}/cancel").json()["state"] == "cancelled"
            assert client.post(f"/api/analyses/{job}/cancel").status_code == 409
            assert client.get(f"/api/analyses/{job}/result").status_code == 409
        wait_for(lambda: state(client, last) == "done")
        assert {path.name for path in (settings.folder / "jobs" / runs).iterdir()} == {"talk-60.txt"}
        # one that runs can be deleted at once
        again = client.post(f"/api/analyses/{runs}/retry").json()
        wait_for(lambda: state(client, again["id"]) == "running")
        assert client.delete(f"/api/analyses/{runs}").status_code == 204
        assert not (settings.folder / "jobs" / runs).exists()


def test_a_worker_that_dies_costs_one_analysis(settings: Settings) -> None:
    with opened(replace(settings, workers=1)) as client:
        dies, lives = upload(client, "die 0").json()["id"], upload(client, "talk 0").json()["id"]
        wait_for(lambda: state(client, dies) == "failed")
        assert "ended 2 times" in client.get(f"/api/analyses/{dies}").json()["error"]
        wait_for(lambda: state(client, lives) == "done")
        assert {path.name for path in (settings.folder / "jobs" / dies).iterdir()} == {"die-0.txt"}


def test_a_worker_that_is_killed_once_is_replaced_and_the_analysis_done(settings: Settings) -> None:
    with opened(replace(settings, workers=1)) as client:
        job = upload(client, "talk 2").json()["id"]
        wait_for(lambda: (client.get(f"/api/analyses/{job}").json()["progress"] or {}).get("share") == 0.5)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid or 0, signal.SIGKILL)
        wait_for(lambda: state(client, job) in ENDED)
        assert state(client, job) == "done"
        assert {path.name for path in (settings.folder / "jobs" / job).iterdir()} == {"talk-2.txt", "result"}


@pytest.mark.parametrize(
    ("text", "limits", "why"),
    [
        ("talk 60", {"silent_seconds": 1.0}, "Nothing came of it for 1 seconds"),
        ("talk 60", {"job_seconds": 0.5}, "It took longer than 0.5 seconds"),
        ("grow 60", {"worker_bytes": 300 * 1024**2}, "It took more than 300 MB of memory"),
    ],
)
def test_a_worker_that_takes_too_much_is_ended(settings: Settings, text: str, limits: Any, why: str) -> None:
    with opened(replace(settings, limits=replace(settings.limits, **limits))) as client:
        job = upload(client, text).json()["id"]
        wait_for(lambda: state(client, job) == "failed")
        assert client.get(f"/api/analyses/{job}").json()["error"].startswith(why)
        assert multiprocessing.active_children() == []


def test_an_orderly_end_is_no_failed_attempt(settings: Settings) -> None:
    one = replace(settings, workers=1)
    with opened(one) as client:
        job = upload(client, "talk 1.0").json()["id"]
    for _ in range(3):
        with opened(one) as client:
            wait_for(lambda: state(client, job) == "running")
    with opened(one) as client:
        wait_for(lambda: state(client, job) == "done")


SERVER = """
import sys
from dataclasses import replace
from pathlib import Path
import uvicorn
sys.path.insert(0, sys.argv[3])
from test_queue import copying_worker
from affectus.app.running import listen
from affectus.app.server import create_app
from affectus.app.settings import Settings
if __name__ == "__main__":
    listener = listen("127.0.0.1", int(sys.argv[2]))
    port = listener.getsockname()[1]
    print(port, flush=True)
    app = create_app(Settings(folder=Path(sys.argv[1]), hosts=(f"127.0.0.1:{port}",)), target=copying_worker)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
"""


def test_a_server_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    import httpx

    script = tmp_path / "server.py"
    script.write_text(SERVER)
    folder = tmp_path / "kept"

    @contextmanager
    def served() -> Iterator[httpx.Client]:
        command = [sys.executable, str(script), str(folder), "0", str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{int(process.stdout.readline())}", timeout=30) as client:
                    yield client
            finally:
                process.send_signal(signal.SIGKILL)

    with served() as client:
        jobs = [upload(client, f"talk {i} 2").json()["id"] for i in range(4)]  # type: ignore[arg-type]
        wait_for(lambda: (client.get(f"/api/analyses/{jobs[0]}").json()["progress"] or {}).get("share") == 0.5)
    parts = [path for path in (folder / "jobs" / jobs[0]).iterdir() if path.name.endswith(".part")]
    assert parts  # half written
    (folder / "jobs" / "0123456789abcdef").mkdir()  # an orphan
    store = Store(folder)
    half = store.add(JobKind.MEDIA, "half an upload", State.UPLOADING)
    assert half is not None
    (store.job_folder(half.id) / ".upload.part").write_bytes(b"half")
    store.close()
    time.sleep(1.0)  # the worker sees that its server has gone
    with served() as client:
        wait_for(lambda: all(state(client, job) in ENDED for job in jobs))  # type: ignore[arg-type]
        assert [state(client, job) for job in jobs] == ["done"] * 4  # type: ignore[arg-type]
        assert client.get("/api/analyses").json()["total"] == 4
    assert {path.name for path in (folder / "jobs").iterdir()} == set(jobs)
    for job in jobs:
        names = {path.name for path in (folder / "jobs" / job).iterdir()}
        assert names == {"result", next(name for name in names if name.endswith(".txt"))}


class TestStore:
    def test_a_later_list_is_not_touched(self, tmp_path: Path) -> None:
        import sqlite3

        Store(tmp_path).close()
        with sqlite3.connect(tmp_path / "affectus.db") as db:
            db.execute("PRAGMA user_version = 99")
        with pytest.raises(AffectusError, match="of a later affectus"):
            Store(tmp_path)

    def test_the_folder_is_its_owners_alone(self, tmp_path: Path) -> None:
        Store(tmp_path / "kept").close()
        assert (tmp_path / "kept").stat().st_mode & 0o077 == 0

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(AffectusError, match="The folder of analyses cannot be used"):
            Store(tmp_path / "file")

    def test_what_is_gone_from_the_disk_has_failed(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        job = store.add(JobKind.MEDIA, "gone", State.DONE)
        assert job is not None
        store.job_folder(job.id).rmdir()
        store.recover(2)
        found = store.get(job.id)
        assert found is not None
        assert found.state is State.FAILED
        assert found.error == "Its files are gone from the disk."
