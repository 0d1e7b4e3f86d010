"""The interface: from an upload to its result, its downloads, its corrections, and its end."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from affectus.app.settings import Settings
from affectus.corpus import load_corpus
from affectus.corpus.readers.base import ReadOptions
from affectus.corpus.readers.manifest import read_manifest

Upload = Callable[..., dict[str, Any]]
Finished = Callable[..., dict[str, Any]]


def test_a_text_becomes_a_result(client: TestClient, upload: Upload, finished: Finished, settings: Settings) -> None:
    job = upload()
    assert job["state"] in ("queued", "running")
    done = finished(job["id"])
    assert done["state"] == "done", done["error"]
    assert done["summary"]["utterances"] == 3
    found = client.get(f"/api/analyses/{job['id']}/result").json()
    assert [one["text"] for one in found["utterances"]] == [
        "It was great.",
        "The film was awful and sad.",
        "Very good.",
    ]
    assert found["source"] == "talk.txt"
    assert found["media"] == "text"
    assert found["modalities"] == ["text"]
    assert found["subsets"] == {"text": [one["opinion"] for one in found["utterances"]]}
    assert str(settings.folder) not in json.dumps(found)
    kept = load_corpus(settings.folder / "jobs" / job["id"] / "result" / "features")
    assert kept.table["id"].to_list() == [one["id"] for one in found["utterances"]]
