import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra affectus[serve]")

from fastapi.testclient import TestClient

from affectus import train
from affectus.app.server import create_app
from affectus.app.settings import Limits, Settings
from affectus.corpus import Corpus, save_corpus

HOST = "127.0.0.1:8765"
BODY = {"content-type": "application/octet-stream"}
TEXT = b"It was great.\nThe film was awful and sad.\nVery good."


@pytest.fixture(scope="session")
def opened(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder: Path,
    make_spoken: Callable[..., Corpus],
    make_corpus: Callable[..., Corpus],
) -> Path:
    """Return a folder with a run that reads transcripts, one that reads vectors, and their corpora."""
    folder = tmp_path_factory.mktemp("opened")
    save_corpus(make_spoken(), folder / "corpora" / "spoken")
    save_corpus(make_corpus(), folder / "corpora" / "toy")
    train(
        "mtmm_es", folder / "corpora" / "spoken", tasks=["polarity", "intensity"], modalities=["text"], seeds=1,
        options={"hidden": 8, "dense": 6}, training={"epochs": 2, "text_encoder": str(tiny_encoder)},
        out=folder / "runs" / "words",
    )  # fmt: skip
    train(
        "linear", folder / "corpora" / "toy", tasks=["polarity", "intensity"], seeds=1, out=folder / "runs" / "vectors"
    )
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, opened: Path) -> Settings:
    return Settings(
        folder=tmp_path_factory.mktemp("app") / "kept",
        model=opened / "runs" / "words",
        roots=(opened,),
        hosts=(HOST,),
        limits=Limits(),
    )


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    """One server for the tests of a module, since a worker takes seconds to import what it needs."""
    with serving(settings) as found:
        yield found


def serving(settings: Settings, **options: Any) -> TestClient:
    return TestClient(create_app(settings, **options), base_url=f"http://{HOST}")


def finished(client: TestClient, job: str, seconds: float = 120.0) -> dict[str, Any]:
    """Return an analysis when it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found: dict[str, Any] = client.get(f"/api/analyses/{job}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"not done within {seconds} s: {found}")


@pytest.fixture
def upload(client: TestClient) -> Callable[..., dict[str, Any]]:
    def send(content: bytes = TEXT, name: str = "talk.txt") -> dict[str, Any]:
        answer = client.post("/api/analyses", params={"name": name}, content=content, headers=BODY)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    return send


@pytest.fixture(name="finished")
def _finished(client: TestClient) -> Callable[..., dict[str, Any]]:
    return lambda job, seconds=120.0: finished(client, job, seconds)
