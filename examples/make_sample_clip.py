"""Makes examples/sample.mp4, the clip that `make quickstart` analyses; it was run once and the clip is committed.

    pip install --no-deps scikit-image espeakng-loader
    python examples/make_sample_clip.py --out examples/sample.mp4

The face is that of the astronaut Eileen Collins, a portrait by NASA (public domain), as scikit-image ships it; the
program moves it: the head sways, the mouth follows the voice, and its corners rise and fall. The voice is espeak-ng's.
So nobody ever said or showed any of this: the clip shows how the program works, not how good it is.
"""

import argparse
import ctypes
import importlib.util
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, map_coordinates

FloatArray = npt.NDArray[np.float64]

SAID = (  # words, corners of the mouth, pitch, words per minute
    ("Hello! I am so happy to be here. It was a wonderful day.", 1.0, 65, 165),
    ("But the food in the hotel was terrible, and I hated the noise.", -1.0, 40, 150),
    ("The train leaves at ten in the morning.", 0.0, 50, 160),
    ("I really love this city. Thank you so much!", 1.0, 65, 165),
)
PAUSE = 0.9
RATE, FPS, SIZE = 16_000, 15, 320
TOP, LEFT, SIDE = 0, 95, 260
"""The square of the portrait that is shown, in its pixels."""
MOUTH = (146.0, 223.5)
"""Row and column of the middle of the mouth in the portrait."""


def speak(text: str, pitch: int, speed: int) -> FloatArray:
    """Return espeak-ng's voice at RATE."""
    found = importlib.util.find_spec("espeakng_loader")
    if found is None or found.origin is None:
        raise SystemExit("Install the voice: pip install espeakng-loader")
    folder = Path(found.origin).parent
    library = ctypes.CDLL(str(folder / "libespeak-ng.so"))
    synchronous, parameter_rate, parameter_pitch = 2, 1, 3
    rate = library.espeak_Initialize(synchronous, 0, str(folder).encode(), 0)
    parts: list[npt.NDArray[np.int16]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def keep(samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int) -> int:
        if samples and count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(keep)
    library.espeak_SetVoiceByName(b"en-us")
    library.espeak_SetParameter(parameter_rate, speed, 0)
    library.espeak_SetParameter(parameter_pitch, pitch, 0)
    raw = text.encode()
    library.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, 1, None, None)
    library.espeak_Synchronize()
    library.espeak_Terminate()
    y = np.concatenate(parts).astype(np.float64) / 32768
    places = np.arange(0, len(y) - 1, rate / RATE)
    return np.interp(places, np.arange(len(y)), y)


def portrait() -> npt.NDArray[np.uint8]:
    """Return the astronaut's picture."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise SystemExit("Install the picture: pip install --no-deps scikit-image")
    with av.open(str(Path(found.origin).parent / "data" / "astronaut.png")) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def picture(image: npt.NDArray[np.uint8], seconds: float, opening: float, smile: float) -> npt.NDArray[np.uint8]:
    """Return the face as it is at a moment: moved, the mouth opened (0 to 1), its corners raised (-1 to 1)."""
    y, x = np.mgrid[:SIZE, :SIZE] * (SIDE / SIZE)
    y, x = y + TOP, x + LEFT
    # the head sways and nods a little
    turn, zoom = 0.025 * np.sin(1.3 * seconds), 1 + 0.015 * np.sin(0.9 * seconds)
    cy, cx = MOUTH[0] - 40, MOUTH[1]
    dy, dx = (y - cy) / zoom, (x - cx) / zoom
    y = cy + np.cos(turn) * dy - np.sin(turn) * dx + 2.5 * np.sin(1.7 * seconds)
    x = cx + np.sin(turn) * dy + np.cos(turn) * dx + 3 * np.sin(0.8 * seconds)
    # below the lips everything goes down as the mouth opens; what is shown there comes from above
    my, mx = y - MOUTH[0], x - MOUTH[1]
    near = np.exp(-((mx / 22) ** 2))
    y = y - 7 * opening * near * np.exp(-(((my - 9) / 12) ** 2))
    # corners: up and out, or down
    for side in (-1, 1):
        corner = np.exp(-(((mx - side * 21) / 11) ** 2) - (((my + 5) / 10) ** 2))
        y = y + 5 * smile * corner
        x = x - side * 3 * max(smile, 0) * corner
    # brows: down and together for the angry part
    brow = np.exp(-((mx / 30) ** 2) - (((my + 58) / 9) ** 2))
    y = y - 4 * max(-smile, 0) * brow
    channels = [map_coordinates(image[..., c].astype(np.float64), [y, x], order=1, mode="nearest") for c in range(3)]
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples/sample.mp4"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    gap = np.zeros(round(PAUSE * RATE))
    sound, smiles = [gap], [np.zeros(len(gap))]
    for text, smile, pitch, speed in SAID:
        voice = speak(text, pitch, speed)
        sound += [voice, gap]
        smiles += [np.full(len(voice), smile), np.zeros(len(gap))]
    y, mood = np.concatenate(sound), np.concatenate(smiles)
    y = 0.5 * y / np.abs(y).max() + rng.normal(0, 0.0008, len(y))  # a room is never silent
    mood = gaussian_filter1d(mood, 0.2 * RATE)
    loud = gaussian_filter1d(np.abs(y), 0.04 * RATE)
    loud = np.clip(loud / np.percentile(loud, 95), 0, 1)
    image = portrait()
    with av.open(str(arguments.out), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "30", "preset": "veryslow", "threads": "1"})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE)
        audio.layout = "mono"
        audio.bit_rate = 40_000
        for n in range(int(len(y) / RATE * FPS)):
            at = min(int((n + 0.5) / FPS * RATE), len(y) - 1)
            frame = av.VideoFrame.from_ndarray(picture(image, n / FPS, loud[at], mood[at]), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for start in range(0, len(y), 1024):
            block = av.AudioFrame.from_ndarray(
                y[None, start : start + 1024].astype(np.float32), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = RATE, start
            container.mux(audio.encode(block))
        container.mux(audio.encode())
    print(f"Wrote {arguments.out}: {len(y) / RATE:.1f} s, {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
