"""Cross-validation by video: every video is judged once, by models that never saw it.

A small corpus has too few videos in its test split to tell anything. Here its videos are dealt into folds; each fold is
judged by models trained on the others, of which some videos choose the epoch and the thresholds. The pooled
predictions cover the whole corpus.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from affectus.api import train
from affectus.corpus import Corpus, build_corpus
from affectus.corpus.storage import content_hash
from affectus.errors import AffectusError
from affectus.evaluation.evaluate import choose_for
from affectus.evaluation.significance import Difference, Statistic, compare_statistics, statistics_of
from affectus.evaluation.spread import std_over_seeds
from affectus.files import read_json, write_json
from affectus.training.loading import load_run
from affectus.training.run import Reporter
from affectus.vocabulary import Split

FOLDS_FILE = "folds.json"


def make_folds(corpus: Corpus, folds: int, *, valid_fraction: float = 0.15, seed: int = 0) -> list[Corpus]:
    """Return the corpus once per fold: the fold's videos in test, some of the others in valid, the rest in train.

    Videos are dealt in the order of the SHA-256 of seed and id, so that the folds depend on neither the order of the
    source nor the version of a random generator. The corpus's own splits are not regarded.

    Args:
        corpus: with ``folds`` videos or more.
        folds: two or more.
        valid_fraction: of the videos outside the fold, in (0, 1); at least one.
        seed: another seed deals otherwise.

    Raises:
        AffectusError: too few folds or videos, or the fraction is out of range.
    """
    if folds < 2:
        raise AffectusError("Cross-validation needs two folds or more", got=folds)
    if not 0 < valid_fraction < 1:
        raise AffectusError("The share of videos for valid is out of range", got=valid_fraction, expected="in (0, 1)")
    videos = corpus.table["video"].unique().to_list()
    if len(videos) < max(folds, 3):
        raise AffectusError(
            "There are too few videos for so many folds",
            where=corpus.name,
            got=len(videos),
            expected=f"{max(folds, 3)}",
        )
    ordered = sorted(videos, key=lambda video: hashlib.sha256(f"{seed}:{video}".encode()).digest())
    made = []
    for fold in range(folds):
        judged = set(ordered[fold::folds])
        others = [video for video in ordered if video not in judged]
        selecting = set(others[: min(max(round(valid_fraction * len(others)), 1), len(others) - 1)])
        split_of = {
            video: str(Split.TEST if video in judged else Split.VALID if video in selecting else Split.TRAIN)
            for video in ordered
        }
        splits = corpus.table["video"].replace_strict(split_of, return_dtype=pl.String())
        made.append(build_corpus(corpus.table.with_columns(splits.alias("split")), corpus.features, corpus.card))
    return made


@dataclass(frozen=True, eq=False)
class CrossValidated:
    """A system's pooled figures.

    Attributes:
        name: of its folder.
        seeds: trained in every fold.
        videos: (n,) the number of each utterance's video.
        ids: (n,) of the utterances that were judged, in the order of the statistics.
        statistics: per seed (one for an ensemble), per metric, what each utterance adds.
        ensemble: the seeds' probabilities were averaged.
    """

    name: str
    seeds: tuple[int, ...]
    videos: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    statistics: tuple[dict[str, Statistic], ...]
    ensemble: bool

    def values(self, metric: str) -> list[float]:
        """Return the pooled figure of each seed."""
        return [float(np.nanmean(of[metric].finish(of[metric].per_utterance.sum(axis=0)))) for of in self.statistics]

    @property
    def metrics(self) -> list[str]:
        """Names of the figures."""
        return list(self.statistics[0])

    def to_json(self) -> dict[str, Any]:
        """Return mean, spread (NaN for one seed) and values of every metric."""
        found = {name: self.values(name) for name in self.metrics}
        return {
            "run": self.name,
            "n": len(self.ids),
            "videos": int(self.videos.max()) + 1,
            "seeds": list(self.seeds),
            "ensemble": self.ensemble,
            "metrics": {
                name: {
                    "mean": float(np.mean(values)),
                    "std": float(std_over_seeds(values)),
                    "values": values,
                }
                for name, values in found.items()
            },
        }


def cross_validate(
    model: str,
    corpus: Corpus,
    *,
    tasks: Sequence[str],
    out: str | Path,
    folds: int = 5,
    valid_fraction: float = 0.15,
    fold_seed: int = 0,
    modalities: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 1,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    threads: int = 1,
    device: str = "auto",
    report: Reporter | None = None,
) -> Path:
    """Train a model once per fold and seed, into ``out/fold-<k>``; folds that are there are not trained again.

    Args:
        model: a registered model.
        corpus: all its utterances are judged, whatever their split.
        tasks: what to predict.
        out: folder of the folds' runs.
        folds: how many.
        valid_fraction: of the videos outside a fold, which choose its epoch and thresholds.
        fold_seed: deals the videos.
        modalities: which to use; None for all.
        seeds: of the training.
        preset: of the model.
        options: of the model.
        training: settings.
        threads: of torch.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: told of each epoch.

    Returns:
        The folder, for :func:`load_folds`.

    Raises:
        AffectusError: anything that does not fit; the folder holds another cross-validation.
    """
    out = Path(out)
    made = make_folds(corpus, folds, valid_fraction=valid_fraction, seed=fold_seed)
    facts = {
        "folds": folds,
        "valid_fraction": valid_fraction,
        "fold_seed": fold_seed,
        "corpus": corpus.name,
        "sha256": content_hash(corpus),
    }
    path = out / FOLDS_FILE
    before = read_json(path) if path.is_file() else facts
    if before != facts:
        part = next((name for name in facts if before.get(name) != facts[name]), FOLDS_FILE)
        raise AffectusError(
            f"The folder holds another cross-validation, which differs in {part!r}",
            where=out,
            remedy="Choose another folder, or delete this one",
        )
    write_json(path, facts)
    for number, fold in enumerate(made):
        train(
            model,
            fold,
            tasks=tasks,
            out=out / f"fold-{number}",
            modalities=modalities,
            seeds=seeds,
            preset=preset,
            options=options,
            training=training,
            threads=threads,
            device=device,
            report=_in_fold(report, number),
        )
    return out


def _in_fold(report: Reporter | None, number: int) -> Reporter | None:
    return None if report is None else lambda event: report(replace(event, stage=f"fold {number} {event.stage}"))


def load_folds(folder: str | Path, corpus: Corpus, *, ensemble: bool = False) -> CrossValidated:
    """Pool what the folds' models say of the videos that they did not see.

    Args:
        folder: from :func:`cross_validate`.
        corpus: the same.
        ensemble: average the seeds' probabilities in each fold.

    Raises:
        AffectusError: the folder holds no cross-validation, or one of another corpus, or a fold is not trained to its
            end.
    """
    folder = Path(folder)
    if not (folder / FOLDS_FILE).is_file():
        raise AffectusError(
            "The folder holds no cross-validation",
            where=folder,
            remedy="Make one with: affectus cross-validate MODEL CORPUS --out FOLDER",
        )
    facts = read_json(folder / FOLDS_FILE)
    if facts.get("sha256") != content_hash(corpus):
        raise AffectusError(
            f"The cross-validation was made on another corpus than this {corpus.name!r}",
            where=folder,
            remedy="Its models may have seen these videos; give its own corpus, or cross-validate this one elsewhere",
        )
    made = make_folds(corpus, facts["folds"], valid_fraction=facts["valid_fraction"], seed=facts["fold_seed"])
    ids: list[str] = []
    names: list[str] = []
    parts: list[list[dict[str, Statistic]]] = []
    seeds: tuple[int, ...] = ()
    for number, fold in enumerate(made):
        run = load_run(folder / f"fold-{number}")
        if number and run.seeds != seeds:
            raise AffectusError(
                "The folds have different seeds",
                where=run.folder,
                remedy="Run the same `affectus cross-validate` again; it goes on where it stopped",
            )
        seeds = run.seeds
        said = choose_for(run, fold, Split.TEST, ensemble=ensemble)
        parts.append([statistics_of(run.tasks, predictions, cuts) for predictions, cuts in said])
        rows = fold.table[said[0][0].rows]
        ids.extend(rows["id"].to_list())
        names.extend(rows["video"].to_list())
    numbers = {video: i for i, video in enumerate(sorted(set(names)))}
    # every system pools in the order of ids, so that any two can be paired
    order = np.argsort(np.array(ids), kind="stable")
    pooled = tuple(_pool([fold[i] for fold in parts], order) for i in range(len(parts[0])))
    return CrossValidated(
        folder.name,
        seeds,
        np.array([numbers[names[i]] for i in order]),
        tuple(ids[i] for i in order),
        pooled,
        ensemble,
    )


def _pool(parts: Sequence[dict[str, Statistic]], order: npt.NDArray[np.int64]) -> dict[str, Statistic]:
    return {
        name: Statistic(np.concatenate([part[name].per_utterance for part in parts])[order], first.finish, first.higher)
        for name, first in parts[0].items()
    }


def compare_folds(
    systems: Sequence[CrossValidated],
    *,
    metrics: Sequence[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> list[Difference]:
    """Hold every cross-validated system against the first: paired bootstrap over all videos.

    Raises:
        AffectusError: fewer than two systems, or they judged different utterances.
    """
    if len(systems) < 2:
        raise AffectusError("A comparison needs two runs or more", got=len(systems))
    for system in systems[1:]:
        if system.ids != systems[0].ids:
            raise AffectusError(
                f"The cross-validations {systems[0].name!r} and {system.name!r} judged different utterances",
                remedy="Run both on the same corpus",
            )
    first = systems[0]
    return compare_statistics(
        [system.name for system in systems],
        [system.statistics for system in systems],
        first.videos,
        paired=[system.seeds == first.seeds and not (system.ensemble or first.ensemble) for system in systems],
        where=first.name,
        metrics=metrics,
        draws=draws,
        seed=seed,
    )
