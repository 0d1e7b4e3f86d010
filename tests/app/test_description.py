"""The interface does what its description says, whatever it is sent."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from affectus.app.running import listen
from affectus.app.server import create_app
from affectus.app.settings import Limits, Settings
from affectus.app.store import JobKind, State, Store


def _idle(pipe: Any, *_: Any) -> None:
    while True:
        try:
            pipe.recv()
        except EOFError:
            return


def test_every_path_says_what_it_gives(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(tmp_path), target=_idle), base_url="http://127.0.0.1:1") as client:
        found = client.get("/api/openapi.json").json()
    assert {path for path in found["paths"] if not path.startswith("/api/")} == set()
    for path, methods in found["paths"].items():
        for method, one in methods.items():
            assert one["description"], (method, path)
            assert one["tags"], (method, path)
            assert any(status.startswith("2") for status in one["responses"]), (method, path)
            if "{id}" in path:
                assert "404" in one["responses"], (method, path)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a list with one analysis at a real socket."""
    settings = Settings(tmp_path / "kept", limits=replace(Limits(), stall_seconds=2.0))
    store = Store(settings.folder)
    assert store.add(JobKind.MEDIA, "talk", State.CANCELLED) is not None
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(settings, store=store, target=_idle), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.mark.slow
def test_schemathesis_finds_nothing(address: str, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="needs the package schemathesis")
    # a description cannot say which bytes are a recording, so that well-formed uploads may be refused
    upload = '[[operations]]\ninclude-name = "POST /api/analyses"\nchecks.positive_data_acceptance.enabled = false\n'
    (tmp_path / "schemathesis.toml").write_text(upload)
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    command += [f"{address}/api/openapi.json", "--max-examples", "40", "--seed", "1", "--no-color"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=1500)
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert re.search(r"generated, \d+ passed", found.stdout)
