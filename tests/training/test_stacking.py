"""Seeds trained as one model leave what seeds trained one after another leave."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from affectus.api import train
from affectus.corpus import Corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.models import MODELS, Model
from affectus.testing import make_batch, make_tasks
from affectus.training.config import TrainingSettings
from affectus.training.stacking import stack_batches, why_apart
from affectus.vocabulary import View

SMALL = {"mmmu_ba": {"hidden": 4, "dense": 4}, "marn": {"hidden": 4, "reduced": 3, "code": 3, "attentions": 2}}


@pytest.fixture(scope="module", params=[False, True], ids=["vectors", "steps"])
def corpus(request: pytest.FixtureRequest) -> Corpus:
    return make_embedded(videos=12, steps=request.param, missing=0.2)


def test_results_are_those_of_separate_runs(corpus: Corpus, tmp_path: Path) -> None:
    steps = bool((next(iter(corpus.features.values())).lengths > 1).any())
    name = "marn" if steps else "mmmu_ba"
    options = SMALL[name] | {option: 0.0 for option in MODELS[name].options if option.endswith("dropout")}
    training = {"epochs": 3, "patience": 1, "batch_size": 20 if steps else 4, "clip": 0.5, "learning_rate": 0.01}
    for stacked in (False, True):
        out = tmp_path / str(stacked)
        train(name, corpus, tasks=["polarity"], seeds=3, options=options, training=training, out=out, stacked=stacked)
    for seed in range(3):
        apart, together = tmp_path / f"False/seed-{seed}", tmp_path / f"True/seed-{seed}"
        assert {p.name for p in apart.iterdir()} == {p.name for p in together.iterdir()}
        for file in ("model", "valid", "epochs"):
            expected, found = (load_file(folder / f"{file}.safetensors") for folder in (apart, together))
            assert expected.keys() == found.keys()
            for key, values in expected.items():
                np.testing.assert_allclose(found[key], values, atol=1e-4, err_msg=key)
        one, other = (json.loads((folder / "result.json").read_text()) for folder in (apart, together))
        assert one["best_epoch"] == other["best_epoch"]
        assert one["valid"] == pytest.approx(other["valid"], abs=1e-4, nan_ok=True)
        histories = [
            [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
            for folder in (apart, together)
        ]
        assert len(histories[0]) == len(histories[1])
        for expected, found in zip(*histories, strict=True):
            assert expected.keys() == found.keys()
            assert found["train.loss"] == pytest.approx(expected["train.loss"], abs=1e-4)


def test_batches_are_padded_to_one_shape() -> None:
    short, long = (make_batch(View.UNALIGNED, lengths=lengths) for lengths in ((2, 3), (5, 1, 4)))
    stacked = stack_batches([short, long])
    assert stacked["feature.text"].shape == (2, 3, 5, 6)
    assert stacked["mask"].tolist() == [[True, True, False], [True] * 3]
    assert not stacked["mask.text"][0, 2].any()
    assert stacked["label.sentiment"][0, 2].isnan().all()
    assert stacked["rows"][0].tolist() == [0, 1, -1]
    assert torch.equal(stacked["feature.audio"][1], long.features["audio"])


@pytest.mark.parametrize(
    ("name", "setting", "reason"),
    [
        ("bc_lstm", {}, "several stages"),
        ("mmim", {}, "several stages or passes"),
        ("self_mm", {}, "remembers training utterances"),
        ("tfn", {}, "normalises by batches"),
        ("mmmu_ba", {"plateau": 3}, "'plateau' needs each by itself"),
        ("mmmu_ba", {}, None),
    ],
)
def test_what_is_trained_apart(name: str, setting: dict[str, int], reason: str | None) -> None:
    model = MODELS[name].create({"text": 4, "audio": 3}, make_tasks("polarity"))
    assert isinstance(model, Model)
    found = why_apart(model, TrainingSettings(**setting))  # type: ignore[arg-type]
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_a_model_that_is_trained_apart_is_refused(tmp_path: Path) -> None:
    corpus = make_embedded(videos=8)
    with pytest.raises(AffectusError, match=r"seeds of the model 'bc_lstm' cannot be trained as one.*several stages"):
        train("bc_lstm", corpus, tasks=["polarity"], seeds=2, out=tmp_path / "run", stacked=True)
    with pytest.raises(AffectusError, match=r"'linear' cannot be trained as one.*not trained by gradient"):
        train("linear", corpus, tasks=["polarity"], seeds=2, out=tmp_path / "run", stacked=True)
    assert not (tmp_path / "run").exists()
