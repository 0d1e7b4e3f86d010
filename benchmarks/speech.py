"""Word error of the packaged speech recognisers on the LibriVox clips of Debian's package pocketsphinx-testdata.

    apt-get install pocketsphinx-testdata
    python benchmarks/speech.py [--models tiny.en base] [--folder /usr/share/pocketsphinx/test/data/librivox]

Case and punctuation do not count; "Mr." is "mister" and a hyphen parts words, as in the transcription. Time is that
of the processor for one thread, as a share of the length of the sound.
"""

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affectus.features.media.acoustic import RATE
from affectus.features.media.alignment import plain
from affectus.features.media.decoding import audio_blocks
from affectus.features.media.recognition import load_recognizer


def edits(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the insertions, deletions and substitutions that make ``b`` of ``a``."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def said(folder: Path) -> dict[Path, list[str]]:
    found = {}
    for line in (folder / "transcription").read_text().splitlines():
        match = re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip())
        if match:
            found[folder / f"{match[2]}.wav"] = match[1].split()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/pocketsphinx/test/data/librivox"))
    options = parser.parse_args()
    known = said(options.folder)
    for name in options.models:
        recognizer = load_recognizer(name)
        wrong = total = 0
        seconds, before = 0.0, time.process_time()
        for path, words in known.items():
            samples = np.concatenate(list(audio_blocks(path)))
            seconds += len(samples) / RATE
            heard = " ".join(word.text for word in recognizer.words(samples))
            heard = heard.replace("Mr.", "mister").replace("-", " ")
            wrong += edits(words, [plain(word) for word in heard.split() if plain(word)])
            total += len(words)
        spent = time.process_time() - before
        print(f"{name}: {wrong} of {total} words wrong, {wrong / total:.3f}; "
              f"{spent / seconds:.2f} x the {seconds:.0f} s of sound", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
