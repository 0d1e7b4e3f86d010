"""The search of settings: spaces, trials on valid alone, one study for several processes, resuming."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import affectus.studies.tuning as tuning
from affectus.cli.main import main
from affectus.corpus import Corpus, build_corpus, load_corpus, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation import evaluate_run
from affectus.files import lock_folder
from affectus.models import MODELS, Model
from affectus.models.space import TRAINING_SPACE, Choice, Real, Whole, one_of, widened
from affectus.studies.tuning import parse_axis, read_tuned, search_axes, tune
from affectus.training import SeedEvent, TrainingSettings, load_run

TASK = ["polarity"]


@pytest.mark.parametrize("name", list(MODELS))
def test_every_space_is_of_options_and_settings_that_are_there_and_holds_the_defaults(name: str) -> None:
    entry = MODELS[name]
    for key, axis in entry.search_space.items():
        assert key in entry.options or key in TrainingSettings.model_fields
        if key in entry.options:
            assert axis.holds(entry.options[key].default), key
    if issubclass(entry.build, Model):
        assert set(TRAINING_SPACE) <= set(entry.search_space)
        assert set(entry.space) & set(entry.options), "nothing of the model itself is searched"
    if name == "majority":
        with pytest.raises(AffectusError, match="nothing to search for the model 'majority'"):
            search_axes(entry)
        return
    published = tuning.published_settings(entry)
    assert all(axis.holds(published[key]) for key, axis in search_axes(entry).items())


def test_axes_hold_what_lies_in_them() -> None:
    assert Whole(1, 3).holds(3)
    assert not Whole(1, 3).holds(4)
    assert not Whole(0, 1).holds(True)
    assert Real(0, 1).holds(1)
    assert not one_of(0, 1).holds(True)
    assert one_of(None, 2).holds(None)
    assert widened(Whole(1, 3), 5) == Whole(1, 5)
    assert widened(Real(0.1, 1, log=True), 0.0) == Real(0.1, 1, log=True)  # it has no logarithm
    assert widened(one_of(1, 2), None) == Choice((1, 2, None))


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("hidden=8..64", Whole(8, 64)),
        ("hidden=log:8..64", Whole(8, 64, log=True)),
        ("dropout=0..0.5", Real(0, 0.5)),
        ("learning_rate=log:1e-4..1e-2", Real(1e-4, 1e-2, log=True)),
        ("alpha=none,1,10.5,true,sum", Choice((None, 1, 10.5, True, "sum"))),
    ],
)
def test_an_axis_as_it_is_typed(text: str, axis: Any) -> None:
    assert parse_axis(text)[1] == axis
    assert parse_axis(f"key={axis}")[1] == axis  # as it is shown, so it can be typed


@pytest.mark.parametrize(
    "text",
    ["hidden", "hidden=", "=1..2", "a=2..1", "a=1..1", "a=log:0..1", "a=x..y", "a=1,,2", "a=log:1,2"],
)
def test_an_axis_that_is_not_right(text: str) -> None:
    with pytest.raises(AffectusError, match="The axis is not right: got"):
        parse_axis(text)


@pytest.mark.parametrize("text", ["a=1..inf", "a=-inf..1", "a=nan..1", "a=1,nan", "a=log:1..1e999", "a=1,2,inf"])
def test_an_axis_is_finite(text: str) -> None:
    with pytest.raises(AffectusError, match=r"The axis is not right: got .*both finite"):
        parse_axis(text)


def test_what_is_searched() -> None:
    entry = MODELS["tfn"]
    axes = search_axes(entry, fixed={"learning_rate": 0.01}, space={"hidden": Whole(4, 8)})
    assert "learning_rate" not in axes
    assert axes["hidden"] == Whole(4, 8)  # as the user wants it, whatever is published
    assert list(search_axes(entry, only=["dropout"])) == ["dropout"]
    with pytest.raises(AffectusError, match=r"'hidden' is both fixed and searched.*--set hidden=9 and a --search"):
        search_axes(entry, fixed={"hidden": 9}, space={"hidden": Whole(4, 8)})
    assert "text_learning_rate" in search_axes(entry, fixed={"text_layers": 2})
    for changes, sentence in (
        ({"space": {"hiden": Whole(1, 2)}}, "Did you mean 'hidden'"),
        ({"only": ["kernel"]}, "Unknown axis 'kernel'"),
        ({"only": ["dropout"], "fixed": {"dropout": 0.1}}, "nothing to search"),
    ):
        with pytest.raises(AffectusError, match=sentence):
            search_axes(entry, **changes)  # type: ignore[arg-type]


def test_trials_are_judged_on_valid_and_the_best_can_be_trained(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = tuning.train, []

    def train(model: str, corpus: Corpus, **more: Any) -> Any:
        seen.append(set(corpus.splits.tolist()))
        return real(model, corpus, **more)

    monkeypatch.setattr(tuning, "train", train)
    out = tmp_path / "study"
    words = ["tune", "linear", str(embedded), "--tasks", "polarity", "--only", "C", "--out", str(out)]
    assert main([*words, "--trials", "2"]) == 0
    assert main([*words, "--trials", "3"]) == 0  # one more
    said = capsys.readouterr()
    assert "trial 2" in said.err
    assert "(3 of 3 done)" in said.err
    assert seen == [{"train", "valid"}] * 3
    found = json.loads((out / "trials.json").read_text())
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2]
    assert found["trials"][0]["settings"] == {"C": 0.01}  # as published
    assert len({trial["settings"]["C"] for trial in found["trials"]}) == 3
    values = [trial["value"] for trial in found["trials"]]
    assert found["best"]["value"] == max(values)
    assert found["published"] == values[0]
    config = yaml.safe_load((out / "best.yaml").read_text())
    assert config["options"]["C"] == found["best"]["settings"]["C"]
    assert "Tuned on valid alone" in config["notes"][0]
    assert str(tmp_path) not in (out / "best.yaml").read_text()
    run = tmp_path / "run"
    assert main(["train", str(embedded), "--config", str(out / "best.yaml"), "--out", str(run), "-q"]) == 0
    judged = evaluate_run(load_run(run), load_corpus(embedded), split="valid")
    assert judged.mean("polarity.accuracy") == pytest.approx(found["best"]["value"])
    with pytest.raises(AffectusError, match="holds another study, which differs in 'space'"):
        tune("linear", embedded, trials=3, out=out, tasks=TASK)


def test_several_processes_share_a_study(embedded: Path, tmp_path: Path) -> None:
    found = tune("linear", embedded, trials=3, out=tmp_path, tasks=TASK, only=["C"], jobs=2)
    assert [trial["state"] for trial in found.trials] == ["complete"] * 3
    assert len({trial["settings"]["C"] for trial in found.trials}) == 3


def test_a_trial_that_a_killed_process_left_is_gone_on_with(embedded: Path, tmp_path: Path) -> None:
    tune("linear", embedded, trials=1, out=tmp_path, tasks=TASK, only=["C"])
    study = tuning.open_study_database(tmp_path, "polarity.accuracy")
    left, living = study.ask(), study.ask()
    held = left.suggest_float("C", 1e-4, 10.0, log=True)
    with lock_folder(tuning._folder(tmp_path, living.number)):  # another process trains this one
        found = tune("linear", embedded, trials=3, out=tmp_path, tasks=TASK, only=["C"])
    assert [trial["state"] for trial in found.trials] == ["complete", "complete", "running"]
    assert found.trials[1]["settings"] == {"C": held}
    again = tune("linear", embedded, trials=3, out=tmp_path, tasks=TASK, only=["C"])
    assert [trial["state"] for trial in again.trials] == ["complete"] * 3


Fake = Callable[[int], tuple[list[float], float]]


def fake(monkeypatch: pytest.MonkeyPatch, plan: Fake) -> None:
    """Let trials be trained in no time: the plan gives a trial's errors over its epochs, and the last one."""
    count = iter(range(1000))

    def train(model: str, corpus: Corpus, *, report: Callable[[SeedEvent], None], **more: Any) -> Any:
        epochs, value = plan(next(count))
        for i, figure in enumerate(epochs):
            report(SeedEvent(0, "main", i, len(epochs), {"valid.intensity.mae": figure}))
        return SimpleNamespace(value=value)

    monkeypatch.setattr(tuning, "train", train)
    monkeypatch.setattr(tuning, "valid_figures", lambda run, protocol: {"intensity.mae": (run.value,)})


@pytest.mark.parametrize("prune", [True, False])
def test_a_trial_that_falls_behind_is_given_up(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prune: bool
) -> None:
    monkeypatch.setattr(tuning, "STARTUP", 2)
    errors = [1.0, 1.0, 9.0, 1.0]
    fake(monkeypatch, lambda number: ([errors[number]] * (tuning.WARM_UP + 2), errors[number]))
    found = tune("hazarika_sa", embedded, trials=4, out=tmp_path, prune=prune)
    assert [t["state"] for t in found.trials] == ["complete", "complete", "pruned" if prune else "complete", "complete"]
    assert found.best is not None
    assert found.best["value"] == 1.0


def test_failed_trials_are_kept_with_their_reason(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(number: int) -> tuple[list[float], float]:
        if number == 1:
            raise RuntimeError("sizes do not match")
        return [], float("nan") if number == 2 else 1.5

    fake(monkeypatch, plan)
    assert main(["tune", "hazarika_sa", str(embedded), "--trials", "4", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "trial 1  failed  best 1.5000  (2 of 4 done)  RuntimeError: sizes do not match" in said.err
    found = read_tuned(tmp_path / "out")
    assert [trial["state"] for trial in found.trials] == ["complete", "failed", "failed", "complete"]
    assert "not a number" in found.trials[2]["reason"]
    fake(monkeypatch, lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(AffectusError, match=r"No trial could be trained.*ZeroDivisionError"):
        tune("hazarika_sa", embedded, trials=2, out=tmp_path / "none")
    assert not (tmp_path / "none" / "best.yaml").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["majority"], "nothing to search for the model 'majority'"),
        (["linear", "--set", "epochs=3"], "The model 'linear' is not trained by gradient, so the setting 'epochs'"),
        (["linear", "--search", "learning_rate=log:1e-4..1e-2"], "so the setting 'learning_rate' would do nothing"),
        (["tfm"], "Did you mean 'tfn'"),
        (["hazarika_sa", "--metric", "intensity.acc7"], "Unknown figure 'intensity.acc7'"),
        (["hazarika_sa", "--search", "dim"], "The axis is not right"),
        (["hazarika_sa", "--view", "sideways"], "Unknown view 'sideways'"),
        (["hazarika_sa", "--device", "tpu"], "Unknown device 'tpu'"),
        (["hazarika_sa", "--set", "dims=3"], "Did you mean 'dim'"),
        (["tfn", "--preset", "moon"], "Unknown preset 'moon'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    out = tmp_path / "out"
    assert main(["tune", words[0], str(embedded), *words[1:], "--trials", "1", "--out", str(out)]) == 2
    assert re.search(sentence, " ".join(capsys.readouterr().err.split()))
    assert not out.exists()


def test_without_valid_or_without_optuna(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus(embedded)
    save_corpus(corpus.select(np.flatnonzero(corpus.splits != "valid")), tmp_path / "corpus")
    with pytest.raises(AffectusError, match=r"has no valid split.*--valid-fraction"):
        tune("linear", tmp_path / "corpus", trials=1, out=tmp_path / "out")
    silent = pl.when(pl.col("split") == "valid").then(None).otherwise(pl.col("sentiment")).alias("sentiment")
    save_corpus(build_corpus(corpus.table.with_columns(silent), corpus.features, corpus.card), tmp_path / "silent")
    with pytest.raises(AffectusError, match=r"No utterance of the valid split.*has a label.*polarity"):
        tune("linear", tmp_path / "silent", tasks=["polarity"], trials=1, out=tmp_path / "out")
    with pytest.raises(AffectusError, match="needs a trial at least: got 0"):
        tune("linear", embedded, trials=0, out=tmp_path / "out")
    with pytest.raises(AffectusError, match="holds no search"):
        read_tuned(tmp_path / "out")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        AffectusError, match=r"needs the package optuna. Install it with: pip install 'affectus\[tune\]'"
    ):
        tune("linear", embedded, trials=1, out=tmp_path / "out")


def test_a_search_without_the_published_value_says_so(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    words = ["tune", "linear", str(embedded), "--tasks", "polarity", "--only", "C", "--search", "C=1..2"]
    assert main([*words, "--trials", "1", "--out", str(out), "-q"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No trial has the published settings, since C=0.01 is not searched. The best gave" in said
    found = json.loads((out / "trials.json").read_text())
    assert (found["published"], found["published_left_out"]) == (None, {"C": 0.01})
    assert found["best"]["value"] == found["trials"][0]["value"]
