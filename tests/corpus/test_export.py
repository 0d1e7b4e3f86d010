"""Exporting to MMSA's pickle and reading it back loses nothing that the layout or our own key can hold."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affectus.cli.main import main
from affectus.corpus import Card, Corpus, ModalityCard, Ragged, build_corpus, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.corpus.ragged import CHUNK_BYTES
from affectus.corpus.readers import import_corpus
from affectus.corpus.readers.pickles import as_text, load_pickle
from affectus.corpus.writers import WRITERS, export_features
from affectus.corpus.writers.pickles import StreamedArray, write_pickle
from affectus.errors import AffectusError
from affectus.labels import sentiment_scheme
from affectus.vocabulary import KNOWN_MODALITIES, View

# a reader cannot tell a string of Latin-1 letters that happens to be UTF-8 from one that Python 2 wrote
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda t: as_text(t) == t)
NUMBERS = st.floats(width=32) | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf")])
LABELS = st.none() | st.floats(-1, 1, width=32)


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """Draw a corpus with any lengths, values, gaps and names."""
    count = draw(st.integers(1, 7))
    names = draw(st.lists(st.sampled_from(KNOWN_MODALITIES), min_size=1, unique=True))
    aligned = draw(st.booleans())
    shared = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    features = {}
    for name in names:
        dim = draw(st.integers(1, 3))
        own = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
        lengths = [length * draw(st.booleans()) if aligned else own[i] for i, length in enumerate(shared)]
        values = draw(st.lists(NUMBERS, min_size=sum(lengths) * dim, max_size=sum(lengths) * dim))
        ends = np.cumsum([0, *lengths])
        features[name] = Ragged(np.array(values, np.float32).reshape(-1, dim), ends.astype(np.int64))
    videos = draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))
    schemes = ["sentiment", *(f"sentiment_{m}" for m in KNOWN_MODALITIES if draw(st.booleans()))]
    ids = draw(st.lists(WORDS, min_size=count, max_size=count, unique=True))
    records: list[dict[str, Any]] = []
    tokens = draw(st.booleans())
    for row in range(count):
        video = draw(st.integers(0, len(videos) - 1))
        records.append(
            {
                "id": f"{videos[video]}$_${row:02d}" if draw(st.booleans()) else ids[row],
                "video": videos[video],
                "split": ["train", "valid", "test"][video],
                "text": draw(st.none() | WORDS),
                "start": draw(st.none() | st.floats(0, 9)),
                "speaker": draw(st.none() | WORDS),
                **{name: draw(LABELS) for name in schemes},
                **({"token_ids": draw(st.lists(st.integers(0, 2**31 - 1), max_size=5))} if tokens else {}),
            }
        )
    high = draw(st.sampled_from([1.0, 3.0, None]))
    card = Card(
        name=draw(WORDS),
        word_aligned=aligned,
        generated=draw(st.booleans()),
        language=draw(st.sampled_from([None, "zh"])),
        tokenizer=draw(st.sampled_from([None, "bert-base-uncased"])),
        schemes=[
            sentiment_scheme(modality=name.partition("_")[2] or None).model_copy(
                update={"low": None if high is None else -high, "high": high}
            )
            for name in schemes
        ],
        modalities={name: ModalityCard(dim=r.dim, encoder="x", rate=4.5) for name, r in features.items()},
    )
    table = pl.DataFrame(records, infer_schema_length=None)
    return build_corpus(table, features, card)


def same(found: Corpus, expected: Corpus) -> None:
    """Check that two corpora are equal bit by bit in everything that the export holds."""
    columns = ["id", "video", "split", "start", "end", "speaker", "text"]
    columns += [column for scheme in expected.card.schemes for column in scheme.columns]
    columns += [column for column in expected.table.columns if column == "token_ids"]
    assert found.table.columns == columns
    assert found.table.equals(expected.table.select(columns))
    assert found.card.schemes == expected.card.schemes
    assert found.card.modalities == expected.card.modalities
    for key in ("name", "licence", "language", "generated", "tokenizer", "word_aligned"):
        assert getattr(found.card, key) == getattr(expected.card, key)
    assert found.modalities == expected.modalities
    for name, ragged in expected.features.items():
        assert found.features[name].offsets.tolist() == ragged.offsets.tolist()
        assert found.features[name].values.tobytes() == ragged.values.tobytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpora(), st.booleans())
def test_nothing_is_lost_on_the_way_there_and_back(tmp_path: Path, corpus: Corpus, aligned: bool) -> None:
    path = tmp_path / "x.pkl"
    view = View.ALIGNED if aligned and corpus.card.word_aligned else View.UNALIGNED
    export_features(corpus, "mmsa", path, view=view)
    same(import_corpus("mmsa", path), corpus)
    # and a plain unpickler reads the same arrays
    data = pickle.loads(path.read_bytes())
    assert set(data) == set(corpus.splits.tolist())
    for split, part in data.items():
        rows = corpus.rows(split)
        for name, ragged in corpus.features.items():
            for place, row in enumerate(rows):
                real = part[name][place, : ragged.lengths[row]]
                assert real.tobytes() == np.ascontiguousarray(ragged[int(row)]).tobytes()
                assert not part[name][place, ragged.lengths[row] :].any()


@pytest.mark.parametrize("view", [View.ALIGNED, View.UNALIGNED])
def test_the_layout_is_mmsas(view: View, tmp_path: Path) -> None:
    corpus = make_embedded(videos=20, steps=True, missing=0.0)
    found = export_features(corpus, "mmsa", tmp_path / "x.pkl", view=view)
    data = pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert list(data) == ["train", "valid", "test"]
    own = {"affectus", "id", "raw_text", "annotations", "classification_labels", "regression_labels"}
    own |= {"text", "audio", "vision", *(f"regression_labels_{letter}" for letter in "TAV")}
    own |= {"audio_lengths", "vision_lengths"} if view is View.UNALIGNED else set()
    for split, part in data.items():
        count = len(corpus.rows(split))
        assert set(part) == own
        assert found.utterances[split] == count == len(part["id"]) == len(part["raw_text"])
        for name in KNOWN_MODALITIES:
            assert part[name].shape == (count, *found.shapes[name])
            assert part[name].dtype == np.float32
        labels = corpus.label("sentiment")[corpus.rows(split), 0]
        np.testing.assert_array_equal(part["regression_labels"], labels)
        known = ~np.isnan(labels)
        np.testing.assert_array_equal(part["classification_labels"][known], (np.sign(labels) + 1)[known])
        words = {-1.0: "Negative", 0.0: "Neutral", 1.0: "Positive"}
        assert part["annotations"] == [words.get(float(np.sign(label)), "") for label in labels]
    assert {found.shapes[name][0] for name in KNOWN_MODALITIES} == {8}
    assert "emotions" in found.notes[-1]


def test_a_file_of_mmsa_goes_through_and_back(make: ModuleType, tmp_path: Path) -> None:
    source = {"train": make.mmsa_part(3, sims=True), "valid": make.mmsa_part(2, video="w", sims=True)}
    source["train"]["annotations"] = ["Weak", "Neutral", "Strong"]
    first = import_corpus("mmsa", make.write_pickle(tmp_path / "unaligned_39.pkl", source))
    assert first.table["annotation"].to_list()[:3] == ["Weak", "Neutral", "Strong"]
    export_features(first, "mmsa", tmp_path / "again.pkl")
    again = pickle.loads((tmp_path / "again.pkl").read_bytes())
    for split, part in again.items():
        for key in ("id", "audio_lengths", "vision_lengths", "annotations"):
            assert part[key] == source[split][key]
        assert part["text_bert"].shape[2] == part["text"].shape[1] == 3
        for key in ("regression_labels", *(f"regression_labels_{letter}" for letter in "TAV")):
            np.testing.assert_array_equal(part[key], np.float32(source[split][key]))
        np.testing.assert_array_equal(part["text_bert"][:, :2], source[split]["text_bert"][:, :2, :3])
        for name in ("audio", "vision"):
            steps = part[name].shape[1]
            np.testing.assert_array_equal(part[name], source[split][name][:, :steps])
            assert not source[split][name][:, steps:].any()
    assert np.isneginf(again["train"]["audio"][0, 0, 1])
    second = import_corpus("mmsa", tmp_path / "again.pkl")
    assert second.table.equals(first.table)
    assert second.card.modalities == first.card.modalities


def test_a_modality_that_is_not_there_stands_in_and_does_not_come_back(tmp_path: Path) -> None:
    corpus = make_embedded(videos=8)
    corpus = Corpus(corpus.table, {"audio": corpus.features["audio"]}, corpus.card)
    found = export_features(corpus, "mmsa", tmp_path / "x.pkl")
    assert any("has no text" in note for note in found.notes)
    data = pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert data["train"]["text"].shape == (len(corpus.rows("train")), 1, 1)
    assert import_corpus("mmsa", tmp_path / "x.pkl").modalities == ("audio",)


def test_unlabelled_utterances_are_left_out_on_request(tmp_path: Path) -> None:
    corpus = make_embedded(videos=12)
    missing = int(np.isnan(corpus.label("sentiment")).sum())
    assert missing
    kept = export_features(corpus, "mmsa", tmp_path / "x.pkl")
    assert any(f"{missing} utterances have no sentiment label" in note for note in kept.notes)
    fewer = export_features(corpus, "mmsa", tmp_path / "x.pkl", drop_unlabelled=True)
    assert sum(fewer.utterances.values()) == len(corpus) - missing
    assert not np.isnan(import_corpus("mmsa", tmp_path / "x.pkl").label("sentiment")).any()


def test_what_cannot_be_exported(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    with pytest.raises(AffectusError, match=r"Unknown writer 'mmsaa'.*Did you mean 'mmsa'\?"):
        export_features(corpus, "mmsaa", path)
    with pytest.raises(
        AffectusError, match="Unknown view of exported features 'contextual': expected one of: aligned, unaligned"
    ):
        export_features(corpus, "mmsa", path, view=View.CONTEXTUAL)
    with pytest.raises(
        AffectusError, match=r"is not word-aligned in utterance 'u0': got 2 and 4 steps.*--view unaligned"
    ):
        export_features(corpus, "mmsa", path, view=View.ALIGNED)
    card = corpus.card.model_copy(update={"schemes": corpus.card.schemes[1:]})
    with pytest.raises(AffectusError, match="has no sentiment intensity, which MMSA's layout is about: got emotions"):
        export_features(Corpus(corpus.table, corpus.features, card), "mmsa", path)
    with pytest.raises(AffectusError, match="has no features that MMSA knows: got no features"):
        export_features(Corpus(corpus.table, {}, corpus.card), "mmsa", path)
    unlabelled = corpus.table.with_columns(pl.lit(None, pl.Float32).alias("sentiment"))
    with pytest.raises(AffectusError, match="There is no utterance to write in little"):
        export_features(Corpus(unlabelled, corpus.features, corpus.card), "mmsa", path, drop_unlabelled=True)
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "The file was written by a newer affectus in .*split train, key 'affectus'"),
        ({"lengths": {}}, "The key is not as our writer makes it .*there are no lengths of 'text'"),
        ({"lengths": {"text": [1], "audio": [1], "vision": [1]}}, r"'text' has 1 entries, not \d+"),
        ({"columns": {"videos": ["a"]}}, "'videos' has 1 entries"),
        ({"range": [1.0]}, "the range or the columns are not those of our writer"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"aligned": "yes"}, "aligned: Input should be a valid boolean"),
        ({"modalities": {"text": {"dims": 3}}}, "dim: Field required"),
    ],
)
def test_a_broken_key_of_ours(change: dict[str, Any], message: str, make: ModuleType, tmp_path: Path) -> None:
    export_features(make_embedded(videos=4), "mmsa", tmp_path / "x.pkl")
    data = pickle.loads((tmp_path / "x.pkl").read_bytes())
    data["train"]["affectus"] |= change
    with pytest.raises(AffectusError, match=message):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", data))


@pytest.mark.parametrize("id", [-1.0, 0.5, float("nan"), 2.0**31])
def test_tokens_that_are_none(id: float, make: ModuleType, tmp_path: Path) -> None:
    part = make.mmsa_part(2)
    part["text_bert"][1, 0, 1] = id
    with pytest.raises(
        AffectusError, match=r"A token of 'text_bert' is no id in .*0002': got .*expected a whole number"
    ):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", {"train": part}))


def test_too_few_annotations(make: ModuleType, tmp_path: Path) -> None:
    data = {"train": make.mmsa_part(2) | {"annotations": ["Neutral"]}}
    with pytest.raises(AffectusError, match=r"'annotations' has the wrong shape .*got 1 entries; expected 2"):
        import_corpus("mmsa", make.write_pickle(tmp_path / "x.pkl", data))


# --- the pickle itself ---

VALUE = {
    "numbers": [0, -1, 255, 256, 2**40, -(2**40), 1.5, float("inf"), True, False, None],
    "words": ["", "ü", "a" * 300, "\x00"],
    "nested": {"tuple": (1, ("a",)), "list": [[], [1]], "dict": {}},
}


def test_a_pickle_is_what_pickle_reads(tmp_path: Path) -> None:
    arrays = {
        "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "big": np.arange(3, dtype=">i4"),
        "bytes": np.arange(3, dtype=np.uint8),
        "none": np.zeros((0, 3)),
        "flags": np.array([True, False]),
    }
    parts = [np.ones((2, 3)), np.zeros((0, 3)), np.full((1, 3), 2.0)]
    streamed = StreamedArray((3, 3), np.dtype("<f8"), iter(parts))
    path = tmp_path / "x.pkl"
    with path.open("wb") as stream:
        write_pickle({**VALUE, **arrays, "streamed": streamed}, stream)
    for found in (pickle.loads(path.read_bytes()), load_pickle(path)):
        assert {name: found[name] for name in VALUE} == VALUE
        for name, array in {**arrays, "streamed": np.concatenate(parts)}.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype.newbyteorder("<")
            assert found[name].flags.writeable


def test_a_pickle_refuses_what_is_no_data(tmp_path: Path) -> None:
    with (tmp_path / "x.pkl").open("wb") as stream:
        for value in (object(), np.array(["a"]), {1}):
            with pytest.raises(TypeError, match="cannot write"):
                write_pickle(value, stream)
        with pytest.raises(ValueError, match="have 8 bytes less than the whole"):
            write_pickle(StreamedArray((2,), np.dtype("<f8"), [np.ones(1)]), stream)


EXPORT = """
import resource, sys
from affectus.corpus import load_corpus
from affectus.corpus.writers import export_features
corpus = load_corpus(sys.argv[1])
base = [line for line in open("/proc/self/status") if line.startswith("VmData")][0].split()[1]
limit = (int(base) + 192 * 1024) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
export_features(corpus, "mmsa", sys.argv[2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux sets them")
def test_a_file_larger_than_memory_is_written(tmp_path: Path) -> None:
    """One long utterance makes the padded array 480 MB; 192 MB of memory are enough to write it."""
    lengths = np.ones(1200, np.int64)
    lengths[0] = 1000
    audio = Ragged(np.ones((int(lengths.sum()), 100), np.float32), np.concatenate([[0], np.cumsum(lengths)]))
    records = [{"id": str(i), "video": "v", "split": "train", "sentiment": 0.0} for i in range(len(lengths))]
    save_corpus(build_corpus(records, {"audio": audio}, Card(name="x", schemes=[sentiment_scheme()])), tmp_path / "c")
    assert len(lengths) * 1000 * 100 * 4 > 2 * 192 * 1024**2 > 2 * CHUNK_BYTES
    subprocess.run([sys.executable, "-c", EXPORT, tmp_path / "c", tmp_path / "x.pkl"], check=True, timeout=120)
    assert (tmp_path / "x.pkl").stat().st_size > len(lengths) * 1000 * 100 * 4


# --- the command ---


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = make_embedded(videos=8, steps=True)
    save_corpus(corpus, tmp_path / "c")
    call = ["export-features", str(tmp_path / "c"), "--format", "mmsa", "--out", str(tmp_path / "x.pkl")]
    assert main(call) == 0
    printed = capsys.readouterr().out
    assert f"Wrote {len(corpus)} utterances" in printed
    assert ", aligned, text " in printed
    assert "The layout has no place for the labels emotions" in printed
    assert main([*call, "--view", "unaligned", "--drop-unlabelled", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["view"] == "unaligned"
    assert sum(found["utterances"].values()) < len(corpus)
    again, kept = import_corpus("mmsa", tmp_path / "x.pkl"), corpus.table.drop_nulls("sentiment")
    assert again.table.equals(kept.select(again.table.columns))
    assert main([*call, "--view", "sideways"]) == 2
    assert "Unknown view of exported features 'sideways'" in capsys.readouterr().err
    assert main([*call, "--format", "misa"]) == 2
    assert "Unknown writer 'misa'" in capsys.readouterr().err


def test_every_writer_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-features", "--help"]) == 0
    printed = capsys.readouterr().out
    for name in WRITERS:
        assert f"{name}:" in printed
