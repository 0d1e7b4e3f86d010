from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.api import train
from affectus.corpus import Corpus, load_corpus
from affectus.report.collecting import collect
from affectus.report.data import ModalitiesPart, Report
from affectus.report.inside import look_inside
from affectus.report.modalities import MOST_SAMPLES
from affectus.report.rendering import render
from affectus.training import load_run


@pytest.fixture(scope="module")
def corpus(studies: Path) -> Corpus:
    return load_corpus(studies / "corpus")


@pytest.fixture(scope="module")
def report(studies: Path, corpus: Corpus) -> Report:
    return collect([load_run(studies / "heads"), load_run(studies / "multi")], corpus)


@pytest.fixture(scope="module")
def part(report: Report) -> ModalitiesPart:
    assert report.modalities is not None
    return report.modalities


@pytest.fixture(scope="module")
def test_split(corpus: Corpus) -> pl.DataFrame:
    return corpus.table[corpus.rows("test")]


def said(studies: Path, corpus: Corpus, run: str, head: str, task: str) -> np.ndarray:
    """(seeds, n): the numbers, or the probabilities of *positive*."""
    opened = load_run(studies / run)
    if head == "final":
        given = [opened.predict(opened.model(seed), corpus, "test").probabilities[task] for seed in opened.seeds]
    else:
        given = [
            look_inside(opened, opened.model(seed), corpus, "test", opened.tasks[:3]).heads[head][task]
            for seed in opened.seeds
        ]
    return np.stack([of[:, -1] for of in given])


def test_each_run_says_where_its_heads_come_from(part: ModalitiesPart) -> None:
    assert part.sources == ("own", "hidden")
    assert [table.task for table in part.tables] == ["intensity", "polarity"]
    assert [row.head for row in part.tables[0].rows] == ["text", "audio", "vision", "fused", "final"]
    assert part.tables[0].rows[3].scores[1] is None


@pytest.mark.parametrize("head", ["text", "vision", "final"])
@pytest.mark.parametrize("task", ["intensity", "polarity"])
def test_bias_and_share_of_negatives_by_hand(
    studies: Path, corpus: Corpus, part: ModalitiesPart, test_split: pl.DataFrame, head: str, task: str
) -> None:
    row = next(row for table in part.tables if table.task == task for row in table.rows if row.head == head)
    label = test_split["sentiment"].to_numpy().astype(float)
    for place, run in enumerate(("heads", "multi")):
        values = said(studies, corpus, run, head, task)
        known = ~np.isnan(label) & ~np.isnan(values[0])
        assert row.n == known.sum() < len(label)
        assert row.label == pytest.approx((label[known] < 0).mean())
        if task == "intensity":
            bias, negative = values[:, known] - label[known], values[:, known] < 0
        else:
            bias, negative = values[:, known] - (label[known] >= 0), values[:, known] < 0.5
        score = row.scores[place]
        assert score.bias.values == pytest.approx(bias.mean(axis=1), abs=1e-6)
        assert score.negative.values == pytest.approx(negative.mean(axis=1), abs=1e-6)
        assert score.bias.std == pytest.approx(np.std(score.bias.values, ddof=1))


def test_a_modalitys_own_labels_stand_beside_it(part: ModalitiesPart, test_split: pl.DataFrame) -> None:
    rows = {row.head: row for row in part.tables[0].rows}
    for modality in ("text", "audio", "vision"):
        own = test_split[f"sentiment_{modality}"].drop_nulls()
        assert rows[modality].own == pytest.approx((own < 0).mean())
    assert rows["final"].own is None


def test_samples_are_those_on_which_the_modalities_disagree_most(
    studies: Path, corpus: Corpus, part: ModalitiesPart, test_split: pl.DataFrame
) -> None:
    listed = part.samples[0]
    assert (listed.by, part.task, part.low, part.high) == ("said", "intensity", -3.0, 3.0)
    heads = ("text", "audio", "vision")
    means = {
        (run, head): said(studies, corpus, run, head, "intensity").mean(axis=0)
        for run in ("heads", "multi")
        for head in heads
    }
    apart = []
    for i in range(test_split.height):
        each = [
            [means[run, head][i] for head in heads if not np.isnan(means[run, head][i])] for run in ("heads", "multi")
        ]
        apart.append(np.mean([max(of) - min(of) for of in each]) if len(each[0]) > 1 else np.nan)
    expected = np.sort(np.array(apart)[~np.isnan(apart)])[::-1]
    assert listed.of == len(expected)
    assert [sample.apart for sample in listed.samples] == pytest.approx(expected[:MOST_SAMPLES], abs=1e-5)
    ids = test_split["id"].to_list()
    for sample in listed.samples:
        i = ids.index(sample.id)
        assert sample.apart == pytest.approx(apart[i], abs=1e-5)
        assert sample.label == test_split["sentiment"][i]
        for head in heads:
            for place, run in enumerate(("heads", "multi")):
                value = means[run, head][i]
                assert sample.said[head][place] == (None if np.isnan(value) else pytest.approx(value, abs=1e-5))
            assert sample.own[head] == test_split[f"sentiment_{head}"][i]
        assert sample.said["fused"][1] is None


def test_a_second_list_goes_by_the_labels_of_the_modalities(part: ModalitiesPart, test_split: pl.DataFrame) -> None:
    listed = part.samples[1]
    assert listed.by == "labels"
    own = test_split.select(pl.concat_list("sentiment_text", "sentiment_audio", "sentiment_vision").list.drop_nulls())
    apart = [max(of) - min(of) for of in own.to_series().to_list() if len(of) > 1]
    assert listed.of == len(apart)
    assert [sample.apart for sample in listed.samples] == pytest.approx(sorted(apart, reverse=True)[:MOST_SAMPLES])


def test_without_labels_of_single_modalities_there_is_one_list(studies: Path, corpus: Corpus) -> None:
    kept = [scheme for scheme in corpus.card.schemes if not scheme.name.startswith("sentiment_")]
    card = corpus.card.model_copy(update={"schemes": kept})
    part = collect([load_run(studies / "multi")], Corpus(corpus.table, corpus.features, card)).modalities
    assert [listed.by for listed in part.samples] == ["said"]
    assert part.samples[0].samples[0].own == {}
    assert part.tables[0].rows[0].own is None


def test_polarity_is_told_as_a_probability(studies: Path, corpus: Corpus, test_split: pl.DataFrame) -> None:
    part = collect([load_run(studies / "stages")], corpus).modalities
    assert (part.task, part.low, part.high) == ("polarity", 0.0, 1.0)
    ids = test_split["id"].to_list()
    for sample in part.samples[1].samples:
        sentiment = test_split["sentiment"][ids.index(sample.id)]
        assert sample.label == (None if sentiment is None else float(sentiment >= 0))
        assert set(sample.own.values()) <= {0.0, 1.0, None}
        assert all(0 <= of[0] <= 1 for of in sample.said.values() if of[0] is not None)


def test_samples_tell_the_task_that_most_runs_have(studies: Path, corpus: Corpus) -> None:
    part = collect([load_run(studies / "multi"), load_run(studies / "linear")], corpus).modalities
    assert part.task == "polarity"
    assert [table.task for table in part.tables] == ["intensity", "polarity"]
    assert all(row.scores[1] is None for row in part.tables[0].rows)


def test_emotions_alone_have_no_such_part(studies: Path, corpus: Corpus) -> None:
    assert collect([load_run(studies / "single")], corpus).modalities is None


def test_labels_that_are_missing_do_no_harm(studies: Path, corpus: Corpus) -> None:
    columns = ("sentiment", "sentiment_text", "sentiment_audio", "sentiment_vision")
    bare = corpus.table.with_columns(
        pl.when(pl.col("split") == "test").then(None).otherwise(c).alias(c) for c in columns
    )
    part = collect([load_run(studies / "heads")], Corpus(bare, corpus.features, corpus.card)).modalities
    assert {row.n for row in part.tables[0].rows} == {0}
    assert np.isnan(part.tables[0].rows[0].label)
    assert part.samples[0].samples[0].label is None
    assert part.samples[1].samples == ()


def test_labels_of_modalities_that_no_run_sees_are_shown(studies: Path, corpus: Corpus, tmp_path: Path) -> None:
    train("linear", studies / "corpus", tasks=["intensity"], modalities=["text"], out=tmp_path / "text")
    report = collect([load_run(tmp_path / "text")], corpus)
    part = report.modalities
    assert part.sources == (None,)
    assert [row.head for row in part.tables[0].rows] == ["final"]
    (listed,) = part.samples
    assert listed.by == "labels"
    for sample in listed.samples:
        assert list(sample.said) == ["text", "audio", "vision", "final"]
        assert {sample.said[head][0] for head in ("text", "audio", "vision")} == {None}
        own = [value for value in sample.own.values() if value is not None]
        assert sample.apart == pytest.approx(max(own) - min(own))
    assert "the run sees one modality" in render(report)


def test_a_lone_modality_without_labels_of_its_own_has_no_such_part(
    studies: Path, corpus: Corpus, tmp_path: Path
) -> None:
    train("linear", studies / "corpus", tasks=["intensity"], modalities=["text"], out=tmp_path / "text")
    bare = Corpus(corpus.table, corpus.features, corpus.card.model_copy(update={"schemes": corpus.card.schemes[:2]}))
    assert collect([load_run(tmp_path / "text")], bare).modalities is None
