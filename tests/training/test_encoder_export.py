"""A trained text encoder, written as a folder of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affectus.api import train
from affectus.cli.main import main
from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.features.encoders import load_encoder
from affectus.features.text import add_text_features
from affectus.models.with_text import TextModel
from affectus.training import Run
from affectus.training.encoder_export import export_encoder

pytest.importorskip("transformers", reason="needs the extra affectus[text]")


def fit(corpus: Corpus, out: Path, encoder: Path, layers: int) -> Run:
    settings: dict[str, Any] = {"text_encoder": str(encoder), "text_layers": layers, "text_learning_rate": 0.01}
    settings |= {"epochs": 2, "batch_size": 4, "learning_rate": 0.01}
    options = {"hidden": 8, "dense": 6}
    return train("mtmm_es", corpus, tasks=["polarity"], out=out, options=options, training=settings, device="cpu")


@pytest.mark.parametrize("layers", [1, 2, -1])
def test_its_vectors_are_those_that_the_trained_model_sees(
    spoken: Corpus, tiny_encoder: Path, tmp_path: Path, layers: int
) -> None:
    run = fit(spoken, tmp_path / "run", tiny_encoder, layers)
    folder = export_encoder(run, tmp_path / "encoder")
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt", ".model"}
    mine, before = (add_text_features(spoken, encoder=str(path)) for path in (folder, tiny_encoder))
    model = run.model(0)
    assert isinstance(model, TextModel)
    model.eval()
    seen = {}
    with torch.inference_mode():
        for batch in run.batches(spoken, "test"):
            vectors = model.encode(batch).features["text"]
            for row, vector, real in zip(
                batch.rows.flatten(), vectors.flatten(0, 1), batch.masks["text"].flatten(), strict=True
            ):
                if real:
                    seen[int(row)] = vector.numpy()
    assert seen
    shift, factor = model.encoder.shift.numpy(), model.encoder.factor.numpy()
    for row, vector in seen.items():
        written = mine.features["text"].take(np.array([row])).values[0]
        np.testing.assert_allclose((written - shift) * factor, vector, rtol=1e-4, atol=1e-5)
    assert np.abs(mine.features["text"].values - before.features["text"].values).max() > 1e-3
    assert load_encoder(str(folder)).weights_hash() != load_encoder(str(tiny_encoder)).weights_hash()


def test_what_cannot_be_written(
    spoken: Corpus, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = fit(spoken, tmp_path / "frozen", tiny_encoder, 0)
    with pytest.raises(AffectusError, match="has not trained a text encoder"):
        export_encoder(frozen, tmp_path / "out")
    run = fit(spoken, tmp_path / "run", tiny_encoder, 1)
    with pytest.raises(AffectusError, match=r"has no such seed .*: got 7; expected one of: 0"):
        export_encoder(run, tmp_path / "out", seed=7)
    assert main(["features", "encoder", str(run.folder), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert main(["features", "encoder", str(run.folder), "--out", str(tmp_path / "out")]) == 2
    assert "is there already" in capsys.readouterr().err
