import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from affectus.api import train
from affectus.batches import Scaler
from affectus.cli.main import main
from affectus.corpus import Corpus, Ragged, save_corpus
from affectus.errors import AffectusError
from affectus.training import Run
from affectus.training.transfer import InitScaling, far_apart, join_scaling

Maker = Callable[..., Corpus]
SMALL = {"hidden": 8, "dense": 6}
FAST = {"epochs": 2, "learning_rate": 1e-2}


@pytest.fixture
def source(make_corpus: Maker, tmp_path: Path) -> Run:
    return train(
        "mtmm_es",
        make_corpus(seed=1),
        tasks=["intensity"],
        out=tmp_path / "source",
        seeds=2,
        options=SMALL,
        training=FAST,
    )


def _frozen(corpus: Corpus, out: Path, **more: object) -> Run:
    """Train with a learning rate that moves nothing, so that the weights are those of the start."""
    settings = {"options": SMALL, "training": {"epochs": 1, "learning_rate": 1e-30}, **more}
    return train("mtmm_es", corpus, out=out, **settings)  # type: ignore[arg-type]


def test_weights_of_the_same_name_and_shape_are_the_start(source: Run, make_corpus: Maker, tmp_path: Path) -> None:
    run = _frozen(make_corpus(seed=2), tmp_path / "run", tasks=["intensity", "polarity"], init_from=source, seeds=3)
    assert run.file.init is not None
    record = run.file.init
    for seed, other in ((0, 0), (1, 1), (2, 0)):
        before = load_file(source.seed_folder(other) / "model.safetensors")
        after = load_file(run.seed_folder(seed) / "model.safetensors")
        assert set(record.taken) == set(before)
        for name in record.taken:
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-12)
        assert record.weights[str(seed)].startswith(f"seed-{other}/model.safetensors ")
    assert all("polarity" in name and why == "the run has none of this name" for name, why in record.left.items())
    assert record.left
    assert record.numbers == sum(tensor.numel() for tensor in before.values())
    assert record.of_numbers == run.model(0).parameter_count()  # type: ignore[union-attr]


def test_other_shapes_are_left(source: Run, make_corpus: Maker, tmp_path: Path) -> None:
    lines: list[str] = []
    options = {"hidden": 8, "dense": 5}
    run = _frozen(
        make_corpus(), tmp_path / "run", tasks=["intensity"], init_from=source, options=options, tell=lines.append
    )
    assert run.file.init is not None
    assert any(why == "5 x 16 here, 6 x 16 in the run" for why in run.file.init.left.values()), run.file.init.left
    assert lines[0].startswith("Started from mtmm_es trained on toy")
    assert "here" in lines[1]
    assert lines[2] == "Scaling: text, audio as in the source"


def test_scaling_is_the_sources_unless_told_otherwise(source: Run, make_corpus: Maker, tmp_path: Path) -> None:
    corpus = make_corpus(seed=3)
    kept = _frozen(corpus, tmp_path / "kept", tasks=["intensity"], init_from=source)
    own = _frozen(corpus, tmp_path / "own", tasks=["intensity"], init_from=source, init_scaling="own")
    plain = _frozen(corpus, tmp_path / "plain", tasks=["intensity"])
    for name in ("text", "audio"):
        np.testing.assert_array_equal(kept.scaler.shift[name], source.scaler.shift[name])
        np.testing.assert_array_equal(kept.scaler.factor[name], source.scaler.factor[name])
        np.testing.assert_array_equal(own.scaler.shift[name], plain.scaler.shift[name])
        assert not np.array_equal(own.scaler.shift[name], kept.scaler.shift[name])
    assert kept.file.init is not None
    assert kept.file.init.scaling == {"text": "source", "audio": "source"}
    assert own.file.init is not None
    assert own.file.init.scaling == {"text": "own", "audio": "own"}


def test_a_modality_of_another_width_is_scaled_by_itself(source: Run, make_corpus: Maker, tmp_path: Path) -> None:
    corpus = make_corpus(seed=3)
    wide = Ragged(np.tile(np.asarray(corpus.features["audio"].values), 2), corpus.features["audio"].offsets)
    card = corpus.card.modalities["audio"].model_copy(update={"dim": wide.dim})
    run = _frozen(corpus.with_features("audio", wide, card), tmp_path / "run", tasks=["intensity"], init_from=source)
    assert run.file.init is not None
    assert run.file.init.scaling == {"text": "source", "audio": "own"}
    assert len(run.scaler.shift["audio"]) == 16


def test_far_features_are_told() -> None:
    one, two = np.ones(3, np.float32), np.full(3, 2.0, np.float32)
    source = Scaler({"audio": one, "text": one}, {"audio": two, "text": two})
    own = Scaler({"audio": one + 4, "text": one + 1}, {"audio": one, "text": one})
    whose = {"audio": str(InitScaling.SOURCE), "text": str(InitScaling.SOURCE)}
    assert far_apart(own, source, whose) == {"audio": 8.0}
    assert far_apart(own, source, {**whose, "audio": "own"}) == {}
    joined = join_scaling(own, source, {**whose, "audio": "own"})
    assert joined.shift["audio"].tolist() == [5, 5, 5]
    assert joined.shift["text"].tolist() == [1, 1, 1]


def test_a_start_is_part_of_the_run(source: Run, make_corpus: Maker, tmp_path: Path) -> None:
    corpus = make_corpus()
    _frozen(corpus, tmp_path / "run", tasks=["intensity"], init_from=source)
    more = _frozen(corpus, tmp_path / "run", tasks=["intensity"], init_from=source, seeds=2)
    assert more.file.init is not None
    assert set(more.file.init.weights) == {"0", "1"}
    with pytest.raises(
        AffectusError, match=r"another run, which differs in 'init'.*got chance; expected .*safetensors"
    ):
        _frozen(corpus, tmp_path / "run", tasks=["intensity"])


def test_what_cannot_be_a_start(source: Run, make_corpus: Maker, tmp_path: Path) -> None:
    corpus = make_corpus()
    with pytest.raises(AffectusError, match="Nothing of the run fits the model"):
        train("tfn", corpus, tasks=["polarity"], out=tmp_path / "a", init_from=source, training={"epochs": 1})
    with pytest.raises(AffectusError, match="not trained by gradient, so it cannot start"):
        train("linear", corpus, tasks=["intensity"], out=tmp_path / "b", init_from=source)
    linear = train("linear", corpus, tasks=["intensity"], out=tmp_path / "linear")
    with pytest.raises(AffectusError, match="so it has no weights to start from"):
        _frozen(corpus, tmp_path / "c", tasks=["intensity"], init_from=linear)
    with pytest.raises(AffectusError, match="Unknown scaling to start with 'mine'"):
        _frozen(corpus, tmp_path / "d", tasks=["intensity"], init_from=source, init_scaling="mine")
    weights = source.seed_folder(0) / "model.safetensors"
    for other in ((source.seed_folder(1) / "model.safetensors").read_bytes(), weights.read_bytes()[:40]):
        weights.write_bytes(other)
        with pytest.raises(AffectusError, match="not the one that the training of this seed wrote"):
            _frozen(corpus, tmp_path / "e", tasks=["intensity"], init_from=source)
    weights.unlink()
    with pytest.raises(AffectusError, match="There are no weights to start from"):
        _frozen(corpus, tmp_path / "f", tasks=["intensity"], init_from=source)
    assert not any((tmp_path / name).exists() for name in "abcdef")


def test_the_weights_of_a_task_are_taken_where_each_has_its_own(make_corpus: Maker, tmp_path: Path) -> None:
    corpus = make_corpus()
    training = {**FAST, "select": "per_task"}
    source = train(
        "mtmm_es", corpus, tasks=["polarity", "intensity"], out=tmp_path / "source", options=SMALL, training=training
    )
    run = _frozen(corpus, tmp_path / "run", tasks=["intensity"], init_from=source)
    assert run.file.init is not None
    assert run.file.init.weights["0"].startswith("seed-0/model.intensity.safetensors ")


def test_the_command_line_says_what_was_taken(
    source: Run, make_corpus: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_corpus(make_corpus(), tmp_path / "corpus")
    command = ["train", "mtmm_es", str(tmp_path / "corpus"), "--tasks", "intensity", "--set", "hidden=8"]
    options = ["--set", "dense=6", "--set", "epochs=1", "--seeds", "2", "--jobs", "2"]
    out = tmp_path / "run"
    assert main([*command, *options, "--init-from", str(source.folder), "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "Started from mtmm_es trained on toy: " in said
    assert "Scaling: text, audio as in the source" in said
    record = json.loads((out / "run.json").read_text())["init"]
    assert record["numbers"] == record["of_numbers"]
    assert main([*command, "--init-from", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 2
    assert "There is no run folder" in capsys.readouterr().err
