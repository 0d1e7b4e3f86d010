"""Predictions as a table: one row per utterance."""

from pathlib import Path

import numpy as np
import polars as pl

from affectus.corpus import Corpus
from affectus.evaluation.evaluate import average
from affectus.files import atomic_path
from affectus.objectives import TaskKind
from affectus.training.inference import Predictions
from affectus.training.loading import Run, load_run

ATTENTION = "attention"


def predict_table(
    run: Run | str | Path, corpus: Corpus, *, split: str | None = None, attention: bool = False
) -> pl.DataFrame:
    """Predict every utterance with the mean over the run's seeds.

    Args:
        run: the run, or its folder.
        corpus: labelled or not.
        split: of it; None for all.
        attention: add the attention weights of contextual models.

    Returns:
        ``id, video, split``, then per task: real ``<task>.<value>``; binary, one of k and multi-label
        ``<task>.<value>.probability``; binary and one of k also ``<task>`` with the likeliest value. With attention,
        per pair of modalities a list of weights over the utterances of the same video.

    Raises:
        AffectusError: the corpus does not fit the run.
    """
    run = run if isinstance(run, Run) else load_run(run)
    every = [run.predict(run.model(seed), corpus, split, attention=attention) for seed in run.seeds]
    mean = average(every)
    table = corpus.table.select("id", "video", "split")[mean.rows]
    columns: dict[str, pl.Series] = {}
    for task in run.tasks:
        values = mean.probabilities[task.name]
        if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K):
            best = values.argmax(axis=1)
            columns[task.name] = pl.Series([task.values[i] for i in best], dtype=pl.String)
        suffix = "" if task.kind is TaskKind.REAL else ".probability"
        for column, value in enumerate(task.values):
            name = task.name if task.values == (task.name,) else f"{task.name}.{value}"
            columns[name + suffix] = pl.Series(values[:, column])
    for pair in mean_attention(every):
        columns[pair[0]] = pair[1]
    return table.with_columns(series.alias(name) for name, series in columns.items())


def mean_attention(every: list[Predictions]) -> list[tuple[str, pl.Series]]:
    """Return per pair of modalities the mean over seeds of each utterance's weights over its video's utterances."""
    found = []
    for pair in every[0].attention:
        weights: dict[int, list[float]] = {}
        for parts in zip(*(p.attention[pair] for p in every), strict=True):
            mean = np.mean([matrix for _, matrix in parts], axis=0)
            weights |= {int(row): line.tolist() for row, line in zip(parts[0][0], mean, strict=True)}
        ordered = [weights[int(row)] for row in every[0].rows]
        found.append((f"{ATTENTION}.{pair}", pl.Series(ordered, dtype=pl.List(pl.Float32))))
    return found


def write_predictions(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table of predictions: Parquet, or CSV or JSON lines by the name's ending (lists need Parquet or JSON)."""
    path = Path(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            flat = [c for c in table.columns if table.schema[c] != pl.List(pl.Float32)]
            table.select(flat).write_csv(temporary)
        elif path.suffix in (".jsonl", ".ndjson"):
            table.write_ndjson(temporary)
        else:
            table.write_parquet(temporary)
