"""Transcripts -> token ids, and what the layers of a text encoder say of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus
from affectus.corpus.corpus import TOKEN_COLUMN
from affectus.corpus.ragged import Ragged
from affectus.corpus.readers.word_times import PAUSE
from affectus.errors import AffectusError
from affectus.features.encoders import TextEncoder
from affectus.threads import torch_threads
from affectus.vocabulary import TEXT

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with (utterances encoded, utterances in all)."""
BATCH = 64
"""Utterances per forward pass."""


@dataclass(frozen=True, eq=False)
class TokenIds:
    """The tokens of N utterances, one after another, an encoder's marks at both ends among them.

    Attributes:
        ids: (steps, 1) int64, ragged over the utterances; no step where there is no text.
        words: (steps,) the word of each token within its utterance, -1 for none; None if words were not asked for.
        word_counts: (N,) words of each utterance; None likewise.
    """

    ids: Ragged
    words: IntArray | None = None
    word_counts: IntArray | None = None


def tokenize(corpus: Corpus, encoder: TextEncoder, *, max_tokens: int, by_word: bool = False) -> TokenIds:
    """Turn the transcripts of a corpus into token ids.

    Token ids that the corpus brings are taken if they were made with the encoder's vocabulary.

    Args:
        corpus: with transcripts, or with words if ``by_word``.
        encoder: whose tokenizer is used.
        max_tokens: longer texts are cut, the marks at both ends counted in.
        by_word: tell which word each token belongs to.

    Raises:
        AffectusError: no utterance has a transcript, or words are asked for and cannot be told.
    """
    longest = min(max_tokens, encoder.longest)
    if TOKEN_COLUMN in corpus.table.columns and encoder.reads_ids_of(corpus.card.tokenizer):
        return _brought(corpus, encoder, longest, by_word)
    words = _words(corpus, encoder) if by_word else None
    if words is None:
        texts = [text.strip() if text else "" for text in corpus.table["text"].to_list()]
    else:
        texts = [" ".join(word for word in said if word != PAUSE) for said in words]
    spoken = [row for row, text in enumerate(texts) if text.strip()]
    if not spoken:
        remedy = "Import it from a source with text, or train without a text encoder"
        if TOKEN_COLUMN in corpus.table.columns:
            made = f"{corpus.card.tokenizer!r} made" if corpus.card.tokenizer else "an unknown tokenizer made"
            remedy = f"Its token ids, which {made}, are not the encoder's; import it with --tokenizer if they are"
        raise AffectusError(
            f"The corpus {corpus.name!r} has no transcripts, which the text encoder {encoder.name!r} reads",
            remedy=remedy,
        )
    found = encoder.tokenizer(
        [texts[row] for row in spoken],
        truncation=True,
        max_length=longest,
        return_offsets_mapping=by_word,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    lengths = np.zeros(len(texts), np.int64)
    lengths[spoken] = [len(ids) for ids in found["input_ids"]]
    flat = np.fromiter((i for ids in found["input_ids"] for i in ids), np.int64, count=int(lengths.sum()))
    ids = Ragged(flat[:, None], np.concatenate([[0], np.cumsum(lengths)]))  # type: ignore[arg-type]
    if words is None:
        return TokenIds(ids)
    found_owners = [owners(words[row], spans) for row, spans in zip(spoken, found["offset_mapping"], strict=True)]
    return TokenIds(ids, np.concatenate(found_owners), np.array([len(said) for said in words]))


def _brought(corpus: Corpus, encoder: TextEncoder, longest: int, by_word: bool) -> TokenIds:
    """Return the token ids that a corpus brings; aligned, a token is a step."""
    given = [list(ids or ()) for ids in corpus.table[TOKEN_COLUMN].to_list()]
    flat = np.fromiter((i for ids in given for i in ids), np.int64)
    if not len(flat):
        raise AffectusError(f"The corpus {corpus.name!r} has neither token ids nor transcripts")
    size = int(encoder.model.config.vocab_size)
    if flat.min() < 0 or flat.max() >= size:
        row = next(row for row, ids in enumerate(given) if ids and not 0 <= min(ids) <= max(ids) < size)
        raise AffectusError(
            f"A token id of the corpus {corpus.name!r} is not in the vocabulary of {encoder.name!r}",
            where=f"utterance {corpus.table['id'][row]!r}",
            got=f"{min(given[row])} to {max(given[row])}",
            expected=f"0 to {size - 1}",
            remedy="Import the corpus with the --tokenizer that made them",
        )
    # a text that is cut keeps the mark at its end, unless a token is a step
    kept = [
        ids if len(ids) <= longest else ids[:longest] if by_word else [*ids[: longest - 1], ids[-1]] for ids in given
    ]
    ids = Ragged.from_sequences((np.array(ids)[:, None] if ids else None for ids in kept), 1)
    ids = Ragged(ids.values.astype(np.int64), ids.offsets)
    if not by_word:
        return TokenIds(ids)
    return TokenIds(ids, np.concatenate([np.arange(len(part)) for part in kept]), np.array([len(i) for i in given]))


def _words(corpus: Corpus, encoder: TextEncoder) -> list[list[str]]:
    """Return the words of each utterance; without a column of words, what spaces part, if nothing else has steps."""
    if not encoder.tokenizer.is_fast:
        raise AffectusError(
            f"The tokenizer of {encoder.name!r} does not tell which word a token belongs to",
            remedy="Use another encoder, or the unaligned view",
        )
    if "words" in corpus.table.columns:
        return [list(words or ()) for words in corpus.table["words"].to_list()]
    if not set(corpus.modalities) - {TEXT}:
        return [(text or "").split() for text in corpus.table["text"].to_list()]
    raise AffectusError(
        f"The corpus {corpus.name!r} has no words to align with",
        expected="the column 'words' of its table, one per step",
        remedy="Use the unaligned or the contextual view, or import it from a source with words",
    )


def owners(words: Sequence[str], spans: Sequence[tuple[int, int]]) -> IntArray:
    """Return the word of each token, from the characters that it spans in the words joined by spaces."""
    said = np.array([i for i, word in enumerate(words) if word != PAUSE])
    ends = np.cumsum([len(words[i]) + 1 for i in said])  # one past the space behind each word
    # the last character, since some tokenizers count the space before a word as the word's
    last = np.array([end - 1 for _, end in spans])
    real = np.array([end > begin for begin, end in spans])
    return np.where(real, said[np.searchsorted(ends, last, side="right").clip(max=len(said) - 1)], -1)


def run_layers(
    ids: Ragged,
    rows: IntArray,
    encoder: TextEncoder,
    *,
    depth: int,
    out: FloatArray,
    threads: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write what an encoder's layers say of each token.

    Utterances of the same number of tokens go through together, so there is no padding.

    Args:
        ids: of all utterances.
        rows: which of them.
        encoder: in evaluation mode.
        depth: how many layers; the embeddings alone with 0, the encoder's result with all.
        out: (steps, dim) of the rows' tokens, one after another; filled.
        threads: of torch.
        progress: told how far it is.
    """
    # here, since its import takes seconds that extraction without an encoder need not wait
    import torch

    lengths = ids.lengths[rows]
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    changes = np.flatnonzero(np.diff(lengths[order])) + 1
    done = 0
    with torch.inference_mode(), torch_threads(threads):
        for group in np.split(order, changes):
            for part in np.split(group, np.arange(BATCH, len(group), BATCH)):
                if not len(part):
                    continue
                length = int(lengths[part[0]])
                taken = ids.values[ids.step_index(rows[part])].reshape(len(part), length)
                x = torch.from_numpy(taken).to(encoder.model.device)
                said = encoder.model(
                    input_ids=x, attention_mask=torch.ones_like(x), output_hidden_states=depth < encoder.layers
                )
                states = said.hidden_states[depth] if depth < encoder.layers else said.last_hidden_state
                steps = starts[part][:, None] + np.arange(length)
                out[steps.ravel()] = states.float().cpu().numpy().reshape(-1, encoder.dim)
                done += len(part)
                if progress:
                    progress(done, len(order))
