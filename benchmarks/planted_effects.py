"""Are effects of known size found, and only then? Writes docs/results/planted-effects.md.

    python benchmarks/planted_effects.py --work runs/planted [--corpora 3] [--seeds 3] [--page FILE]

The embedded corpus has a contextual, a cross-modal and a cross-task effect, each of a size that is a parameter. For
each effect two systems are trained that differ in one thing: with and without the utterances around, with and without
the other modalities, emotions learned with and without sentiment beside them. Each pair is held against the other on
the test videos by a one-sided test at 5 % (10,000 paired draws of videos): is the first better? Runs that are there
are not trained again.
"""

import argparse
import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from affectus.api import train
from affectus.corpus import Corpus
from affectus.corpus.embedded import make_embedded
from affectus.evaluation.significance import Statistic, accuracy_of, mae_of, statistics_of
from affectus.files import write_text
from affectus.training import Run

DRAWS = 10_000


@dataclass
class Side:
    """One of the two systems."""

    name: str
    tasks: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    modalities: list[str] | None = None


@dataclass
class Effect:
    """A planted effect, and the two systems that differ in the means to find it."""

    name: str
    parameter: str
    fixed: dict[str, float]
    with_means: list[Side]
    without: Side
    metric: str


ALONE = {"context": False, "attention": "none"}
EFFECTS = [
    Effect(
        "context",
        "context",
        {},
        [Side("whole videos", ["polarity"])],
        Side("each utterance alone", ["polarity"], options=ALONE),
        "accuracy",
    ),
    Effect(
        "other modalities",
        "cross_modal",
        {"context": 0.0, "missing": 0.0},
        [Side("text, audio, vision", ["polarity"])],
        Side("text", ["polarity"], modalities=["text"]),
        "accuracy",
    ),
    Effect(
        "second task",
        "cross_task",
        {"emotion_labels": 0.1},
        [
            Side("emotions and polarity", ["emotions", "polarity"]),
            Side("the same, uncertainty weights", ["emotions", "polarity"], training={"weighing": "uncertainty"}),
            Side("the same, gradient surgery", ["emotions", "polarity"], training={"weighing": "pcgrad"}),
            Side("the same, selection per task", ["emotions", "polarity"], training={"select": "per_task"}),
        ],
        Side("emotions", ["emotions"]),
        "log loss",
    ),
]


def statistic(run: Run, seed: int, corpus: Corpus, metric: str) -> Statistic:
    """Return what each test utterance adds to the metric."""
    said = run.predict(run.model(seed), corpus, "test")
    if metric == "accuracy":
        return statistics_of(run.tasks, said, {})["polarity.accuracy"]
    given, target = said.probabilities["emotions"].astype(np.float64), said.targets["emotions"]
    known = ~np.isnan(target)
    truth, sure = np.where(known, target, 0), np.clip(given, 1e-7, 1 - 1e-7)
    loss = -(truth * np.log(sure) + (1 - truth) * np.log(1 - sure)) * known
    # the mean over utterances and classes, as sums
    return Statistic(np.stack([loss.sum(axis=1), known.sum(axis=1)], axis=-1)[:, None], mae_of, False)


def compare(first: list[Statistic], second: list[Statistic], videos: np.ndarray) -> tuple[float, float, float, float]:
    """Return both means, the advantage of the second, and the one-sided p that it is none."""
    count = int(videos.max()) + 1
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS).astype(float)
    whole, drawn = [], []
    for side in (first, second):
        values, draws = [], []
        for one in side:
            sums = np.zeros((count, *one.per_utterance.shape[1:]))
            np.add.at(sums, videos, one.per_utterance)
            values.append(float(one.finish(sums.sum(axis=0)).mean()))
            draws.append(one.finish((weights @ sums.reshape(count, -1)).reshape(DRAWS, *sums.shape[1:])).mean(axis=-1))
        whole.append(float(np.mean(values)))
        drawn.append(np.mean(draws, axis=0))
    sign = 1 if first[0].higher else -1
    advantage = sign * (drawn[1] - drawn[0])
    assert first[0].finish in (accuracy_of, mae_of)
    return whole[0], whole[1], sign * (whole[1] - whole[0]), float(max((advantage <= 0).mean(), 1 / DRAWS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--corpora", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    lines = [
        "| effect | its size | corpus | without | with | advantage | p, one-sided | found at 5 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for effect in EFFECTS:
        for size in (1.0, 0.0):
            for number in range(arguments.corpora):
                corpus = make_embedded(videos=arguments.videos, seed=number, **{**effect.fixed, effect.parameter: size})
                videos = np.concatenate([np.full(len(r), i) for i, r in enumerate(corpus.recordings("test"))])
                found: dict[str, list[Statistic]] = {}
                for side in [effect.without, *effect.with_means]:
                    name = f"{effect.parameter}-{size:g}-{number}-{side.name.replace(' ', '-').replace(',', '')}"
                    run = train(
                        "mtmm_es",
                        corpus,
                        tasks=side.tasks,
                        seeds=arguments.seeds,
                        options=side.options,
                        modalities=side.modalities,
                        training={"epochs": arguments.epochs, "record_epochs": False, **side.training},
                        out=arguments.work / name,
                    )
                    found[side.name] = [statistic(run, seed, corpus, effect.metric) for seed in run.seeds]
                for side in effect.with_means:
                    a, b, advantage, p = compare(found[effect.without.name], found[side.name], videos)
                    cells = [effect.name, f"{size:g}", str(number), f"{effect.without.name}: {a:.3f}"]
                    cells += [f"{side.name}: {b:.3f}", f"{advantage:+.3f}", f"{p:.4f}", "yes" if p < 0.05 else "no"]
                    lines.append("| " + " | ".join(cells) + " |")
                    print(lines[-1], flush=True)
    head = (
        "# Planted effects: found where they are, not where they are not\n\n"
        f"Made by `python benchmarks/planted_effects.py` on {datetime.datetime.now(datetime.UTC).date()}: `mtmm_es`, "
        f"{arguments.videos} videos of the embedded corpus a time, {arguments.corpora} corpora, {arguments.seeds} "
        f"seeds of training each, at most {arguments.epochs} epochs, the best chosen on valid. Figures are accuracy of "
        "polarity on test (context, other modalities) and the log loss of the six emotions and *none* (second task; "
        "less is better). "
        "The test is one-sided: the second system is better. 10,000 paired draws of test videos, seeds averaged.\n\n"
    )
    if arguments.page:
        write_text(arguments.page, head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
