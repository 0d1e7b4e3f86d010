"""Token ids that a source brings, and the name of what made them."""

from pathlib import Path
from types import ModuleType

import pytest

from affectus.cli.main import main
from affectus.corpus import load_corpus
from affectus.corpus.readers import import_corpus
from affectus.errors import AffectusError


def test_the_card_names_the_tokenizer(make: ModuleType, tmp_path: Path) -> None:
    source = make.write_pickle(
        tmp_path / "mmsa.pkl", {"train": make.mmsa_part(), "valid": make.mmsa_part(1, video="w")}
    )
    assert import_corpus("mmsa", source).card.tokenizer is None
    out = tmp_path / "corpus"
    assert main(["import", "mmsa", str(source), "--tokenizer", "bert-base-uncased", "--out", str(out)]) == 0
    found = load_corpus(out)
    assert found.card.tokenizer == "bert-base-uncased"
    assert found.table["token_ids"].to_list() == [[1], [1, 1], [1]]


def test_a_source_without_token_ids(tmp_path: Path, make: ModuleType) -> None:
    part = make.mmsa_part()
    del part["text_bert"]
    source = make.write_pickle(tmp_path / "mmsa.pkl", {"train": part})
    with pytest.raises(AffectusError, match=r"The source brings no token ids: got --tokenizer bert-base-uncased"):
        import_corpus("mmsa", source, tokenizer="bert-base-uncased", out=tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
