"""Text tokens on real data, encoder frozen or trained, beside linear models; writes docs/results/text-sequences.md.

    python benchmarks/real_text.py --data DATA --work runs/text [--only mosi,mosei,sims] [--seeds 3] [--jobs 1]

DATA is the folder of data sets (AFFECTUS_DATA). A run that is there already is not trained again, and one that was
stopped goes on. The loss of real values and the strength of the linear models' penalty are chosen on valid with seed 0,
epochs on valid; the split that is judged chooses nothing. On a machine with a GPU the encoder is also trained as a
whole. A page made with --only tells of these corpora alone; those that were run before cost nothing.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from affectus.api import evaluate, train
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.corpus.readers import import_corpus
from affectus.corpus.storage import corpus_hash
from affectus.evaluation.significance import compare_runs
from affectus.features.text import add_text_features
from affectus.files import read_json, write_text
from affectus.training import Run, load_run
from affectus.vocabulary import View

TASKS = ["polarity", "intensity"]
TOKENS = 50
SETTINGS = {
    "batch_size": 32,
    "epochs": 4,
    "learning_rate": 5e-4,
    "text_learning_rate": 3e-4,
    "average_weights": 0.98,
    "record_epochs": False,
}
"""The encoder's rate after a trial of 2e-4 and 3e-4 on the valid split of CMU-MOSI."""
LOSSES = ("mse", "l1")
PENALTIES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
STRENGTHS = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0, 100000.0)


@dataclass(frozen=True)
class System:
    """One row: a model, its settings, and what is chosen on valid."""

    name: str
    model: str
    layers: int
    view: View | None = None
    training: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, tuple[float | str, ...]] = field(default_factory=dict)


GRID = {"real_loss": LOSSES}
SYSTEMS = [
    System("ufen_mtfn, frozen", "ufen_mtfn", 0, View.UNALIGNED, SETTINGS, GRID),
    System("ufen_mtfn, last two layers", "ufen_mtfn", 2, View.UNALIGNED, SETTINGS, GRID),
]
WHOLE = System("ufen_mtfn, whole encoder", "ufen_mtfn", -1, View.UNALIGNED, SETTINGS, GRID)
AVERAGED = "seeds averaged"


@dataclass(frozen=True)
class Study:
    """One table: a corpus whose split ``test`` is judged."""

    name: str
    title: str
    command: str
    make: Callable[[Path], Corpus]
    protocol: str
    notes: str
    frozen: bool = False
    """Show the model with a frozen encoder, too."""


def make_mosi(data: Path) -> Corpus:
    folder = data / "cmu_mosi"
    source, splits = folder / "mosi_utterance.npz", folder / "splits.json"
    return import_corpus("mosi-npz", source, splits=splits, splits_key="standard")


def make_mosei(data: Path) -> Corpus:
    source = data / "cmu_mosei" / "mosei_valtest_text.csv"
    return import_corpus("mosei-text", source, rename_splits="test=train,valid=test", valid_fraction=0.15)


def make_sims(data: Path) -> Corpus:
    source = data / "ch_sims" / "sims_labels_text.csv"
    return import_corpus("sims", source, text_column="english", rename_splits="valid=test", valid_fraction=0.15)


STUDIES = [
    Study(
        "mosi",
        "CMU-MOSI, standard split",
        "affectus import mosi-npz mosi_utterance.npz --splits splits.json --splits-key standard --out CORPUS",
        make_mosi,
        "mmsa",
        "39 videos to train, 9 to choose, 24 to judge. The file's own vectors, which have seen labels, are not used.",
        frozen=True,
    ),
    Study(
        "mosei",
        "CMU-MOSEI, transcripts of two folds",
        "affectus import mosei-text mosei_valtest_text.csv --rename-splits test=train,valid=test --valid-fraction .15 "
        "--out CORPUS",
        make_mosei,
        "mmsa",
        "Train: the SDK's test fold but 15 % of its videos, which choose; judged on the SDK's valid fold.",
    ),
    Study(
        "sims",
        "CH-SIMS, English translations",
        "affectus import sims sims_labels_text.csv --text-column english --rename-splits valid=test --valid-fraction "
        ".15 --out CORPUS",
        make_sims,
        "mmsa-sims",
        "The published split cuts through videos, so the judged videos are in train and valid too, with other clips. "
        "The label was given to picture, sound and text together; the English text is a translation.",
    ),
]
METRICS = [
    "polarity.accuracy",
    "polarity.weighted_f1",
    "intensity.mae",
    "intensity.pearson",
    "intensity.acc2_negative_positive",
    "intensity.acc7",
    "intensity.acc5",
]
CHOOSING = "intensity.mae"
COMPARED = ["polarity.accuracy", "polarity.weighted_f1", "intensity.mae", "intensity.pearson"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AFFECTUS_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=Path("runs/text"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/text-sequences.md"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--only", default=",".join(study.name for study in STUDIES))
    arguments = parser.parse_args()
    systems = [*SYSTEMS, *([WHOLE] if torch.cuda.is_available() else [])]
    parts = [head(arguments)]
    for study in STUDIES:
        if study.name in arguments.only.split(","):
            parts.append(run_study(study, systems, arguments))
    write_text(arguments.results, "\n".join(parts))
    print(f"Wrote {arguments.results}")


def head(arguments: argparse.Namespace) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("affectus", "torch", "transformers", "scikit-learn"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"""# Text as sequences of tokens, on real data

Made by `python benchmarks/real_text.py` on {datetime.date.today()} with Python {platform.python_version()},
{packages},
on {device}; {arguments.seeds} seeds, mean ± standard deviation over seeds. Text alone, encoder `{arguments.encoder}`,
{TOKENS} tokens at most.

*linear* is logistic and ridge regression on the mean of the frozen encoder's token vectors, its penalties chosen on
valid: C among {listed(PENALTIES)}, alpha among {listed(STRENGTHS)}. The other models have
{SETTINGS["epochs"]} epochs at most, a learning rate of {SETTINGS["learning_rate"]:g}, of a trained encoder
{SETTINGS["text_learning_rate"]:g}, and judge a moving average of their weights (decay
{SETTINGS["average_weights"]:g}). The loss of real values ({" or ".join(LOSSES)}) is chosen on valid with seed 0, by the
error of intensity; the epoch is chosen on valid, too.
*Seeds averaged*: the mean of what the seeds say, judged
as one system. *Majority* is fitted on train.
"""


def listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def run_study(study: Study, systems: list[System], arguments: argparse.Namespace) -> str:
    folder = arguments.work / study.name
    if not (folder / "corpus" / "card.json").is_file():
        # with the frozen encoder's vectors, which linear models read; the encoder takes their place in the others
        made = add_text_features(study.make(arguments.data), encoder=arguments.encoder, max_tokens=TOKENS)
        save_corpus(made, folder / "corpus")
    corpus = load_corpus(folder / "corpus")
    runs, chosen = {}, {}
    runs["linear"], chosen["linear"] = best_linear(folder, arguments)
    for system in systems if study.frozen else systems[1:]:
        runs[system.name], chosen[system.name] = best_run(system, folder, arguments)
    found = {}
    for name, run in runs.items():
        found[name] = evaluate(run, corpus, protocol=study.protocol)
        if len(run.seeds) > 1:
            found[f"{name}, {AVERAGED}"] = evaluate(run, corpus, protocol=study.protocol, ensemble=True)
    metrics = [name for name in METRICS if all(name in evaluation.values for evaluation in found.values())]
    lines = [
        f"\n## {study.title}\n\n`{study.command}`\n",
        f"Corpus {corpus_hash(folder / 'corpus')[:16]}; {len(corpus.rows('test'))} utterances judged, protocol "
        f"`{study.protocol}`. {study.notes}\n",
        "| system | chosen on valid | seconds per epoch | " + " | ".join(metrics) + " |",
        "|---|---|---|" + "---|" * len(metrics),
    ]
    majority = found["linear"].majority
    lines.append("| majority | | | " + " | ".join(f"{majority[name]:.3f}" for name in metrics) + " |")
    for name, evaluation in found.items():
        cells = []
        for metric in metrics:
            spread = f" ± {evaluation.std(metric):.3f}" if len(evaluation.values[metric]) > 1 else ""
            cells.append(f"{evaluation.mean(metric):.3f}{spread}")
        told = [chosen[name], pace(runs[name])] if name in runs else ["", ""]
        lines.append(f"| {name} | {' | '.join(told)} | " + " | ".join(cells) + " |")
    lines += [
        "\nAgainst *linear*, difference with its 95 % interval (paired bootstrap over videos, 10,000 draws):\n",
        "| system | metric | difference | 95 % interval | p (Holm, within the row's system) |",
        "|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        for ensemble in (False, True) if name != "linear" else ():
            against = compare_runs([runs["linear"], run], corpus, split="test", metrics=COMPARED, ensemble=ensemble)
            for d in against:
                low, high = d.interval
                lines.append(
                    f"| {name}{f', {AVERAGED}' if ensemble else ''} | {d.metric} | {d.difference:+.4f} | "
                    f"[{low:+.4f}, {high:+.4f}] | {d.p_videos_corrected:.4f} |"
                )
    return "\n".join(lines) + "\n"


def best_linear(folder: Path, arguments: argparse.Namespace) -> tuple[Run, str]:
    """Return the linear models whose penalties were best on valid, each task's by itself."""
    runs = []
    for c, alpha in zip(PENALTIES, STRENGTHS, strict=True):
        out = folder / f"linear-{c:g}-{alpha:g}"
        runs.append((c, alpha, fit(arguments, folder, "linear", out, options={"C": c, "alpha": alpha})))
    c = max(runs, key=lambda run: on_valid(run[2], "polarity.accuracy"))[0]
    alpha = min(runs, key=lambda run: on_valid(run[2], CHOOSING))[1]
    out = folder / f"linear-{c:g}-{alpha:g}"
    return fit(arguments, folder, "linear", out, options={"C": c, "alpha": alpha}), f"C {c:g}, alpha {alpha:g}"


def best_run(system: System, folder: Path, arguments: argparse.Namespace) -> tuple[Run, str]:
    """Return the run whose settings were best on valid with seed 0, trained for all seeds."""
    candidates = []
    for values in itertools.product(*system.grid.values()):
        chosen = dict(zip(system.grid, values, strict=True))
        out = folder / "-".join([system.model, str(system.layers), *map(str, values)])
        training = {
            **system.training,
            **chosen,
            "select": "task_loss",
            "text_layers": system.layers,
            "text_encoder": arguments.encoder,
            "text_max_tokens": TOKENS,
        }
        settings = {"view": system.view, "training": training}
        run = fit(arguments, folder, system.model, out, **settings)
        candidates.append((on_valid(run, CHOOSING), chosen, out, settings))
    _, chosen, out, settings = min(candidates, key=lambda candidate: candidate[0])
    run = fit(arguments, folder, system.model, out, seeds=arguments.seeds, **settings)
    return run, ", ".join(f"{name} {value}" for name, value in chosen.items())


def fit(arguments: argparse.Namespace, folder: Path, model: str, out: Path, **settings: Any) -> Run:
    print(out, flush=True)
    if (out / "run.json").is_file() and all(
        (out / f"seed-{seed}" / "result.json").is_file() for seed in range(settings.get("seeds", 1))
    ):
        return load_run(out)
    return train(model, folder / "corpus", tasks=TASKS, modalities=["text"], out=out, jobs=arguments.jobs, **settings)


def on_valid(run: Run, metric: str) -> float:
    return float(read_json(run.seed_folder(0) / "result.json")["valid"][metric])


def pace(run: Run) -> str:
    seconds = []
    for seed in run.seeds:
        rows = (run.seed_folder(seed) / "history.jsonl").read_text().splitlines()
        seconds += [json.loads(row)["seconds"] for row in rows]
    return f"{sum(seconds) / len(seconds):.1f}" if seconds else "–"


if __name__ == "__main__":
    main()
