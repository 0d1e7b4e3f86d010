"""Learning curves, from what training wrote down."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from affectus.errors import AffectusError
from affectus.files import read_json
from affectus.report.data import LearningCurves, SeedCurve
from affectus.training.config import PER_TASK
from affectus.training.loading import Run
from affectus.training.run import HISTORY

BESIDE_LOSS = (
    "polarity.accuracy",
    "emotions.weighted_f1",
    "emotion_class.weighted_f1",
    "intensity.mae",
    "emotion_intensity.mae",
    "ratings.mae",
)
"""Which metric is shown where the loss itself selects: the first that the run has."""


def learning_curves(run: Run) -> tuple[LearningCurves, ...]:
    """Return the curves of each stage of training, in its order; none for a model that has no epochs.

    Raises:
        AffectusError: a history is damaged, or not that of the run.
    """
    histories = {}
    for seed in run.seeds:
        path = run.seed_folder(seed) / HISTORY
        histories[seed] = read_history(path)
        if path.is_file():
            run.check_own(seed, path)
    rows = [row for history in histories.values() for row in history]
    stages = list(dict.fromkeys(str(row["stage"]) for row in rows))
    selecting = run.config.training.select
    found = []
    for stage in stages:
        known = dict.fromkeys(name for row in rows if row["stage"] == stage for name in row)
        last = stage == stages[-1]
        wanted = BESIDE_LOSS if selecting == "loss" else (selecting, *BESIDE_LOSS)
        metric = next((name for name in wanted if f"valid.{name}" in known), None)
        if "valid.loss" not in known:
            selects = "the last epoch counts, for there is no valid split"
        elif not last:
            selects = "this stage is trained before the last one, in which the epoch is chosen"
        elif selecting == PER_TASK:
            selects = "each task's epoch is chosen by its own loss on valid"
        else:
            selects = f"the epoch is chosen by {selecting} on valid"
        curves = []
        parts = [name.removeprefix("train.") for name in known if name.startswith("train.loss.")]
        losses: dict[str, list[SeedCurve]] = {part: [] for part in parts if len(parts) > 1}
        for seed, history in histories.items():
            own = [row for row in history if row["stage"] == stage]
            result = read_json(run.seed_folder(seed) / "result.json") if last else {}
            best, of_tasks = result.get("best_epoch"), result.get("best_epochs", {})
            curves.append(_curve(seed, own, "loss", best, _column(own, f"valid.{metric}")))
            for part, each in losses.items():
                each.append(_curve(seed, own, part, of_tasks.get(part.removeprefix("loss."), best)))
        found.append(
            LearningCurves(
                stage=stage,
                metric=metric,
                selects=selects,
                seeds=tuple(curves),
                losses={part.removeprefix("loss."): tuple(each) for part, each in losses.items()},
            )
        )
    return tuple(found)


def _curve(
    seed: int, rows: list[dict[str, Any]], loss: str, best: int | None, metric: tuple[float, ...] = ()
) -> SeedCurve:
    chosen = best if best is not None and 0 <= best < len(rows) else None
    return SeedCurve(seed, _column(rows, f"train.{loss}"), _column(rows, f"valid.{loss}"), metric, chosen)


def _column(rows: list[dict[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(float(row.get(name, np.nan)) for row in rows)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read the epochs of a seed; none if the file is absent.

    Raises:
        AffectusError: a line is no JSON object of an epoch.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "stage" not in row:
                raise ValueError("not an epoch")
        except ValueError as error:
            raise AffectusError(
                "Not an epoch's figures", where=f"{path}, line {number}", got=error, remedy="Train the run again"
            ) from None
        rows.append(row)
    return rows


def seed_results(run: Run) -> tuple[int | None, float | None]:
    """Return the number of parameters (None for a model without) and the mean seconds that a seed took to train."""
    results = [read_json(run.seed_folder(seed) / "result.json") for seed in run.seeds]
    seconds = [float(result["seconds"]) for result in results if result.get("seconds") is not None]
    parameters = results[0].get("parameters")
    return (None if parameters is None else int(parameters)), (float(np.mean(seconds)) if seconds else None)
