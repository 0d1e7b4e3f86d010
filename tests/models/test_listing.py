"""What `affectus models` tells."""

import json

import pytest

from affectus.cli.main import main
from affectus.cli.modelling import WIDTHS
from affectus.models import MODELS
from affectus.objectives import Task, TaskKind


def test_the_list_has_paper_year_views_tasks_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(MODELS)
    row = rows["hazarika_sa"]
    assert (row["paper"], row["year"], row["tasks"]) == ("Hazarika et al.", 2018, ["all"])
    assert row["views"] == ["contextual", "unaligned", "aligned"]
    model = MODELS["hazarika_sa"].create(WIDTHS, [Task("intensity", "sentiment", TaskKind.REAL, ("intensity",))])
    assert row["parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)  # type: ignore[union-attr]
    assert rows["linear"]["parameters"] is None
    assert rows["linear"]["year"] is None


def test_one_model_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "tfn"]) == 0
    said = capsys.readouterr().out
    for part in ("Deviations:", "Options (--set NAME=VALUE)", "post_fusion", "0.9473", "What `affectus tune` searches"):
        assert part in said
    assert main(["models", "tfn", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["paper"]["year"] == 2017
    assert data["deviations"]
    mosi = next(one for one in data["published"] if one["experiment"] == "zadeh2017_tfn_mosi")
    assert mosi["figures"]["intensity.mae"] == pytest.approx(0.947, abs=0.001)
