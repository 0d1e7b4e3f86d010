"""The figures of a benchmark's cells: on the judged split, on valid, and against each other."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.evaluation import PROTOCOLS, Scorer
from affectus.evaluation.evaluate import choose_for, thresholds_on
from affectus.evaluation.significance import (
    Difference,
    Statistic,
    compare_statistics,
    intervals_of,
    statistics_of,
)
from affectus.studies.cells import Outcome
from affectus.training import Run

DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class Judged:
    """A cell's figures.

    Attributes:
        seeds: whose models were judged.
        values: per metric, one value per seed.
        valid: the same on the training corpus's valid split; empty without one.
        statistics: per seed, what each utterance adds to the figures that can be compared.
    """

    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    valid: Mapping[str, tuple[float, ...]]
    statistics: tuple[dict[str, Statistic], ...]

    def mean(self, metric: str) -> float:
        """Return the mean over seeds; NaN where there is none."""
        return _mean(self.values.get(metric, ()))

    def valid_mean(self, metric: str) -> float:
        """Return the mean over seeds on valid; NaN where there is none."""
        return _mean(self.valid.get(metric, ()))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


@dataclass
class Judge:
    """Judges each cell of a study once; a cell whose judging fails counts as failed.

    Attributes:
        outcomes: of the study's cells.
        corpus: to judge on.
        split: of it.
        protocol: by which rules.
        say: told what is being judged.
        judged: by cell, those that could be judged.
        failures: by cell, why there are no figures.
    """

    outcomes: Mapping[str, Outcome]
    corpus: Corpus
    split: str
    protocol: str
    say: Callable[[str], None] = lambda _: None
    judged: dict[str, Judged] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, outcome in self.outcomes.items():
            if outcome.run is None:
                self.failures[name] = str(outcome.failure)
                continue
            self.say(f"judging {name} on {self.corpus.name}")
            try:
                self.judged[name] = judge_run(outcome.run, self.corpus, self.split, self.protocol)
            except AffectusError as error:
                self.failures[name] = str(error)
            except Exception as error:
                # a model of a third party may fail in any way; the other rows do not depend on it
                self.failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]

    def videos(self) -> npt.NDArray[np.int64]:
        """Return (n,) the number of each judged utterance's video."""
        return np.concatenate([np.full(len(rows), i) for i, rows in enumerate(self.corpus.recordings(self.split))])

    def intervals(self, metric: str) -> dict[str, tuple[float, float]]:
        """Return the 95 % interval of each cell's mean over seeds, over draws of videos; none for a single video."""
        names = list(self.judged)
        try:
            found = intervals_of([self.judged[n].statistics for n in names], self.videos(), metric, draws=DRAWS)
        except AffectusError:
            return {}
        return dict(zip(names, found, strict=True))

    def against(self, first: str, others: Sequence[str], metric: str) -> dict[str, Difference]:
        """Hold cells against the first in one metric, corrected for all of them (Holm); none for a single video."""
        others = [name for name in others if name in self.judged and name != first]
        if not others or first not in self.judged:
            return {}
        names = [first, *others]
        try:
            found = compare_statistics(
                names,
                [self.judged[name].statistics for name in names],
                self.videos(),
                paired=[self.judged[name].seeds == self.judged[first].seeds for name in names],
                where=f"{self.corpus.name}, split {self.split}",
                metrics=[metric],
                draws=DRAWS,
            )
        except AffectusError:
            return {}
        return {difference.second: difference for difference in found}


def judge_run(run: Run, corpus: Corpus, split: str, protocol: str) -> Judged:
    """Return the figures of every seed of a run.

    Raises:
        AffectusError: the corpus does not fit the run, or a model has diverged.
    """
    rules = PROTOCOLS[protocol].intensity
    said = choose_for(run, corpus, split)
    rows = [Scorer(rules, cuts)(run.tasks, given.probabilities, given.targets) for given, cuts in said]
    return Judged(
        run.seeds,
        {name: tuple(row[name] for row in rows) for name in rows[0]},
        valid_figures(run, protocol),
        tuple(statistics_of(run.tasks, given, cuts, rules) for given, cuts in said),
    )


def valid_figures(run: Run, protocol: str) -> dict[str, tuple[float, ...]]:
    """Return the figures of every seed on the training corpus's valid split, as it was kept; none without one."""
    rules, found = PROTOCOLS[protocol].intensity, []
    for seed in run.seeds:
        given = run.valid_predictions(seed)
        if given is not None:
            found.append(Scorer(rules, thresholds_on(run, given))(run.tasks, given.probabilities, given.targets))
    return {name: tuple(row[name] for row in found) for name in (found[0] if found else {})}
