import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affectus.cli.main import main
from affectus.corpus import Corpus, Ragged, load_corpus, save_corpus
from affectus.corpus.check import check_corpus
from affectus.corpus.joining import join_corpora
from affectus.corpus.ragged import Parts
from affectus.corpus.readers import import_corpus
from affectus.errors import AffectusError


@pytest.fixture
def shards(make_corpus: Callable[..., Corpus], tmp_path: Path) -> tuple[Corpus, list[Path]]:
    """A corpus, and the folders of three parts of it, each some of its recordings."""
    whole = make_corpus(videos=24)
    recordings = whole.recordings()
    folders = []
    for number, some in enumerate((recordings[:5], recordings[5:16], recordings[16:])):
        folders.append(tmp_path / f"shard-{number}")
        save_corpus(whole.select(np.concatenate(some)), folders[-1])
    return whole, folders


def test_shards_make_the_whole_again(shards: tuple[Corpus, list[Path]], tmp_path: Path) -> None:
    whole, folders = shards
    joined = join_corpora(folders, tmp_path / "joined")
    assert joined.table.equals(whole.table)
    for name, ragged in whole.features.items():
        assert np.array_equal(joined.features[name].values, ragged.values)
        assert np.array_equal(joined.features[name].offsets, ragged.offsets)
    assert joined.card.schemes == whole.card.schemes
    assert "Joined from 3 corpora." in joined.card.notes
    assert not check_corpus(tmp_path / "joined").damaged


def test_what_is_said_of_a_part_names_it(shards: tuple[Corpus, list[Path]], tmp_path: Path) -> None:
    folders = shards[1][:2]
    for number, folder in enumerate(folders):
        part = load_corpus(folder)
        notes = ["One licence.", f"text: {number + 1} of 4 columns are constant; kept."]
        card = part.card.model_copy(deep=True, update={"source": f"part-{number}.npz", "notes": notes})
        save_corpus(Corpus(part.table, part.features, card), tmp_path / str(number))
    joined = join_corpora([tmp_path / "0", tmp_path / "1"], tmp_path / "joined")
    assert joined.card.notes == [
        "One licence.",
        "part-0.npz: text: 1 of 4 columns are constant; kept.",
        "part-1.npz: text: 2 of 4 columns are constant; kept.",
        "Joined from 2 corpora.",
    ]


def test_a_modality_that_one_lacks_is_missing_there(shards: tuple[Corpus, list[Path]], tmp_path: Path) -> None:
    whole, folders = shards
    middle = load_corpus(folders[1])
    card = middle.card.model_copy(deep=True, update={"modalities": {"text": middle.card.modalities["text"]}})
    save_corpus(Corpus(middle.table, {"text": middle.features["text"]}, card), tmp_path / "less")
    joined = join_corpora([folders[0], tmp_path / "less", folders[2]], tmp_path / "joined", name="new")
    first, last = len(load_corpus(folders[0])), len(whole) - len(load_corpus(folders[2]))
    assert joined.name == "new"
    assert (joined.features["audio"].lengths[first:last] == 0).all()
    assert np.array_equal(joined.features["audio"][last], whole.features["audio"][last])


def test_from_the_command_line(
    shards: tuple[Corpus, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, folders = shards
    out = tmp_path / "joined"
    assert main(["corpus", "join", *map(str, folders), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["utterances"] == len(whole)
    assert main(["corpus", "join", str(folders[0]), str(folders[0]), "--out", str(tmp_path / "twice")]) == 2
    assert "Two utterances have the same id" in capsys.readouterr().err
    assert not (tmp_path / "twice").exists()


def test_what_does_not_fit_together(shards: tuple[Corpus, list[Path]], tmp_path: Path) -> None:
    _, folders = shards
    one = load_corpus(folders[0])
    other = one.card.model_copy(deep=True, update={"schemes": one.card.schemes[:1]})
    save_corpus(Corpus(one.table, one.features, other), tmp_path / "labels")
    with pytest.raises(
        AffectusError,
        match=r"have other labels in .*labels: got sentiment \(sentiment in \[-3, 3\]\); expected those of .*: "
        r"sentiment .*; emotion_class \(anger, none\)\. Give the sources the same label columns and classes",
    ):
        join_corpora([folders[1], tmp_path / "labels"], tmp_path / "out")
    wide = one.card.model_copy(deep=True)
    wide.modalities["text"].encoder = "another"
    save_corpus(Corpus(one.table, one.features, wide), tmp_path / "encoder")
    with pytest.raises(AffectusError, match="features of text were made otherwise: they differ in 'encoder'"):
        join_corpora([folders[1], tmp_path / "encoder"], tmp_path / "out")
    token = one.card.model_copy(deep=True, update={"tokenizer": "bert"})
    save_corpus(Corpus(one.table, one.features, token), tmp_path / "token")
    with pytest.raises(AffectusError, match="token ids are of another tokenizer"):
        join_corpora([folders[1], tmp_path / "token"], tmp_path / "out")
    with pytest.raises(AffectusError, match="nothing to join"):
        join_corpora([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_manifests_that_show_other_emotions_are_joined(tmp_path: Path) -> None:
    for name, classes in (("one", ("anger", "none")), ("two", ("happiness", "none"))):
        rows = "".join(f"{name}{i},{found}\n" for i, found in enumerate(classes))
        (tmp_path / f"{name}.csv").write_text("id,emotion_class\n" + rows, encoding="utf-8")
        import_corpus("manifest", tmp_path / f"{name}.csv", out=tmp_path / name)
    joined = join_corpora([tmp_path / "one", tmp_path / "two"], tmp_path / "joined")
    assert joined.table["emotion_class"].to_list() == ["anger", "none", "happiness", "none"]
    assert joined.label("emotion_class")[:, 0].tolist() == [0, 6, 3, 6]


def test_parts_are_read_as_one_array() -> None:
    arrays = [np.arange(6.0).reshape(3, 2), np.zeros((0, 2)), np.arange(4.0).reshape(2, 2)]
    whole, parts = np.concatenate(arrays), Parts(arrays)
    assert (parts.shape, parts.ndim, parts.size, parts.nbytes) == (whole.shape, 2, whole.size, whole.nbytes)
    for begin in range(6):
        for end in range(begin, 7):
            assert np.array_equal(parts[begin:end], whole[begin:end])
    assert Parts([np.zeros((0, 4), np.float32)])[0:3].shape == (0, 4)
    assert Ragged(Parts(arrays), np.array([0, 2, 5])).dim == 2  # type: ignore[arg-type]
