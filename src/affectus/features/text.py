"""Transcripts -> text features: a vector per utterance, or a vector per token."""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus, ModalityCard, Ragged
from affectus.corpus.storage import check_modality_name
from affectus.errors import AffectusError
from affectus.features.encoders import PACKAGED, TextEncoder, load_encoder
from affectus.threads import torch_threads
from affectus.vocabulary import TEXT

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with (transcripts encoded, transcripts in all)."""


class Level(StrEnum):
    """What becomes a vector: the whole utterance (the mean over its tokens) or each token."""

    UTTERANCE = "utterance"
    TOKENS = "tokens"


def encode_texts(
    texts: Sequence[str],
    encoder: TextEncoder,
    *,
    level: Level = Level.UTTERANCE,
    batch_size: int = 32,
    max_tokens: int = 256,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[FloatArray]:
    """Encode texts, each different one once, those of similar length together.

    Args:
        texts: non-empty.
        encoder: from :func:`affectus.features.encoders.load_encoder`.
        level: of the vectors.
        batch_size: texts per forward pass.
        max_tokens: longer texts are cut, the marks at both ends counted in.
        threads: of torch. More of them than idle cores make this many times slower.
        progress: told how far it is.

    Returns:
        Per text (1, dim), the mean over its tokens, the marks at its ends included, as all-MiniLM-L6-v2 was trained; or
        (tokens, dim), the marks left out.
    """
    # here, since its import takes seconds that extraction without an encoder need not wait
    import torch

    unique = sorted(set(texts), key=lambda text: (len(text), text))
    longest = min(max_tokens, encoder.longest)
    vectors: dict[str, FloatArray] = {}
    with torch.inference_mode(), torch_threads(threads):
        for start in range(0, len(unique), batch_size):
            part = unique[start : start + batch_size]
            tokens = encoder.tokenizer(
                part,
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
                return_special_tokens_mask=True,
                return_token_type_ids=False,
            )
            special = tokens.pop("special_tokens_mask").bool()
            tokens = {key: value.to(encoder.model.device) for key, value in tokens.items()}
            states = encoder.model(**tokens).last_hidden_state.float().cpu()
            mask = tokens["attention_mask"].bool().cpu()
            if level is Level.UTTERANCE:
                weights = mask.unsqueeze(-1).float()
                means = (states * weights).sum(dim=1) / weights.sum(dim=1)
                vectors |= {text: mean.numpy()[None] for text, mean in zip(part, means, strict=True)}
            else:
                keep = mask & ~special
                vectors |= {text: s[k].numpy() for text, s, k in zip(part, states, keep, strict=True)}
            if progress:
                progress(min(start + batch_size, len(unique)), len(unique))
    return [vectors[text] for text in texts]


def add_text_features(
    corpus: Corpus,
    encoder: str | TextEncoder = PACKAGED,
    *,
    name: str = TEXT,
    level: Level | str = Level.UTTERANCE,
    batch_size: int = 32,
    max_tokens: int = 256,
    threads: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Corpus:
    """Return a corpus with a text modality made from its transcripts; an empty transcript is a missing modality.

    Args:
        corpus: with transcripts.
        encoder: ``minilm``, a local folder, a name on the hub, or one that is loaded.
        name: of the modality; one of that name is replaced.
        level: ``utterance`` (for the contextual view) or ``tokens`` (for the sequence views).
        batch_size: texts per forward pass.
        max_tokens: longer transcripts are cut.
        threads: of torch.
        device: where the encoder runs.
        progress: told how far it is.

    Raises:
        AffectusError: no utterance has a transcript, the encoder cannot be loaded, or the name is not a plain word.
    """
    try:
        level = Level(level)
    except ValueError:
        raise AffectusError(f"Unknown level {level!r}", expected="utterance or tokens") from None
    check_modality_name(name)
    transcripts = [text.strip() if text else "" for text in corpus.table["text"].to_list()]
    spoken = [text for text in transcripts if text]
    if not spoken:
        raise AffectusError(
            f"The corpus {corpus.name!r} has no transcripts", remedy="Import it from a source with text"
        )
    loaded = encoder if isinstance(encoder, TextEncoder) else load_encoder(encoder, device=device)
    encoded = iter(
        encode_texts(
            spoken,
            loaded,
            level=level,
            batch_size=batch_size,
            max_tokens=max_tokens,
            threads=threads,
            progress=progress,
        )
    )
    sequences = [next(encoded) if text else None for text in transcripts]
    pooling = "mean over tokens" if level is Level.UTTERANCE else "token states"
    card = ModalityCard(dim=loaded.dim, encoder=f"{loaded.identity}; {pooling}")
    found = corpus.with_features(name, Ragged.from_sequences(sequences, loaded.dim), card)
    found.card.word_aligned = False  # neither whole utterances nor word pieces are words
    return found
