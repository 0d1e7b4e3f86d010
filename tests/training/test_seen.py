"""What a run has seen is told when it is judged on it, whatever the corpus and the split are called."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl

from affectus import train
from affectus.api import evaluate
from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.corpus.embedded import make_embedded
from affectus.studies.benchmarking.crossing import _shared
from affectus.training.seen import FILE, marks, read_seen
from affectus.vocabulary import Split

TASKS = ["polarity"]


def named(corpus: Corpus, name: str, **splits: str) -> Corpus:
    """A copy of another name, some of its splits under other names."""
    table = corpus.table.with_columns(pl.col("split").replace(splits)) if splits else corpus.table
    return Corpus(table, corpus.features, corpus.card.model_copy(deep=True, update={"name": name}))


def test_utterances_that_were_trained_on_are_told_under_another_name(tmp_path: Path) -> None:
    corpus = make_embedded(videos=24)
    run = train("linear", corpus, tasks=TASKS, out=tmp_path / "run")
    assert evaluate(run, corpus, split="test").notes == ()
    renamed = named(corpus, "renamed")
    assert evaluate(run, renamed, split="test").notes == ()
    assert evaluate(run, renamed, split="train").notes == ("The models were trained on this split.",)
    assert evaluate(run, renamed, split="valid").notes[0].startswith("Epoch and thresholds were chosen on this split")
    turned = named(corpus, "turned", train="test", test="train")
    assert evaluate(run, turned, split="test").notes == ("The models were trained on this split.",)
    assert evaluate(run, turned, split="train").notes == ()


def test_a_part_that_was_seen_is_counted(tmp_path: Path) -> None:
    corpus = make_embedded(videos=24)
    run = train("linear", corpus, tasks=TASKS, out=tmp_path / "run")
    train_rows, test_rows = corpus.rows("train"), corpus.rows("test")
    video = corpus.table["video"][int(train_rows[0])]
    moved = np.flatnonzero((corpus.table["video"] == video).to_numpy())
    mixed = corpus.select(np.concatenate([moved, test_rows]))
    mixed = Corpus(mixed.table.with_columns(split=pl.lit("test")), mixed.features, mixed.card)
    count, of = len(moved), len(moved) + len(test_rows)
    (note,) = evaluate(run, mixed, split="test").notes
    assert note == f"{count} of the {of} utterances are among those that the models were trained on."


def test_what_the_source_of_a_run_has_seen_is_told(tmp_path: Path) -> None:
    corpus = make_embedded(videos=24)
    turned = named(corpus, "turned", train="test", test="train")
    short = {"epochs": 1}
    source = train("blanchard", turned, tasks=TASKS, out=tmp_path / "source", training=short)
    run = train("blanchard", corpus, tasks=TASKS, out=tmp_path / "run", training=short, init_from=source)
    assert evaluate(run, corpus, split="test").notes == ("The run from which this one started has seen this split.",)


def test_across_corpora_what_both_have_is_counted() -> None:
    corpus = make_embedded(videos=24)
    turned = named(corpus, "turned", train="test", test="train")
    plans = {name: SimpleNamespace(corpus=one, split="test") for name, one in (("a", corpus), ("b", turned))}
    said = _shared(plans)  # type: ignore[arg-type]
    counts = [(len(plans[name].corpus.rows("test")), name, other) for name, other in (("b", "a"), ("a", "b"))]
    assert said == [
        f"{n:,} of the {n:,} utterances of `{judged}` that are judged are in train or valid of `{trained}`: figures of "
        "models trained there are better than on new data."
        for n, judged, trained in counts
    ]
    other = SimpleNamespace(corpus=make_embedded(videos=24, seed=1), split="test")
    assert _shared({"a": plans["a"], "other": other}) == []  # type: ignore[dict-item]


def test_a_run_that_did_not_write_it_down_goes_by_names(tmp_path: Path) -> None:
    corpus = make_embedded(videos=24)
    run = train("linear", corpus, tasks=TASKS, out=tmp_path / "run")
    assert read_seen(run.folder) is not None
    (run.folder / FILE).unlink()
    assert evaluate(run, corpus, split="train").notes == ("The models were trained on this split.",)
    assert evaluate(run, named(corpus, "renamed"), split="train").notes == ()


def test_an_utterance_is_known_by_what_was_said_and_else_by_its_features() -> None:
    one, other = make_embedded(videos=24), make_embedded(videos=24, seed=1)
    assert set(one.table["id"]) & set(other.table["id"])
    assert not np.isin(marks(one, one.rows()), marks(other, other.rows())).any()
    row = {"id": "a", "video": "v", "split": Split.TRAIN, "start": None, "end": None, "text": "So it is."}
    features = {"audio": Ragged.from_sequences([[[1.0, 2.0]]], 2)}
    said = marks(build_corpus([row], features, Card(name="a")), np.arange(1))
    bare = marks(build_corpus([row], {}, Card(name="b")), np.arange(1))
    more = marks(build_corpus([{**row, "text": "So it is not."}], {}, Card(name="b")), np.arange(1))
    assert said == bare != more
