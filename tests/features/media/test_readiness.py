import json

import pytest

from affectus.cli.main import main
from affectus.errors import AffectusError
from affectus.features.media import readiness
from affectus.features.media.readiness import check_parts


def test_what_is_absent_comes_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_is_there", lambda module: module not in ("av", "opensmile"))
    parts = {part.name: part for part in check_parts()}
    assert not parts["media"].ready
    assert parts["media"].problem == "av is not installed"
    assert parts["media"].remedy == "pip install 'affectus[media]'"
    assert parts["egemaps"].optional
    assert parts["egemaps"].remedy == "pip install 'affectus[egemaps]'"


def test_a_model_that_is_not_the_known_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None:
        raise AffectusError("The model is not the known one", where="a.onnx", remedy="Install it afresh")

    monkeypatch.setattr(readiness, "_is_there", lambda module: True)
    monkeypatch.setattr(readiness, "_voice_model", other)
    voice = next(part for part in check_parts() if part.name == "voice")
    assert not voice.ready
    assert voice.problem == "The model is not the known one in a.onnx"
    assert voice.remedy == "Install it afresh"


def test_the_command_line_says_so_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readiness, "_is_there", lambda module: False)
    assert main(["doctor", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert {part["name"] for part in said["parts"] if not part["optional"] and not part["ready"]} == {
        "text", "media", "sound", "voice", "faces", "speech",
    }  # fmt: skip
    assert main(["doctor"]) == 1
    assert "pip install 'affectus[media]'" in capsys.readouterr().out
