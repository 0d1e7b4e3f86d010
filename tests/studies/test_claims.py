import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from affectus.corpus import load_corpus
from affectus.evaluation.significance import Difference, compare_runs, holm
from affectus.studies.cells import Cell, Outcome, run_cells
from affectus.studies.claims import (
    Comparison,
    Finding,
    Verdict,
    claims_grid,
    decide,
    p_text,
    points,
    put_to_test,
    sentences,
)

METRIC = "polarity.accuracy"
CONSTANT = Cell("constant", "majority", ("polarity",))
LEARNED = Cell("learned", "linear", ("polarity",), ("text",))


@pytest.fixture(scope="module")
def outcomes(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_cells([CONSTANT, LEARNED], embedded, tmp_path_factory.mktemp("claims"))


@pytest.mark.parametrize(
    ("difference", "interval", "p", "verdict"),
    [
        (0.02, (0.01, 0.03), 0.01, Verdict.HOLDS),
        (-0.02, (-0.03, -0.01), 0.01, Verdict.FAILS),
        (0.02, (0.001, 0.04), 0.06, Verdict.OPEN),
        (0.001, (-0.003, 0.004), 0.5, Verdict.FAILS),  # no room for half a point
        (0.001, (-0.003, 0.006), 0.5, Verdict.OPEN),
        (0.0, (0.0, 0.0), 1.0, Verdict.FAILS),
    ],
)
def test_verdicts(difference: float, interval: tuple[float, float], p: float, verdict: Verdict) -> None:
    assert decide(difference, interval, p) is verdict


def _tested(embedded: Path, outcomes: dict[str, Outcome]) -> list[Finding]:
    comparisons = [
        Comparison("Learning helps", METRIC, "constant", "learned", published=0.1, against="the majority"),
        Comparison("Learning hurts", METRIC, "learned", "constant"),
        Comparison("Two of one", METRIC, "learned", "learned"),
        Comparison("What is not there helps", METRIC, None, None, "the corpus has no smell"),
        Comparison("What failed helps", METRIC, "constant", "failed"),
        Comparison("Emotions are better", "emotions.weighted_f1", "constant", "learned"),
    ]
    given = {"constant": [0.5], "learned": [0.75]}
    with_failed = {**outcomes, "failed": Outcome(Cell("failed", "linear", ("polarity",)), None, "No space left")}
    corpus = load_corpus(embedded)
    return put_to_test(
        comparisons, with_failed, corpus, split="test", oracle=lambda cell, _: given.get(cell, ()), draws=500
    )


def test_a_claim_is_tested_by_the_protocols_rules(
    embedded: Path, outcomes: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one whose figure is undefined cannot be told."""
    asked: list[str] = []

    def compare(*arguments: Any, protocol: str, **named: Any) -> list[Difference]:
        asked.append(protocol)
        (found,) = compare_runs(*arguments, protocol=protocol, **named)
        return [replace(found, difference=math.nan)]

    monkeypatch.setattr("affectus.studies.claims.compare_runs", compare)
    (found,) = put_to_test(
        [Comparison("It helps", METRIC, "constant", "learned")],
        outcomes,
        load_corpus(embedded),
        split="test",
        oracle=lambda *_: (),
        draws=100,
        protocol="mmsa-sims",
    )
    assert asked == ["mmsa-sims"]
    assert (found.verdict, found.difference) == (Verdict.OPEN, None)
    assert "undefined for a seed" in found.reason


def test_claims_are_tested_by_the_bootstrap_and_corrected_together(
    embedded: Path, outcomes: dict[str, Outcome]
) -> None:
    tested = _tested(embedded, outcomes)
    helps, hurts, same, *_ = tested
    assert helps.difference is not None
    assert hurts.difference is not None
    assert same.difference is not None
    runs = [outcomes[name].run for name in ("constant", "learned")]
    (alone,) = compare_runs([r for r in runs if r], load_corpus(embedded), metrics=[METRIC], draws=500)
    fields = ("difference", "interval", "p_videos", "first_mean", "second_mean")
    assert [getattr(helps.difference, f) for f in fields] == [getattr(alone, f) for f in fields]
    raw = [one.difference.p_videos for one in tested if one.difference]
    assert [one.corrected for one in tested if one.difference] == holm(raw)
    assert len(raw) == 3
    assert helps.corrected is not None
    assert helps.corrected > alone.p_videos
    assert helps.verdict is (Verdict.HOLDS if helps.corrected < 0.05 else Verdict.OPEN)
    assert hurts.verdict is Verdict.FAILS
    assert hurts.difference.difference == pytest.approx(-helps.difference.difference)
    assert helps.oracle == pytest.approx(0.25)
    assert same.verdict is Verdict.FAILS


def test_what_cannot_be_tested_says_why(embedded: Path, outcomes: dict[str, Outcome]) -> None:
    tested = _tested(embedded, outcomes)
    reasons = [one.reason for one in tested if one.difference is None]
    assert reasons[:2] == ["the corpus has no smell", "a cell of it could not be trained"]
    assert "emotions.weighted_f1" in reasons[2]
    assert {one.verdict for one in tested if one.difference is None} == {Verdict.OPEN}
    assert tested[3].to_json()["difference"] is None


def test_sentences_and_table(embedded: Path, outcomes: dict[str, Outcome]) -> None:
    tested = _tested(embedded, outcomes)
    said = sentences(tested, {METRIC: "accuracy of sentiment"})
    assert len(said) == 6
    assert said[0].startswith("**Learning helps**: ")
    assert "in accuracy of sentiment (+" in said[0]
    assert said[1].startswith("**Learning hurts**: does not hold in accuracy of sentiment (-")
    assert said[3] == "**What is not there helps**: cannot be told: the corpus has no smell."
    grid = claims_grid(tested, {METRIC: "accuracy of sentiment"})
    first = dict(zip(grid.head, grid.rows[0], strict=True))
    assert first["claim"] == "Learning helps (the majority)"
    assert (first["published gain"], first["oracle gain"]) == ("+10.0", "+25.0")
    assert grid.rows[3][-1] == "cannot be told: the corpus has no smell"


def test_several_tests_of_one_claim_say_which_they_are(embedded: Path, outcomes: dict[str, Outcome]) -> None:
    one, other, *_ = _tested(embedded, outcomes)
    named = replace(other, comparison=replace(other.comparison, claim=one.comparison.claim, against="the learned"))
    (said,) = sentences([one, named], {METRIC: "accuracy"})
    assert "in accuracy, the majority (+" in said
    assert "; does not hold in accuracy, the learned (-" in said
    assert "the majority" not in sentences([one], {METRIC: "accuracy"})[0]


def test_numbers_as_text() -> None:
    assert points(-0.0001) == "+0.0"  # a loss that rounds to nothing has no sign
    assert points(-0.0184) == "-1.8"
    assert [p_text(p) for p in (0.0004, 0.034, 1.0, float("nan"))] == ["< .001", ".034", "1.000", "–"]
