"""Batches made ahead are those of the loader; errors reach who takes them, and no thread is left."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import affectus.training.ahead as module
from affectus.api import train
from affectus.batches import Batch, Loader, Scale, fit_scaler
from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.training.ahead import Ahead
from affectus.vocabulary import View

TRAINING = {"epochs": 3, "learning_rate": 0.01, "batch_size": 2}


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def _loader(corpus: Corpus) -> Loader:
    scaler = fit_scaler(corpus, View.CONTEXTUAL, corpus.modalities, Scale.STANDARD)
    return Loader(corpus, "train", View.CONTEXTUAL, corpus.modalities, scaler, batch_size=2, shuffle=True, seed=1)


def _train(corpus: Corpus, out: Path, **changes: Any) -> bytes:
    options = {"hidden": 8, "dense": 6}
    train("mtmm_es", corpus, tasks=["polarity"], out=out, options=options, training=TRAINING, device="cpu", **changes)
    return (out / "seed-0" / "model.safetensors").read_bytes()


def test_a_run_is_the_same_to_the_last_bit(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _train(corpus, tmp_path / "alone")
    made: list[str] = []
    sequence = Loader.__iter__

    def noted(self: Loader) -> Iterator[Batch]:
        for batch in sequence(self):
            made.append(threading.current_thread().name)
            yield batch

    monkeypatch.setattr(Loader, "__iter__", noted)
    monkeypatch.setitem(module.AHEAD, "cpu", 2)
    assert _train(corpus, tmp_path / "ahead") == alone
    # three epochs of train and valid; what the recorder and the majority's judge read is not made ahead
    assert made.count("batches") >= 3 * (len(_loader(corpus)) + 1)
    assert not _threads()


def test_order_epochs_and_pinning(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = _loader(corpus)
    pinned: list[int] = []
    monkeypatch.setattr(Batch, "pin_memory", lambda self: pinned.append(threading.get_ident()) or self)
    with Ahead(loader, 2, pin=True) as batches:
        assert len(batches) == len(loader)
        for epoch in range(2):
            batches.batch_sampler.sampler.set_epoch(epoch)
            rows = [batch.rows for batch in batches]
            assert all(torch.equal(a, b.rows) for a, b in zip(rows, loader, strict=True))
    assert len(pinned) == 2 * len(loader)
    assert threading.get_ident() not in pinned


def test_no_more_are_made_than_there_is_room_for(corpus: Corpus) -> None:
    made: list[int] = []
    loader = _loader(corpus)

    class Counted(Loader):
        def __init__(self) -> None:
            self.__dict__ |= loader.__dict__

        def __iter__(self) -> Iterator[Batch]:
            for number, batch in enumerate(loader):
                made.append(number)
                yield batch

    with Ahead(Counted(), 1, pin=False) as batches:
        given = iter(batches)
        for number, _ in enumerate(given):
            # the one that was given, the one that waits and the one for which there is no room yet
            assert len(made) <= number + 3
            if number == 1:
                break
        assert _threads()
    assert not _threads()
    assert len(made) < len(loader)


def test_an_error_is_the_users(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.AHEAD, "cpu", 2)

    def full(event: Any) -> None:
        raise AffectusError("The one who watched had enough")

    with pytest.raises(AffectusError, match="had enough"):
        _train(corpus, tmp_path / "watched", report=full)
    assert not _threads()
    contextual = Loader._contextual

    def torn(self: Loader, index: np.ndarray) -> Batch:
        if self.shuffle and self.epoch == 1:
            raise AffectusError("A page of the features is torn")
        return contextual(self, index)

    monkeypatch.setattr(Loader, "_contextual", torn)
    with pytest.raises(AffectusError, match="is torn"):
        _train(corpus, tmp_path / "torn")
    assert not _threads()
