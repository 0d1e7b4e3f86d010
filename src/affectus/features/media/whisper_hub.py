"""A Whisper of transformers: any on the Hugging Face hub, or in a folder."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError

from affectus.errors import AffectusError
from affectus.features.hub import ask_for, is_here
from affectus.features.media.acoustic import RATE
from affectus.features.media.words import Word
from affectus.threads import torch_threads

FloatArray = npt.NDArray[np.float32]


class HubWhisper:
    """Whisper run by transformers; slower than by CTranslate2."""

    def __init__(self, pipeline: Any, name: str, language: str | None, threads: int) -> None:
        self._pipeline, self.identity, self._threads = pipeline, name, threads
        self._options = {"language": language} if language else {}

    def words(self, samples: FloatArray, begin: float = 0.0) -> list[Word]:
        """Return the words said, with their times."""
        if len(samples) < RATE // 20:
            return []
        length = len(samples) / RATE
        with torch_threads(self._threads):
            found = self._pipeline(
                {"raw": samples, "sampling_rate": RATE},
                return_timestamps="word",
                generate_kwargs={"do_sample": False, "num_beams": 1, **self._options},
            )
        words = []
        for chunk in found["chunks"]:
            text = chunk["text"].strip()
            start, end = chunk["timestamp"]
            start = min(max(start or 0.0, 0.0), length)
            end = length if end is None else min(max(end, start), length)
            if text:
                words.append(Word(text, begin + start, begin + end))
        return words

    def align(self, samples: FloatArray, words: Sequence[str], begin: float = 0.0) -> list[Word] | None:
        """Return None: it does not tell when known words were said."""
        return None


def load_hub_whisper(name: str, *, language: str | None, threads: int) -> HubWhisper:
    """Load a Whisper of transformers.

    Raises:
        AffectusError: transformers is absent, there is no such model, or it is no Whisper.
    """
    if importlib.util.find_spec("transformers") is None:
        raise AffectusError(
            "A Whisper of transformers needs the package transformers",
            remedy="Install it: pip install 'affectus[text]'",
        )
    from transformers import AutoProcessor, WhisperForConditionalGeneration, pipeline
    from transformers.utils import logging

    local = Path(name).is_dir()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    here = local or is_here(name, "config.json", "preprocessor_config.json")
    try:
        if not here:
            ask_for(name)
        processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            name, local_files_only=here, trust_remote_code=False
        )
        # weights in another form than safetensors would be a pickle
        model = WhisperForConditionalGeneration.from_pretrained(
            name, local_files_only=here, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
        made = pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device="cpu",
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
        raise AffectusError(
            f"The speech recogniser {name!r} could not be loaded",
            got=" ".join(str(error).split())[:160],
            expected="a Whisper, its weights as safetensors",
            remedy="Look whether its files are whole" if here else "Check the name and the network, or use 'tiny.en'",
        ) from None
    return HubWhisper(made, name, language, threads)
