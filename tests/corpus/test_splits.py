import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.corpus.readers import import_corpus
from affectus.corpus.splits import apply_renames, load_splits, move_to_valid, parse_renames
from affectus.corpus.storage import counts
from affectus.errors import AffectusError


def videos_of(corpus: Corpus) -> dict[str, list[str]]:
    splits = sorted(set(corpus.splits.tolist()))
    return {split: sorted(corpus.table.filter(split=split)["video"].unique()) for split in splits}


def make(splits: dict[str, int]) -> Corpus:
    """Return a corpus with so many videos of two utterances per split."""
    rows = [
        {"id": f"{split}{video}_{i}", "video": f"{split}{video}", "split": split, "start": float(i)}
        for split, count in splits.items()
        for video in range(count)
        for i in range(2)
    ]
    features = {"audio": Ragged.from_rows([[float(row)] for row in range(len(rows))])}
    return build_corpus(rows, features, Card(name="made"))


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.csv"
    path.write_text("id,video,split\na0,a,train\na1,a,train\nb0,b,train\nc0,c,valid\nd0,d,\n", encoding="utf-8")
    return path


def test_rows_without_a_split_are_dropped_and_counted(manifest: Path) -> None:
    corpus = import_corpus("manifest", manifest)
    assert videos_of(corpus) == {"train": ["a", "b"], "valid": ["c"]}
    assert "1 videos (1 utterances) are in no split of the source and were dropped." in corpus.card.notes


def test_a_source_without_splits_is_train(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id\na\nb\n", encoding="utf-8")
    corpus = import_corpus("manifest", path)
    assert videos_of(corpus) == {"train": ["a", "b"]}
    assert "The source names no split; all utterances are in train." in corpus.card.notes


def test_split_name_overrides(manifest: Path) -> None:
    corpus = import_corpus("manifest", manifest, split_name="dev")
    assert videos_of(corpus) == {"valid": ["a", "b", "c", "d"]}


def test_splits_file_overrides_and_drops(manifest: Path, tmp_path: Path) -> None:
    folds = {"standard_train_fold": ["a"], "standard_valid_fold": ["d", "absent"], "standard_test_fold": ["b"]}
    corpus = import_corpus("manifest", manifest, splits=write(tmp_path / "s.json", folds))
    assert videos_of(corpus) == {"train": ["a"], "valid": ["d"], "test": ["b"]}
    assert "1 videos (1 utterances) are in no split of s.json and were dropped." in corpus.card.notes
    assert counts(corpus)["train"] == {"videos": 1, "utterances": 2}


def test_splits_key(tmp_path: Path) -> None:
    path = write(tmp_path / "s.json", {"one": {"train": ["a"], "dev": ["b"]}, "two": {"train": ["b"]}})
    assert load_splits(path, "one").videos == {"a": "train", "b": "valid"}
    assert load_splits(path, "two").source == "s.json, key 'two'"
    with pytest.raises(AffectusError, match=r"Unknown splits key 'tow' .*one of: one, two. Did you mean 'two'\?"):
        load_splits(path, "tow")
    with pytest.raises(AffectusError, match=r"several divisions.*Choose one with --splits-key: one, two"):
        load_splits(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": ["a"], "valid": []}, "The split 'valid' has no videos"),
        ({"trian": ["a"]}, r"Unknown split 'trian' in .*Did you mean 'train'\?"),
        ({"train": ["a"], "test": ["a"]}, "The video 'a' stands in two splits"),
        ({"train": "a"}, "The split 'train' is not a list of video ids"),
        ({"train": [["a"]]}, "The split 'train' is not a list of video ids"),
        ([], "The splits file holds no splits"),
        ({}, "The splits file holds no splits"),
    ],
)
def test_wrong_splits_files(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(AffectusError, match=message):
        load_splits(write(tmp_path / "s.json", data))


def test_absent_and_broken_splits_files(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match="There is no file"):
        load_splits(tmp_path / "s.json")
    (tmp_path / "s.json").write_text("{", encoding="utf-8")
    with pytest.raises(AffectusError, match="Not a JSON file"):
        load_splits(tmp_path / "s.json")


def test_a_split_none_of_whose_videos_is_there(manifest: Path, tmp_path: Path) -> None:
    splits = write(tmp_path / "s.json", {"train": ["a"], "test": ["x", "y"]})
    with pytest.raises(AffectusError, match=r"None of the videos of the split 'test' is in the corpus in s\.json"):
        import_corpus("manifest", manifest, splits=splits, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_exclude_each_other(manifest: Path, tmp_path: Path) -> None:
    splits = write(tmp_path / "s.json", {"train": ["a"]})
    with pytest.raises(AffectusError, match="--split-name and --splits exclude each other"):
        import_corpus("manifest", manifest, splits=splits, split_name="test")
    with pytest.raises(AffectusError, match="--splits-key needs --splits"):
        import_corpus("manifest", manifest, splits_key="contextual")
    with pytest.raises(AffectusError, match=r"Unknown split 'tset'.*Did you mean 'test'\?"):
        import_corpus("manifest", manifest, split_name="tset")


def test_renames_are_simultaneous() -> None:
    corpus = make({"train": 1, "valid": 2, "test": 3})
    renamed = apply_renames(corpus, {"test": "train", "valid": "test", "train": "valid"})
    assert {s: c["videos"] for s, c in counts(renamed).items()} == {"train": 3, "valid": 1, "test": 2}
    for row in range(len(renamed)):
        name = renamed.table["id"][row]
        old = corpus.table["id"].to_list().index(name)
        assert renamed.features["audio"][row] == corpus.features["audio"][old]


def test_a_video_in_two_splits_that_become_one_is_one_recording() -> None:
    rows = [
        {"id": "late", "video": "v", "split": "train", "start": 5.0},
        {"id": "early", "video": "v", "split": "valid", "start": 1.0},
        {"id": "other", "video": "w", "split": "train", "start": 0.0},
    ]
    corpus = apply_renames(build_corpus(rows, {}, Card(name="made")), {"valid": "train"})
    assert corpus.table["id"].to_list() == ["early", "late", "other"]
    assert [len(rows) for rows in corpus.recordings("train")] == [2, 1]
    assert "1 videos stood in two splits that became one; each is now one recording." in corpus.card.notes


def test_sources_that_restart_their_ids_keep_their_recordings_apart(make: Any, tmp_path: Path) -> None:
    """MELD counts its dialogues anew in every file, so dialogue 0 of train and of dev are two recordings."""
    for split in ("train", "dev"):
        (tmp_path / f"{split}_sent_emo.csv").write_text(make.MELD, encoding="utf-8")
    apart = import_corpus("meld", tmp_path)
    merged = import_corpus("meld", tmp_path, rename_splits={"valid": "train"})
    assert counts(apart) == {s: {"videos": 2, "utterances": 3} for s in ("train", "valid")}
    assert counts(merged) == {"train": {"videos": 4, "utterances": 6}}


def test_parse_renames() -> None:
    assert parse_renames("test=train, dev=test") == {"test": "train", "valid": "test"}
    with pytest.raises(AffectusError, match=r"--rename-splits is not a list of old=new: got 'test'"):
        parse_renames("test")
    with pytest.raises(AffectusError, match="renames 'valid' twice"):
        parse_renames("dev=train,valid=test")
    with pytest.raises(AffectusError, match=r"Unknown split 'foo'"):
        parse_renames("foo=train")


def test_renaming_a_split_that_is_not_there() -> None:
    with pytest.raises(AffectusError, match="Unknown split 'test' in the corpus 'made': expected one of: train"):
        apply_renames(make({"train": 1}), {"test": "valid"})


def test_valid_fraction_moves_whole_videos() -> None:
    corpus = make({"train": 20, "test": 3})
    moved = move_to_valid(corpus, 0.15)
    assert counts(moved) == {
        "train": {"videos": 17, "utterances": 34},
        "valid": {"videos": 3, "utterances": 6},
        "test": {"videos": 3, "utterances": 6},
    }
    assert moved.card.notes == ["3 of 20 training videos were moved to valid (fraction 0.15, seed 0)."]


def test_valid_fraction_is_deterministic_and_seeded() -> None:
    corpus = make({"train": 20})
    shuffled = build_corpus(corpus.table.sample(fraction=1, shuffle=True, seed=3), {}, Card(name="made"))
    chosen = videos_of(move_to_valid(corpus, 0.2))["valid"]
    assert chosen == videos_of(move_to_valid(shuffled, 0.2))["valid"]
    # the choice may not change between versions: runs are compared over years
    assert chosen == ["train10", "train14", "train16", "train5"]
    assert chosen != videos_of(move_to_valid(corpus, 0.2, seed=1))["valid"]


def test_valid_fraction_bounds() -> None:
    corpus = make({"train": 3})
    assert counts(move_to_valid(corpus, 0.01))["valid"]["videos"] == 1
    assert counts(move_to_valid(corpus, 0.99))["train"]["videos"] == 1
    for fraction in (0.0, 1.0, -0.5, 15.0, float("nan")):
        with pytest.raises(AffectusError, match=r"--valid-fraction is out of range: got .*between 0 and 1"):
            move_to_valid(corpus, fraction)
    with pytest.raises(AffectusError, match="needs two training videos or more in made: got 1"):
        move_to_valid(make({"train": 1}), 0.5)
    with pytest.raises(AffectusError, match="no utterance in the split 'train'"):
        move_to_valid(make({"test": 2}), 0.5)


def test_order_of_the_options(manifest: Path, tmp_path: Path) -> None:
    """Splits are taken from the file, then renamed, then videos are moved."""
    splits = write(tmp_path / "s.json", {"test": ["a", "b", "c", "d"]})
    corpus = import_corpus("manifest", manifest, splits=splits, rename_splits="test=train", valid_fraction=0.5)
    assert {s: c["videos"] for s, c in counts(corpus).items()} == {"train": 2, "valid": 2}


def test_table_keeps_its_types(manifest: Path) -> None:
    table = import_corpus("manifest", manifest).table
    assert table.schema["start"] == pl.Float64()
    assert table["speaker"].null_count() == len(table)
