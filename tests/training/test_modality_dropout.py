"""Modality dropout: in training alone, by numbers of its own, and it does what it is for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import affectus.training.callbacks as callbacks
from affectus.api import evaluate, train
from affectus.batches import Batch
from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.errors import AffectusError
from affectus.labels import sentiment_scheme
from affectus.models import MODELS
from affectus.training import Run, SeedEvent

OPTIONS: dict[str, dict[str, Any]] = {
    "mtmm_es": {"hidden": 8, "dense": 6},
    "bc_lstm": {"hidden": 6},
    "ufen_mtfn": {"dim": 8, "layers": 1, "filters": [8], "ffn": 8, "heads": 2},
}


def fit(model: str, corpus: Corpus, out: Path, share: float = 0.4, **changes: Any) -> Run:
    training = {"epochs": 4, "learning_rate": 0.01, "modality_dropout": share, **changes.pop("training", {})}
    options = {k: v for k, v in OPTIONS[model].items() if k in MODELS[model].options}
    return train(model, corpus, tasks=["polarity"], out=out, options=options, training=training, **changes)


def results(run: Run) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    lines = (run.seed_folder(0) / "history.jsonl").read_text(encoding="utf-8").splitlines()
    history = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
    return history, load_file(run.seed_folder(0) / "model.safetensors")


@pytest.mark.parametrize("model", list(OPTIONS))
def test_a_stopped_run_goes_on_with_the_same_numbers(
    model: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    whole, weights = results(fit(model, corpus, tmp_path / "whole"))
    last = whole[-1]["stage"]

    def stop(event: SeedEvent) -> None:
        if event.stage == last and event.epoch == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(model, corpus, tmp_path / "stopped", report=stop)
    resumed, found = results(fit(model, corpus, tmp_path / "stopped"))
    assert resumed == whole
    assert all(np.array_equal(found[name], values) for name, values in weights.items())
    assert results(fit(model, corpus, tmp_path / "without", 0.0))[0] != whole


def test_only_training_batches_lose_modalities(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = MODELS["mtmm_es"].build
    seen: dict[bool, list[Batch]] = {True: [], False: []}
    forward = build.forward

    def watch(self: Any, batch: Batch) -> Any:
        seen[self.training].append(batch)
        return forward(self, batch)

    monkeypatch.setattr(build, "forward", watch)
    fit("mtmm_es", corpus, tmp_path / "run", 0.5, training={"epochs": 6})
    shares = {}
    for training, batches in seen.items():
        there = {name: sum(int(batch.masks[name].sum()) for batch in batches) for name in ("text", "audio")}
        everything = sum(int(batch.mask.sum()) for batch in batches)
        shares[training] = there["text"] / everything
        none = sum(int((~batch.masks["text"] & ~batch.masks["audio"] & batch.mask).sum()) for batch in batches)
        assert none == 0
    assert shares[False] == 1.0  # every utterance of this corpus has text
    # where audio is there too, text is hidden with 0.5 - 0.5^2 / 2; where it is not, never
    assert shares[True] == pytest.approx(1 - 0.9 * 0.375, abs=0.05)


def test_it_is_for_modalities_that_are_missing(tmp_path: Path) -> None:
    """Text and audio both tell the sentiment, text better; a model that always saw text leans on it alone."""
    rng = np.random.default_rng(1)
    records, text, audio = [], [], []
    for video in range(60):
        for number in range(4):
            sentiment = float(rng.uniform(-3, 3))
            split = "train" if video < 36 else "valid" if video < 46 else "test"
            records.append({"id": f"{video}-{number}", "video": f"v{video}", "split": split, "sentiment": sentiment})
            text.append(np.concatenate([[sentiment + rng.normal(scale=0.1)], rng.normal(size=3)]))
            audio.append(np.concatenate([[sentiment + rng.normal(scale=0.3)], rng.normal(size=3)]))
    features = {"text": Ragged.from_rows(np.array(text)), "audio": Ragged.from_rows(np.array(audio))}
    corpus = build_corpus(records, features, Card(name="both", generated=True, schemes=[sentiment_scheme()]))
    silent = Corpus(
        corpus.table,
        {**corpus.features, "text": Ragged.from_sequences([None] * len(corpus), 4)},
        corpus.card.model_copy(deep=True),
    )
    plain = {"hidden": 8, "dense": 8, "input_dropout": 0.0, "recurrent_dropout": 0.0, "dropout": 0.0}
    error = {}
    for share in (0.0, 0.5):
        training = {"epochs": 40, "learning_rate": 0.01, "modality_dropout": share, "record_epochs": False}
        run = train("mtmm_es", corpus, tasks=["intensity"], out=tmp_path / str(share), options=plain, training=training)
        error[share] = evaluate(run, silent).mean("intensity.mae")
    assert error[0.5] < 0.85 * error[0.0]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range(corpus: Corpus, tmp_path: Path, share: float) -> None:
    with pytest.raises(AffectusError, match="The key 'modality_dropout' has a wrong value in the training settings"):
        fit("mtmm_es", corpus, tmp_path / "run", share)
