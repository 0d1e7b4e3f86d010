from pathlib import Path

import pytest

from affectus.api import train
from affectus.corpus.embedded import make_embedded
from affectus.evaluation.significance import compare_runs


@pytest.mark.slow
@pytest.mark.parametrize(("size", "found"), [(1.0, True), (0.0, False)])
def test_context_is_found_where_it_was_planted(tmp_path: Path, size: float, found: bool) -> None:
    corpus = make_embedded(videos=200, context=size)
    runs = [
        train(
            "mtmm_es",
            corpus,
            tasks=["polarity"],
            seeds=2,
            options=options,
            training={"epochs": 15, "select": "polarity.accuracy"},
            out=tmp_path / name,
        )
        for name, options in (("alone", {"context": False, "attention": "none"}), ("context", {}))
    ]
    (difference,) = compare_runs(runs, corpus, metrics=["polarity.accuracy"], draws=4000)
    assert (difference.better == "yes") is found, difference
