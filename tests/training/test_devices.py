"""Processes that train together leave what one leaves."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from affectus.api import train
from affectus.batches import Loader, Scale, fit_scaler
from affectus.cli.main import main
from affectus.corpus import Corpus, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.training import SeedEvent
from affectus.vocabulary import View


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[View, Path]:
    """Return a corpus of vectors and one of sequences, both with utterances that lack a modality."""
    found = {}
    for view in (View.CONTEXTUAL, View.UNALIGNED):
        found[view] = tmp_path_factory.mktemp("corpora") / view
        save_corpus(make_embedded(videos=14, steps=view is View.UNALIGNED, missing=0.2), found[view])
    return found


def _train(name: str, folders: dict[View, Path], out: Path, devices: int, **changes: Any) -> Path:
    view = View.CONTEXTUAL if View.CONTEXTUAL in MODELS[name].views else View.UNALIGNED
    options = {"hidden": 8} if "hidden" in MODELS[name].options else {}
    options |= {option: 0.0 for option in MODELS[name].options if option.endswith("dropout")}
    # batches that do not divide by two, and a last one of another size
    training = {"epochs": 3, "batch_size": 3 if view is View.CONTEXTUAL else 13, "clip": 0.5}
    train(
        name, folders[view], tasks=["polarity", "intensity"], out=out, options=options, training=training,
        device="cpu", devices=devices, **changes,
    )  # fmt: skip
    return out


def _same(one: Path, other: Path) -> None:
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    for file in ("model", "valid", "epochs"):
        expected, found = (load_file(folder / f"{file}.safetensors") for folder in (one, other))
        assert expected.keys() == found.keys()
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, atol=2e-5, err_msg=key)
    rows = [
        [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()] for folder in (one, other)
    ]
    for first, second in zip(*rows, strict=True):
        assert first.keys() == second.keys()
        for key in first:
            if key.startswith(("train.loss", "valid.loss")):
                assert second[key] == pytest.approx(first[key], abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtmm_es", "lf_dnn", "mult", "edm"])
def test_two_processes_train_what_one_trains(name: str, folders: dict[View, Path], tmp_path: Path) -> None:
    """Attention over videos; batch normalisation; a transformer; a model of several stages."""
    for devices in (1, 2):
        _train(name, folders, tmp_path / str(devices), devices)
    _same(tmp_path / "1" / "seed-0", tmp_path / "2" / "seed-0")


@pytest.mark.slow
def test_a_process_that_dies_costs_an_epoch(folders: dict[View, Path], tmp_path: Path) -> None:
    def kill(event: SeedEvent) -> None:
        if event.epoch == 1:
            multiprocessing.active_children()[-1].kill()

    with pytest.raises(AffectusError, match="A process that trained with others has died"):
        _train("mtmm_es", folders, tmp_path / "killed", 2, report=kill)
    assert not multiprocessing.active_children()
    _same(
        _train("mtmm_es", folders, tmp_path / "killed", 2) / "seed-0",
        _train("mtmm_es", folders, tmp_path / "whole", 1) / "seed-0",
    )


@pytest.mark.parametrize("view", [View.CONTEXTUAL, View.UNALIGNED])
def test_shares_are_the_whole_batch_once(view: View, folders: dict[View, Path]) -> None:
    from affectus.corpus import load_corpus

    corpus = load_corpus(folders[view])
    scaler = fit_scaler(corpus, view, corpus.modalities, Scale.STANDARD)

    def loader() -> Loader:
        return Loader(corpus, "train", view, corpus.modalities, scaler, batch_size=4, shuffle=True)

    whole = list(loader())
    parts = []
    for number in range(3):
        mine = loader()
        mine.share = (number, 3)
        parts.append(list(mine))
    assert {len(part) for part in parts} == {len(whole)}
    for number, batch in enumerate(whole):
        rows = torch.cat([part[number].rows.flatten() for part in parts])
        assert torch.equal(rows[rows >= 0].sort().values, batch.rows[batch.rows >= 0].sort().values)
    lone = loader()
    lone.share = (5, 6)
    nothing = next(iter(lone))
    assert not nothing.mask.any()
    assert (nothing.rows == -1).all()
    assert not any(mask.any() for mask in nothing.masks.values())
    assert all(labels.isnan().all() for labels in nothing.labels.values())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["misa"], "cannot train 'misa' together: got its losses of similarity and difference compare"),
        (["self_mm"], "it keeps something of each utterance between batches"),
        (["linear"], "it is not trained by gradient"),
        (["lf_dnn", "--set", "weighing=pcgrad"], "gradient surgery needs the whole batch in one place"),
        (["lf_dnn", "--set", "batch_size=1"], "a batch of 1 is too small for 2 workers"),
        (["lf_dnn", "--seeds", "2", "--jobs", "2"], "Several devices train one seed after another"),
        (["lf_dnn", "--cluster", "local"], "On a cluster a worker has one device"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: list[str], sentence: str, folders: dict[View, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = words
    place = [str(folders[View.UNALIGNED]), "--tasks", "polarity", "--out", str(tmp_path / "run")]
    assert main(["train", name, *place, "--device", "cpu", "--devices", "2", *rest]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert said.count("error:") == 1
    assert not (tmp_path / "run").exists()


def test_gpus_that_are_not_there(corpus: Corpus, folders: dict[View, Path], tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(AffectusError, match="a corpus in memory"):
        train("lf_dnn", corpus, tasks=["polarity"], out=tmp_path / "run", devices=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(AffectusError, match=r"too few GPUs.*--devices 2.*got 1"):
        train("lf_dnn", folders[View.UNALIGNED], tasks=["polarity"], out=tmp_path / "run", devices=2)
