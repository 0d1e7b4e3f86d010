from collections.abc import Callable

import numpy as np
import pytest
import torch

from affectus.batches import Loader, Scale, TokenCorpus, choose_modalities, fit_scaler
from affectus.corpus import Corpus, Ragged
from affectus.errors import AffectusError
from affectus.vocabulary import View

DIM = 3


def tokenised(corpus: Corpus, *, ids: bool = False, aligned: bool = False) -> TokenCorpus:
    """Two tokens per word and a mark at each end; each token's vector is its place in the corpus."""
    words = [len(said or ()) for said in corpus.table["words"].to_list()]
    lengths = [2 * count + 2 if count else 0 for count in words]
    total = sum(lengths)
    values = np.arange(1, total + 1)[:, None] if ids else np.repeat(np.arange(1.0, total + 1)[:, None], DIM, axis=1)
    tokens = Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    owner = np.concatenate([[-1, *np.repeat(np.arange(count), 2), -1] for count in words if count]) if aligned else None
    others = {name: ragged for name, ragged in corpus.features.items() if name != "text"}
    counts = np.array(words) if aligned else None
    return TokenCorpus(corpus.table, others, corpus.card, tokens, 7, owner, counts)


def load(corpus: Corpus, view: View, modalities: tuple[str, ...] = ("text", "audio"), **settings: object) -> Loader:
    scaler = fit_scaler(corpus, view, [name for name in modalities if name != "text"], Scale.STANDARD)
    return Loader(corpus, "train", view, modalities, scaler, batch_size=4, **settings)  # type: ignore[arg-type]


def test_its_modalities_and_widths(spoken: Corpus) -> None:
    found = tokenised(spoken)
    assert found.modalities == ("text", "audio")
    assert found.dims == {"text": 7, "audio": 5}
    assert not found.reads_ids
    assert tokenised(spoken, ids=True).reads_ids


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("view", list(View))
def test_each_utterance_keeps_its_tokens(spoken: Corpus, view: View, ids: bool) -> None:
    corpus = tokenised(spoken, ids=ids, aligned=view is View.ALIGNED)
    seen = []
    for batch in load(corpus, view, shuffle=True, seed=3):
        assert batch.tokens is not None
        assert batch.modalities == tuple(batch.masks) == ("text", "audio")
        assert tuple(batch.features) == ("audio",)
        assert batch.tokens.states.dtype == (torch.int64 if ids else torch.float32)
        assert batch.tokens.states.shape == (*batch.tokens.mask.shape, *(() if ids else (DIM,)))
        for place in batch.mask.nonzero().tolist():
            row = int(batch.rows[tuple(place)])
            mask = batch.tokens.mask[tuple(place)]
            states = batch.tokens.states[tuple(place)][mask]
            expected = corpus.tokens[row][:, 0] if ids else corpus.tokens[row]
            assert np.array_equal(states.numpy(), expected)
            seen.append(row)
        padding = ~batch.tokens.mask
        assert not batch.tokens.states[padding].any()
        assert not batch.tokens.mask[~batch.mask].any()
    assert sorted(seen) == corpus.rows("train").tolist()


def test_masks_of_each_view(spoken: Corpus) -> None:
    missing = {row for row, text in enumerate(spoken.table["text"].to_list()) if text is None}
    assert missing & set(spoken.rows("train").tolist())
    for batch in load(tokenised(spoken), View.CONTEXTUAL):
        there = batch.rows[batch.masks["text"]].tolist()
        assert not set(there) & missing
        assert set(there) == set(batch.rows[batch.mask].tolist()) - missing
    for batch in load(tokenised(spoken), View.UNALIGNED):
        assert batch.tokens is not None
        assert batch.masks["text"] is batch.tokens.mask
        assert batch.tokens.words is None
    for batch in load(tokenised(spoken, aligned=True), View.ALIGNED):
        assert batch.tokens is not None
        assert batch.tokens.words is not None
        assert batch.masks["text"].shape == batch.masks["audio"].shape
        for row, mask in zip(batch.rows.tolist(), batch.masks["text"], strict=True):
            assert int(mask.sum()) == len(spoken.table["words"][row])
        assert (batch.tokens.words[~batch.tokens.mask] == -1).all()


def test_a_word_without_a_token_is_no_step(spoken: Corpus) -> None:
    corpus = tokenised(spoken, aligned=True)
    assert corpus.words is not None
    corpus.words[corpus.words == 1] = -1
    for batch in load(corpus, View.ALIGNED):
        long = [i for i, row in enumerate(batch.rows.tolist()) if len(spoken.table["words"][row]) > 2]
        if long:
            assert not batch.masks["text"][long, 1].any()
            assert batch.masks["text"][long, 2].all()


def test_utterances_of_similar_length_go_together(spoken: Corpus) -> None:
    corpus = tokenised(spoken)
    widths = [int(batch.masks["text"].shape[1]) for batch in load(corpus, View.UNALIGNED, ("text",))]
    assert widths == sorted(widths)
    assert widths[-1] == corpus.tokens.lengths[corpus.rows("train")].max()


def test_other_steps_than_words_are_refused(spoken: Corpus) -> None:
    corpus = tokenised(spoken, aligned=True)
    assert corpus.word_counts is not None
    row = int(np.flatnonzero(corpus.features["audio"].lengths * corpus.word_counts)[0])
    corpus.word_counts[row] += 1
    with pytest.raises(AffectusError, match=r"is not word-aligned in utterance .* text \d+, audio \d+ steps"):
        load(corpus, View.ALIGNED)


def test_without_text_and_on_another_device(spoken: Corpus) -> None:
    batch = next(iter(load(tokenised(spoken), View.CONTEXTUAL)))
    assert not batch.without("text").masks["text"].any()
    moved = batch.to("cpu")
    assert moved.tokens is not None
    assert batch.tokens is not None
    assert torch.equal(moved.tokens.states, batch.tokens.states)
    aligned = next(iter(load(tokenised(spoken, aligned=True), View.ALIGNED))).map(lambda x: x[:1])
    assert aligned.tokens is not None
    assert aligned.tokens.words is not None
    assert len(aligned.tokens.states) == len(aligned.tokens.words) == 1


def test_an_encoder_brings_the_text(spoken: Corpus, make_corpus: Callable[..., Corpus]) -> None:
    assert choose_modalities(spoken, None, encoded=True) == ("text", "audio")
    assert choose_modalities(spoken, ["text"], encoded=True) == ("text",)
    assert choose_modalities(Corpus(spoken.table, {}, spoken.card), None, encoded=True) == ("text",)
    assert choose_modalities(make_corpus(), None, encoded=True) == ("text", "audio")
    with pytest.raises(AffectusError, match="the text is not among the modalities to use: got audio"):
        choose_modalities(spoken, ["audio"], encoded=True)
    with pytest.raises(AffectusError, match="Unknown modality 'vision'"):
        choose_modalities(spoken, ["text", "vision"], encoded=True)
    with pytest.raises(AffectusError, match=r"no features.*--text-encoder minilm"):
        choose_modalities(Corpus(spoken.table, {}, spoken.card), None)
