"""From run folders and a corpus to a :class:`Report`."""

import math
from collections.abc import Sequence

import affectus
from affectus.corpus import Corpus
from affectus.evaluation.evaluate import Reporter
from affectus.models import MODELS
from affectus.report.classes import class_rows
from affectus.report.commands import train_command
from affectus.report.comparing import compare_runs
from affectus.report.curves import learning_curves, seed_results
from affectus.report.data import Report, RunPart, Score, ScoreRow
from affectus.report.embedding import fused_map
from affectus.report.inside import Inside, look_inside
from affectus.report.judging import Judged, check_common_ground, judge, name_runs
from affectus.report.modalities import modalities_part, sentiment_tasks
from affectus.report.predictions import calibrations, confusions, threshold_curves
from affectus.report.video import video_part
from affectus.training.loading import Run


def collect(
    runs: Sequence[Run],
    corpus: Corpus,
    *,
    split: str = "test",
    protocol: str = "akhtar2019",
    video: str | None = None,
    corpus_hash: str | None = None,
    command: str = "",
    report: Reporter | None = None,
) -> Report:
    """Gather everything that a report says.

    Args:
        runs: one or more.
        corpus: to judge on.
        split: of it.
        protocol: by name.
        video: whose utterances are shown; None chooses one.
        corpus_hash: identity of the corpus folder.
        command: that repeats the report.
        report: told what is being done.

    Raises:
        AffectusError: the corpus does not fit a run or has no such split or video, the runs have no task in common, or
            one is given twice.
    """
    labels = name_runs(runs)
    judged = [
        judge(run, label, corpus, split=split, protocol=protocol, report=report)
        for run, label in zip(runs, labels, strict=True)
    ]
    check_common_ground(judged)
    insides = [_insides(one, corpus, split, report) for one in judged]
    first = judged[0].found
    notes = [note for note in first.notes if all(note in one.found.notes for one in judged)]
    heads, rows = score_rows(judged)
    return Report(
        version=affectus.__version__,
        command=command,
        corpus=corpus.name,
        corpus_hash=corpus_hash,
        corpus_notes=tuple(corpus.card.notes),
        generated=corpus.card.generated,
        split=split,
        n=first.n,
        videos=len(corpus.recordings(split)),
        protocol=first.protocol.name,
        protocol_summary=first.protocol.summary,
        oracle=first.protocol.oracle,
        notes=tuple(notes),
        majorities=heads,
        scores=rows,
        emotions=class_rows(judged, rows, one_majority=len(heads) == 1),
        runs=tuple(_run_part(one, split, notes) for one in judged),
        video=video_part(judged, corpus, split, video),
        differences=compare_runs(judged, corpus),
        modalities=modalities_part(judged, insides, corpus),
        maps=tuple(fused_map(one, seeds[0].fused) for one, seeds in zip(judged, insides, strict=True)),
    )


def _insides(one: Judged, corpus: Corpus, split: str, report: Reporter | None) -> list[Inside]:
    """Look into each seed's model; the representation is of use for the first one alone."""
    if report:
        report(f"{one.label}: each modality by itself")
    seeds = one.run.seeds if sentiment_tasks(one) else one.run.seeds[:1]
    return [look_inside(one.run, one.run.model(seed), corpus, split, sentiment_tasks(one)) for seed in seeds]


def score_rows(judged: Sequence[Judged]) -> tuple[tuple[str, ...], tuple[ScoreRow, ...]]:
    """Return the headings of the majority columns, and one row per metric that any run has."""
    names = list(dict.fromkeys(name for one in judged for name in one.found.values))
    baselines = [one.found.majority for one in judged]
    shared = all(
        _same([of[name] for of in baselines if name in of]) for name in names
    )  # runs trained on different corpora have different majorities
    heads = ("majority",) if shared else tuple(f"majority of {one.label}" for one in judged)
    rows = []
    for name in names:
        each = [of.get(name) for of in baselines]
        merged = [next(value for value in each if value is not None)] if shared else each
        rows.append(ScoreRow(name, tuple(_score(one, name) for one in judged), tuple(merged)))
    return heads, tuple(rows)


def _same(values: Sequence[float]) -> bool:
    return all(value == values[0] or (math.isnan(value) and math.isnan(values[0])) for value in values)


def _score(one: Judged, name: str) -> Score | None:
    values = one.found.values.get(name)
    return None if values is None else Score.of(values)


def _run_part(one: Judged, split: str, shared_notes: Sequence[str]) -> RunPart:
    run = one.run
    paper = MODELS[run.config.model].paper
    parameters, seconds = seed_results(run)
    return RunPart(
        label=one.label,
        model=run.config.model,
        paper=(paper.short, paper.url) if paper else None,
        tasks=run.config.tasks,
        modalities=run.config.modalities,
        seeds=run.seeds,
        trained_on=run.file.corpus.name,
        trained_hash=run.file.corpus.sha256,
        versions={"affectus": run.file.affectus, **run.file.versions},
        command=train_command(run),
        notes=tuple(note for note in one.found.notes if note not in shared_notes),
        parameters=parameters,
        seconds=seconds,
        balanced=run.config.training.balanced,
        curves=learning_curves(run),
        confusions=confusions(one),
        calibrations=calibrations(one),
        thresholds=threshold_curves(one, split),
    )
