import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file, save_file

import affectus
import affectus.training.callbacks as callbacks
from affectus.api import evaluate, train
from affectus.corpus import Corpus, build_corpus, load_corpus, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation import evaluate_run
from affectus.files import lock_folder, sha256
from affectus.predict.predictor import Predictor
from affectus.report.curves import learning_curves
from affectus.training import Run, SeedEvent, build_config, load_run
from affectus.training import run as training

SMALL = {"hidden": 8, "dense": 6}


def _train(corpus: Corpus | Path, out: Path, **changes: object) -> Run:
    arguments = {
        "tasks": ["polarity", "emotions"],
        "options": SMALL,
        "training": {"epochs": 5, "learning_rate": 0.01},
        **changes,
    }
    return train("mtmm_es", corpus, out=out, **arguments)  # type: ignore[arg-type]


def _weights(run: Run, seed: int = 0) -> dict[str, np.ndarray]:
    return load_file(run.seed_folder(seed) / "model.safetensors")


def _history(run: Run, seed: int = 0) -> list[dict[str, object]]:
    lines = (run.seed_folder(seed) / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_run_learns_and_says_what_it_did(corpus: Corpus, tmp_path: Path) -> None:
    events: list[SeedEvent] = []
    run = _train(corpus, tmp_path / "run", training={"epochs": 30, "learning_rate": 0.01}, report=events.append)
    result = json.loads((run.seed_folder(0) / "result.json").read_text())
    assert [event.epoch for event in events] == list(range(30))
    assert events[-1].figures["train.loss"] < 0.6 * events[0].figures["train.loss"]
    assert result["valid"]["polarity.accuracy"] > 0.8
    losses = [row["valid.loss"] for row in _history(run)]
    assert result["best_epoch"] == int(np.argmin(losses))
    written = json.loads((run.folder / "run.json").read_text())
    assert written["config"]["options"]["hidden"] == 8
    assert written["config"]["training"]["batch_size"] == 16  # published with the model
    assert set(written["versions"]) >= {"python", "torch", "numpy"}
    leftovers = {path.name for path in run.seed_folder(0).iterdir()}
    assert leftovers == {
        "model.safetensors",
        "history.jsonl",
        "valid.safetensors",
        "epochs.safetensors",
        "result.json",
    }


def test_the_selected_epoch_is_what_predicts(corpus: Corpus, tmp_path: Path) -> None:
    run = _train(corpus, tmp_path / "run", training={"epochs": 12, "learning_rate": 0.05, "keep_epochs": True})
    best = json.loads((run.seed_folder(0) / "result.json").read_text())["best_epoch"]
    kept = run.epochs(0)
    assert len(kept) == 12
    chosen, selected = load_file(kept[best]), _weights(run)
    assert all(np.array_equal(chosen[name], selected[name]) for name in selected)


def test_same_seed_same_result_other_seed_another(corpus: Corpus, tmp_path: Path) -> None:
    first = _train(corpus, tmp_path / "a", seeds=[0, 1])
    second = _train(corpus, tmp_path / "b", seeds=[0])
    assert all(np.array_equal(_weights(first)[name], _weights(second)[name]) for name in _weights(first))
    assert _history(first, 0) != _history(first, 1)


@pytest.mark.parametrize("stop_at", [0, 2, 4])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    undisturbed = _train(corpus, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(event: SeedEvent) -> None:
        if event.epoch == stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        _train(corpus, tmp_path / "stopped", report=stop)
    seen: list[int] = []
    resumed = _train(corpus, tmp_path / "stopped", report=lambda event: seen.append(event.epoch))
    assert seen == list(range(stop_at, 5))
    assert _history(resumed) == _history(undisturbed)
    assert all(np.array_equal(_weights(resumed)[n], w) for n, w in _weights(undisturbed).items())


def test_each_task_is_predicted_by_its_own_best_epoch(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 12, "learning_rate": 0.05, "select": "per_task", "keep_epochs": True}
    run = _train(corpus, tmp_path / "run", training=settings)
    rows, result = _history(run), json.loads((run.seed_folder(0) / "result.json").read_text())
    best = {task: int(np.argmin([row[f"valid.loss.{task}"] for row in rows])) for task in ("polarity", "emotions")}
    assert result["best_epochs"] == best
    assert best["polarity"] != best["emotions"]  # else this test would prove nothing
    assert {path.name for path in run.seed_folder(0).glob("*.safetensors")} == {
        "model.polarity.safetensors",
        "model.emotions.safetensors",
        "valid.safetensors",
        "epochs.safetensors",
    }
    kept = run.epochs(0)
    for split in ("valid", "test"):
        said = run.predict(run.model(0), corpus, split)
        for task, epoch in best.items():
            alone = run.predict(run.model(0, epoch=kept[epoch]), corpus, split)
            assert np.array_equal(said.probabilities[task], alone.probabilities[task])
    stored = run.valid_predictions(0)
    assert stored is not None
    again = run.predict(run.model(0), corpus, "valid")
    assert all(np.array_equal(stored.probabilities[task], again.probabilities[task]) for task in best)

    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)

    def stop(event: SeedEvent) -> None:
        if event.epoch == 8:
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning may turn an interruption into SystemExit
        _train(corpus, tmp_path / "stopped", training=settings, report=stop)
    seen: list[int] = []
    resumed = _train(corpus, tmp_path / "stopped", training=settings, report=lambda event: seen.append(event.epoch))
    assert seen[0] == 8
    for task in best:
        whole, other = (load_file(r.seed_folder(0) / f"model.{task}.safetensors") for r in (run, resumed))
        assert all(np.array_equal(other[name], values) for name, values in whole.items())


def test_patience_waits_for_the_last_of_the_tasks(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"epochs": 200, "learning_rate": 0.1, "patience": 3, "select": "per_task"}
    run = _train(corpus, tmp_path / "run", training=settings)
    best = json.loads((run.seed_folder(0) / "result.json").read_text())["best_epochs"]
    assert len(_history(run)) == max(best.values()) + 1 + 3


def test_per_task_without_valid_keeps_the_last_epoch(make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    only = make_corpus(splits=("train", "test"))
    run = _train(only, tmp_path / "run", training={"epochs": 2, "select": "per_task"})
    assert json.loads((run.seed_folder(0) / "result.json").read_text())["best_epoch"] == 1
    assert run.predict(run.model(0), only, "test").probabilities["polarity"].shape[1] == 2


def test_weights_of_a_task_that_are_gone_are_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    run = _train(corpus, tmp_path / "run", training={"epochs": 1, "select": "per_task"})
    (run.seed_folder(0) / "model.emotions.safetensors").unlink()
    with pytest.raises(AffectusError, match=r"There are no weights in .*model\.emotions\.safetensors"):
        run.model(0)


def test_a_run_begun_before_a_setting_was_known_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    run = _train(corpus, tmp_path / "run")
    path = run.folder / "run.json"
    written = json.loads(path.read_text())
    del written["config"]["training"]["average_weights"], written["config"]["options"]["keras_gru"]
    path.write_text(json.dumps(written))
    assert _train(corpus, tmp_path / "run", seeds=2).seeds == (0, 1)
    written["config"]["training"]["learning_rate"] = 0.5
    path.write_text(json.dumps(written))
    with pytest.raises(
        AffectusError, match=r"differs in 'learning_rate'.*got learning_rate=0\.01; expected learning_rate=0\.5"
    ):
        _train(corpus, tmp_path / "run")


def test_stages_resume_too(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    arguments = {"tasks": ["polarity"], "training": {"epochs": 2, "patience": None}}
    whole = train("bc_lstm", corpus, out=tmp_path / "whole", **arguments)  # type: ignore[arg-type]
    assert list(dict.fromkeys(row["stage"] for row in _history(whole))) == ["unimodal.text", "unimodal.audio", "fusion"]

    def stop(event: SeedEvent) -> None:
        if event.stage == "fusion" and event.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning may turn an interruption into SystemExit
        train("bc_lstm", corpus, out=tmp_path / "stopped", report=stop, **arguments)  # type: ignore[arg-type]
    seen: list[str] = []
    resumed = train(
        "bc_lstm",
        corpus,
        out=tmp_path / "stopped",
        report=lambda event: seen.append(event.stage),
        **arguments,  # type: ignore[arg-type]
    )
    assert set(seen) == {"fusion"}
    assert _history(resumed) == _history(whole)
    assert all(np.array_equal(_weights(resumed)[n], w) for n, w in _weights(whole).items())


def test_a_finished_run_is_not_trained_again_and_seeds_can_be_added(corpus: Corpus, tmp_path: Path) -> None:
    _train(corpus, tmp_path / "run", seeds=1)
    seen: list[int] = []
    run = _train(corpus, tmp_path / "run", seeds=2, report=lambda event: seen.append(event.seed))
    assert set(seen) == {1}
    assert run.seeds == (0, 1)


def test_jobs_give_the_same_models(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_corpus(corpus, tmp_path / "corpus")
    alone = _train(tmp_path / "corpus", tmp_path / "alone", seeds=2)
    monkeypatch.setattr(training, "_in_turn", lambda *_: None)  # so that the other process trains them
    told: list[int] = []
    together = _train(tmp_path / "corpus", tmp_path / "together", seeds=2, jobs=2, report=lambda e: told.append(e.seed))
    assert set(told) == {0, 1}
    for seed in (0, 1):
        expected = _weights(alone, seed)
        # a different number of threads may add in another order
        assert all(np.allclose(_weights(together, seed)[n], w, atol=1e-5) for n, w in expected.items())


def test_a_seed_that_cannot_be_trained_keeps_no_other_back(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_corpus(corpus, tmp_path / "corpus")
    real = training._fit_seed

    def fit(*given: Any, **more: Any) -> None:
        if given[3] == 0:
            raise AffectusError("The loss is not a number")
        real(*given, **more)

    monkeypatch.setattr(training, "_fit_seed", fit)
    monkeypatch.setattr(training, "_help_fit", time.sleep)  # the other process dies, before it takes any
    with pytest.raises(AffectusError, match="The loss is not a number"):
        _train(tmp_path / "corpus", tmp_path / "run", seeds=3, jobs=2)
    assert [(tmp_path / "run" / f"seed-{seed}" / "result.json").is_file() for seed in range(3)] == [False, True, True]
    monkeypatch.setattr(training, "_in_turn", lambda *_: None)
    with pytest.raises(AffectusError, match=r"A process that trained seeds has died: got exit code 1\. Give the same"):
        _train(tmp_path / "corpus", tmp_path / "other", seeds=3, jobs=2)


def test_patience_stops(corpus: Corpus, tmp_path: Path) -> None:
    run = _train(corpus, tmp_path / "run", training={"epochs": 200, "learning_rate": 0.1, "patience": 3})
    history, best = _history(run), json.loads((run.seed_folder(0) / "result.json").read_text())["best_epoch"]
    assert len(history) == best + 1 + 3


def test_without_valid_the_last_epoch_counts(make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    run = _train(make_corpus(splits=("train", "test")), tmp_path / "run")
    assert json.loads((run.seed_folder(0) / "result.json").read_text())["best_epoch"] == 4
    assert run.valid_predictions(0) is None


def _less(corpus: Corpus, columns: Sequence[str], split: str, left: int = 0) -> Corpus:
    """Return the corpus without the labels of a split but for so many utterances."""
    gone = np.isin(np.arange(len(corpus.table)), corpus.rows(split)[left:])
    kept = [pl.when(pl.Series(gone)).then(None).otherwise(pl.col(name)).alias(name) for name in columns]
    return build_corpus(corpus.table.with_columns(kept), corpus.features, corpus.card)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_valid_split_without_labels_is_none(corpus: Corpus, tmp_path: Path, stacked: bool) -> None:
    silent = _less(corpus, ["sentiment"], "valid")
    settings = {"epochs": 5, "learning_rate": 0.01, "patience": 1}
    common = {"tasks": ["polarity", "intensity"], "training": settings, "seeds": 2, "stacked": stacked}
    run = _train(silent, tmp_path / "run", **common)
    assert json.loads((run.seed_folder(0) / "result.json").read_text())["best_epoch"] == 4
    assert run.valid_predictions(0) is None
    assert not [name for name in _history(run)[0] if name.startswith("valid.")]
    assert any("no valid split with labels" in note for note in evaluate(run, silent).notes)


@pytest.mark.parametrize("select", ["loss", "per_task", "task_loss"])
def test_a_task_without_labels_on_valid_has_no_part_in_the_choice(corpus: Corpus, tmp_path: Path, select: str) -> None:
    silent = _less(corpus, ["sentiment"], "valid")
    settings = {"epochs": 12, "learning_rate": 0.05, "select": select}
    run = _train(silent, tmp_path / "run", training=settings)
    rows, result = _history(run), json.loads((run.seed_folder(0) / "result.json").read_text())
    assert all(row["valid.loss"] == row["valid.loss.emotions"] for row in rows)
    assert "valid.loss.polarity" not in rows[0]
    best = int(np.argmin([row["valid.loss"] for row in rows]))
    assert best < 11
    assert result.get("best_epochs", result.get("best_epoch")) == (
        {"polarity": best, "emotions": best} if select == "per_task" else best
    )
    with pytest.raises(AffectusError, match=r"no label for the quantity to select by, 'polarity\.accuracy'.*emotions"):
        _train(silent, tmp_path / "other", training={"select": "polarity.accuracy"})


@pytest.mark.parametrize("stacked", [False, True])
def test_a_figure_that_is_undefined_in_every_epoch_is_one_sentence(
    corpus: Corpus, tmp_path: Path, stacked: bool
) -> None:
    """A correlation of a single label."""
    one = _less(corpus, ["sentiment"], "valid", left=1)
    settings = {"epochs": 2, "select": "intensity.pearson"}
    common = {"tasks": ["intensity"], "training": settings, "seeds": 2, "stacked": stacked}
    with pytest.raises(AffectusError, match=r"'valid\.intensity\.pearson', is undefined in every epoch .*select"):
        _train(one, tmp_path / "run", **common)


@pytest.mark.parametrize("stacked", [False, True])
def test_the_loss_on_valid_is_the_mean_over_labels(corpus: Corpus, tmp_path: Path, stacked: bool) -> None:
    """Whatever the batches are; each task has its own labels."""
    partly = _less(corpus, ["sentiment"], "valid", left=7)
    found = []
    for size in (1, 100):
        settings = {"epochs": 1, "learning_rate": 1e-9, "batch_size": size}
        common = {"tasks": ["intensity:2", "emotions"], "training": settings, "seeds": 2, "stacked": stacked}
        run = _train(partly, tmp_path / f"{size}", **common)
        found.append(_history(run)[0])
    names = ("valid.loss", "valid.loss.intensity", "valid.loss.emotions")
    for name in names:
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4), name
    whole, intensity, emotions = (found[0][name] for name in names)
    assert whole == pytest.approx(2 * intensity + emotions, rel=1e-5)
    said = run.valid_predictions(0)
    assert said is not None
    error = np.nanmean((said.probabilities["intensity"] - said.targets["intensity"]) ** 2)
    assert found[1]["valid.loss.intensity"] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("model", ["linear", "mtmm_es"])
def test_lost_predictions_on_valid_are_no_absent_split(corpus: Corpus, tmp_path: Path, model: str) -> None:
    """Without them the threshold would be 0.5, and the figures others."""
    settings = {"options": SMALL, "training": {"epochs": 1}} if model == "mtmm_es" else {}
    run = train(model, corpus, out=tmp_path / "run", tasks=["polarity", "emotions"], **settings)  # type: ignore[arg-type]
    lost = run.seed_folder(0) / "valid.safetensors"
    lost.unlink()
    with pytest.raises(
        AffectusError, match=r"lost its predictions on valid in .*seed-0.valid\.safetensors\..* delete "
    ):
        evaluate_run(run, corpus)
    if model == "mtmm_es":  # as of a training that nobody scored
        (run.seed_folder(0) / "result.json").write_text("{}")
        with pytest.raises(AffectusError, match="lost its predictions on valid"):
            run.valid_predictions(0)


def test_what_a_run_without_a_scorer_was_judged_on_is_known(corpus: Corpus, tmp_path: Path) -> None:
    run = load_run(training.train_run(training.build_config("linear", corpus, tasks=["polarity"]), corpus, tmp_path))
    (run.seed_folder(0) / "valid.safetensors").unlink()
    with pytest.raises(AffectusError, match="lost its predictions on valid"):
        run.valid_predictions(0)


def test_predictions_of_other_tasks_are_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    run = train("linear", corpus, out=tmp_path / "run", tasks=["polarity", "emotions"])
    other = train("linear", corpus, out=tmp_path / "other", tasks=["intensity"])
    path = run.seed_folder(0) / "valid.safetensors"
    whole = load_file(path)
    shutil.copy(other.seed_folder(0) / "valid.safetensors", path)
    sentence = r"do not fit the run's tasks in .*valid\.safetensors: got no probabilities\.emotions, "
    with pytest.raises(AffectusError, match=sentence):
        evaluate_run(run, corpus)
    for changes, sentence in (
        ({"probabilities.emotions": whole["probabilities.emotions"][:, :3].copy()}, r"got probabilities\.emotions \["),
        ({"targets.polarity": whole["targets.polarity"][1:].copy()}, r"got targets\.polarity \["),
        ({"rows": whole["rows"][None]}, r"got .*rows \[1, "),
    ):
        save_file(whole | changes, path)
        with pytest.raises(AffectusError, match=sentence):
            run.valid_predictions(0)
    save_file({name: values for name, values in whole.items() if name != "rows"}, path)
    with pytest.raises(AffectusError, match=r"got .*no rows"):
        run.valid_predictions(0)


def test_files_of_another_run_are_found(corpus: Corpus, tmp_path: Path) -> None:
    """They fit in every way, but are not what the seed's training wrote."""
    training = {"epochs": 2, "keep_epochs": True}
    run = _train(corpus, tmp_path / "run", training=training, seeds=2)
    other = _train(corpus, tmp_path / "other", training={**training, "learning_rate": 0.02}, seeds=2)
    evaluate_run(run, corpus, protocol="akhtar2019-released")
    kept = [path.name for path in run.epochs(0)]
    files = ["model.safetensors", "valid.safetensors", "epochs.safetensors", "history.jsonl"]
    hashes = json.loads((run.seed_folder(0) / "result.json").read_text())["files"]
    assert hashes == {name: sha256(run.seed_folder(0) / name) for name in [*files, *(f"epochs/{n}" for n in kept)]}
    look: dict[str, Callable[[], object]] = {
        "model.safetensors": lambda: run.model(0),
        "valid.safetensors": lambda: run.valid_predictions(0),
        "epochs.safetensors": lambda: run.recorded(0, "test"),
        "history.jsonl": lambda: learning_curves(run),
        f"epochs/{kept[0]}": lambda: run.model(0, epoch=run.epochs(0)[0]),
    }
    for name, find in look.items():
        find()
        path = run.seed_folder(0) / name
        whole = path.read_bytes()
        # of another run, and of another seed of the same one
        for taken in (other.seed_folder(0), run.seed_folder(1)):
            shutil.copy(taken / name, path)
            sentence = rf"is not the one that the training of this seed wrote in .*{path.name}: got SHA-256 .*as result"
            with pytest.raises(AffectusError, match=sentence):
                find()
        path.write_bytes(whole)
        find()
    result = run.seed_folder(0) / "result.json"
    known = json.loads(result.read_text())
    del known["files"]["valid.safetensors"]
    result.write_text(json.dumps(known))
    with pytest.raises(AffectusError, match=r"expected none, as result\.json says"):
        run.valid_predictions(0)
    del known["files"]  # as of a run before hashes were kept
    result.write_text(json.dumps(known))
    run.valid_predictions(0)


def test_balanced_and_real_loss_reach_the_tasks(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"epochs": 1, "balanced": True, "real_loss": "l1"}
    run = _train(corpus, tmp_path / "run", tasks=["emotions", "intensity"], training=settings)
    emotions, intensity = run.tasks
    rows = corpus.rows("train")
    present = np.nanmean(corpus.label("emotions")[rows, 0] > 0)
    assert emotions.positive_weights[0] == pytest.approx((1 - present) / present, rel=1e-5)
    assert intensity.loss == "l1"


def test_another_run_in_the_folder_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    _train(corpus, tmp_path / "run")
    for changes, sentence in (
        (
            {"options": {"hidden": 4, "dense": 6}},
            r"'hidden' in .*: got hidden=4; expected hidden=8\. Choose another --out",
        ),
        (
            {"training": {"epochs": 4, "clip": 1.0}},
            r"'learning_rate', 'epochs', 'clip' .*epochs=4.*expected .*clip=null",
        ),
        ({"tasks": ["polarity"]}, r"'tasks' .*: got tasks=polarity; expected tasks=polarity,emotions"),
    ):
        with pytest.raises(AffectusError, match=f"holds another run, which differs in {sentence}"):
            _train(corpus, tmp_path / "run", **changes)
    settings = {"tasks": ["polarity", "emotions"], "training": {"epochs": 5, "learning_rate": 0.01}}
    with pytest.raises(AffectusError, match=r"differs in 'model' in .*: got model=tfn; expected model=mtmm_es"):
        train("tfn", corpus, out=tmp_path / "run", **settings)  # type: ignore[arg-type]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(AffectusError, match="something else than a run"):
        _train(corpus, tmp_path / "other")


def test_another_corpus_in_memory_is_refused(make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    corpus = make_corpus()
    run = train("linear", corpus, tasks=["polarity"], out=tmp_path / "run")
    assert train("linear", make_corpus(), tasks=["polarity"], out=tmp_path / "run").file == run.file
    with pytest.raises(AffectusError, match="another run, which was trained on another corpus"):
        train("linear", make_corpus(seed=1), tasks=["polarity"], out=tmp_path / "run")
    save_corpus(corpus, tmp_path / "corpus")
    ways = (tmp_path / "corpus", load_corpus(tmp_path / "corpus"))
    one, two = (train("linear", way, tasks=["polarity"], out=tmp_path / "of") for way in ways)
    assert one.file.corpus == two.file.corpus != run.file.corpus


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"kind": ...}, r"run\.json, key 'tasks\.0\.kind': got Field required"),
        ({"kind": "bin"}, r"key 'tasks\.0\.kind': got .*'binary'"),
        ({"values": 3}, r"key 'tasks\.0\.values'"),
        ({"wieght": 1.0}, r"key 'tasks\.0\.wieght'"),
    ],
)
def test_a_damaged_task_is_one_sentence(corpus: Corpus, tmp_path: Path, task: dict[str, object], sentence: str) -> None:
    run = train("linear", corpus, out=tmp_path / "run", tasks=["polarity"])
    path = run.folder / "run.json"
    raw = json.loads(path.read_text())
    changed = {**raw["tasks"][0], **task}
    raw["tasks"] = [{key: value for key, value in changed.items() if value is not ...}]
    path.write_text(json.dumps(raw))
    with pytest.raises(AffectusError, match=sentence):
        load_run(run.folder)
    with pytest.raises(AffectusError, match=sentence):  # nor does a training go on
        train("linear", corpus, out=run.folder, tasks=["polarity"])


@pytest.mark.parametrize(
    ("model", "options", "other", "others", "got"),
    [
        ("linear", {}, "majority", {}, r"no array 'polarity\.weight'"),
        ("linear", {}, "mtmm_es", SMALL, r"no array 'polarity\.weight'"),
        ("linear", {}, "linear", {"neighbours": 1}, r"'polarity\.weight' of shape \[\d+, 2\], not \[\d+, 2\]"),
        ("majority", {}, "linear", {}, "no array 'polarity'"),
        ("svm", {}, "linear", {}, r"no array 'dictionary\."),
        ("svm", {"dictionary": False}, "svm", {}, r"'polarity\.0\.weight' of shape \[1, \d+\], not \d+ wide"),
        ("svm", {"dictionary": False}, "c_mkl", {}, "differ in dual, kernel_weights, support, weight"),
        ("random_forest", {"trees": 2}, "svm", {}, "differ in depth, "),
        ("c_mkl", {}, "svm", {}, "no array 'components'"),
        ("mtmm_es", SMALL, "linear", {}, "Missing key"),
    ],
)
def test_weights_of_another_model_are_one_sentence(
    corpus: Corpus,
    tmp_path: Path,
    model: str,
    options: dict[str, Any],
    other: str,
    others: dict[str, Any],
    got: str,
) -> None:
    run, given = (
        train(
            *(name, corpus),
            out=tmp_path / out,
            tasks=["polarity"],
            options=chosen,
            training={"epochs": 1} if name == "mtmm_es" else {},
        )
        for out, name, chosen in (("run", model, options), ("other", other, others))
    )
    shutil.copy(given.seed_folder(0) / "model.safetensors", run.seed_folder(0))
    with pytest.raises(AffectusError, match=rf"belong to another model in .*seed-0.model\.safetensors: got .*{got}"):
        evaluate_run(run, corpus)


def test_a_run_on_another_corpus_is_told_by_its_name(corpus: Corpus, tmp_path: Path) -> None:
    _train(corpus, tmp_path / "run")
    card = corpus.card.model_copy(update={"name": "mine"})
    with pytest.raises(AffectusError, match=r"trained on another corpus in .*: got 'mine'; expected 'toy'"):
        _train(Corpus(corpus.table, corpus.features, card), tmp_path / "run")
    save_corpus(corpus, tmp_path / "corpus")
    with pytest.raises(AffectusError, match=r"another corpus in .*: got 'toy', hash .{12}; expected 'toy', hash "):
        _train(tmp_path / "corpus", tmp_path / "run")


def test_scaling_of_other_modalities_is_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    run = train("linear", corpus, out=tmp_path / "run", tasks=["polarity"])
    path = run.folder / "scaling.safetensors"
    whole = load_file(path)
    for arrays, got in (
        ({name: values for name, values in whole.items() if name != "audio.factor"}, r"no audio\.factor"),
        (whole | {"audio.shift": np.zeros(99, np.float32)}, r"audio\.shift \[99\]"),
    ):
        save_file(arrays, path)
        with pytest.raises(AffectusError, match=rf"scaling does not fit .* in .*scaling\.safetensors: got {got}"):
            evaluate_run(load_run(run.folder), corpus)
    path.unlink()
    path.mkdir()
    with pytest.raises(AffectusError, match=r"Could not read in .*scaling\.safetensors"):
        evaluate_run(load_run(run.folder), corpus)


def test_two_processes_do_not_share_a_folder(corpus: Corpus, tmp_path: Path) -> None:
    with lock_folder(tmp_path / "run"), pytest.raises(AffectusError, match="Another affectus is writing"):
        _train(corpus, tmp_path / "run")


def test_divergence_is_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"(no longer a number|diverged).*ower (the )?learning rate"):
        _train(corpus, tmp_path / "run", tasks=["intensity"], training={"epochs": 50, "learning_rate": 1e30})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": ["polarty"]}, "Unknown task 'polarty'.*Did you mean 'polarity'"),
        ({"tasks": ["polarity", "polarity"]}, "given twice"),
        ({"tasks": ["polarity:-1"]}, "must be a positive number"),
        ({"options": {"hiden": 3}}, "Unknown option 'hiden'.*Did you mean 'hidden'"),
        ({"options": {"hidden": "many"}}, "wrong type.*expected int"),
        ({"options": {"hidden": -3}}, "out of range.*got -3.*expected 1 or more"),
        ({"options": {"dropout": 1.5}}, "out of range.*1.5"),
        ({"options": {"attention": "maskd"}}, "Did you mean 'masked'"),
        ({"training": {"epoch": 3}}, "Unknown training setting 'epoch'.*Did you mean 'epochs'"),
        ({"training": {"epochs": 0}}, "'epochs' has a wrong value.*got 0"),
        (
            {"training": {"learning_rate": float("inf")}},
            "'learning_rate' has a wrong value.*got inf; expected a finite",
        ),
        ({"training": {"clip": float("inf")}}, "'clip' has a wrong value.*got inf; expected a finite number"),
        (
            {"training": {"unlabelled_weight": float("nan")}},
            "'unlabelled_weight' has a wrong value.*got nan; expected ",
        ),
        (
            {"options": {"dropout": float("inf")}},
            "The option 'dropout' of .* out of range.*got inf; .* a finite number",
        ),
        ({"options": {"hidden": float("nan")}}, "The option 'hidden' of .* out of range.*got nan; .* a finite number"),
        ({"training": {"optimizer": "adom"}}, "'optimizer' has a wrong value.*'adam'"),
        ({"training": {"select": "polarity.acuracy", "epochs": 1}}, "Did you mean 'polarity.accuracy'"),
        ({"modalities": ["video"]}, "Unknown modality 'video'"),
        ({"preset": "as_relesed"}, "Did you mean 'as_released'"),
        ({"seeds": 0}, "seeds are not right"),
        ({"seeds": [1, -1]}, "seeds are not right"),
        ({"seeds": [0.5]}, r"seeds are not right: got \[0.5\]"),
        ({"seeds": "3,7"}, "seeds are not right: got '3,7'"),
        ({"device": "gpu"}, "Unknown device 'gpu'.*auto, cpu, cuda"),
        ({"threads": 0}, "number of threads is not right: got 0; expected 1 or more"),
        ({"view": "aligned"}, "Unknown view 'aligned'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    corpus: Corpus, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(AffectusError, match=sentence):
        _train(corpus, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_names_and_numbers_as_a_notebook_has_them(corpus: Corpus, tmp_path: Path) -> None:
    for tasks, seeds in (("polarity, emotions", np.int64(2)), (iter(["polarity", "emotions"]), np.arange(2))):
        config = build_config("mtmm_es", corpus, tasks=tasks, modalities="text,audio", seeds=seeds)  # type: ignore[arg-type]
        assert config.tasks == ("polarity", "emotions")
        assert config.modalities == ("text", "audio")
        assert config.seeds == (0, 1)
        assert all(type(seed) is int for seed in config.seeds)
    save_corpus(corpus, tmp_path / "corpus")
    run = _train(corpus, tmp_path / "run", training={"epochs": 1})
    predictor = Predictor.load(run)
    assert predictor.predict(str(tmp_path / "corpus")) == predictor.predict(corpus)
    assert {"train", "evaluate", "Predictor"} <= set(dir(affectus))


def test_no_number_within_an_option_is_infinite(corpus: Corpus) -> None:
    with pytest.raises(AffectusError, match=r"'widths'.* out of range: got \{'audio': inf\}; expected a finite number"):
        training.build_config("lf_dnn", corpus, tasks=["polarity"], options={"widths": {"audio": float("inf")}})
    with pytest.raises(AffectusError, match=r"'alpha'.* out of range: got -inf; expected a finite number"):
        training.build_config("linear", corpus, tasks=["polarity"], options={"alpha": -float("inf")})


def test_a_corpus_without_train_is_one_sentence(make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match=r"no utterance in the split 'train'.*expected one of: test"):
        _train(make_corpus(splits=("test",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_corpus_that_does_not_fit_is_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    run = _train(corpus, tmp_path / "run", training={"epochs": 1})
    text_only = Corpus(corpus.table, {"text": corpus.features["text"]}, corpus.card.model_copy(deep=True))
    with pytest.raises(AffectusError, match="lacks the modality 'audio'"):
        run.predict(run.model(0), text_only, "test")


def test_damaged_run_files_are_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    run = _train(corpus, tmp_path / "run", training={"epochs": 1})
    weights = run.seed_folder(0) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(AffectusError, match="Not a whole safetensors file"):
        run.model(0)
    (run.folder / "run.json").write_text("{}")
    with pytest.raises(AffectusError, match=r"run.json is not valid"):
        load_run(run.folder)
    shutil.rmtree(run.folder)
    with pytest.raises(AffectusError, match=r"There is no run folder.*affectus train"):
        load_run(run.folder)


def test_checkpoints_hold_nothing_that_runs(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)

    def look(event: SeedEvent) -> None:
        checkpoint = tmp_path / "run" / "seed-0" / "resume.ckpt"
        if event.epoch == 3:
            assert torch.load(checkpoint, weights_only=True)["epoch"] == 2

    _train(corpus, tmp_path / "run", report=look)


@pytest.mark.parametrize("weighing", ["uncertainty", "pcgrad"])
def test_ways_to_weigh_learn_and_resume(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weighing: str
) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    settings = {"epochs": 12, "learning_rate": 0.02, "weighing": weighing, "clip": 1.0}
    tasks = ["intensity", "emotion_class"]  # whose gradients conflict here
    whole = _train(corpus, tmp_path / "whole", tasks=tasks, training=settings)
    history = _history(whole)
    assert history[-1]["train.loss"] < history[0]["train.loss"]  # type: ignore[operator]
    fixed = _train(corpus, tmp_path / "fixed", tasks=tasks, training={**settings, "weighing": "fixed"})
    assert _history(fixed) != history

    def stop(event: SeedEvent) -> None:
        if event.epoch == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _train(corpus, tmp_path / "stopped", tasks=tasks, training=settings, report=stop)
    assert _history(_train(corpus, tmp_path / "stopped", tasks=tasks, training=settings)) == history
