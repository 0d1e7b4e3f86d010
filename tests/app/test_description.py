"""The interface does what its description says, whatever it is sent."""

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


schemathesis = pytest.importorskip("schemathesis", reason="needs the package schemathesis")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = Settings(tmp_path_factory.mktemp("described"), limits=replace(Limits(), stall_seconds=2.0))
    store = Store(settings.folder)
    job = store.add(JobKind.MEDIA, "talk", State.CANCELLED)
    assert job is not None
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(create_app(settings, store=store, target=_idle), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/api/openapi.json")
        server.should_exit = True
        thread.join(10)


schema = schemathesis.pytest.from_fixture("described")


@pytest.mark.slow
@schema.parametrize()
def test_nothing_is_found(case: Any) -> None:
    case.call_and_validate()
