import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from affectus.api import train
from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.training import Run, SeedEvent, callbacks

SMALL = {"hidden": 6, "dense": 4}


def fit(corpus: Corpus, out: Path, report: Any = None, **settings: Any) -> Run:
    training = {"epochs": 6, "learning_rate": 0.05, "keep_epochs": True, "batch_size": 100, **settings}
    return train("mtmm_es", corpus, tasks=["polarity"], out=out, options=SMALL, training=training, report=report)


def test_the_kept_weights_are_the_moving_average_of_the_steps(corpus: Corpus, tmp_path: Path) -> None:
    # one batch an epoch: the weights after each epoch are those after each step
    plain, averaged = fit(corpus, tmp_path / "plain"), fit(corpus, tmp_path / "averaged", average_weights=0.4)
    expected: dict[str, np.ndarray] = {}
    for step, (path, other) in enumerate(zip(plain.epochs(0), averaged.epochs(0), strict=True), start=1):
        weights, kept = load_file(path), load_file(other)
        decay = min(0.4, (1 + step) / (10 + step))
        for name, now in weights.items():
            before = expected.get(name, now)
            expected[name] = decay * before + (1 - decay) * now
            np.testing.assert_allclose(kept[name], expected[name], rtol=1e-4, atol=1e-6)
    assert any(np.abs(weights[name] - kept[name]).max() > 1e-3 for name in weights)
    best = json.loads((averaged.seed_folder(0) / "result.json").read_text())["best_epoch"]
    chosen, model = load_file(averaged.epochs(0)[best]), load_file(averaged.seed_folder(0) / "model.safetensors")
    assert all(np.array_equal(chosen[name], model[name]) for name in model)


@pytest.mark.parametrize("stop_at", [0, 3])
def test_a_stopped_run_goes_on_with_the_same_average(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    settings = {"average_weights": 0.9, "batch_size": 4}
    whole = fit(corpus, tmp_path / "whole", **settings)

    class StoppedError(Exception):
        pass

    def stop(event: SeedEvent) -> None:
        if event.epoch == stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        fit(corpus, tmp_path / "cut", stop, **settings)
    cut = fit(corpus, tmp_path / "cut", **settings)
    one, two = (load_file(run.seed_folder(0) / "model.safetensors") for run in (whole, cut))
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_decay_out_of_range(corpus: Corpus, tmp_path: Path, decay: float) -> None:
    with pytest.raises(AffectusError, match="'average_weights' has a wrong value"):
        fit(corpus, tmp_path / "run", average_weights=decay)
