"""The figures of a cell: honest, as an oracle, and on valid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.evaluation import Evaluation, evaluate_run
from affectus.studies.cells import Outcome
from affectus.vocabulary import Split

HONEST, ORACLE = "akhtar2019", "akhtar2019-released"


@dataclass
class Judge:
    """Evaluates each cell once, when it is first asked for.

    Attributes:
        outcomes: of the study's cells.
        corpus: to judge on.
        split: of it.
        say: told what is being judged.
    """

    outcomes: Mapping[str, Outcome]
    corpus: Corpus
    split: str
    say: Callable[[str], None] = lambda _: None
    _found: dict[tuple[str, str, str], Evaluation | None] = field(default_factory=dict)

    def evaluation(self, cell: str, protocol: str, split: str | None = None) -> Evaluation | None:
        """Return a cell's evaluation; None if the cell is not there or could not be trained."""
        split = split or self.split
        key = cell, protocol, split
        if key not in self._found:
            outcome = self.outcomes.get(cell)
            if outcome is None or outcome.run is None:
                self._found[key] = None
            else:
                self.say(f"judging {cell}, {protocol}, {split}")
                try:
                    self._found[key] = evaluate_run(outcome.run, self.corpus, split=split, protocol=protocol)
                except AffectusError:
                    if protocol == HONEST:
                        raise
                    # without recorded epochs there is no oracle; its column stays empty
                    self._found[key] = None
        return self._found[key]

    def values(self, cell: str | None, protocol: str, metric: str, split: str | None = None) -> tuple[float, ...]:
        """Return a metric of a cell, one value per seed; none if it is not there."""
        found = self.evaluation(cell, protocol, split) if cell else None
        return tuple(found.values.get(metric, ())) if found else ()

    def on_valid(self, cell: str, metric: str) -> float:
        """Return the mean of an honest metric on valid, where a choice may look; -1 if there is none."""
        if not (self.corpus.splits == Split.VALID).any():
            return -1.0
        values = self.values(cell, HONEST, metric, Split.VALID)
        return sum(values) / len(values) if values else -1.0

    def majority(self, metric: str) -> tuple[float, ...]:
        """Return the majority's value of a metric."""
        for cell in self.outcomes:
            found = self.evaluation(cell, HONEST)
            if found and metric in found.majority:
                return (found.majority[metric],)
        return ()
