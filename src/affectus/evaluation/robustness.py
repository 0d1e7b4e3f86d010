"""How much worse a run gets as its modalities get worse: curves over the strength of a corruption, and their areas.

What each corruption does is said where it is done, in :mod:`affectus.batches.corruption`. It is done to the features as
the model sees them, that is after scaling, on the split that is judged; models, epochs and thresholds are those that
`affectus evaluate` judges. Each corruption is done to every modality by itself and to all of them at once, several
times with other random numbers, which are the same for every seed of a run and for every run.

Missing modalities over a rate from 0 to 1, and the area under that curve, are how Sun et al. 2023 (EMT-DLFR) and Zhang
et al. 2024 (LNLN) print robustness. Both hide single frames of all modalities at once: that is the corruption
``frames`` on the target ``all``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from affectus.batches import Batch, Loader
from affectus.batches.corruption import (
    Draw,
    add_noise,
    column_deviations,
    drop_burst,
    drop_frames,
    missing,
    shuffle_pairing,
)
from affectus.corpus import Corpus
from affectus.errors import AffectusError, unknown_name
from affectus.evaluation.evaluate import evaluate_run, thresholds_on
from affectus.evaluation.protocols import PROTOCOLS
from affectus.evaluation.scoring import Scorer
from affectus.evaluation.spread import std_over_seeds
from affectus.registry import Registry
from affectus.threads import torch_threads
from affectus.training.inference import predict_batches
from affectus.training.loading import Run, load_run
from affectus.vocabulary import View

FloatArray = npt.NDArray[np.float64]
ALL = "all"
"""The target of a corruption of every modality at once."""
TENTHS = tuple(round(0.1 * i, 1) for i in range(11))
FIFTHS = tuple(round(0.2 * i, 1) for i in range(6))
HELD_BYTES = 1 << 29
"""Features of a split that are kept in memory between passes; larger ones are read anew for each."""

Scores = dict[tuple[str, str], list[list[list[dict[str, float]]]]]
"""By corruption and target, per seed, per level, per draw, the figures."""
Corrupt = Callable[[Batch, Sequence[str], float, Draw, Mapping[str, Tensor]], Batch]
"""From a batch, the modalities, a level, a draw and the columns' deviations to the corrupted batch."""


@dataclass(frozen=True)
class Corruption:
    """A way to damage modalities.

    Attributes:
        name: in the registry and on the command line.
        title: of its charts.
        summary: what it does, in a sentence or two.
        axis: what its levels are.
        levels: how strong it is, in the order in which they are drawn.
        apply: does it.
        views: the views in which it says something that no other corruption says.
        fixed: the levels at which nothing is drawn, so that one draw is enough.
    """

    name: str
    title: str
    summary: str
    axis: str
    levels: tuple[float, ...]
    apply: Corrupt
    views: frozenset[View] = frozenset(View)
    fixed: frozenset[float] = frozenset({0.0, 1.0})


CORRUPTIONS: Registry[Corruption] = Registry("corruption")


def register_corruption(corruption: Corruption) -> Corruption:
    """Add a corruption to the list."""
    CORRUPTIONS.add(corruption.name, corruption)
    return corruption


register_corruption(
    Corruption(
        "missing",
        "Missing modalities",
        "Each utterance lacks the modality with this probability; the model is told that it is missing. With the "
        "target all, each modality is drawn by itself, and at 1 nothing is left.",
        "share of utterances without it",
        TENTHS,
        lambda batch, names, level, draw, _: missing(batch, names, level, draw),
    )
)
register_corruption(
    Corruption(
        "noise",
        "Gaussian noise",
        "Noise is added to every step. At 0 dB it is as large as the signal, at 20 dB a tenth of it, at -10 dB three "
        "times as large; a column's signal is its standard deviation over the split.",
        "signal-to-noise ratio, dB",
        (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0),
        lambda batch, names, level, draw, deviations: add_noise(batch, names, level, draw, deviations),
        fixed=frozenset(),
    )
)
register_corruption(
    Corruption(
        "frames",
        "Frame dropout",
        "Each step is hidden with this probability; the model is told which. EMT-DLFR's and LNLN's missing rate is "
        "this, with the target all.",
        "share of hidden steps",
        TENTHS,
        lambda batch, names, level, draw, _: drop_frames(batch, names, level, draw),
        # where a step is an utterance this is the corruption missing
        views=frozenset({View.UNALIGNED, View.ALIGNED}),
    )
)
register_corruption(
    Corruption(
        "bursts",
        "Bursts",
        "One run of this share of a sequence's steps is hidden, anywhere in it; in the contextual view the steps are a "
        "video's utterances. The model is told which.",
        "share of hidden steps",
        FIFTHS,
        lambda batch, names, level, draw, _: drop_burst(batch, names, level, draw),
    )
)
register_corruption(
    Corruption(
        "shuffled",
        "Shuffled pairing",
        "With this probability an utterance gets the modality of another one, drawn from its batch; nothing tells the "
        "model.",
        "share of utterances with another's",
        FIFTHS,
        lambda batch, names, level, draw, _: shuffle_pairing(batch, names, level, draw),
        fixed=frozenset({0.0}),
    )
)


@dataclass(frozen=True, eq=False)
class Curve:
    """A run's figures over the levels of one corruption of one target.

    Attributes:
        corruption: by name.
        target: a modality, or ``all``.
        levels: of the corruption.
        values: per metric (seeds, draws, levels).
    """

    corruption: str
    target: str
    levels: tuple[float, ...]
    values: dict[str, FloatArray]

    def by_seed(self, metric: str) -> FloatArray:
        """Return (seeds, levels), the mean over draws."""
        return np.asarray(self._of(metric).mean(axis=1))

    def mean(self, metric: str) -> FloatArray:
        """Return (levels,), the mean over seeds and draws."""
        return np.asarray(self.by_seed(metric).mean(axis=0))

    def std(self, metric: str) -> FloatArray:
        """Return (levels,), the sample standard deviation over seeds; NaN for one seed."""
        return std_over_seeds(self.by_seed(metric))

    def draw_std(self, metric: str) -> FloatArray:
        """Return (levels,), the sample standard deviation over draws, averaged over seeds; NaN for one draw."""
        values = self._of(metric)
        return np.asarray(np.mean([std_over_seeds(of) for of in values], axis=0))

    def _of(self, metric: str) -> FloatArray:
        if metric not in self.values:
            raise unknown_name("metric", metric, self.values, where=f"the curve of {self.corruption!r}, {self.target}")
        return self.values[metric]

    def area(self, metric: str) -> FloatArray:
        """Return (seeds,) the area under the curve by the trapezoidal rule, over the width of the levels.

        It is a mean over the levels, in the units of the metric. From rate 0 to 1 the width is 1, and this is the
        AUILC of Sun et al. 2023.
        """
        levels = np.asarray(self.levels)
        return np.asarray(np.trapezoid(self.by_seed(metric), levels, axis=1) / (levels[-1] - levels[0]))

    def to_json(self) -> dict[str, Any]:
        """Return the curve with means, spreads and areas."""
        return {
            "corruption": self.corruption,
            "target": self.target,
            "levels": list(self.levels),
            "metrics": {
                name: {
                    "mean": self.mean(name).tolist(),
                    "std": self.std(name).tolist(),
                    "std_over_draws": self.draw_std(name).tolist(),
                    "seeds": self.by_seed(name).tolist(),
                    "area": {
                        "mean": float(self.area(name).mean()),
                        "std": float(std_over_seeds(self.area(name))),
                        "values": self.area(name).tolist(),
                    },
                }
                for name in self.values
            },
        }


@dataclass(frozen=True, eq=False)
class Robustness:
    """A run's curves.

    Attributes:
        run: the run folder's name.
        model: of the run.
        corpus: name of the corpus that was judged.
        split: of it.
        n: utterances in it.
        protocol: by which the figures were made.
        seeds: whose models were judged.
        draws: random repetitions of each corruption.
        draw_seed: of the random numbers.
        modalities: that the run reads.
        clean: per metric, one value per seed without any corruption.
        majority: per metric, the value of the majority baseline.
        curves: one for each corruption and target.
        notes: what a reader of the figures must know.
        generated: the corpus was made by a program.
    """

    run: str
    model: str
    corpus: str
    split: str
    n: int
    protocol: str
    seeds: tuple[int, ...]
    draws: int
    draw_seed: int
    modalities: tuple[str, ...]
    clean: dict[str, list[float]]
    majority: dict[str, float]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...] = ()
    generated: bool = False

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Curve]:
        """The curves by corruption and target."""
        return {(curve.corruption, curve.target): curve for curve in self.curves}

    def to_json(self) -> dict[str, Any]:
        """Return what ``affectus robustness --json`` writes for this run."""
        names = ("run", "model", "corpus", "split", "n", "protocol", "draws", "draw_seed", "generated")
        return {
            **{name: getattr(self, name) for name in names},
            "seeds": list(self.seeds),
            "modalities": list(self.modalities),
            "clean": {
                name: {"mean": float(np.mean(v)), "std": float(std_over_seeds(v)), "values": v}
                for name, v in self.clean.items()
            },
            "majority": self.majority,
            "curves": [curve.to_json() for curve in self.curves],
            "notes": list(self.notes),
        }


def measure_robustness(
    run: Run | str | Path,
    corpus: Corpus,
    *,
    split: str = "test",
    protocol: str = "akhtar2019",
    corruptions: Sequence[str] | None = None,
    draws: int = 3,
    seed: int = 0,
    threads: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Judge every trained seed of a run under corruptions.

    Args:
        run: the run, or its folder.
        corpus: to judge on.
        split: of it.
        protocol: by name; no oracle.
        corruptions: names; None for all that say something in the run's view.
        draws: repetitions with other random numbers.
        seed: of the random numbers.
        threads: of torch; on busy cores more than one is many times slower.
        report: told of (passes over the split done, passes in all).

    Raises:
        AffectusError: the corpus does not fit the run, has no such split or no labels for its tasks, the protocol is an
            oracle's, a corruption is unknown, or there is no draw.
    """
    run = run if isinstance(run, Run) else load_run(run)
    if draws < 1:
        raise AffectusError("There must be a draw at least", got=draws)
    if PROTOCOLS[protocol].oracle:
        raise AffectusError(
            f"The protocol {protocol!r} chooses by the split that it judges, which a corrupted one cannot do",
            remedy="Use another: affectus protocols",
        )
    chosen = _choose(corruptions, run.config.view)
    modalities = run.config.modalities
    targets = {name: (name,) for name in modalities} | ({ALL: modalities} if len(modalities) > 1 else {})
    with torch_threads(threads):
        clean = evaluate_run(run, corpus, split=split, protocol=protocol)
        study = _Study(run, corpus, split, protocol, draws, seed)
        found = study.scores(chosen, targets, report)
    notes = list(clean.notes)
    unheard = [name for name in modalities if name not in study.deviations]
    if unheard and any(corruption.name == "noise" for corruption in chosen):
        notes.append(f"Noise leaves {', '.join(unheard)} as it is: it has no numbers to disturb in this split.")
    levels = {corruption.name: corruption.levels for corruption in chosen}
    return Robustness(
        run=run.folder.name,
        model=run.config.model,
        corpus=corpus.name,
        split=split,
        n=clean.n,
        protocol=protocol,
        seeds=run.seeds,
        draws=draws,
        draw_seed=seed,
        modalities=modalities,
        clean=clean.values,
        majority=clean.majority,
        curves=tuple(
            Curve(name, target, levels[name], _stacked(scores, clean.values))
            for (name, target), scores in found.items()
        ),
        notes=tuple(notes),
        generated=corpus.card.generated,
    )


def _choose(names: Sequence[str] | None, view: View) -> list[Corruption]:
    if names is None:
        return [CORRUPTIONS[name] for name in _ORDER if view in CORRUPTIONS[name].views] + [
            CORRUPTIONS[name] for name in CORRUPTIONS if name not in _ORDER and view in CORRUPTIONS[name].views
        ]
    for name in names:
        if name not in CORRUPTIONS:
            raise unknown_name("corruption", name, CORRUPTIONS)
        if view not in CORRUPTIONS[name].views:
            raise AffectusError(
                f"The corruption {name!r} says nothing of a run in the {view} view",
                expected="a run in the view " + " or ".join(sorted(CORRUPTIONS[name].views)),
                remedy="Leave it out",
            )
    return [CORRUPTIONS[name] for name in dict.fromkeys(names)]


_ORDER = ("missing", "noise", "frames", "bursts", "shuffled")


def _stacked(
    scores: Sequence[Sequence[Sequence[Mapping[str, float]]]], clean: Mapping[str, list[float]]
) -> dict[str, FloatArray]:
    """Turn [seed][level][draw][metric] into metric -> (seeds, draws, levels)."""
    values = {
        name: np.array([[[draw[name] for draw in level] for level in seed] for seed in scores]).transpose(0, 2, 1)
        for name in clean
    }
    for name, array in values.items():
        # predictions that are all the same are correlated with nothing; the labels are not at fault if clean ones are
        if name.endswith("pearson") and np.isfinite(clean[name]).any():
            array[np.isnan(array)] = 0.0
    return values


class _Study:
    """A split as a run sees it, and what is needed to damage and judge it."""

    def __init__(self, run: Run, corpus: Corpus, split: str, protocol: str, draws: int, seed: int) -> None:
        self.run, self.rules, self.draws, self.seed = run, PROTOCOLS[protocol], draws, seed
        loader = run.batches(corpus, split)
        self.batches: Iterable[Batch] = list(loader) if _small(loader, corpus) else loader
        self.deviations = column_deviations(self.batches, run.config.modalities)

    def scores(
        self,
        corruptions: Sequence[Corruption],
        targets: Mapping[str, Sequence[str]],
        report: Callable[[int, int], None] | None,
    ) -> Scores:
        """Judge every seed under every corruption of every target."""
        plan = [(corruption, target) for corruption in corruptions for target in targets]
        # where nothing is drawn, all draws are the same
        counts = {(c.name, level): 1 if level in c.fixed else self.draws for c in corruptions for level in c.levels}
        total = len(self.run.seeds) * sum(counts[c.name, level] for c, _ in plan for level in c.levels)
        done = 0
        found: Scores = {}
        for model_seed in self.run.seeds:
            judge = self._judge(model_seed)
            for corruption, target in plan:
                by_level: list[list[dict[str, float]]] = []
                for level in corruption.levels:
                    count = counts[corruption.name, level]
                    scored = [judge(corruption, targets[target], level, number) for number in range(count)]
                    by_level.append(scored * (self.draws // count))
                    done += count
                    if report:
                        report(done, total)
                found.setdefault((corruption.name, target), []).append(by_level)
        return found

    def _judge(self, model_seed: int) -> Callable[[Corruption, Sequence[str], float, int], dict[str, float]]:
        """Return the function that scores a seed's model under a corruption."""
        run, model = self.run, self.run.model(model_seed)
        scorer = Scorer(self.rules.intensity, thresholds_on(run, run.valid_predictions(model_seed)))

        def judged(corruption: Corruption, names: Sequence[str], level: float, number: int) -> dict[str, float]:
            draw = Draw(self.seed, number)
            damaged = (corruption.apply(batch, names, level, draw, self.deviations) for batch in self.batches)
            said = predict_batches(model, run.tasks, damaged)
            return scorer(run.tasks, said.probabilities, said.targets)

        return judged


def _small(loader: Loader, corpus: Corpus) -> bool:
    there = [corpus.features[name] for name in loader.modalities if name in corpus.features]
    return sum(int(r.lengths[loader.rows].sum()) * r.dim * r.values.dtype.itemsize for r in there) <= HELD_BYTES
