"""Word alignment: when each word of a known transcript was said, and a vector for each word."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from affectus.corpus.readers.word_times import PAUSE
from affectus.features.encoders import TextEncoder
from affectus.features.media.voice import Stretch
from affectus.features.media.words import Word
from affectus.features.tokens import owners
from affectus.threads import torch_threads

FloatArray = npt.NDArray[np.float32]


def spread(words: Sequence[str], begin: float, end: float, speech: Sequence[Stretch] = ()) -> list[Word]:
    """Spread words over a stretch of time by their lengths; an estimate, for want of a recogniser.

    Args:
        words: in their order.
        begin: seconds.
        end: seconds.
        speech: where somebody speaks; the words go there, if it overlaps the stretch.

    >>> [(word.text, word.start, word.end) for word in spread(["so", "good"], 1.0, 4.0)]
    [('so', 1.0, 2.0), ('good', 2.0, 4.0)]
    >>> [(word.text, word.start, word.end) for word in spread(["so", "good"], 0.0, 9.0, [(1.0, 2.0), (5.0, 7.0)])]
    [('so', 1.0, 2.0), ('good', 5.0, 7.0)]
    """
    spoken = [(max(a, begin), min(b, end)) for a, b in speech if min(b, end) > max(a, begin)] or [(begin, end)]
    lengths = np.array([max(len(word), 1) for word in words], np.float64)
    total = sum(b - a for a, b in spoken)
    edges = np.concatenate([[0.0], np.cumsum(lengths)]) / max(lengths.sum(), 1) * total
    known = np.concatenate([[0.0], np.cumsum([b - a for a, b in spoken])])

    def at(edge: float, side: str) -> float:
        # a word that begins where speech pauses begins after the pause, one that ends there ends before it
        part = int(np.searchsorted(known, edge, side=side)) - 1  # type: ignore[call-overload]
        part = min(max(part, 0), len(spoken) - 1)
        return float(min(spoken[part][0] + edge - known[part], spoken[part][1]))

    return [Word(word, at(edges[i], "right"), at(edges[i + 1], "left")) for i, word in enumerate(words)]


def within_speech(words: Sequence[Word], speech: Sequence[Stretch]) -> list[Word]:
    """Cut the silence off words that begin before somebody speaks, or end after it; others stay.

    >>> within_speech([Word("so", 0.0, 2.0), Word("good", 2.0, 2.5)], [(1.5, 2.4)])[0]
    Word(text='so', start=1.5, end=2.0, probability=None)
    """
    found = []
    for word in words:
        shared = [(a, b) for a, b in speech if min(b, word.end) > max(a, word.start)]
        if shared:
            word = replace(word, start=max(word.start, shared[0][0]), end=min(word.end, shared[-1][1]))
        found.append(word)
    return found


def match(given: Sequence[str], heard: Sequence[Word]) -> list[Word]:
    """Give the words of a transcript the times of the words that were recognised.

    Words that were heard otherwise share the time between their neighbours that were heard as written.

    Args:
        given: words of the transcript.
        heard: words of the recogniser, in their order; one at least.

    >>> heard = [Word("I", 0.0, 0.2), Word("lake", 0.2, 0.6), Word("it.", 0.6, 1.0)]
    >>> [(word.text, word.start, word.end) for word in match(["I", "like", "it"], heard)]
    [('I', 0.0, 0.2), ('like', 0.2, 0.6), ('it', 0.6, 1.0)]
    """
    a, b = [plain(word) for word in given], [plain(word.text) for word in heard]
    found: list[Word | None] = [None] * len(given)
    # without its shortcut the search takes a square of the length
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=len(b) > 2000)
    for i, j, size in matcher.get_matching_blocks():
        for k in range(size):
            found[i + k] = Word(given[i + k], heard[j + k].start, heard[j + k].end)
    i = 0
    while i < len(found):
        if found[i] is not None:
            i += 1
            continue
        j = i
        while j < len(found) and found[j] is None:
            j += 1
        before, after = found[i - 1] if i else None, found[j] if j < len(found) else None
        begin = before.end if before is not None else heard[0].start
        end = after.start if after is not None else heard[-1].end
        found[i:j] = spread(given[i:j], begin, max(end, begin))
        i = j
    return [word for word in found if word is not None]


def plain(word: str) -> str:
    """Return a word as it is compared: small letters and digits alone.

    >>> plain("Don't,")
    'dont'
    """
    return re.sub(r"[\W_]+", "", word.lower())


def word_vectors(
    utterances: Sequence[Sequence[str]], encoder: TextEncoder, *, max_tokens: int = 256, threads: int = 1
) -> list[FloatArray]:
    """Return a vector for each word: the mean of its tokens' states.

    Args:
        utterances: the words of each.
        encoder: with a tokenizer that tells which characters a token spans.
        max_tokens: utterances are cut there; words beyond it take the mean of the utterance.
        threads: of torch.

    Returns:
        Per utterance (words, dim).
    """
    # here, since its import takes seconds that extraction without an encoder need not wait
    import torch

    found = []
    with torch.inference_mode(), torch_threads(threads):
        for words in utterances:
            if not words:
                found.append(np.zeros((0, encoder.dim), np.float32))
                continue
            words = ["Sp" if word == PAUSE else word for word in words]  # a word here, not the aligner's pause
            tokens = encoder.tokenizer(
                " ".join(words),
                truncation=True,
                max_length=min(max_tokens, encoder.longest),
                return_offsets_mapping=True,
                return_tensors="pt",
                return_token_type_ids=False,
            )
            spans = [(int(a), int(b)) for a, b in tokens.pop("offset_mapping")[0].tolist()]
            states = encoder.model(**tokens.to(encoder.model.device)).last_hidden_state[0].float().cpu().numpy()
            of = owners(words, spans)
            vectors = np.tile(states.mean(axis=0), (len(words), 1)).astype(np.float32)
            for word in np.unique(of[of >= 0]):
                vectors[word] = states[of == word].mean(axis=0)
            found.append(vectors)
    return found
