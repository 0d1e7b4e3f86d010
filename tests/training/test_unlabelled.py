import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.testing import assert_close

from affectus.api import train
from affectus.batches import Loader, Scale, fit_scaler
from affectus.corpus import Corpus, Ragged, build_corpus
from affectus.errors import AffectusError
from affectus.models import MODELS, Model
from affectus.objectives import Task, TaskKind, choose_tasks
from affectus.training import Run
from affectus.training import callbacks as callbacks_module
from affectus.training.config import TrainingSettings
from affectus.training.unlabelled import Unlabelled, pseudo_target
from affectus.vocabulary import View

Maker = Callable[..., Corpus]
OPTIONS = {"hidden": 8, "dense": 6}


def _train(corpus: Corpus, out: Path, **more: Any) -> Run:
    training = {"epochs": 3, "learning_rate": 1e-2, **more.pop("training", {})}
    tasks = more.pop("tasks", ["polarity", "emotions6", "intensity"])
    return train("mtmm_es", corpus, tasks=tasks, out=out, options=OPTIONS, training=training, **more)


def _history(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.seed_folder(0) / "history.jsonl").read_text().splitlines()]


def _weights(run: Run) -> bytes:
    return (run.seed_folder(0) / "model.safetensors").read_bytes()


def _relabelled(corpus: Corpus) -> Corpus:
    return build_corpus(corpus.table.with_columns(-pl.col("sentiment")), corpus.features, corpus.card)


@pytest.mark.parametrize("method", ["consistency", "pseudo_labels"])
def test_features_count_and_labels_do_not(make_corpus: Maker, tmp_path: Path, method: str) -> None:
    corpus, other = make_corpus(seed=1), make_corpus(seed=2)
    training = {"unlabelled_method": method, "pseudo_confidence": 0.5, "unlabelled_rampup": 0.0}
    plain = _train(corpus, tmp_path / "plain", training=training)
    with_it = _train(corpus, tmp_path / "with", training=training, unlabelled=other)
    again = _train(corpus, tmp_path / "again", training=training, unlabelled=_relabelled(other))
    assert _weights(with_it) == _weights(again)
    assert _weights(with_it) != _weights(plain)
    assert with_it.file.unlabelled is not None
    assert with_it.file.unlabelled.name == "toy"
    for task in ("polarity", "emotions6", "intensity"):
        assert all(row[f"train.loss.{task}.unlabelled"] > 0 for row in _history(with_it)[1:])
        assert f"train.loss.{task}.unlabelled" not in _history(plain)[0]
        assert f"valid.loss.{task}.unlabelled" not in _history(with_it)[0]
    with pytest.raises(AffectusError, match=r"another run, which differs in 'unlabelled'.*got none; expected 'toy'"):
        _train(corpus, tmp_path / "with", training=training)


def test_only_train_of_the_unlabelled_corpus_is_seen(make_corpus: Maker, tmp_path: Path) -> None:
    corpus, other = make_corpus(seed=1), make_corpus(seed=2)
    values = np.array(other.features["text"].values)
    values[other.rows("test")] += 50
    changed = other.with_features("text", Ragged(values, other.features["text"].offsets), other.card.modalities["text"])
    one = _train(corpus, tmp_path / "one", unlabelled=other)
    two = _train(corpus, tmp_path / "two", unlabelled=changed)
    assert _weights(one) == _weights(two)


def test_a_stopped_run_goes_on_as_if_it_never_was(
    make_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks_module, "CHECKPOINT_SECONDS", 0.0)
    corpus, other = make_corpus(seed=1), make_corpus(videos=12, seed=2)

    def stop(event: Any) -> None:
        if event.epoch == 1:
            raise KeyboardInterrupt

    whole = _train(corpus, tmp_path / "whole", unlabelled=other, training={"epochs": 4})
    # the second epoch is reported before it is saved: the run goes on from the first
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _train(corpus, tmp_path / "run", unlabelled=other, training={"epochs": 4}, report=stop)
    assert (tmp_path / "run" / "seed-0" / "resume.ckpt").is_file()
    resumed = _train(corpus, tmp_path / "run", unlabelled=other, training={"epochs": 4})
    assert _weights(resumed) == _weights(whole)


def test_targets_by_hand() -> None:
    one_of_k = Task("emotion_class", "emotion_class", TaskKind.ONE_OF_K, ("a", "b", "c"))
    said = torch.tensor([[0.1, 0.85, 0.05], [0.4, 0.35, 0.25], [0.0, 0.0, 1.0]])
    target = pseudo_target(one_of_k, said, torch.tensor([True, True, False]), 0.8)
    assert target[:, 0].tolist()[0] == 1.0
    assert target[1:, 0].isnan().all()
    several = Task("emotions", "emotions", TaskKind.MULTI_LABEL, ("a", "b"))
    target = pseudo_target(several, torch.tensor([[0.95, 0.6]]), torch.tensor([True]), 0.9)
    assert target[0, 0] == 1
    assert target[0, 1].isnan()
    number = Task("intensity", "sentiment", TaskKind.REAL, ("sentiment",))
    assert pseudo_target(number, torch.tensor([[2.5]]), torch.tensor([True]), 0.9).tolist() == [[2.5]]


def _term(corpus: Corpus, **settings: Any) -> Unlabelled:
    tasks = choose_tasks(["intensity"], corpus.schemes)
    model = MODELS["mtmm_es"].create(corpus.dims, tasks, OPTIONS)
    assert isinstance(model, Model)
    scaler = fit_scaler(corpus, View.CONTEXTUAL, corpus.modalities, Scale.STANDARD)
    loader = Loader(corpus, "train", View.CONTEXTUAL, corpus.modalities, scaler, batch_size=4, shuffle=True)
    return Unlabelled(model, loader, TrainingSettings(**settings))


def test_the_weight_rises_as_in_the_article(make_corpus: Maker) -> None:
    term = _term(make_corpus(), unlabelled_weight=2.0, unlabelled_rampup=4.0)
    assert term.weight(0.0) == pytest.approx(2 * np.exp(-5))
    assert term.weight(2.0) == pytest.approx(2 * np.exp(-5 * 0.25))
    assert term.weight(4.0) == term.weight(9.0) == 2.0


def test_the_teacher_is_the_average_of_the_weights(make_corpus: Maker) -> None:
    term = _term(make_corpus(), teacher_decay=0.6)
    assert term.teacher is not None
    first = [parameter.detach().clone() for parameter in term.model.parameters()]
    with torch.no_grad():
        for parameter in term.model.parameters():
            parameter += 1
    term.update()  # the average of what was and what is: decay 1/2
    for mine, was in zip(term.teacher.parameters(), first, strict=True):
        assert_close(mine, was + 0.5)
    term.update()  # from here on by the decay: 0.6 (was + 0.5) + 0.4 (was + 1)
    for mine, was in zip(term.teacher.parameters(), first, strict=True):
        assert_close(mine, was + 0.7)


def test_consistency_is_the_squared_distance_to_the_teacher(make_corpus: Maker) -> None:
    term = _term(make_corpus(), unlabelled_rampup=0.0)
    assert term.teacher is not None
    term.model.eval()  # no dropout: model and teacher say the same
    device = torch.device("cpu")
    term.start_epoch(0, device)
    assert term.losses(0.0, device, torch.Generator())["intensity.unlabelled"] == 0
    with torch.no_grad():
        bias = next(p for name, p in term.model.named_parameters() if name.startswith("heads.") and p.ndim == 1)
        bias += 0.5
    assert_close(term.losses(0.0, device, torch.Generator())["intensity.unlabelled"].item(), 0.25, rtol=1e-4, atol=0)


def test_what_does_not_fit(make_corpus: Maker, tmp_path: Path) -> None:
    corpus = make_corpus()
    text = build_corpus(
        corpus.table, {"text": corpus.features["text"]}, corpus.card.model_copy(update={"modalities": {}})
    )
    with pytest.raises(AffectusError, match="The unlabelled corpus 'toy' lacks the modality 'audio'"):
        _train(corpus, tmp_path / "a", unlabelled=text)
    audio = corpus.features["audio"]
    wide = Ragged(np.tile(np.asarray(audio.values), 2), audio.offsets)
    card = corpus.card.modalities["audio"].model_copy(update={"dim": wide.dim})
    with pytest.raises(AffectusError, match="of the unlabelled corpus 'toy' has another width"):
        _train(corpus, tmp_path / "b", unlabelled=corpus.with_features("audio", wide, card))
    with pytest.raises(AffectusError, match="so it cannot learn from utterances without labels"):
        train("linear", corpus, tasks=["intensity"], out=tmp_path / "c", unlabelled=corpus)
    assert not any((tmp_path / name).exists() for name in "abc")
