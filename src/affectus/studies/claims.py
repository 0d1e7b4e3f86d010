"""A paper's claims, put to the test: each a difference between two cells, with a sentence that says what came out.

A claim says that the second cell is better than the first. It *holds* if the difference is in its favour and p,
corrected for all tests of the study (Holm), is below .05. It *does not hold* if the difference is against it by the
same rule, or if the 95 % interval leaves no room for a gain of half a point. Otherwise it *cannot be told* from this
data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.evaluation.significance import Difference, compare_runs, holm
from affectus.studies.cells import Outcome
from affectus.studies.tables import NOTHING, Grid

LEVEL = 0.05
SMALLEST_GAIN = 0.005
"""A gain below this is as good as none: half a point of a share."""


class Verdict(StrEnum):
    """What a test says of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "cannot be told"


@dataclass(frozen=True)
class Comparison:
    """One test of a claim.

    Attributes:
        claim: what is claimed, as a sentence without a full stop.
        metric: in which; larger is better, but for ``lower``.
        first: the cell that the claim calls worse; None if there is none.
        second: the cell that it calls better; None if there is none.
        why_not: why there is nothing to compare, if so.
        published: the gain that the paper reports, if at hand.
        against: what the first cell is, in words.
        lower: smaller is better, as for an error.
    """

    claim: str
    metric: str
    first: str | None
    second: str | None
    why_not: str = ""
    published: float | None = None
    against: str = ""
    lower: bool = False


@dataclass(frozen=True)
class Finding:
    """What a test came to.

    Attributes:
        comparison: the test.
        difference: with its interval and p, honest; None if it could not be made.
        corrected: p after Holm's correction over all tests of the study.
        oracle: the same difference between oracle figures, which decides nothing.
        verdict: of the claim, in this metric.
        reason: why it could not be made, if so.
    """

    comparison: Comparison
    difference: Difference | None
    corrected: float | None
    oracle: float | None
    verdict: Verdict
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            **vars(self.comparison),
            "verdict": str(self.verdict),
            "reason": self.reason,
            "difference": self.difference.to_json() if self.difference else None,
            "p_holm": self.corrected,
            "oracle_difference": self.oracle,
        }


def decide(difference: float, interval: tuple[float, float], corrected: float) -> Verdict:
    """Return what a difference, its 95 % interval and its corrected p say of a gain.

    >>> str(decide(0.02, (0.01, 0.03), 0.001)), str(decide(-0.01, (-0.02, 0.001), 0.09))
    ('holds', 'does not hold')
    >>> str(decide(0.01, (-0.01, 0.03), 0.4))
    'cannot be told'
    """
    if corrected < LEVEL:
        return Verdict.HOLDS if difference > 0 else Verdict.FAILS
    return Verdict.FAILS if interval[1] < SMALLEST_GAIN else Verdict.OPEN


def put_to_test(
    comparisons: Sequence[Comparison],
    outcomes: Mapping[str, Outcome],
    corpus: Corpus,
    *,
    split: str,
    oracle: Callable[[str, str], Sequence[float]],
    draws: int = 10_000,
    protocol: str = "akhtar2019",
) -> list[Finding]:
    """Test every comparison that can be made: paired bootstrap over videos, Holm's correction over all of them.

    Args:
        comparisons: in the order of the page.
        outcomes: of the study's cells.
        corpus: to judge on.
        split: of it.
        oracle: from a cell's name and a metric to the oracle figures of its seeds.
        draws: of the bootstrap.
        protocol: by whose rules sentiment intensity is judged.
    """
    differences: dict[int, Difference] = {}
    reasons: dict[int, str] = {}
    for i, comparison in enumerate(comparisons):
        if comparison.first is None or comparison.second is None:
            reasons[i] = comparison.why_not
            continue
        pair = [outcomes.get(name) for name in (comparison.first, comparison.second)]
        runs = [outcome.run for outcome in pair if outcome is not None and outcome.run is not None]
        if len(runs) < 2:
            reasons[i] = "a cell of it could not be trained"
            continue
        try:
            found = compare_runs(
                runs, corpus, split=split, metrics=[comparison.metric], draws=draws, protocol=protocol
            )[0]
        except AffectusError as error:
            reasons[i] = str(error).rstrip(".")
            continue
        if math.isnan(found.difference):
            reasons[i] = "the figure is undefined for a seed of one of the two"
        else:
            differences[i] = found
    corrected = dict(zip(differences, holm([d.p_videos for d in differences.values()]), strict=True))
    tested = []
    for i, comparison in enumerate(comparisons):
        if i not in differences:
            tested.append(Finding(comparison, None, None, None, Verdict.OPEN, reasons[i]))
            continue
        d = differences[i]
        assert comparison.first is not None
        assert comparison.second is not None
        means = [oracle(name, comparison.metric) for name in (comparison.second, comparison.first)]
        gain = sum(means[0]) / len(means[0]) - sum(means[1]) / len(means[1]) if all(means) else None
        low, high = d.interval
        turned = (-d.difference, (-high, -low)) if comparison.lower else (d.difference, (low, high))
        tested.append(Finding(comparison, d, corrected[i], gain, decide(*turned, corrected[i])))
    return tested


def points(value: float) -> str:
    """Return a difference of shares in points, with its sign.

    >>> points(-0.0184)
    '-1.8'
    """
    # a loss that rounds to nothing has no sign
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def p_text(p: float) -> str:
    """Return a p as text.

    >>> p_text(0.0004), p_text(0.034)
    ('< .001', '.034')
    """
    if math.isnan(p):
        return NOTHING
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def sentences(tested: Sequence[Finding], words: Mapping[str, str]) -> list[str]:
    """Return one plain sentence per claim.

    Args:
        tested: all tests.
        words: names of the metrics as a sentence has them.
    """
    written = []
    for claim in dict.fromkeys(one.comparison.claim for one in tested):
        mine = [one for one in tested if one.comparison.claim == claim]
        several = len({one.comparison.against for one in mine}) > 1
        parts = []
        for one in mine:
            if one.difference is None:
                continue
            d = one.difference
            low, high = d.interval
            gain = (
                f"{points(d.difference)} points, 95 % [{points(low)}, {points(high)}], p {p_text(one.corrected or 0.0)}"
            )
            which = f", {one.comparison.against}" if several else ""
            parts.append(f"{one.verdict} in {words.get(d.metric, d.metric)}{which} ({gain})")
        untold = list(dict.fromkeys(one.reason for one in mine if one.difference is None))
        parts += [f"{Verdict.OPEN}: {reason}" for reason in untold]
        written.append(f"**{claim}**: " + "; ".join(parts) + ".")
    return written


def claims_grid(tested: Sequence[Finding], words: Mapping[str, str]) -> Grid:
    """Return all tests as a table."""
    rows = []
    for one in tested:
        c, d = one.comparison, one.difference
        published = NOTHING if c.published is None else points(c.published)
        if d is None:
            rows.append((c.claim, words.get(c.metric, c.metric), *([NOTHING] * 2), published, *([NOTHING] * 6)))
            rows[-1] = (*rows[-1][:-1], f"{one.verdict}: {one.reason}")
            continue
        low, high = d.interval
        rows.append(
            (
                c.claim + (f" ({c.against})" if c.against else ""),
                words.get(c.metric, c.metric),
                f"{100 * d.first_mean:.1f}",
                f"{100 * d.second_mean:.1f}",
                published,
                NOTHING if one.oracle is None else points(one.oracle),
                points(d.difference),
                f"[{points(low)}, {points(high)}]",
                p_text(one.corrected or 0.0),
                p_text(d.p_seeds),
                str(one.verdict),
            )
        )
    head = (
        "claim",
        "in",
        "without",
        "with",
        "published gain",
        "oracle gain",
        "honest gain",
        "95 % interval",
        "p (Holm)",
        "p (seeds)",
        "verdict",
    )
    return Grid("The claims, tested", head, tuple(rows), text_columns=2)
