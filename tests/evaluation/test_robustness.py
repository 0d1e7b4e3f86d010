"""Curves of robustness: what they are made of, their areas, and the page and tables that show them."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectus.api import train
from affectus.batches import Batch
from affectus.batches.corruption import Draw, missing
from affectus.cli.main import main
from affectus.cli.robustness import _figure
from affectus.corpus import Corpus, Ragged, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.evaluation import CORRUPTIONS, Robustness, evaluate_run, measure_robustness
from affectus.evaluation import robustness as robustness_module
from affectus.evaluation.robustness import Curve
from affectus.evaluation.scoring import Scorer
from affectus.files import json_text
from affectus.report.robustness import (
    area_rows,
    choose_metrics,
    render_robustness,
    run_labels,
    to_csv,
    write_robustness,
)
from affectus.training import Run, load_run
from affectus.training.inference import predict_batches
from affectus.vocabulary import View

TASKS = ["polarity", "intensity", "emotions"]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_embedded(videos=20, steps=True, missing=0.0)


@pytest.fixture(scope="module")
def folder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``corpus``, the contextual runs ``plain`` and ``hidden`` of two seeds, and ``steps``."""
    folder = tmp_path_factory.mktemp("robustness")
    save_corpus(corpus, folder / "corpus")
    small = {"hidden": 6, "dense": 6}
    training = {"epochs": 6, "learning_rate": 0.01, "record_epochs": False}
    for name, share in (("plain", 0.0), ("hidden", 0.4)):
        settings = {**training, "modality_dropout": share}
        train("mtmm_es", corpus, tasks=TASKS, out=folder / name, seeds=2, options=small, training=settings)
    options = {"dim": 8, "layers": 1, "filters": [4], "ffn": 8, "heads": 2}
    train("ufen_mtfn", corpus, tasks=["intensity"], out=folder / "steps", options=options, training={"epochs": 1})
    train("linear", corpus, tasks=["polarity"], modalities=["audio"], out=folder / "linear", view=View.CONTEXTUAL)
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> Run:
    return load_run(folder / "plain")


@pytest.fixture(scope="module")
def found(plain: Run, corpus: Corpus) -> Robustness:
    return measure_robustness(plain, corpus, draws=2)


def test_every_corruption_of_every_modality_and_of_all(found: Robustness) -> None:
    assert [(c.corruption, c.target) for c in found.curves] == [
        (name, target)
        for name in ("missing", "noise", "bursts", "shuffled")  # a frame of the contextual view is an utterance
        for target in ("text", "audio", "vision", "all")
    ]
    for curve in found.curves:
        assert curve.levels == CORRUPTIONS[curve.corruption].levels
        for values in curve.values.values():
            assert values.shape == (2, 2, len(curve.levels))
        assert set(curve.values) == set(found.clean)


def test_without_corruption_figures_are_those_of_evaluate(found: Robustness, plain: Run, corpus: Corpus) -> None:
    clean = evaluate_run(plain, corpus, split="test")
    assert found.clean == clean.values
    assert found.majority == clean.majority
    for curve in found.curves:
        if 0.0 in CORRUPTIONS[curve.corruption].fixed:
            for metric, values in clean.values.items():
                np.testing.assert_allclose(curve.by_seed(metric)[:, 0], values, rtol=1e-6, equal_nan=True)


def test_a_modality_that_is_always_missing(found: Robustness, plain: Run, corpus: Corpus) -> None:
    """At rate 1 the figures are those of a corpus without the modality."""
    features = {**corpus.features, "audio": Ragged.from_sequences([None] * len(corpus), corpus.dims["audio"])}
    silent = evaluate_run(plain, Corpus(corpus.table, features, corpus.card.model_copy(deep=True)), split="test")
    for name in ("missing", "bursts"):
        curve = found.by_name[name, "audio"]
        for metric in ("polarity.accuracy", "intensity.mae", "emotions.weighted_f1"):
            np.testing.assert_allclose(curve.by_seed(metric)[:, -1], silent.values[metric], rtol=1e-5)
            assert not curve.draw_std(metric)[-1]


def test_a_point_of_a_curve_by_hand(found: Robustness, plain: Run, corpus: Corpus) -> None:
    curve = found.by_name["missing", "text"]
    level = curve.levels.index(0.4)
    for place, seed in enumerate(plain.seeds):
        for draw in range(2):
            batches = (missing(batch, ["text"], 0.4, Draw(0, draw)) for batch in plain.batches(corpus, "test"))
            said = predict_batches(plain.model(seed), plain.tasks, batches)
            expected = Scorer()(plain.tasks, said.probabilities, said.targets)["intensity.mae"]
            assert curve.values["intensity.mae"][place, draw, level] == pytest.approx(expected, rel=1e-6)
    assert curve.values["intensity.mae"][:, 0, level].tolist() != curve.values["intensity.mae"][:, 1, level].tolist()


def test_predictions_that_are_all_the_same_are_not_correlated(found: Robustness) -> None:
    values = found.by_name["missing", "all"].values["intensity.pearson"]
    assert np.isfinite(values).all()


def test_the_same_seed_gives_the_same_curves(found: Robustness, plain: Run, corpus: Corpus) -> None:
    again, other = (measure_robustness(plain, corpus, corruptions=["shuffled"], draws=2, seed=s) for s in (0, 1))
    for curve in again.curves:
        same = found.by_name[curve.corruption, curve.target]
        for metric, values in curve.values.items():
            np.testing.assert_array_equal(values, same.values[metric])
    metric = "intensity.mae"
    assert not np.array_equal(
        other.by_name["shuffled", "all"].values[metric], again.by_name["shuffled", "all"].values[metric]
    )


def test_a_large_split_is_read_anew_for_each_pass(
    found: Robustness, plain: Run, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness_module, "HELD_BYTES", 0)
    seen: list[tuple[int, int]] = []
    again = measure_robustness(
        plain, corpus, corruptions=["bursts"], draws=2, report=lambda done, total: seen.append((done, total))
    )
    for curve in again.curves:
        same = found.by_name[curve.corruption, curve.target].values
        for metric, values in curve.values.items():
            np.testing.assert_array_equal(values, same[metric])
    passes = 2 * 4 * (2 + 4 * 2)  # seeds, targets, levels: two of them fixed, four with two draws
    assert seen[-1] == (passes, passes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_sequences_have_frames(folder: Path, corpus: Corpus) -> None:
    found = measure_robustness(folder / "steps", corpus, split="valid", draws=1, corruptions=["frames", "noise"])
    assert {curve.corruption for curve in found.curves} == {"frames", "noise"}
    assert any("Epoch and thresholds were chosen on this split" in note for note in found.notes)
    frames = found.by_name["frames", "all"].mean("intensity.mae")
    assert len(set(frames.round(9).tolist())) > 5


def test_one_modality_and_an_estimator(folder: Path, corpus: Corpus) -> None:
    found = measure_robustness(folder / "linear", corpus, draws=1, corruptions=["missing"])
    assert [(c.corruption, c.target) for c in found.curves] == [("missing", "audio")]


def test_noise_without_numbers_is_said(plain: Run, corpus: Corpus) -> None:
    features = {**corpus.features, "audio": Ragged.from_sequences([None] * len(corpus), corpus.dims["audio"])}
    silent = Corpus(corpus.table, features, corpus.card.model_copy(deep=True))
    found = measure_robustness(plain, silent, draws=1, corruptions=["noise"])
    assert "Noise leaves audio as it is: it has no numbers to disturb in this split." in found.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "There must be a draw at least: got 0"),
        ({"protocol": "akhtar2019-released"}, "chooses by the split that it judges"),
        ({"corruptions": ["nois"]}, r"Unknown corruption 'nois'.*Did you mean 'noise'\?"),
        ({"corruptions": ["frames"]}, "'frames' says nothing of a run in the contextual view"),
        ({"split": "tst"}, "Unknown|no utterance in the split 'tst'"),
    ],
)
def test_what_cannot_be_measured(options: dict[str, Any], message: str, plain: Run, corpus: Corpus) -> None:
    with pytest.raises(AffectusError, match=message):
        measure_robustness(plain, corpus, **options)


# --- areas ---


def curve_of(values: list[list[list[float]]], levels: tuple[float, ...]) -> Curve:
    return Curve("missing", "text", levels, {"m": np.array(values)})


def test_areas_and_spreads() -> None:
    # two seeds, two draws, three levels
    curve = curve_of([[[1.0, 0.5, 0.0], [1.0, 0.7, 0.2]], [[0.8, 0.6, 0.4], [0.8, 0.6, 0.4]]], (0.0, 0.5, 1.0))
    np.testing.assert_allclose(curve.mean("m"), [0.9, 0.6, 0.25])
    np.testing.assert_allclose(curve.std("m"), [np.std([1, 0.8], ddof=1), 0.0, np.std([0.1, 0.4], ddof=1)], atol=1e-12)
    np.testing.assert_allclose(curve.draw_std("m"), [0, np.std([0.5, 0.7], ddof=1) / 2, np.std([0, 0.2], ddof=1) / 2])
    np.testing.assert_allclose(curve.area("m"), [(1 + 0.6) / 4 + (0.6 + 0.1) / 4, (0.8 + 0.6) / 4 + (0.6 + 0.4) / 4])


def test_an_area_is_in_the_units_of_the_figure() -> None:
    assert curve_of([[[3.0, 3.0, 3.0]]], (-10.0, 5.0, 20.0)).area("m").tolist() == [3.0]
    curve = curve_of([[[0.0, 1.0]]], (-10.0, 20.0))
    assert curve.area("m").tolist() == [0.5]
    # of one seed and one draw nothing is known of the spread
    assert np.isnan(curve.std("m")).all()
    assert np.isnan(curve.draw_std("m")).all()
    assert np.isnan(curve.to_json()["metrics"]["m"]["area"]["std"])
    with pytest.raises(AffectusError, match="Unknown metric 'n' in the curve of 'missing', text: expected one of: m"):
        curve.area("n")


def test_json_holds_every_number(found: Robustness) -> None:
    data = json.loads(json.dumps(found.to_json()))
    assert data["seeds"] == [0, 1]
    assert data["modalities"] == ["text", "audio", "vision"]
    assert data["generated"] is True
    curve = found.by_name["noise", "vision"]
    (one,) = [c for c in data["curves"] if (c["corruption"], c["target"]) == ("noise", "vision")]
    assert one["levels"] == list(curve.levels)
    metric = one["metrics"]["intensity.mae"]
    np.testing.assert_allclose(metric["mean"], curve.mean("intensity.mae"))
    np.testing.assert_allclose(metric["area"]["values"], curve.area("intensity.mae"))
    assert metric["area"]["mean"] == pytest.approx(curve.area("intensity.mae").mean())


# --- what is shown ---


@pytest.fixture(scope="module")
def other(folder: Path, corpus: Corpus) -> Robustness:
    return measure_robustness(folder / "hidden", corpus, draws=2)


def test_the_csv_holds_every_point(found: Robustness, other: Robustness) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([found, other]))))
    assert len(rows) == sum(len(c.levels) * len(c.values) for one in (found, other) for c in one.curves)
    (row,) = [
        r
        for r in rows
        if (r["run"], r["corruption"], r["target"], r["level"], r["metric"])
        == ("hidden", "noise", "all", "-5", "polarity.accuracy")
    ]
    assert float(row["mean"]) == pytest.approx(other.by_name["noise", "all"].mean("polarity.accuracy")[1], abs=1e-6)


def test_areas_stand_side_by_side(found: Robustness, other: Robustness) -> None:
    rows = area_rows([found, other], ["polarity.accuracy", "intensity.mae"])
    assert len(rows) == 2 * len(found.curves)
    assert [row.higher for row in rows[:2]] == [True, False]
    first = rows[0]
    assert (first.corruption, first.target, first.metric) == ("missing", "text", "polarity.accuracy")
    assert first.areas[1] is not None
    assert first.areas[1][0] == pytest.approx(other.by_name["missing", "text"].area("polarity.accuracy").mean())
    fewer = replace(found, curves=found.curves[:1])
    assert area_rows([fewer, other], ["intensity.mae"])[5].areas[0] is None


def test_one_seed_has_no_spread(found: Robustness) -> None:
    curves = tuple(replace(c, values={name: v[:1, :1] for name, v in c.values.items()}) for c in found.curves)
    one = replace(found, seeds=(0,), draws=1, clean={name: v[:1] for name, v in found.clean.items()}, curves=curves)
    row = next(csv.DictReader(io.StringIO(to_csv([one]))))
    assert (row["std"], row["std_over_draws"]) == ("", "")
    (area, *_) = area_rows([one], ["intensity.mae"])
    assert area.areas[0] is not None
    assert _figure(area.areas[0]) == f"{area.areas[0][0]:.3f}"
    assert _figure((0.5, 0.25)) == "0.500 ± 0.250"
    assert _figure(None) == ""
    told = json.loads(json_text(one.to_json()))
    assert told["clean"]["intensity.mae"]["std"] is None
    assert set(told["curves"][0]["metrics"]["intensity.mae"]["std"]) == {None}
    assert "±" not in render_robustness([one])
    assert "±" in render_robustness([found])


def test_the_page_has_every_curve_and_fetches_nothing(found: Robustness, other: Robustness, tmp_path: Path) -> None:
    for runs in ([found], [found, other]):
        page = render_robustness(runs)
        metrics = choose_metrics(runs)
        targets = 1 if len(runs) == 1 else 4
        assert page.count("<figure>") == 4 * targets * len(metrics) == page.count('role="img"')
        assert "<script" not in page
        assert not re.search(r'(?:src|href)="(?!#)', page)
        assert "The corpus is generated by a program" in page
        assert "NaN" not in page
        for title in ("Missing modalities", "Gaussian noise", "Bursts", "Shuffled pairing"):
            assert f"<h2>{title}</h2>" in page
        for run in runs:
            assert f"<dt>{run.run}</dt>" in page
    path = write_robustness([found], tmp_path / "x.html", metrics=["intensity.mae"])
    assert path.read_text(encoding="utf-8").count("<figure>") == 4
    hostile = replace(found, notes=("<script>alert(1)</script>",), run="<b>")
    assert "<script" not in render_robustness([hostile])


def test_runs_that_do_not_go_together(found: Robustness, other: Robustness, tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match="There is no run to show"):
        run_labels([])
    with pytest.raises(AffectusError, match=r"not judged alike: got embedded, test.* and embedded, valid"):
        run_labels([found, replace(other, split="valid")])
    with pytest.raises(AffectusError, match=r"Two runs have one name: got plain \(mtmm_es\), plain"):
        run_labels([found, found])
    assert run_labels([found, replace(found, model="linear")]) == ["plain (mtmm_es)", "plain (linear)"]
    with pytest.raises(AffectusError, match=r"No figure 'acc' is there: expected one of: polarity\.accuracy"):
        choose_metrics([found], ["acc"])
    with pytest.raises(AffectusError, match="The runs have no figure in common"):
        choose_metrics([found, replace(other, clean={"x": [1.0]})])
    with pytest.raises(AffectusError, match=r"of an unknown kind: got x\.png; expected a name that ends in"):
        write_robustness([found], tmp_path / "x.png")


@pytest.mark.slow
def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["robustness", str(folder / "plain"), str(folder / "hidden"), str(folder / "corpus"), "--draws", "1"]
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    assert main([*call, "--corruptions", "missing,noise", "--out", str(page), "--json", str(data)]) == 0
    printed = capsys.readouterr().out
    for part in ("Area under the curve, embedded, test", "plain", "hidden", "missing", "noise", "Wrote "):
        assert part in printed
    assert [one["run"] for one in json.loads(data.read_text(encoding="utf-8"))] == ["plain", "hidden"]
    assert "<h2>Gaussian noise</h2>" in page.read_text(encoding="utf-8")
    few = ["--corruptions", "shuffled", "--split", "valid"]
    assert main([*call, *few, "--json", "-", "--out", str(tmp_path / "x.csv")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["split"] == "valid"
    assert (tmp_path / "x.csv").read_text(encoding="utf-8").startswith("run,model,corruption")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plain", "corpus", "--out", "x.pdf"], "The output is of an unknown kind"),
        (["plain", "plain", "corpus"], "A run is given twice"),
        (["plain", "corpus", "--corruptions", "missin"], "Unknown corruption 'missin'"),
        (["plain", "corpus", "--corruptions", "bursts", "--metrics", "mae"], "No figure 'mae' is there"),
        (["corpus", "plain"], "holds no run"),
    ],
)
def test_the_command_and_bad_input(
    arguments: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    named = [str(folder / a) if a in ("plain", "corpus") else a for a in arguments]
    assert main(["robustness", *named, "--draws", "1"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_every_corruption_says_what_it_does() -> None:
    for name in CORRUPTIONS:
        corruption = CORRUPTIONS[name]
        assert corruption.summary.endswith(".")
        assert corruption.levels == tuple(sorted(corruption.levels))
        assert corruption.fixed <= set(corruption.levels)


def test_the_view_of_a_batch_is_kept(corpus: Corpus, plain: Run) -> None:
    for batch in plain.batches(corpus, "test"):
        for name in CORRUPTIONS:
            changed = CORRUPTIONS[name].apply(batch, ["text"], 0.0, Draw(0), {"text": batch.features["text"][0, 0] * 0})
            assert isinstance(changed, Batch)
            assert changed.rows is batch.rows
            assert changed.labels is batch.labels
