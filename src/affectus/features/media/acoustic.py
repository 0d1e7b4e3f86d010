"""Sound -> frames: the 33 columns of CH-SIMS, loudness and voicing, every 32 ms.

The columns of Yu et al. 2020 (CH-SIMS, https://aclanthology.org/2020.acl-main.343): log F0, 20 MFCCs, 12 chroma of a
constant-Q transform. Two are added: energy and voicing. F0 comes from WORLD (DIO refined by StoneMask, Morise 2016)
instead of pYIN, which was slower and put real speech at the floor of its range. Nothing is scaled by the recording's
own maximum, so a frame does not depend on what is said a minute later.
"""

import warnings

import numpy as np
import numpy.typing as npt

from affectus.features.media.extras import need

FloatArray = npt.NDArray[np.float32]

RATE = 16_000
"""Samples per second of all sound that affectus reads."""
HOP = 512
"""Samples from one frame to the next: 32 ms."""
FRAME_RATE = RATE / HOP
"""Frames per second: 31.25."""
AUDIO_COLUMNS: tuple[str, ...] = (
    "log_f0",
    *(f"mfcc_{i}" for i in range(20)),
    *(f"chroma_{name}" for name in ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")),
    "energy",
    "voicing",
)
"""Names of the 35 columns, in their order."""
F0_RANGE = (65.0, 600.0)
"""Hz within which the voice's pitch is sought."""
_WINDOW = 1024
_SUBFRAMES = 4
"""Estimates of F0 within a frame, 8 ms each."""
_QUIET = 1e-5
"""Root mean square that counts as silence: -100 dB."""
_EMPTY = 1e-6
"""Power of a mel band that counts as empty: near 16-bit noise, below which a file tells only how it was coded."""


def frame_times(count: int, begin: float = 0.0) -> npt.NDArray[np.float64]:
    """Return (count, 2) begin and end of each frame in seconds, the first of which begins at ``begin``."""
    starts = begin + np.arange(count) / FRAME_RATE
    return np.stack([starts, starts + 1 / FRAME_RATE], axis=1)


def audio_features(samples: npt.NDArray[np.floating], rate: int = RATE, *, chroma: bool = True) -> FloatArray:
    """Return the acoustic features of a stretch of sound.

    - ``log_f0``: natural log of the mean F0 in Hz of the voiced part of a frame; between voiced frames a straight line,
      and the log of the middle of the range if nothing is voiced.
    - ``mfcc_0`` to ``mfcc_19``: of a mel spectrum in dB, windows of 64 ms.
    - ``chroma_C`` to ``chroma_B``: energy of each pitch class, the largest of a frame is 1; all 0 in digital silence.
    - ``energy``: root mean square of the frame in dB of full scale, -100 at least.
    - ``voicing``: share of the frame that is voiced, 0 to 1.

    Args:
        samples: (n,) mono, full scale is -1 to 1; what is no finite number counts as 0.
        rate: samples per second.
        chroma: False leaves the chroma 0, which takes a third of the time.

    Returns:
        (T, 35) float32, ``AUDIO_COLUMNS``; frame t spans the seconds t * 0.032 to (t + 1) * 0.032, and the last one may
        reach over the end. (0, 35) without samples.

    Raises:
        AffectusError: librosa or pyworld is absent.
    """
    librosa = need("librosa", "Sound features")
    y = np.nan_to_num(np.asarray(samples, np.float32).ravel(), nan=0.0, posinf=0.0, neginf=0.0)
    y = np.clip(y, -8.0, 8.0)
    if rate != RATE and len(y):
        y = librosa.resample(y, orig_sr=rate, target_sr=RATE)
    count = -(-len(y) // HOP)
    if count == 0:
        return np.zeros((0, len(AUDIO_COLUMNS)), np.float32)
    y = np.pad(y, (0, count * HOP - len(y)))
    log_f0, voicing = _pitch(y, count)
    # librosa centres frame t on sample t * HOP; half a hop less puts it in the middle of the frame's own span
    shifted = y[HOP // 2 :]
    with warnings.catch_warnings():
        # a stretch shorter than a window is padded, which is what is wanted
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")
        mel = librosa.feature.melspectrogram(y=shifted, sr=RATE, n_fft=_WINDOW, hop_length=HOP)
        classes = librosa.feature.chroma_cqt(y=shifted, sr=RATE, hop_length=HOP, tuning=0.0) if chroma else None
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel, ref=1.0, amin=_EMPTY, top_db=None), n_mfcc=20)
    if classes is None:
        classes = np.zeros((12, count), np.float32)
    found = np.nan_to_num(np.pad(classes.T, ((0, max(count - classes.shape[1], 0)), (0, 0)))[:count])
    energy = 20 * np.log10(np.maximum(np.sqrt(np.mean(np.square(y.reshape(count, HOP)), axis=1)), _QUIET))
    columns = [log_f0[:, None], mfcc.T[:count], found, energy[:, None], voicing[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _pitch(y: FloatArray, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (count,) log F0, a line between voiced frames, and (count,) share of each frame that is voiced."""
    pyworld = need("pyworld", "Sound features")
    # WORLD reads beyond very short signals
    x = np.pad(y, (0, max(4 * HOP - len(y), 0))).astype(np.float64)
    step = 1000 * HOP / RATE / _SUBFRAMES
    # decimated by 4 the search for F0 takes an eighth of the time and finds the same voices
    rough, times = pyworld.dio(x, RATE, f0_floor=F0_RANGE[0], f0_ceil=F0_RANGE[1], frame_period=step, speed=4)
    f0 = pyworld.stonemask(x, rough, times, RATE)
    f0 = np.pad(f0, (0, max(count * _SUBFRAMES - len(f0), 0)))[: count * _SUBFRAMES].reshape(count, _SUBFRAMES)
    voiced = f0 > 0
    shares = voiced.mean(axis=1)
    there = np.flatnonzero(shares)
    if not len(there):
        return np.full(count, np.log(np.sqrt(F0_RANGE[0] * F0_RANGE[1]))), shares
    means = f0[there].sum(axis=1) / voiced[there].sum(axis=1)
    return np.interp(np.arange(count), there, np.log(means)), shares
