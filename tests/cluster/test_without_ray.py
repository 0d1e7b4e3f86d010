"""What is said where Ray is missing, and of addresses that are none."""

import sys
from pathlib import Path

import pytest

from affectus.cli.clustering import with_address
from affectus.cli.main import main
from affectus.cluster.session import QUIET, Cluster, parse_address, quiet_environment
from affectus.errors import AffectusError


@pytest.mark.parametrize(
    "words",
    [
        ["extract", "--cluster", "VIDEOS", "--out", "o"],
        ["predict", "run", "corpus", "--out", "o", "--cluster"],
        ["benchmark", "corpus", "--out", "o", "--cluster=auto"],
        ["tune", "linear", "corpus", "--cluster"],
        ["train", "linear", "corpus", "--tasks", "polarity", "--out", "o", "--cluster", "--workers", "2"],
    ],
    ids=lambda words: words[0],
)
def test_without_ray_there_is_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "Work on a cluster needs the package ray. Install it with: pip install 'affectus[cluster]'." in said
    assert not list(tmp_path.iterdir())


def test_what_is_no_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("somewhere", "10.0.0.7", "host:port"):
        with pytest.raises(AffectusError, match=r"The address of the cluster is not right: got '.*'; expected local"):
            parse_address(address)
    assert main(["predict", "run", "corpus", "--out", str(tmp_path / "o"), "--cluster=nowhere"]) == 2
    assert "The address of the cluster is not right" in capsys.readouterr().err


def test_an_address_may_be_left_out() -> None:
    assert with_address(["tune", "--cluster"]) == ["tune", "--cluster=local"]
    assert with_address(["tune", "--cluster", "auto"]) == ["tune", "--cluster", "auto"]
    assert with_address(["tune", "--cluster", "--quiet"]) == ["tune", "--cluster=local", "--quiet"]


def test_ray_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    assert quiet_environment(local=False)["RAY_USAGE_STATS_ENABLED"] == "0"


def test_workers_need_a_cluster_and_a_cluster_its_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "linear", "corpus", "--tasks", "polarity", "--out", str(tmp_path / "o"), "--workers", "2"]
    assert main(words) == 2
    assert "Workers are those of a cluster: got --workers 2" in capsys.readouterr().err
    assert main(["extract", "VIDEOS", "--out", str(tmp_path / "o"), "--cluster", "--no-cache"]) == 2
    assert "On a cluster the cache is where machines put what they read" in capsys.readouterr().err
    assert main(["predict", "r", "c", "--out", str(tmp_path / "o"), "--format", "xlsx"]) == 2
    assert "Unknown --format 'xlsx'" in capsys.readouterr().err


def test_no_cluster_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'cluster' is not installed")

    def refuse(**options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    match = "No cluster answers in auto: got Could not find any"
    with pytest.raises(AffectusError, match=match), Cluster("auto").connected():
        pass
