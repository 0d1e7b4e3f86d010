"""The interface: from an upload to its result, its downloads, its corrections, and its end."""

import csv
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from affectus.app.settings import Settings
from affectus.corpus import load_corpus
from affectus.corpus.readers.base import ReadOptions
from affectus.corpus.readers.manifest import read_manifest
from affectus.predict.results import Opinion, Utterance

Upload = Callable[..., dict[str, Any]]
Finished = Callable[..., dict[str, Any]]
SRT = b"1\n00:00:00,500 --> 00:00:02,000\nIt was great.\n\n2\n00:00:03,000 --> 00:00:04,000\nThe film was awful.\n"


def test_a_text_becomes_a_result(client: TestClient, upload: Upload, finished: Finished, settings: Settings) -> None:
    job = upload()
    assert job["state"] in ("queued", "running")
    done = finished(job["id"])
    assert done["state"] == "done", done["error"]
    assert done["summary"]["utterances"] == 3
    assert done["progress"] is None
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
    # what has no times cannot be subtitles
    answer = client.get(f"/api/analyses/{job['id']}/files/vtt")
    assert answer.status_code == 404
    assert "no times" in answer.json()["error"]
    assert client.get(f"/api/analyses/{job['id']}/media").text.startswith("It was great.")


def test_downloads_corrections_and_deletion(
    client: TestClient, upload: Upload, finished: Finished, settings: Settings, tmp_path: Path
) -> None:
    job = upload(SRT, "talk.srt")["id"]
    at = f"/api/analyses/{job}"
    assert finished(job)["state"] == "done"

    heads = {form: client.get(f"{at}/files/{form}") for form in ("csv", "json", "vtt", "eaf", "textgrid")}
    assert all(answer.status_code == 200 for answer in heads.values())
    assert [row["text"] for row in csv.DictReader(io.StringIO(heads["csv"].text))] == [
        "It was great.",
        "The film was awful.",
    ]
    assert heads["json"].json()["utterances"][1]["start"] == 3.0
    assert heads["vtt"].text.startswith("WEBVTT")
    assert "ANNOTATION_DOCUMENT" in heads["eaf"].text
    assert 'Object class = "TextGrid"' in heads["textgrid"].text
    assert 'filename="talk.eaf"' in heads["eaf"].headers["content-disposition"]
    assert client.get(f"{at}/files/exe").status_code == 422

    first, second = (one["id"] for one in heads["json"].json()["utterances"])
    assert client.get(f"{at}/manifest").status_code == 409
    said = {"utterance": second, "sentiment": -2.0, "emotion": "sadness"}
    assert client.put(f"{at}/corrections", json=said).json() == said | {"changed": pytest.approx(2e9, rel=1)}
    assert client.put(f"{at}/corrections", json={"utterance": first, "sentiment": 3}).status_code == 200
    assert client.put(f"{at}/corrections", json={"utterance": first, "sentiment": 2.5}).status_code == 200
    assert [one["sentiment"] for one in client.get(f"{at}/corrections").json()] == [-2.0, 2.5]
    for bad, status in (
        ({"utterance": "none such", "sentiment": 1}, 404),
        ({"utterance": first}, 422),
        ({"utterance": first, "sentiment": 4}, 422),
        ({"utterance": first, "emotion": "joyful"}, 422),
        ({"utterance": first, "sentiment": 1, "path": "/etc/passwd"}, 422),
    ):
        assert client.put(f"{at}/corrections", json=bad).status_code == status, bad

    manifest = tmp_path / "manifest.csv"
    manifest.write_bytes(client.get(f"{at}/manifest").content)
    rows = list(csv.DictReader(manifest.open()))
    assert [(row["sentiment"], row["emotion_class"], row["path"]) for row in rows] == [
        ("2.5", "", "talk.srt"),
        ("-2.0", "sadness", "talk.srt"),
    ]
    assert read_manifest([manifest], ReadOptions()).table["sentiment"].to_list() == [2.5, -2.0]
    assert client.delete(f"{at}/corrections", params={"utterance": first}).status_code == 204
    assert client.delete(f"{at}/corrections", params={"utterance": first}).status_code == 404

    assert client.delete(at).status_code == 204
    assert client.get(at).status_code == 404
    assert job not in [one["id"] for one in client.get("/api/analyses").json()["analyses"]]
    assert not (settings.folder / "jobs" / job).exists()
    assert b"The film was awful.\n" not in b"".join(
        path.read_bytes() for path in settings.folder.rglob("*") if path.is_file()
    )


def test_a_run_judges_a_corpus(client: TestClient, finished: Finished, tmp_path: Path, opened: Path) -> None:
    entries = {one["name"].removeprefix(f"{opened.name}/"): one for one in client.get("/api/folders").json()}
    assert set(entries) == {"runs/words", "runs/vectors", "corpora/spoken", "corpora/toy"}
    assert str(opened) not in json.dumps(list(entries.values()))
    run, corpus = entries["runs/vectors"], entries["corpora/toy"]
    assert corpus["splits"] == ["train", "valid", "test"]
    given = {"run": run["id"], "corpus": corpus["id"], "split": "test"}
    job = client.post("/api/reviews", json=given).json()
    assert job["kind"] == "review"
    done = finished(job["id"])
    assert done["state"] == "done", done["error"]
    at = f"/api/analyses/{job['id']}"
    found = client.get(f"{at}/result").json()
    assert found["modalities"] == ["text", "audio"]
    labelled = [one for one in found["utterances"] if "sentiment" in one["gold"]]
    assert len(labelled) > 5
    for one in labelled:
        assert one["error"] == pytest.approx(abs(one["gold"]["sentiment"] - one["opinion"]["intensity"]))
        assert one["error_of"] == "intensity"
    report = client.get(f"{at}/report")
    assert report.text.startswith("<!DOCTYPE html>")
    assert report.headers["content-security-policy"].startswith("sandbox;")

    # what is corrected comes back as a corpus, with the features that it had
    said = {"utterance": labelled[0]["id"], "sentiment": 1.5, "emotion": "anger"}
    assert client.put(f"{at}/corrections", json=said).status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{at}/manifest", params={"form": "zip"}).content))
    archive.extractall(tmp_path / "fixed")
    fixed = read_manifest([tmp_path / "fixed" / "manifest.csv"], ReadOptions())
    whole = load_corpus(opened / "corpora" / "toy")
    row = whole.table["id"].to_list().index(labelled[0]["id"])
    assert fixed.table["sentiment"].to_list() == [1.5]
    assert fixed.features["text"][0].tolist() == whole.features["text"][row].tolist()
    # nothing of the archive stays behind
    kept = client.app.state.store.job_folder(job["id"])  # type: ignore[attr-defined]
    assert [path.name for path in kept.iterdir()] == ["result"]


def test_what_cannot_be_judged_says_why(client: TestClient, finished: Finished) -> None:
    entries = {one["name"].split("/", 1)[1]: one["id"] for one in client.get("/api/folders").json()}
    given = {"run": entries["runs/vectors"], "corpus": entries["corpora/spoken"], "split": "test"}
    done = finished(client.post("/api/reviews", json=given).json()["id"])
    assert done["state"] == "failed"
    assert "lacks the modality 'text'" in done["error"]
    for bad in (
        {"corpus": "0" * 16},
        {"corpus": entries["runs/words"]},
        {"corpus": entries["corpora/toy"], "run": entries["corpora/toy"]},
    ):
        assert client.post("/api/reviews", json=bad).status_code == 404
    assert client.post("/api/reviews", json={"corpus": "../../etc"}).status_code == 422


def test_a_file_that_holds_nothing_fails_in_one_sentence(
    client: TestClient, upload: Upload, finished: Finished, settings: Settings
) -> None:
    job = upload(b"\x00\x00\x00\x20ftypisom" + bytes(500), "clip.mp4")["id"]
    done = finished(job)
    assert done["state"] == "failed"
    assert done["error"].endswith(".")
    assert "clip.mp4" in done["error"]
    assert str(settings.folder) not in done["error"]
    assert [path.name for path in (settings.folder / "jobs" / job).iterdir()] == ["clip.mp4"]
    again = client.post(f"/api/analyses/{job}/retry").json()
    assert again["state"] in ("queued", "running")
    assert again["error"] is None
    assert finished(job)["state"] == "failed"
    assert client.post(f"/api/analyses/{job}/cancel").status_code == 409


def test_a_small_file_of_three_hours_is_refused(
    client: TestClient, upload: Upload, finished: Finished, tmp_path: Path
) -> None:
    av = pytest.importorskip("av", reason="needs the extra affectus[media]")
    path = tmp_path / "bomb.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 16
        for minute in range(181):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = 60 * minute, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert path.stat().st_size < 20_000
    done = finished(upload(path.read_bytes(), "bomb.mp4")["id"])
    assert done["state"] == "failed"
    assert done["error"] == "The recording is too long: got 180 minutes; expected at most 120."


def test_the_page_and_its_files_come_from_here_alone(client: TestClient) -> None:
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    static = Path(__file__).resolve().parents[2] / "src" / "affectus" / "app" / "static"
    for path in sorted(static.iterdir()):
        answer = client.get(f"/static/{path.name}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, f"{path.name} names another host"
        # texts are never read as markup
        assert not any(
            word in text for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        )


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_page_marks_disagreement_by_the_rule_of_the_server(tmp_path: Path) -> None:
    def lean(positive: float, intensity: float | None = 0.1) -> Opinion:
        return Opinion(intensity, polarities={"negative": 0.25, "neutral": 0.75 - positive, "positive": positive})

    alone = [
        {"text": lean(0.7), "audio": Opinion(-1.0), "vision": Opinion(-0.9)},
        {"text": lean(0.55, 2.0), "audio": Opinion(-2.0)},  # the probabilities count, not the intensity
        {"text": Opinion(0.6), "audio": Opinion(-0.6)},
        {"text": lean(0.7)},
        {"text": lean(0.7), "audio": Opinion()},
        {"audio": Opinion(3.0), "vision": Opinion(-3.0)},
    ]
    static = Path(__file__).resolve().parents[2] / "src" / "affectus" / "app" / "static"
    shutil.copy(static / "format.js", tmp_path / "format.mjs")
    told, asked = [], []
    for on in (["text", "audio", "vision"], ["text", "audio"], ["text", "vision"], ["audio", "vision"], ["text"], []):
        for each in alone:
            left = {name: one for name, one in each.items() if name in on}
            one = Utterance("a", "a", None, None, None, None, Opinion(), left)
            told.append({"spread": one.spread, "disagree": one.disagree})
            asked.append([{name: vars(said) for name, said in each.items()}, on])
    (tmp_path / "ask.mjs").write_text(
        'import { apart } from "./format.mjs";\n'
        f"console.log(JSON.stringify({json.dumps(asked)}.map((one) => apart(...one))));\n"
    )
    answer = subprocess.run(["node", tmp_path / "ask.mjs"], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(answer.stdout) == told
    assert {one["disagree"] for one in told} == {True, False}
    assert "apart(" in (static / "report.js").read_text()
