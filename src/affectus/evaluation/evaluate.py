"""Judging a run on a split of a corpus under a protocol."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affectus.corpus import Corpus
from affectus.corpus.storage import content_hash
from affectus.errors import AffectusError, unknown_name
from affectus.evaluation.protocols import PROTOCOLS, Protocol
from affectus.evaluation.scoring import SIMS_INTENSITY, Scorer, Thresholds, choose_thresholds
from affectus.evaluation.spread import std_over_seeds
from affectus.metrics import AKHTAR_GRID
from affectus.objectives import TaskKind
from affectus.training.config import is_gradient_model
from affectus.training.inference import Predictions
from affectus.training.loading import Run, load_run
from affectus.training.seen import notes_on_seen

Reporter = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """A run's figures.

    Attributes:
        protocol: by which they were made.
        run: the run folder's name.
        corpus: name of the corpus that was judged.
        split: of it.
        n: utterances in it.
        labelled: per task, how many of them have a label of it.
        seeds: whose models were judged.
        values: per metric, one value per seed (one in all for an ensemble).
        majority: per metric, the value of the majority baseline fitted on the run's training split.
        thresholds: per seed, per multi-label task, the thresholds used.
        notes: what a reader of the figures must know.
        ensemble: whether the mean of the seeds was judged as one model.
    """

    protocol: Protocol
    run: str
    model: str
    corpus: str
    split: str
    n: int
    seeds: tuple[int, ...]
    values: dict[str, list[float]]
    majority: dict[str, float]
    thresholds: list[dict[str, Thresholds]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    labelled: dict[str, int] = field(default_factory=dict)
    ensemble: bool = False

    def mean(self, metric: str) -> float:
        """Return the mean over seeds.

        Raises:
            AffectusError: there is no such metric.
        """
        return float(np.mean(self._of(metric)))

    def std(self, metric: str) -> float:
        """Return the sample standard deviation over seeds.

        For one value NaN, since it is unknown.

        Raises:
            AffectusError: there is no such metric.
        """
        return float(std_over_seeds(self._of(metric)))

    def _of(self, metric: str) -> list[float]:
        if metric not in self.values:
            raise unknown_name("metric", metric, self.values, where=f"the evaluation of the run {self.run!r}")
        return self.values[metric]

    def to_json(self) -> dict[str, Any]:
        """Return what ``affectus evaluate --json`` writes."""
        return {
            "metrics": {
                name: {"mean": self.mean(name), "std": self.std(name), "values": values}
                for name, values in self.values.items()
            },
            "majority": self.majority,
            "protocol": self.protocol.name,
            "oracle": self.protocol.oracle,
            "run": self.run,
            "model": self.model,
            "corpus": self.corpus,
            "split": self.split,
            "n": self.n,
            "labelled": self.labelled,
            "seeds": list(self.seeds),
            "ensemble": self.ensemble,
            "thresholds": [
                {
                    task: {"weighted_f1": t.weighted_f1, "weighted_accuracy": t.weighted_accuracy}
                    for task, t in of.items()
                }
                for of in self.thresholds
            ],
            "notes": list(self.notes),
        }


def evaluate_run(
    run: Run | str | Path,
    corpus: Corpus,
    *,
    split: str = "test",
    protocol: str = "akhtar2019",
    per_class_thresholds: bool = False,
    ensemble: bool = False,
    report: Reporter | None = None,
) -> Evaluation:
    """Judge every trained seed of a run.

    Args:
        run: the run, or its folder.
        corpus: to judge on.
        split: of it.
        protocol: by name.
        per_class_thresholds: choose a threshold for each emotion, not one for all.
        ensemble: average the seeds' probabilities and judge that as one model.
        report: told which seed is being judged.

    Raises:
        AffectusError: the corpus does not fit the run, has no such split, or not the labels that the run learned; an
            oracle protocol is asked of a run that kept no epochs, or of an ensemble.
    """
    run = run if isinstance(run, Run) else load_run(run)
    rules = PROTOCOLS[protocol]
    run.check_labels(corpus)
    notes: list[str] = [run.unfinished] if run.unfinished else []
    if rules.oracle:
        if ensemble:
            raise AffectusError("An oracle protocol judges single models", remedy="Leave --ensemble out")
        notes.append("Oracle: epoch and thresholds were chosen on the evaluated split; an upper bound, no estimate.")
    notes += notes_on_seen(run, corpus, split)
    if rules.intensity is not SIMS_INTENSITY and any((task.low, task.high) == (-1.0, 1.0) for task in run.tasks):
        notes.append(
            "Intensity is labelled from -1 to 1, where acc3, acc5 and acc7 all round to three values; `--protocol "
            "mmsa-sims` judges as is usual on CH-SIMS."
        )
    plain = Scorer(rules.intensity)
    constant = run.predict(run.majority(), corpus, split)
    majority = plain(run.tasks, constant.probabilities, constant.targets)
    rows: list[dict[str, float]] = []
    used: list[dict[str, Thresholds]] = []
    if rules.oracle:
        own = _is_training_corpus(run, corpus)
        for seed in run.seeds:
            if report:
                report(f"seed {seed}")
            rows.append(_oracle(run, seed, corpus, split, rules, per_class_thresholds, own))
    else:
        for said, thresholds in choose_for(run, corpus, split, per_class=per_class_thresholds, ensemble=ensemble):
            scorer = Scorer(rules.intensity, thresholds)
            rows.append(scorer(run.tasks, said.probabilities, said.targets))
            used.append(thresholds)
        if not all(run.valid_predictions(seed) for seed in run.seeds):
            notes.append(
                "The training corpus has no valid split with labels: the last epoch and the threshold 0.5 are used."
            )
    return Evaluation(
        protocol=rules,
        run=run.folder.name,
        model=run.config.model,
        corpus=corpus.name,
        split=split,
        n=len(corpus.rows(split)),
        seeds=run.seeds,
        values={name: [row[name] for row in rows] for name in rows[0]},
        majority=majority,
        thresholds=used,
        notes=tuple(notes),
        labelled={name: int((~np.isnan(of)).any(axis=1).sum()) for name, of in constant.targets.items()},
        ensemble=ensemble,
    )


def choose_for(
    run: Run, corpus: Corpus, split: str | None, *, per_class: bool = False, ensemble: bool = False
) -> list[tuple[Predictions, dict[str, Thresholds]]]:
    """Return each seed's predictions for a split, with the thresholds chosen on its own valid split.

    Args:
        run: trained.
        corpus: to predict.
        split: of it; None for all.
        per_class: a threshold for each emotion.
        ensemble: the mean of the seeds' probabilities as the one model, its thresholds chosen on their mean on valid.

    Raises:
        AffectusError: the corpus does not fit the run, or has not the labels that the run learned.
    """
    run.check_labels(corpus)
    given = [run.predict(run.model(seed), corpus, split) for seed in run.seeds]
    chosen_on = [run.valid_predictions(seed) for seed in run.seeds]
    if ensemble:
        there = [predictions for predictions in chosen_on if predictions is not None]
        given, chosen_on = [average(given)], [average(there) if there else None]
    return [
        (predictions, thresholds_on(run, valid, per_class)) for predictions, valid in zip(given, chosen_on, strict=True)
    ]


def average(predictions: list[Predictions]) -> Predictions:
    """Return the mean of several models' probabilities for the same utterances."""
    first = predictions[0]
    mean = {
        task: np.mean([p.probabilities[task] for p in predictions], axis=0).astype(np.float32)
        for task in first.probabilities
    }
    return Predictions(first.rows, mean, first.targets)


def thresholds_on(run: Run, valid: Predictions | None, per_class: bool = False) -> dict[str, Thresholds]:
    """Return the thresholds of a run's multi-label tasks, chosen on predictions for valid; none without any."""
    if valid is None:
        return {}
    return {
        task.name: choose_thresholds(
            task, valid.probabilities[task.name], valid.targets[task.name], per_class=per_class
        )
        for task in run.tasks
        if task.kind is TaskKind.MULTI_LABEL
    }


def _oracle(
    run: Run, seed: int, corpus: Corpus, split: str, rules: Protocol, per_class: bool, own: bool
) -> dict[str, float]:
    """Return for each metric its best value over the epochs and the grid of thresholds."""
    best: dict[str, float] = {}
    for predictions in _epochs(run, seed, corpus, split, rules, own):
        candidates = [{task.name: Thresholds.plain(task.outputs) for task in run.tasks}]
        if any(task.kind is TaskKind.MULTI_LABEL for task in run.tasks):
            candidates = [
                {task.name: Thresholds((cut,) * task.outputs, (cut,) * task.outputs) for task in run.tasks}
                for cut in AKHTAR_GRID
            ]
            if per_class:
                candidates.append(thresholds_on(run, predictions, per_class=True))
        for thresholds in candidates:
            scorer = Scorer(rules.intensity, thresholds)
            scores = scorer(run.tasks, predictions.probabilities, predictions.targets)
            _keep_best(best, scores, scorer)
    return best


def _is_training_corpus(run: Run, corpus: Corpus) -> bool:
    """True if the run was trained on this very corpus, by the hash of its folder or else of its content."""
    trained = run.file.corpus.sha256
    return trained is not None and (trained == corpus.sha256 or trained == content_hash(corpus))


def _epochs(run: Run, seed: int, corpus: Corpus, split: str, rules: Protocol, own: bool) -> Iterator[Predictions]:
    """Yield what each epoch says of a split: as recorded if this is the run's own corpus, else by its kept weights."""
    if not is_gradient_model(run.config.model):
        yield run.predict(run.model(seed), corpus, split)
        return
    recorded = run.recorded(seed, split) if own else []
    if recorded:
        yield from recorded
        return
    kept = run.epochs(seed)
    if not kept:
        raise AffectusError(
            f"The protocol {rules.name!r} needs what every epoch says of {corpus.name!r}, {split}, which was not kept",
            where=run.folder,
            remedy="An oracle protocol can only judge the corpus that the run was trained on, "
            "unless the run was trained with --set keep_epochs=true",
        )
    for epoch in kept:
        yield run.predict(run.model(seed, epoch=epoch), corpus, split)


def _keep_best(best: dict[str, float], scores: Mapping[str, float], scorer: Scorer) -> None:
    for name, value in scores.items():
        old = best.get(name)
        if old is None or np.isnan(old) or (value > old if scorer.higher_is_better(name) else value < old):
            best[name] = value
