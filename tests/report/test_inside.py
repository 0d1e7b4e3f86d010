from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affectus.api import train
from affectus.batches import Batch
from affectus.corpus import Corpus, load_corpus
from affectus.models import ModelOutput
from affectus.report.inside import Inside, look_inside
from affectus.training import load_run
from affectus.training.inference import PerTask, predict_batches
from affectus.training.loading import Run


@pytest.fixture(scope="module")
def corpus(studies: Path) -> Corpus:
    return load_corpus(studies / "corpus")


def outputs(run: Run, corpus: Corpus, seed: int = 0) -> Iterator[tuple[Batch, ModelOutput]]:
    model = run.model(seed).eval()
    with torch.inference_mode():
        for batch in run.batches(corpus, "test"):
            yield batch, model(batch)


def extra(run: Run, corpus: Corpus, name: str) -> np.ndarray:
    """An extra of the first seed's model in the order of the table."""
    pairs = [(batch.rows[batch.mask], output.extras[name][batch.mask]) for batch, output in outputs(run, corpus)]
    rows = torch.cat([rows for rows, _ in pairs])
    return torch.cat([values for _, values in pairs])[rows.argsort()].numpy()


def inside(run: Run, corpus: Corpus, *tasks: str) -> Inside:
    return look_inside(run, run.model(0), corpus, "test", [task for task in run.tasks if task.name in tasks])


def has(corpus: Corpus, modality: str) -> np.ndarray:
    return np.diff(corpus.features[modality].offsets)[corpus.rows("test")] > 0


@pytest.mark.parametrize("head", ["text", "audio", "vision", "fused"])
def test_a_models_own_heads_are_kept(studies: Path, corpus: Corpus, head: str) -> None:
    run = load_run(studies / "heads")
    found = inside(run, corpus, "intensity", "polarity")
    assert found.source == "own"
    assert list(found.heads) == ["text", "audio", "vision", "fused"]
    there = np.ones(len(corpus.rows("test")), bool) if head == "fused" else has(corpus, head)
    intensity = extra(run, corpus, f"prediction.{head}.intensity")
    assert found.heads[head]["intensity"][there] == pytest.approx(intensity[there], abs=1e-6)
    assert np.isnan(found.heads[head]["intensity"][~there]).all()
    logits = torch.from_numpy(extra(run, corpus, f"prediction.{head}.polarity"))
    assert found.heads[head]["polarity"][there] == pytest.approx(logits.softmax(-1).numpy()[there], abs=1e-6)


def test_heads_of_unimodal_stages_count_as_own(studies: Path, corpus: Corpus) -> None:
    run = load_run(studies / "stages")
    found = inside(run, corpus, "polarity")
    assert found.source == "own"
    logits = torch.from_numpy(extra(run, corpus, "unimodal.audio.polarity"))
    there = has(corpus, "audio")
    assert 0 < there.sum() < len(there)
    assert found.heads["audio"]["polarity"][there] == pytest.approx(logits.softmax(-1).numpy()[there], abs=1e-6)


@pytest.mark.parametrize("name", ["multi", "linear"])
def test_without_heads_the_other_modalities_are_hidden(studies: Path, corpus: Corpus, name: str) -> None:
    run = load_run(studies / name)
    found = inside(run, corpus, "polarity")
    assert found.source == "hidden"
    assert list(found.heads) == ["text", "audio", "vision"]
    alone = [batch.without("text", "vision") for batch in run.batches(corpus, "test")]
    expected = predict_batches(run.model(0), run.tasks, alone).probabilities["polarity"]
    there = has(corpus, "audio")
    assert found.heads["audio"]["polarity"][there] == pytest.approx(expected[there], abs=1e-6)
    assert np.isnan(found.heads["audio"]["polarity"][~there]).all()
    full = run.predict(run.model(0), corpus, "test").probabilities["polarity"]
    assert np.abs(full - expected).max() > 1e-3


@pytest.mark.parametrize(("name", "width"), [("multi", 36), ("heads", 48), ("stages", 12)])
def test_the_representation_is_kept_in_the_tables_order(studies: Path, corpus: Corpus, name: str, width: int) -> None:
    run = load_run(studies / name)
    found = inside(run, corpus)
    assert found.source is None
    assert found.heads == {}
    assert found.fused.shape == (len(corpus.rows("test")), width)
    assert found.fused == pytest.approx(extra(run, corpus, "fused"), abs=1e-6)


def test_a_model_without_representation_has_none(studies: Path, corpus: Corpus) -> None:
    assert inside(load_run(studies / "linear"), corpus, "polarity").fused is None


def test_a_lone_modality_has_nothing_to_hide(studies: Path, corpus: Corpus, tmp_path: Path) -> None:
    train("linear", studies / "corpus", tasks=["polarity"], modalities=["text"], out=tmp_path / "text")
    found = inside(load_run(tmp_path / "text"), corpus, "polarity")
    assert found.source is None
    assert found.heads == {}


def test_each_tasks_own_weights_have_its_heads(studies: Path, corpus: Corpus) -> None:
    run = load_run(studies / "heads")
    models = {"intensity": run.model(0), "polarity": run.model(1)}
    both = look_inside(run, PerTask(models), corpus, "test", run.tasks)
    for name, model in models.items():
        alone = look_inside(run, model, corpus, "test", run.tasks)
        assert both.heads["vision"][name] == pytest.approx(alone.heads["vision"][name], abs=1e-6, nan_ok=True)
    other = look_inside(run, models["intensity"], corpus, "test", run.tasks).heads["vision"]["polarity"]
    assert np.nanmax(np.abs(other - both.heads["vision"]["polarity"])) > 1e-3


def test_an_extra_of_another_shape_is_no_head(studies: Path, corpus: Corpus) -> None:
    run = load_run(studies / "heads")

    class Odd(type(run.model(0))):
        def forward(self, batch: Batch) -> ModelOutput:
            output = super().forward(batch)
            shorter = {name: values[:1, ..., None] for name, values in output.extras.items()}
            return replace(output, extras=shorter)

    model = run.model(0)
    model.__class__ = Odd
    found = look_inside(run, model, corpus, "test", run.tasks)
    assert found.source == "hidden"
    assert found.fused is None
