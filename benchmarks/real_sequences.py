"""UFEN + MTFN on real sequences beside ridge regression; writes docs/results/sequences.md.

    python benchmarks/real_sequences.py --data DATA --work runs/sequences [--only pom,words] [--seeds 3]

DATA is the folder of data sets (AFFECTUS_DATA). MMMO and POM: the penalty of the ridge, and on MMMO the model's
settings, are chosen by cross-validation inside train; then train is parted, the smaller part chooses the epoch, and the
data set's own valid split is judged, which chose nothing. The 195 word-level utterances of CMU-MOSI: cross-validation
that leaves out one video after the other. What is not chosen has the settings that MMMO's train chose. Runs that are
there already are not trained again, and one that was stopped goes on.
"""

import argparse
import datetime
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from affectus.api import evaluate, train
from affectus.corpus import Corpus, build_corpus, load_corpus, save_corpus
from affectus.corpus.readers import import_corpus
from affectus.corpus.splits import apply_renames, move_to_valid
from affectus.corpus.storage import corpus_hash
from affectus.evaluation.significance import Difference, compare_runs
from affectus.files import write_text
from affectus.studies.folds import CrossValidated, compare_folds, cross_validate, load_folds
from affectus.training import Run

INNER_FOLDS, VALID = 3, 0.2
ALPHAS = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Strengths of the ridge's penalty."""
SMALL = {"dim": 32, "filters": [32], "ffn": 64, "dropout": 0.3}
TRAINING = {
    "learning_rate": 1e-3,
    "weight_decay": 1e-3,
    "average_weights": 0.95,
    "epochs": 30,
    "patience": 8,
    "record_epochs": False,
}


@dataclass(frozen=True)
class Candidate:
    """Settings among which train chooses."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


CANDIDATES = (
    Candidate("squared error"),
    Candidate("absolute error", training={"real_loss": "l1"}),
    Candidate("absolute error, modality dropout .2", training={"real_loss": "l1", "modality_dropout": 0.2}),
)
SHORTER = {"epochs": 12, "patience": 5}
"""Of the many folds of the word-level utterances."""
METRICS = ("ratings.mae", "ratings.pearson")
WORD_METRICS = ("intensity.mae", "intensity.pearson")
AUDIO_VISION = ("audio", "vision")


def settings_of(candidate: Candidate) -> dict[str, Any]:
    """Return what ``train`` and ``cross_validate`` want to know."""
    return {
        "model": "ufen_mtfn",
        "options": {**SMALL, **candidate.options},
        "training": {**TRAINING, **candidate.training},
    }


def ridge(alpha: float | None) -> dict[str, Any]:
    return {"model": "linear", "options": {"alpha": alpha}, "training": {}}


def inner_error(name: str, settings: dict[str, Any], corpus: Corpus, work: Path) -> float:
    """Return the error of a system over the inner folds of train."""
    out = work / "inner" / name.replace(" ", "-").replace(",", "").replace(".", "")
    cross_validate(
        corpus=corpus, tasks=["ratings"], modalities=AUDIO_VISION, folds=INNER_FOLDS, out=out, device="cpu", **settings
    )
    error = load_folds(out, corpus).values("ratings.mae")[0]
    print(f"  {name}: {error:.4f}", flush=True)
    return error


def choose(corpus: Corpus, work: Path, candidates: Sequence[Candidate]) -> tuple[float, Candidate, list[str]]:
    """Return the penalty and the settings with the least error in train, and the table of all errors."""
    rows = corpus.rows("train")
    features = {name: corpus.features[name].take(rows) for name in AUDIO_VISION}
    inner = build_corpus(corpus.table[rows], features, corpus.card)
    penalties = {alpha: inner_error(f"ridge {alpha:g}", ridge(alpha), inner, work) for alpha in ALPHAS}
    found = {one.name: inner_error(one.name, settings_of(one), inner, work) for one in candidates}
    alpha, best = min(penalties, key=penalties.__getitem__), min(candidates, key=lambda one: found[one.name])
    lines = ["| settings | error inside train |", "|---|---|"]
    lines += [f"| ridge, alpha {alpha:g} | {penalties[alpha]:.3f} |"]
    lines += [
        f"| {name} | {f'**{error:.3f}**' if name == best.name else f'{error:.3f}'} |" for name, error in found.items()
    ]
    return alpha, best, lines


def interval(one: Difference) -> str:
    return f"{one.difference:+.3f} [{one.interval[0]:+.3f}, {one.interval[1]:+.3f}]"


def table(rows: Sequence[tuple[str, dict[str, list[float]], list[Difference]]], metrics: Sequence[str]) -> list[str]:
    """One line per system: figures, and the differences from the ridge."""
    lines = [
        "| system | " + " | ".join(metrics) + " | " + " | ".join(f"{m}, against ridge (p)" for m in metrics) + " |",
        "|---|" + "---|" * (2 * len(metrics)),
    ]
    for name, values, against in rows:
        cells = []
        for metric in metrics:
            spread = f" ± {np.std(values[metric], ddof=1):.3f}" if len(values[metric]) > 1 else ""
            cells.append(f"{np.mean(values[metric]):.3f}{spread}")
        told = {one.metric: f"{interval(one)} ({one.p_videos_corrected:.3f})" for one in against}
        lines.append(f"| {name} | " + " | ".join([*cells, *(told.get(metric, "") for metric in metrics)]) + " |")
    return lines


def mfn_part(
    name: str, title: str, notes: str, candidates: Sequence[Candidate], arguments: argparse.Namespace
) -> tuple[list[str], Candidate]:
    """Judge on the data set's own valid split; return the section and the settings of the model."""
    work = arguments.work / name
    if not (work / "corpus" / "card.json").is_file():
        source = arguments.data / "mfn_aligned" / "mfn_mmmo_pom_youtube.npz"
        made = apply_renames(import_corpus("mfn", source, name=name), {"valid": "test"})
        save_corpus(move_to_valid(made, VALID), work / "corpus")
    corpus = load_corpus(work / "corpus")
    whole = apply_renames(corpus, {"valid": "train"})
    print(name, flush=True)
    alpha, best, inner = choose(whole, work, candidates)
    runs: dict[str, Run] = {}
    for label, settings, seeds in (
        ("ridge", ridge(alpha), 1),
        ("ridge on all of train", ridge(alpha), 1),
        ("ufen_mtfn", settings_of(best), arguments.seeds),
    ):
        runs[label] = train(
            corpus=whole if "all" in label else corpus,
            tasks=["ratings"],
            modalities=AUDIO_VISION,
            seeds=seeds,
            out=work / label.replace(" ", "-"),
            device="cpu",
            **settings,
        )
    rows = []
    base = runs["ridge on all of train"]
    for label, run in runs.items():
        for ensemble in (False, True) if len(run.seeds) > 1 else (False,):
            values = evaluate(run, corpus, ensemble=ensemble).values
            against = [] if run is base else compare_runs([base, run], corpus, metrics=list(METRICS), ensemble=ensemble)
            rows.append((f"{label}, seeds averaged" if ensemble else label, values, against))
    majority = evaluate(base, corpus).majority
    constant = {metric: [majority[metric]] for metric in METRICS}
    counts = ", ".join(f"{len(corpus.rows(split))} {split}" for split in ("train", "valid", "test"))
    return [
        f"\n## {title}\n",
        f"Corpus {corpus_hash(work / 'corpus')[:16]}: {counts}; test is the data set's own valid split. {notes}\n",
        f"{INNER_FOLDS} folds inside train and valid, one seed:\n",
        *inner,
        "",
        f"Judged on test; *ridge* (alpha {alpha:g}) learns from the same rows as the model, *ridge on all of train* "
        "also from those that choose the model's epoch; the differences are from the latter.\n",
        *table([("constant", constant, []), *rows], METRICS),
    ], best


def words_part(best: Candidate, arguments: argparse.Namespace) -> list[str]:
    """Leave out one video after the other."""
    work = arguments.work / "words"
    if not (work / "corpus" / "card.json").is_file():
        source = arguments.data / "cmu_mosi" / "mosi_words_valid.pkl"
        save_corpus(import_corpus("misa", source), work / "corpus")
    corpus = load_corpus(work / "corpus")
    videos = corpus.table["video"].n_unique()
    print("words", flush=True)
    chosen = settings_of(replace(best, training={**best.training, **SHORTER}))
    found: dict[str, CrossValidated] = {}
    systems: tuple[tuple[str, tuple[str, ...], dict[str, Any], int], ...] = (
        ("ridge, text", ("text",), ridge(None), 1),
        ("ridge, all three", ("text", "audio", "vision"), ridge(None), 1),
        ("ufen_mtfn, all three", ("text", "audio", "vision"), chosen, arguments.seeds),
    )
    for label, modalities, settings, seeds in systems:
        out = work / label.replace(", ", "-").replace(" ", "-")
        training = {**settings["training"], "text_encoder": "minilm"}
        cross_validate(
            corpus=corpus,
            tasks=["intensity"],
            modalities=modalities,
            folds=videos,
            valid_fraction=VALID,
            seeds=seeds,
            out=out,
            device="cpu",
            **{**settings, "training": training},
        )
        found[label] = load_folds(out, corpus)
        if seeds > 1:
            found[f"{label}, seeds averaged"] = load_folds(out, corpus, ensemble=True)
        print(f"  {label}: {np.mean(found[label].values('intensity.mae')):.4f}", flush=True)
    base = min((label for label in found if "ridge" in label), key=lambda label: found[label].values("intensity.mae"))
    rows = []
    for label, one in found.items():
        against = [] if label == base else compare_folds([found[base], one], metrics=list(WORD_METRICS))
        rows.append((label, {metric: one.values(metric) for metric in WORD_METRICS}, against))
    truth = corpus.label("sentiment").ravel()
    groups = corpus.table["video"].to_numpy()
    others = np.array([np.median(truth[groups != video]) for video in groups])
    constant = {"intensity.mae": [float(np.abs(truth - others).mean())], "intensity.pearson": [float("nan")]}
    return [
        "\n## CMU-MOSI, 195 utterances word by word: does it learn across videos?\n",
        f"Corpus {corpus_hash(work / 'corpus')[:16]}: {len(corpus.table)} utterances of {videos} videos, text (tokens "
        "of the frozen MiniLM), audio (COVAREP) and vision (FACET) per word. Each video is judged by "
        "models that never saw it; two others choose the epoch. Settings: those that MMMO's train chose, but for "
        f"{SHORTER['epochs']} epochs at most; nothing was chosen here. The ridge's penalty is chosen inside each fold. "
        "The differences are from "
        f"*{base}*, the better of the two. The constant is the median of the other videos.\n",
        *table([("constant", constant, []), *rows], WORD_METRICS),
    ]


MMMO_NOTES = "One rating from 1 to 5 per video; 20 steps of audio (74) and vision (36). Text stands in test alone."
POM_NOTES = (
    "17 ratings from 1 to 7 per video, means over them; 20 steps of audio (43) and vision (41). 54 % of the training "
    "videos have no vision."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AFFECTUS_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=Path("runs/sequences"))
    parser.add_argument("--page", type=Path, default=Path("docs/results/sequences.md"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="pom,words", help="beside mmmo, which chooses the settings")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    packages = ", ".join(f"{name} {version(name)}" for name in ("affectus", "torch", "numpy", "scikit-learn"))
    settings = ", ".join(f"{key}={value}" for key, value in {**SMALL, **TRAINING}.items())
    parts = [
        "# Sequences of sound and face: UFEN + MTFN against ridge regression\n",
        f"Made by `python benchmarks/real_sequences.py` on {datetime.date.today()} with Python "
        f"{platform.python_version()}, {packages}; {arguments.seeds} seeds, mean ± standard deviation over seeds; "
        "*seeds averaged*: the mean of what the seeds say, judged as one system. Ridge regression reads the mean of "
        "each modality over its steps. In brackets the 95 % interval of the difference (paired bootstrap over videos, "
        "10,000 draws), p after Holm's correction over both figures. Of an error, less is better.\n",
        f"The model is small, since the data are few: `{settings}`; what stands in the tables changes this.",
    ]
    section, best = mfn_part("mmmo", "MMMO", MMMO_NOTES, CANDIDATES, arguments)
    parts += section
    if "pom" in wanted:
        section, _ = mfn_part("pom", "POM", POM_NOTES, (best,), arguments)
        parts += section
    if "words" in wanted:
        parts += words_part(best, arguments)
    write_text(arguments.page, "\n".join(parts) + "\n")
    print(f"Wrote {arguments.page}")


if __name__ == "__main__":
    main()
