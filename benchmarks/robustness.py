"""Runs with and without modality dropout under missing and damaged modalities; writes docs/results/robustness.md.

    python benchmarks/robustness.py --data DATA --work runs/robustness [--only mosi,mmmo,pom,embedded] [--seeds 3]

DATA is the folder of data sets (AFFECTUS_DATA). Runs that are there already are not trained again. Nothing was
tuned: modality dropout is 0.3, everything else as published or as the table says. Pages with all curves are written
beside the runs.
"""

import argparse
import datetime
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from affectus.api import train
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.corpus.embedded import make_embedded
from affectus.corpus.readers import import_corpus
from affectus.corpus.storage import corpus_hash
from affectus.evaluation import CORRUPTIONS, Robustness, measure_robustness
from affectus.files import write_json, write_text
from affectus.report.robustness import area_rows, write_robustness
from affectus.vocabulary import View

SHARE = 0.3
DRAWS = 3
RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the curve that is printed as a table."""


@dataclass
class Study:
    """One corpus and one model, trained with and without modality dropout."""

    name: str
    title: str
    make: Callable[[Path], Corpus]
    split: str
    model: str
    tasks: list[str]
    metrics: list[str]
    modalities: list[str] | None = None
    view: View | None = None
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    notes: str = ""


def make_mosi(data: Path) -> Corpus:
    folder = data / "cmu_mosi"
    return import_corpus(
        "mosi-npz", folder / "mosi_utterance.npz", splits=folder / "splits.json", splits_key="contextual"
    )


def make_mfn(name: str) -> Callable[[Path], Corpus]:
    return lambda data: import_corpus("mfn", data / "mfn_aligned" / "mfn_mmmo_pom_youtube.npz", name=name)


SMALL = {"dim": 32, "filters": [32], "ffn": 64}
SHORT = {"epochs": 20, "learning_rate": 0.001, "patience": 8}
STUDIES = [
    Study(
        "mosi",
        "CMU-MOSI in context: MTMM-ES, text, audio, vision",
        make_mosi,
        "valid",
        "mtmm_es",
        ["polarity", "intensity"],
        ["polarity.accuracy", "intensity.mae", "intensity.pearson"],
        training={"select": "polarity.accuracy"},
        notes="The published utterance features; 62 videos to train, 10 (224 utterances) to choose the epoch and to "
        "judge, so clean figures are better than on new videos.",
    ),
    Study(
        "mmmo",
        "MMMO: UFEN + MTFN, sequences of audio and vision",
        make_mfn("mmmo"),
        "valid",
        "ufen_mtfn",
        ["ratings"],
        ["ratings.mae", "ratings.pearson"],
        modalities=["audio", "vision"],
        view=View.ALIGNED,
        options=SMALL,
        training=SHORT,
        notes="20 steps per video; 40 videos to choose the epoch and to judge. The model is a small one (width 32).",
    ),
    Study(
        "pom",
        "POM: UFEN + MTFN, sequences of audio and vision",
        make_mfn("pom"),
        "valid",
        "ufen_mtfn",
        ["ratings"],
        ["ratings.mae", "ratings.pearson"],
        modalities=["audio", "vision"],
        view=View.ALIGNED,
        options=SMALL,
        training=SHORT,
        notes="20 steps per video, 17 ratings; the valid split chooses the epoch and is judged. More than half of the "
        "training videos have no vision at all: here modalities are missing without any dropout. The model is a small "
        "one (width 32).",
    ),
    Study(
        "embedded",
        "Embedded corpus: UFEN + MTFN, sequences of text, audio, vision",
        lambda data: make_embedded(videos=150, steps=True, context=0.0),
        "test",
        "ufen_mtfn",
        ["intensity"],
        ["intensity.mae", "intensity.pearson"],
        view=View.ALIGNED,
        options=SMALL,
        training=SHORT,
        notes="Generated, so it says nothing about people. Audio and vision hold worse copies of what the text says, "
        "which is what modality dropout can use; a tenth of the modalities is missing in train too.",
    ),
]

HEAD = """# Robustness

Made by `python benchmarks/robustness.py` on {date} with {versions}; {seeds} seeds, mean ± standard deviation over
seeds, {draws} draws of each corruption, the same for all runs. *Area* is the mean of a figure over the levels of a
corruption ([what is done](../how-to/robustness.md)); *plain* is without modality dropout, *dropout* with
`--set modality_dropout={share}`. The better of two areas is bold where the means are further apart than the sum of
their spreads.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AFFECTUS_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/robustness.md"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default=",".join(study.name for study in STUDIES))
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("affectus", "torch", "lightning", "numpy"))
    parts = [
        HEAD.format(
            date=datetime.date.today(),
            versions=f"Python {platform.python_version()}, {packages}",
            seeds=arguments.seeds,
            draws=DRAWS,
            share=SHARE,
        )
    ]
    for study in STUDIES:
        if study.name in arguments.only.split(","):
            parts.append(run_study(study, arguments))
    write_text(arguments.results, "\n".join(parts))
    print(f"Wrote {arguments.results}")


def run_study(study: Study, arguments: argparse.Namespace) -> str:
    folder = arguments.work / study.name
    if not (folder / "corpus" / "card.json").is_file():
        save_corpus(study.make(arguments.data), folder / "corpus")
    corpus = load_corpus(folder / "corpus")
    found = []
    for name, share in (("plain", 0.0), ("dropout", SHARE)):
        run = train(
            study.model,
            folder / "corpus",
            tasks=study.tasks,
            out=folder / name,
            modalities=study.modalities,
            seeds=arguments.seeds,
            view=study.view,
            options=study.options,
            training={**study.training, "record_epochs": False, "modality_dropout": share},
            jobs=arguments.jobs,
            device="cpu",
        )
        found.append(measure_robustness(run, corpus, split=study.split, draws=DRAWS))
        write_json(folder / f"{name}.json", found[-1].to_json())
        print(f"{study.name}, {name}: done", flush=True)
    write_robustness(found, folder / "page.html", metrics=study.metrics)
    write_robustness(found, folder / "figures.csv")
    digest = corpus_hash(folder / "corpus")
    parts = [
        f"## {study.title}\n",
        f"{study.notes} Judged on {study.split}, {found[0].n} utterances. Corpus `{digest}`.\n",
    ]
    if study.options or study.training:
        said = ", ".join(f"{k}={json.dumps(v)}" for k, v in {**study.options, **study.training}.items())
        parts.append(f"Settings other than published: `{said}`.\n")
    parts += [clean_table(found, study.metrics), areas_table(found, study.metrics)]
    for metric in study.metrics:
        parts += [f"Missing modalities, {metric} over the rate:\n", curve_table(found, metric)]
    return "\n".join(parts)


def clean_table(found: list[Robustness], metrics: list[str]) -> str:
    rows = [("", "plain", "dropout", "majority")]
    for metric in metrics:
        rows.append(
            (metric, *(mean_and_spread(one.clean[metric]) for one in found), f"{found[0].majority[metric]:.3f}")
        )
    return markdown(rows)


def areas_table(found: list[Robustness], metrics: list[str]) -> str:
    head = ["area under", "of"] + [f"{metric}, {name}" for metric in metrics for name in ("plain", "dropout")]
    rows = [tuple(head)]
    by_curve: dict[tuple[str, str], list[str]] = {}
    for row in area_rows(found, metrics):
        first, second = row.areas
        assert first is not None
        assert second is not None
        cells = [f"{mean:.3f} ± {std:.3f}" for mean, std in (first, second)]
        apart = (second[0] - first[0]) * (1 if row.higher else -1)
        if abs(apart) > first[1] + second[1]:
            place = int(apart > 0)
            cells[place] = f"**{cells[place]}**"
        by_curve.setdefault((row.corruption, row.target), []).extend(cells)
    rows += [(CORRUPTIONS[name].title.lower(), target, *cells) for (name, target), cells in by_curve.items()]
    return markdown(rows)


def curve_table(found: list[Robustness], metric: str) -> str:
    rows = [("missing", "run", *(f"{rate:g}" for rate in RATES))]
    for target in dict.fromkeys(c.target for c in found[0].curves if c.corruption == "missing"):
        for name, one in zip(("plain", "dropout"), found, strict=True):
            curve = one.by_name["missing", target]
            mean, std = curve.mean(metric), curve.std(metric)
            places = [curve.levels.index(rate) for rate in RATES]
            rows.append((target, name, *(f"{mean[i]:.3f} ± {std[i]:.3f}" for i in places)))
    return markdown(rows)


def mean_and_spread(values: list[float]) -> str:
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5
    return f"{mean:.3f} ± {spread:.3f}"


def markdown(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]) + "\n"


if __name__ == "__main__":
    main()
