import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.errors import AffectusError
from affectus.features.encoders import TextEncoder, load_encoder
from affectus.features.tokens import run_layers, tokenize

pytest.importorskip("transformers", reason="needs the extra affectus[text]")

TEXTS = ["the film was good", None, "unlikely", "  ", "the sad film was very very bad", "nobody liked it"]
IDS = {"the": 11, "film": 10, "was": 12, "good": 4, "sad": 8, "very": 17, "bad": 7, "it": 13}


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> TextEncoder:
    return load_encoder(str(tiny_encoder))


def of_texts(texts: list[str | None], **columns: list[object]) -> Corpus:
    records = [
        {"id": f"u{i}", "video": "v", "split": "train", "text": text, **{k: v[i] for k, v in columns.items()}}
        for i, text in enumerate(texts)
    ]
    return build_corpus(records, {}, Card(name="spoken"))


def with_steps(corpus: Corpus) -> Corpus:
    steps = [np.ones((3, 2))] * len(corpus)
    return Corpus(corpus.table, {"audio": Ragged.from_sequences(steps, 2)}, corpus.card)


def lists(ids: Ragged) -> list[list[int]]:
    return [ids[row][:, 0].tolist() for row in range(len(ids))]


def test_ids_with_marks(encoder: TextEncoder) -> None:
    found = tokenize(of_texts(TEXTS), encoder, max_tokens=50)
    assert found.ids.values.dtype == np.int64
    assert found.words is None
    assert lists(found.ids) == [
        [2, *(IDS[w] for w in ["the", "film", "was", "good"]), 3],
        [],
        [2, 14, 15, 16, 3],  # un ##like ##ly
        [],
        [2, *(IDS[w] for w in ["the", "sad", "film", "was", "very", "very", "bad"]), 3],
        [2, 1, 1, IDS["it"], 3],
    ]


def test_long_texts_are_cut_and_keep_their_marks(encoder: TextEncoder) -> None:
    assert lists(tokenize(of_texts(TEXTS), encoder, max_tokens=4).ids)[4] == [2, IDS["the"], IDS["sad"], 3]
    long = of_texts(["good " * 100])
    assert tokenize(long, encoder, max_tokens=500).ids.lengths.tolist() == [32]  # what the encoder takes


def test_which_word_a_token_belongs_to(encoder: TextEncoder) -> None:
    words = [["the", "unlikely", "sp", "film"], [], ["sp"], ["good"]]
    corpus = with_steps(of_texts([None, None, "a pause", "good"], words=words))
    found = tokenize(corpus, encoder, max_tokens=50, by_word=True)
    assert lists(found.ids) == [[2, 11, 14, 15, 16, 10, 3], [], [], [2, 4, 3]]
    assert found.words is not None
    assert found.words.tolist() == [-1, 0, 1, 1, 1, 3, -1, -1, 0, -1]
    assert found.word_counts is not None
    assert found.word_counts.tolist() == [4, 0, 1, 1]


def test_words_of_a_byte_level_tokenizer(encoder: TextEncoder) -> None:
    """Such tokenizers take the space before a word into its token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "Ġthe": 3, "Ġun": 4, "like": 5, "Ġfilm": 6, "the": 7}
    merges: list[tuple[str, str]] = []
    for word in ("Ġthe", "Ġun", "like", "Ġfilm", "the"):
        for end in range(2, len(word) + 1):
            for piece in (word[: end - 1], word[end - 1], word[:end]):
                pieces.setdefault(piece, len(pieces))
            merges.append((word[: end - 1], word[end - 1]))
    made = Tokenizer(models.BPE(pieces, merges, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    bytes_ = dataclasses.replace(encoder, tokenizer=PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32))
    corpus = with_steps(of_texts(["the unlike film"], words=[["the", "unlike", "film"]]))
    found = tokenize(corpus, bytes_, max_tokens=50, by_word=True)
    assert bytes_.tokenizer.convert_ids_to_tokens(lists(found.ids)[0]) == [
        "[CLS]",
        "Ġthe",
        "Ġun",
        "like",
        "Ġfilm",
        "[SEP]",
    ]
    assert found.words is not None
    assert found.words.tolist() == [-1, 0, 1, 1, 2, -1]


def test_words_without_a_column_if_nothing_else_has_steps(encoder: TextEncoder) -> None:
    found = tokenize(of_texts(["the unlikely film", None]), encoder, max_tokens=50, by_word=True)
    assert found.word_counts is not None
    assert found.word_counts.tolist() == [3, 0]
    with pytest.raises(AffectusError, match=r"'spoken' has no words to align with: expected the column 'words'"):
        tokenize(with_steps(of_texts(["the film", None])), encoder, max_tokens=50, by_word=True)


def test_a_tokenizer_that_does_not_tell_words(encoder: TextEncoder) -> None:
    slow = dataclasses.replace(encoder, tokenizer=SimpleNamespace(is_fast=False, model_max_length=32))
    with pytest.raises(AffectusError, match="does not tell which word a token belongs to"):
        tokenize(of_texts(["the film"]), slow, max_tokens=50, by_word=True)


class TestBroughtIds:
    GIVEN = ([2, 4, 5, 6, 7, 3], None, [2, 8, 3])

    def corpus(self, tokenizer: str | None, texts: bool = True) -> Corpus:
        found = of_texts(["good film", "bad", "sad"] if texts else [None] * 3)
        column = pl.Series("token_ids", self.GIVEN, pl.List(pl.Int64))
        found = Corpus(found.table.with_columns(column), {}, found.card.model_copy(deep=True))
        found.card.tokenizer = tokenizer
        return found

    def test_are_used_where_the_tokenizer_is_the_encoders(self, encoder: TextEncoder) -> None:
        found = tokenize(self.corpus("tiny-bert"), encoder, max_tokens=50)
        assert lists(found.ids) == [[2, 4, 5, 6, 7, 3], [], [2, 8, 3]]
        assert lists(tokenize(self.corpus("tiny-bert"), encoder, max_tokens=4).ids)[0] == [2, 4, 5, 3]

    @pytest.mark.parametrize("tokenizer", [None, "bert-base-chinese"])
    def test_else_the_text_is_tokenised(self, encoder: TextEncoder, tokenizer: str | None) -> None:
        assert lists(tokenize(self.corpus(tokenizer), encoder, max_tokens=50).ids) == [
            [2, 4, 10, 3],
            [2, 7, 3],
            [2, 8, 3],
        ]

    def test_neither(self, encoder: TextEncoder) -> None:
        with pytest.raises(AffectusError, match=r"no transcripts.*unknown tokenizer made, are not the encoder's"):
            tokenize(self.corpus(None, texts=False), encoder, max_tokens=50)
        with pytest.raises(AffectusError, match="'bert-base-chinese' made, are not the encoder's"):
            tokenize(self.corpus("bert-base-chinese", texts=False), encoder, max_tokens=50)
        with pytest.raises(AffectusError, match=r"has no transcripts, which the text encoder .* reads"):
            tokenize(of_texts([None, " "]), encoder, max_tokens=50)

    def test_aligned_a_token_is_a_step(self, encoder: TextEncoder) -> None:
        found = tokenize(self.corpus("tiny-bert"), encoder, max_tokens=4, by_word=True)
        assert lists(found.ids)[0] == [2, 4, 5, 6]
        assert found.words is not None
        assert found.words.tolist() == [0, 1, 2, 3, 0, 1, 2]
        assert found.word_counts is not None
        assert found.word_counts.tolist() == [6, 0, 3]

    def test_ids_of_another_vocabulary(self, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TestBroughtIds, "GIVEN", ([2, 3], [2, 30000, 3], None))
        with pytest.raises(
            AffectusError, match=r"not in the vocabulary of .*utterance 'u1'.*got 2 to 30000; expected 0 to 17"
        ):
            tokenize(self.corpus("tiny-bert"), encoder, max_tokens=50)
        monkeypatch.setattr(TestBroughtIds, "GIVEN", (None, None, None))
        with pytest.raises(AffectusError, match="neither token ids nor transcripts"):
            tokenize(self.corpus("tiny-bert"), encoder, max_tokens=50)


@pytest.mark.parametrize("depth", [0, 2, 3])
def test_layers_say_what_the_encoder_says(encoder: TextEncoder, make_spoken: Callable[..., Corpus], depth: int) -> None:
    corpus = make_spoken()
    found = tokenize(corpus, encoder, max_tokens=50)
    rows = corpus.rows("train")
    total = int(found.ids.lengths[rows].sum())
    out = np.full((total, encoder.dim), np.nan, np.float32)
    seen: list[tuple[int, int]] = []
    run_layers(found.ids, rows, encoder, depth=depth, out=out, progress=lambda *done: seen.append(done))
    assert seen[-1] == ((found.ids.lengths[rows] > 0).sum(),) * 2
    begin = 0
    for row in rows:
        ids = torch.from_numpy(np.array(found.ids[row][:, 0]))[None]
        if ids.shape[1]:
            with torch.inference_mode():
                states = encoder.model(input_ids=ids, output_hidden_states=True).hidden_states[depth][0]
            assert np.abs(out[begin : begin + len(states)] - states.numpy()).max() < 1e-5
            begin += len(states)
    assert begin == total
