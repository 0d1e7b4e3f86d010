"""What the parts of a report share: a run's figures, and what each of its models says of the evaluated split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.evaluation import Evaluation, Thresholds, evaluate_run
from affectus.evaluation.evaluate import Reporter, average
from affectus.evaluation.scoring import choose_thresholds
from affectus.metrics import apply_threshold
from affectus.objectives import Task, TaskKind
from affectus.training.inference import Predictions
from affectus.training.loading import Run

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Judged:
    """A run beside its predictions.

    Attributes:
        run: it.
        label: its name in the report, different for every run.
        found: its figures under the protocol.
        given: per seed, the predictions for the evaluated split.
        valid: per seed, those for the training corpus's valid split; None if it had none.
        cuts: per seed, the thresholds of its multi-label tasks, chosen on valid.
        mean: the mean of ``given``, which tells single utterances.
        mean_cuts: thresholds of ``mean``, chosen on the mean of ``valid``.
        majority: what the majority baseline says of the evaluated split.
    """

    run: Run
    label: str
    found: Evaluation
    given: tuple[Predictions, ...]
    valid: tuple[Predictions | None, ...]
    cuts: tuple[Mapping[str, Thresholds], ...]
    mean: Predictions
    mean_cuts: Mapping[str, Thresholds]
    majority: Predictions

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The run's tasks."""
        return self.run.tasks

    def task(self, name: str) -> Task | None:
        """Return a task of the run by name."""
        return next((task for task in self.tasks if task.name == name), None)


def name_runs(runs: Sequence[Run]) -> list[str]:
    """Return a label for each run: its folder's name, with as much of the path before it as tells them apart.

    Raises:
        AffectusError: a run is given twice, or none is.
    """
    if not runs:
        raise AffectusError("No run is given", remedy="Give one or more run folders")
    folders = [run.folder.resolve() for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        if folders.count(folder) > 1:
            raise AffectusError("The run is given twice", got=run.folder)
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return ["/".join(folder.parts[-depth:]) for folder in folders]


def judge(run: Run, label: str, corpus: Corpus, *, split: str, protocol: str, report: Reporter | None = None) -> Judged:
    """Evaluate a run and keep what its models say.

    Raises:
        AffectusError: as :func:`affectus.evaluation.evaluate_run`.
    """
    found = evaluate_run(run, corpus, split=split, protocol=protocol, report=report)
    given = tuple(run.predict(run.model(seed), corpus, split) for seed in run.seeds)
    valid = tuple(run.valid_predictions(seed) for seed in run.seeds)
    # an oracle uses thresholds of its own, which are no model's to keep
    cuts = tuple(found.thresholds) or tuple(thresholds_on(run.tasks, of) for of in valid)
    known = [predictions for predictions in valid if predictions is not None]
    return Judged(
        run=run,
        label=label,
        found=found,
        given=given,
        valid=valid,
        cuts=cuts,
        mean=average(list(given)),
        mean_cuts=thresholds_on(run.tasks, average(known) if known else None),
        majority=run.predict(run.majority(), corpus, split),
    )


def thresholds_on(tasks: Sequence[Task], valid: Predictions | None) -> dict[str, Thresholds]:
    """Return the thresholds of the multi-label tasks, chosen on the given predictions; empty without any."""
    if valid is None:
        return {}
    return {
        task.name: choose_thresholds(task, valid.probabilities[task.name], valid.targets[task.name])
        for task in tasks
        if task.kind is TaskKind.MULTI_LABEL
    }


def cut_labels(task: Task, probabilities: FloatArray, cuts: Mapping[str, Thresholds]) -> IntArray:
    """Return (n, values) of 0 and 1: which labels of a multi-label task are said, by the threshold for F1."""
    thresholds = cuts.get(task.name, Thresholds.plain(task.outputs))
    return apply_threshold(probabilities, thresholds.weighted_f1)


def family(task: Task) -> str:
    """Return under which name the metrics of a task stand (``emotions6`` is scored as ``emotions``)."""
    return "emotions" if task.name == "emotions6" else task.name


def check_common_ground(judged: Sequence[Judged]) -> None:
    """Check that every run can stand beside another one.

    Raises:
        AffectusError: a run shares no figure with any other.
    """
    for one in judged:
        others = [other for other in judged if other is not one]
        if others and not any(set(one.found.values) & set(other.found.values) for other in others):
            raise AffectusError(
                f"The run {one.label!r} has no task in common with the others",
                got="; ".join(f"{run.label}: {', '.join(task.name for task in run.tasks)}" for run in judged),
                expected="a task at least that another run has too",
                remedy="Write a report of its own for it",
            )
