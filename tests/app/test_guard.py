"""Who is answered, and what is refused before anything of it is kept."""

import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from affectus.api import train
from affectus.app.running import Serving, address_of, listen, own_names, run, settings_of
from affectus.app.server import create_app
from affectus.app.settings import Limits, Settings
from affectus.cli.main import main
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError

HOST = "127.0.0.1:8765"
BODY = {"content-type": "application/octet-stream"}


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    """Return settings of a server that never analyses."""
    return Settings(folder=tmp_path / "kept", hosts=(HOST, "localhost:8765"))


@contextmanager
def opened(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings, target=_idle), base_url=f"http://{HOST}") as client:
        yield client


def _idle(pipe: Any, *_: Any) -> None:
    """A worker that takes what it is given and does nothing."""
    while True:
        try:
            pipe.recv()
        except EOFError:
            return


def nothing_kept(settings: Settings) -> bool:
    return not list((settings.folder / "jobs").iterdir())


class TestOtherSites:
    @pytest.mark.parametrize(
        "host",
        [
            "evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", "",
            "localhost:8765/x", "[::1]:8765", "127.0.0.1:8765, evil.example", "LOCALHOST:8765@evil.example",
        ],
    )  # fmt: skip
    def test_another_name_is_refused(self, plain: Settings, host: str) -> None:
        with opened(plain) as client:
            answer = client.get("/api/status", headers={"host": host})
            assert answer.status_code == 403
            assert "name" in answer.json()["error"]
            assert client.get("/", headers={"host": host}).status_code == 403

    @pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LocalHost:8765"])
    def test_its_own_names_are_answered(self, plain: Settings, host: str) -> None:
        with opened(plain) as client:
            assert client.get("/api/status", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8765", "https://evil.example:8765", "file://",
         "http://127.0.0.1:8765.evil.example"],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
    def test_another_origin_is_refused(self, plain: Settings, origin: str, method: str) -> None:
        with opened(plain) as client:
            answer = client.request(method, "/api/analyses", headers={"origin": origin})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
            assert nothing_kept(plain)

    def test_what_a_browser_says_of_the_site_counts(self, plain: Settings) -> None:
        with opened(plain) as client:
            for site in ("cross-site", "same-site"):
                refused = client.get("/api/analyses", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
                assert refused.status_code == 403
                link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
                assert client.get("/", headers=link).status_code == 200
                assert client.get("/api/status", headers=link).status_code == 403
                assert client.get("/", headers=link | {"sec-fetch-dest": "iframe"}).status_code == 403
            own = {"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"}
            assert client.get("/api/analyses", headers=own).status_code == 200

    def test_a_form_of_another_page_cannot_upload(self, plain: Settings) -> None:
        # what a form can send without asking first is not taken, even if the browser said nothing of its site
        with opened(plain) as client:
            for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
                answer = client.post("/api/analyses", content=b"Hello.", headers={"content-type": kind})
                assert answer.status_code == 415
            answer = client.post("/api/session", content=b'{"token": "x"}', headers={"content-type": "text/plain"})
            assert answer.status_code == 422
            assert nothing_kept(plain)

    def test_every_answer_is_closed(self, plain: Settings) -> None:
        with opened(plain) as client:
            for answer in (
                client.get("/"),
                client.get("/api/status"),
                client.get("/api/none"),
                client.get("/", headers={"host": "x"}),
            ):
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["cross-origin-resource-policy"] == "same-origin"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert "server" not in answer.headers


class TestToken:
    token = "a-token-of-two-dozen-letters"

    @pytest.fixture
    def guarded(self, plain: Settings) -> Settings:
        return replace(plain, token=self.token)

    def test_nothing_is_told_without_it(self, guarded: Settings) -> None:
        with opened(guarded) as client:
            for path in ("/api/status", "/api/analyses", "/api/openapi.json", "/api/folders"):
                answer = client.get(path)
                assert answer.status_code == 401, path
                assert "token" in answer.json()["error"]
            assert client.post("/api/analyses", content=b"Hello.", headers=BODY).status_code == 401
            assert client.get("/").status_code == 200  # the page asks for it
            assert nothing_kept(guarded)

    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}, {"authorization": "Basic x"},
            {"cookie": "affectus_token=x"}, {"cookie": "affectus_token="},
            {"authorization": "Bearer \xe4".encode("latin-1")},
        ],
    )  # fmt: skip
    def test_another_is_refused(self, guarded: Settings, headers: dict[str, Any]) -> None:
        with opened(guarded) as client:
            assert client.get("/api/status", headers=headers).status_code == 401

    def test_it_opens(self, guarded: Settings) -> None:
        with opened(guarded) as client:
            assert client.get("/api/status", headers={"authorization": f"Bearer {self.token}"}).status_code == 200
            assert client.post("/api/session", json={"token": "wrong"}).status_code == 401
            assert client.get("/api/status").status_code == 401
            answer = client.post("/api/session", json={"token": self.token})
            assert answer.status_code == 204
            assert "httponly" in answer.headers["set-cookie"].lower()
            assert "samesite=strict" in answer.headers["set-cookie"].lower()
            assert client.get("/api/status").status_code == 200

    def test_beyond_loopback_one_is_made(self, tmp_path: Path) -> None:
        found = settings_of(Serving(folder=tmp_path, host="0.0.0.0"))
        assert found.token is not None
        assert len(found.token) >= 40
        assert found.token != settings_of(Serving(folder=tmp_path, host="192.0.2.7")).token
        assert settings_of(Serving(folder=tmp_path)).token is None
        assert address_of("127.0.0.1", 8765, None) == "http://127.0.0.1:8765/"
        assert address_of("::1", 80, "abc") == "http://[::1]:80/#token=abc"

    @pytest.mark.parametrize("token", ["short", "sixteen letters;", "ümlaut-of-sixteen-letters"])
    def test_a_poor_one_is_refused(self, tmp_path: Path, token: str) -> None:
        with pytest.raises(AffectusError, match="The token"):
            settings_of(Serving(folder=tmp_path, token=token))

    def test_the_default_address_is_loopback(self) -> None:
        assert Serving().host == "127.0.0.1"
        with listen("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            assert set(own_names(Serving(), port)) == {f"{n}:{port}" for n in ("127.0.0.1", "localhost", "[::1]")}
            with pytest.raises(AffectusError, match=f"Cannot listen at 127.0.0.1, port {port}"):
                listen("127.0.0.1", port)
        names = own_names(Serving(host="192.0.2.7", names=("Lab.example",)), 8765)
        assert "192.0.2.7:8765" in names
        assert "lab.example:8765" in names


class TestUploads:
    def test_ten_gigabytes_are_refused_before_they_are_sent(self, plain: Settings) -> None:
        with opened(plain) as client:
            answer = client.post("/api/analyses", content=b"x", headers=BODY | {"content-length": str(10 * 1024**3)})
            assert answer.status_code == 413
            assert "too large" in answer.json()["error"]
            assert nothing_kept(plain)

    @pytest.mark.parametrize("length", ["-1", "1e9", "+5", "٣", "0x10"])
    def test_a_length_must_be_a_number(self, plain: Settings, length: str) -> None:
        with opened(plain) as client:
            headers = [*BODY.items(), ("content-length", length.encode())]
            assert client.post("/api/analyses", content=b"x", headers=headers).status_code == 400

    def test_more_than_was_announced_is_refused(self, plain: Settings) -> None:
        small = replace(plain, limits=Limits(upload_bytes=1000))

        def endless() -> Iterator[bytes]:  # sent in chunks, without a length
            yield b"\x00\x00\x00\x20ftypisom"
            for _ in range(100):
                yield bytes(100)

        with opened(small) as client:
            answer = client.post("/api/analyses", content=endless(), headers=BODY)
            assert answer.status_code == 413
            assert nothing_kept(small)
            assert client.post("/api/reviews", content=endless(), headers=BODY).status_code == 411
            assert client.post("/api/reviews", content=bytes(100_000)).status_code == 413

    @pytest.mark.parametrize(
        ("content", "status", "why"),
        [
            (b"", 400, "The file is empty"),
            (b"PK\x03\x04" + bytes(100), 415, "This is no video"),
            (b"\x7fELF" + bytes(100), 415, "This is no video"),
            (b"#EXTM3U\nhttp://127.0.0.1/secret.mp4\n\x00", 415, "This is no video"),
            (b"fine " * 2000 + b"\xff", 415, "The text is not UTF-8"),
            (b"fine " * 2_000_000, 413, "The"),
        ],
    )
    def test_content_counts_and_not_the_name(self, plain: Settings, content: bytes, status: int, why: str) -> None:
        with opened(plain) as client:
            answer = client.post("/api/analyses", params={"name": "film.mp4"}, content=content, headers=BODY)
            assert answer.status_code == status
            assert answer.json()["error"].startswith(why)
            assert nothing_kept(plain)

    @pytest.mark.parametrize(
        "name",
        [
            "../../../../etc/passwd", "..\\..\\x.txt", "/etc/passwd", "C:\\x.txt", "a/../../b.txt", "\x00.txt",
            "....//....//x", "~/x.txt", "%2e%2e%2fx.txt", "x" * 900, ".", "..", "", "affectus.db", ".lock", "result",
        ],
    )  # fmt: skip
    def test_no_name_leads_elsewhere(self, plain: Settings, name: str) -> None:
        with opened(plain) as client:
            before = {path for path in plain.folder.parent.rglob("*") if plain.folder not in path.parents}
            job = client.post("/api/analyses", params={"name": name}, content=b"Hello there.", headers=BODY).json()
            folder = plain.folder / "jobs" / job["id"]
            (kept,) = folder.iterdir()
            assert kept.resolve().parent == folder.resolve()
            assert kept.suffix == ".txt"
            assert kept.name.isascii()
            assert not set("/\\") & set(job["name"])
            assert {path for path in plain.folder.parent.rglob("*") if plain.folder not in path.parents} == before

    @pytest.mark.parametrize(
        "id", ["..", "%2e%2e", "%2e%2e%2f%2e%2e", "0" * 15, "0" * 17, "g" * 16, "A" * 16, "0" * 15 + "%00"]
    )
    def test_no_id_leads_elsewhere(self, plain: Settings, id: str) -> None:
        with opened(plain) as client:
            for rest in ("", "/result", "/media", "/files/csv", "/report"):
                assert client.get(f"/api/analyses/{id}{rest}").status_code in (404, 422)
            assert client.get(f"/static/../{id}/server.py").status_code == 404
            assert client.get("/static/%2e%2e/server.py").status_code == 404

    def test_markup_stays_text(self, plain: Settings) -> None:
        with opened(plain) as client:
            name = "<script>alert(1)</script><img src=x onerror=alert(2)>.txt"
            text = b"<script>alert(3)</script> & <b>bold</b>"
            job = client.post("/api/analyses", params={"name": name}, content=text, headers=BODY).json()
            assert job["name"] == "script><img src=x onerror=alert(2)>.txt"  # what follows the last slash
            answer = client.get(f"/api/analyses/{job['id']}/media")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.headers["content-security-policy"].startswith("sandbox;")
            assert client.get(f"/api/analyses/{job['id']}").headers["content-type"] == "application/json"


@contextmanager
def listening(settings: Settings) -> Iterator[int]:
    """Serve at a real socket, and yield its port."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        app = create_app(replace(settings, hosts=(f"127.0.0.1:{port}",)), target=_idle)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(10)


def sent(port: int, *parts: bytes, length: int, pause: float = 0.0) -> tuple[int, str]:
    """Send an upload piece by piece; return status and reason of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"POST /api/analyses HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/octet-stream\r\n"
        connection.sendall(head.encode() + f"Content-Length: {length}\r\n\r\n".encode())
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())["error"]


class TestSlowBodies:
    def test_a_body_that_stops_is_given_up(self, plain: Settings) -> None:
        limits = Limits(stall_seconds=0.4)
        with listening(replace(plain, limits=limits)) as port:
            status, why = sent(port, b"Hello ", length=1000)
            assert status == 408
            assert why.startswith("Nothing more of the file arrived")
            assert nothing_kept(plain)

    def test_a_body_that_drips_is_given_up(self, plain: Settings) -> None:
        limits = Limits(stall_seconds=0.5, slowest=1000)
        with listening(replace(plain, limits=limits)) as port:
            status, why = sent(port, *[b"H"] * 12, length=1000, pause=0.1)
            assert status == 408
            assert why.startswith("The file arrives too slowly")
            assert nothing_kept(plain)

    def test_others_are_answered_meanwhile_and_a_sender_who_goes_leaves_nothing(self, plain: Settings) -> None:
        with listening(replace(plain, limits=Limits(stall_seconds=20))) as port:
            slow = socket.create_connection(("127.0.0.1", port))
            head = f"POST /api/analyses HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n"
            slow.sendall(head.encode() + b"Content-Type: application/octet-stream\r\n\r\nHello")
            until = time.monotonic() + 10
            while nothing_kept(plain) and time.monotonic() < until:
                time.sleep(0.02)
            assert not nothing_kept(plain)
            other = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            other.request("GET", "/api/status")
            assert json.loads(other.getresponse().read())["waiting"] == 1
            slow.close()
            while not nothing_kept(plain) and time.monotonic() < until:
                time.sleep(0.02)
            assert nothing_kept(plain)


class TestCommand:
    def test_bad_values_end_in_a_sentence(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert (
            main(["serve", "--open", str(tmp_path / "none"), "--no-browser", "--folder", str(tmp_path / "kept")]) == 2
        )
        assert "There is no folder" in capsys.readouterr().err
        assert main(["serve", "--model", str(tmp_path), "--no-browser", "--folder", str(tmp_path / "kept")]) == 2
        assert "holds no run" in capsys.readouterr().err
        assert not (tmp_path / "kept").exists()

    def test_a_folder_is_one_servers(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from affectus.files import lock_folder

        with lock_folder(tmp_path):
            assert main(["serve", "--folder", str(tmp_path), "--port", "0", "--no-browser"]) == 2
        assert "Another affectus is writing" in capsys.readouterr().err

    def test_a_damaged_list_ends_in_a_sentence(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "affectus.db").write_bytes(b"no database" * 100)
        assert main(["serve", "--folder", str(tmp_path), "--port", "0", "--no-browser"]) == 2
        assert "The list of analyses cannot be read" in capsys.readouterr().err


def test_an_unfinished_model_is_told_before_the_page_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise AffectusError("It would listen now")

    monkeypatch.setattr("affectus.app.running.listen", stop)
    small: dict[str, Any] = {"options": {"hidden": 4, "dense": 4}, "training": {"epochs": 1}, "modalities": ["audio"]}
    model = train("mtmm_es", make_embedded(videos=6), tasks=["polarity"], seeds=2, out=tmp_path / "run", **small).folder
    said: list[str] = []
    asked = Serving(folder=tmp_path / "kept", model=model)
    with pytest.raises(AffectusError, match="It would listen now"):
        run(asked, said.append)
    assert said == []
    shutil.rmtree(model / "seed-1")
    with pytest.raises(AffectusError, match="It would listen now"):
        run(asked, said.append)
    assert said == [f"1 of 2 seeds of the run {model} is trained: 0. The same `affectus train` goes on with the rest."]
    shutil.rmtree(model / "seed-0")
    with pytest.raises(AffectusError, match="No seed of the run is trained to its end"):
        run(asked, said.append)
    (model / "run.json").unlink()
    with pytest.raises(AffectusError, match=r"holds no run \(no run\.json\)"):
        run(asked, said.append)
