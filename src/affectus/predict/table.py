"""Predictions as a table: one row per utterance."""

from pathlib import Path

import numpy as np
import polars as pl

from affectus.corpus import Corpus
from affectus.errors import AffectusError
from affectus.evaluation.evaluate import average
from affectus.files import FORMULA, atomic_path
from affectus.objectives import TaskKind
from affectus.training.inference import Predictions
from affectus.training.loading import Run, load_run

ATTENTION = "attention"
PARQUET, CSV, JSON_LINES = ".parquet", ".csv", (".jsonl", ".ndjson")
"""Endings of the files that predictions are written to."""


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


def check_output(path: str | Path, *, attention: bool = False, parts: bool = False) -> None:
    """Check, before anything is predicted, that the name of an output says how it is to be written.

    Args:
        path: of the file, or of the folder of the parts.
        attention: whether there are attention weights to write.
        parts: whether it is a folder of parts.

    Raises:
        AffectusError: the ending names no format, one that holds no lists, or another one than that of the parts.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if parts:
        if ending in (CSV, *JSON_LINES):
            raise AffectusError(
                "The output of --format parquet is a folder of Parquet files",
                got=f"a name that ends in {path.suffix}",
                expected="the name of a folder",
                remedy="Give another --out, or leave --format and --cluster out to write one file",
            )
        return
    if ending not in (PARQUET, CSV, *JSON_LINES):
        raise AffectusError(
            "The name of the output does not say in which format predictions are written",
            got=path.name,
            expected="a name that ends in .parquet, .csv or .jsonl",
            remedy="A folder of Parquet files is written with --format parquet",
        )
    if attention and ending == CSV:
        raise AffectusError(
            "Attention weights are lists, which CSV does not hold",
            got=path.name,
            expected="a name that ends in .parquet or .jsonl",
        )


def write_predictions(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table of predictions: Parquet, CSV or JSON lines by the name's ending.

    In CSV an apostrophe stands before text that a spreadsheet would take for a formula.

    Raises:
        AffectusError: the ending names none of these, or CSV for a table with attention weights.
    """
    path = Path(path)
    check_output(path, attention=any(isinstance(kind, pl.List) for kind in table.dtypes))
    ending = path.suffix.lower()
    with atomic_path(path) as temporary:
        if ending == CSV:
            text = pl.col(pl.String)
            computed = text.str.contains(FORMULA)
            table.with_columns(pl.when(computed).then("'" + text).otherwise(text).name.keep()).write_csv(temporary)
        elif ending in JSON_LINES:
            table.write_ndjson(temporary)
        else:
            table.write_parquet(temporary)
