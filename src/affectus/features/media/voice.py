"""Voice activity: where somebody speaks, by Silero's model (https://github.com/snakers4/silero-vad, MIT), as a stream.

Its ONNX form is run directly: the package itself is never imported, since that changes the threads of torch.
"""

import functools
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.errors import AffectusError
from affectus.features.media.acoustic import FRAME_RATE, HOP
from affectus.features.media.extras import MEDIA, need
from affectus.files import sha256

FloatArray = npt.NDArray[np.float32]
Stretch = tuple[float, float]
"""Begin and end in seconds."""

SPEECH = 0.5
"""Probability from which a frame is speech; what has begun goes on down to 0.15 less."""
_CONTEXT = 64
_FRAMES = 512
"""Frames that go through the model at once: 16 s."""
_MODEL = "silero_vad_16k_sequence.onnx"
_SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"


def model_path() -> Path:
    """Return the file of the packaged model, checked.

    Raises:
        AffectusError: the package is absent, or its file is not the known one.
    """
    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None:
        raise AffectusError("Voice activity needs the package silero-vad", remedy=f"Install it: {MEDIA}")
    path = Path(found.origin).parent / "data" / _MODEL
    if not path.is_file() or sha256(path) != _SHA256:
        raise AffectusError(
            "The model of voice activity is not the known one",
            where=path,
            expected=f"SHA-256 {_SHA256}",
            remedy="Install silero-vad==6.2.3 afresh",
        )
    return path


@functools.cache
def _session() -> Any:
    onnxruntime = need("onnxruntime", "Voice activity models")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a small model: threads only cost
    return onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])


def speech_probabilities(blocks: Iterable[FloatArray]) -> FloatArray:
    """Return (T,) the probability of speech in each frame of 32 ms.

    Args:
        blocks: the sound at 16 kHz, in pieces of any length.

    Raises:
        AffectusError: onnxruntime or the model is absent.
    """
    session = _session()
    state = {name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}
    context = np.zeros(_CONTEXT, np.float32)
    found = []
    for frames in _framed(blocks):
        before = np.concatenate([context[None], frames[:-1, -_CONTEXT:]])
        context = frames[-1, -_CONTEXT:]
        probability, state["h"], state["c"] = session.run(None, {"input": np.hstack([before, frames]), **state})
        found.append(probability.ravel())
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _framed(blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Yield (up to 512, HOP) frames; the last one is filled with silence."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, np.clip(block, -1.0, 1.0)])
        while len(held) >= _FRAMES * HOP:
            yield held[: _FRAMES * HOP].reshape(_FRAMES, HOP)
            held = held[_FRAMES * HOP :]
    if len(held):
        yield np.pad(held, (0, -len(held) % HOP)).reshape(-1, HOP)


def speech_stretches(
    probabilities: FloatArray, *, threshold: float = SPEECH, pause: float = 0.3, shortest: float = 0.2, pad: float = 0.1
) -> list[Stretch]:
    """Return where speech is, in seconds.

    Args:
        probabilities: (T,) of frames of 32 ms.
        threshold: speech begins here; it ends below 0.15 less.
        pause: silences shorter than this do not end it.
        shortest: speech shorter than this is none.
        pad: seconds that are added at both ends, without reaching into another stretch.

    >>> probabilities = np.repeat(np.float32([0, 1, 0]), 32)
    >>> [(round(a, 3), round(b, 3)) for a, b in speech_stretches(probabilities, pad=0)]
    [(1.024, 2.048)]
    """
    stretches: list[list[int]] = []
    begin, last = None, 0  # of what is going on; the last frame that was speech
    silence = round(pause * FRAME_RATE)
    for i, probability in enumerate(probabilities.tolist()):
        if begin is None:
            if probability >= threshold:
                begin, last = i, i
        elif probability >= threshold - 0.15:
            last = i
        elif i - last > silence:
            stretches.append([begin, last + 1])
            begin = None
    if begin is not None:
        stretches.append([begin, last + 1])
    stretches = [s for s in stretches if s[1] - s[0] >= shortest * FRAME_RATE]
    end = len(probabilities) / FRAME_RATE
    found = []
    for k, (a, b) in enumerate(stretches):
        low = 0.0 if k == 0 else (stretches[k - 1][1] + a) / 2 / FRAME_RATE
        high = end if k + 1 == len(stretches) else (b + stretches[k + 1][0]) / 2 / FRAME_RATE
        found.append((max(a / FRAME_RATE - pad, low), min(b / FRAME_RATE + pad, high)))
    return found
