"""Training a model that has more losses than predictions: how they weigh, and selection without them."""

import json
from pathlib import Path

import numpy as np
import pytest

from affectus.api import train
from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.models import MODELS

SMALL = {"dim": 8, "filters": [8], "heads": 2, "ffn": 8}
PARTS = ("", ".text", ".audio", ".fused")


def _history(corpus: Corpus, out: Path, **training: object) -> tuple[dict[str, object], list[dict[str, float]]]:
    settings = {"epochs": 4, "learning_rate": 0.01, "patience": None, **training}
    run = train("ufen_mtfn", corpus, out=out, tasks=["intensity:2", "polarity"], options=dict(SMALL), training=settings)
    folder = run.seed_folder(0)
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), rows


def test_every_head_weighs_as_its_task_and_the_predictions_choose_the_epoch(corpus: Corpus, tmp_path: Path) -> None:
    assert MODELS["ufen_mtfn"].training["select"] == "task_loss"
    result, rows = _history(corpus, tmp_path / "run", epochs=12, learning_rate=0.05)
    for row in rows:
        for split in ("train", "valid"):
            heads = [2 * row[f"{split}.loss.intensity{p}"] + row[f"{split}.loss.polarity{p}"] for p in PARTS]
            assert row[f"{split}.loss"] == pytest.approx(sum(heads), abs=1e-4)
        expected = 2 * row["valid.loss.intensity"] + row["valid.loss.polarity"]
        assert row["valid.task_loss"] == pytest.approx(expected, abs=1e-5)
    by_task, by_all = ([row[f"valid.{name}"] for row in rows] for name in ("task_loss", "loss"))
    assert result["best_epoch"] == int(np.argmin(by_task))
    assert int(np.argmin(by_task)) != int(np.argmin(by_all)), "the case does not tell the two apart"


def test_it_is_recorded_only_where_it_chooses(corpus: Corpus, tmp_path: Path) -> None:
    result, rows = _history(corpus, tmp_path / "run", select="loss")
    assert result["best_epoch"] == int(np.argmin([row["valid.loss"] for row in rows]))
    assert "valid.task_loss" not in rows[0]


def test_it_is_known_to_the_check(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"Unknown quantity to select by 'task_los'.*Did you mean 'task_loss'"):
        _history(corpus, tmp_path / "run", select="task_los")
