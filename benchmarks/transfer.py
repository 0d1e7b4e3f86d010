"""What another corpus and utterances without labels are worth when labels are few; writes docs/results/transfer.md.

    python benchmarks/transfer.py --data DATA --work runs/transfer [--seeds 5] [--shares 5,20,100] [--page PAGE]

DATA is the folder of data sets (AFFECTUS_DATA). Transcripts of CMU-MOSI, CMU-MOSEI and MELD become MiniLM vectors, one
for each utterance. Of CMU-MOSI's training labels 5, 20 or 100 % are left, drawn anew for each seed, the smaller share
within the larger; the utterances without a label still stand in their videos. The model is MTMM-ES on text, small, the
same everywhere; epochs are chosen on valid, which keeps its labels, and nothing is tuned. Each way is compared with
training from scratch on the same labels and seeds by a paired t-test, corrected by Holm over the page.

A run that is there already is not trained again, one that was stopped goes on, and the page is written after every
share of labels, so that it can be stopped at any time.
"""

import argparse
import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
from scipy import stats

from affectus.api import evaluate, train
from affectus.corpus import Corpus, build_corpus, load_corpus, save_corpus
from affectus.corpus.readers import import_corpus
from affectus.corpus.storage import corpus_hash
from affectus.features.text import add_text_features
from affectus.files import write_text
from affectus.studies.claims import p_text

OPTIONS: dict[str, Any] = {"hidden": 64, "dense": 32}
TRAINING: dict[str, Any] = {"epochs": 30, "patience": 8, "learning_rate": 1e-3, "record_epochs": False}
METRICS = ("intensity.mae", "intensity.pearson", "intensity.acc2_negative_positive")
WAYS = {
    "from scratch": "",
    "from CMU-MOSEI": "--init-from MOSEI_RUN",
    "from MELD": "--init-from MELD_RUN",
    "consistency": "--unlabelled MOSI",
    "pseudo-labels": "--unlabelled MOSI --set unlabelled_method=pseudo_labels",
    "from CMU-MOSEI, consistency": "--init-from MOSEI_RUN --unlabelled MOSI",
}


def make_corpora(data: Path, work: Path) -> dict[str, Corpus]:
    """Return the three corpora with text vectors, made once."""
    found = {}
    for name in ("mosi", "mosei", "meld"):
        folder = work / "corpora" / name
        if not (folder / "card.json").is_file():
            raw = work / "corpora" / f"{name}-raw"
            if not (raw / "card.json").is_file():
                if name == "mosi":
                    source = data / "cmu_mosi"
                    import_corpus(
                        "mosi-npz",
                        source / "mosi_utterance.npz",
                        splits=source / "splits.json",
                        splits_key="standard",
                        out=raw,
                    )
                elif name == "mosei":
                    import_corpus(
                        "mosei-text",
                        data / "cmu_mosei" / "mosei_valtest_text.csv",
                        rename_splits="test=train",
                        out=raw,
                    )
                else:
                    files = [data / "meld" / f"{part}_sent_emo.csv" for part in ("train", "dev")]
                    import_corpus("meld", files, out=raw)
            corpus = load_corpus(raw)
            bare = build_corpus(corpus.table, {}, corpus.card.model_copy(update={"modalities": {}}))
            save_corpus(add_text_features(bare), folder)
        found[name] = load_corpus(folder)
    return found


def with_share(corpus: Corpus, share: int, seed: int) -> Corpus:
    """Return the corpus with so many per cent of the training labels, the others taken away."""
    rows = np.random.default_rng(seed).permutation(corpus.rows("train"))
    hidden = np.zeros(len(corpus), bool)
    hidden[rows[round(len(rows) * share / 100) :]] = True
    label = pl.when(pl.Series(hidden)).then(None).otherwise(pl.col("sentiment")).alias("sentiment")
    return build_corpus(corpus.table.with_columns(label), corpus.features, corpus.card)


def fit(way: str, corpora: dict[str, Corpus], share: int, seed: int, work: Path) -> dict[str, float]:
    """Train one way with one seed, and judge it on CMU-MOSI's test split."""
    started = {"from CMU-MOSEI": "mosei", "from MELD": "meld"}.get(way.partition(",")[0])
    source = None
    if started is not None:
        source = train(
            "mtmm_es",
            corpora[started],
            tasks=["intensity"],
            out=work / f"source-{started}",
            options=OPTIONS,
            training=TRAINING,
        )
    unlabelled = "consistency" in way or way == "pseudo-labels"
    method = {"unlabelled_method": "pseudo_labels"} if way == "pseudo-labels" else {}
    out = work / "runs" / f"{share}" / way.replace(" ", "-").replace(",", "") / f"{seed}"
    run = train(
        "mtmm_es",
        with_share(corpora["mosi"], share, seed),
        tasks=["intensity"],
        out=out,
        seeds=[seed],
        options=OPTIONS,
        training={**TRAINING, **method},
        init_from=source,
        unlabelled=corpora["mosi"] if unlabelled else None,
    )
    judged = evaluate(run, corpora["mosi"], split="test", protocol="mmsa")
    return {name: judged.mean(name) for name in METRICS}


def holm(values: list[float]) -> list[float]:
    """Correct p-values for their number."""
    order = np.argsort(values)
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = largest
    return corrected


def page(
    found: dict[int, dict[str, list[dict[str, float]]]], corpora: dict[str, Corpus], work: Path, seeds: int
) -> str:
    """Return the page."""
    tests: list[tuple[int, str, float]] = []
    for share, ways in found.items():
        scratch = [row["intensity.mae"] for row in ways["from scratch"]]
        for way, rows in ways.items():
            if way != "from scratch":
                tests.append(
                    (share, way, float(stats.ttest_rel([row["intensity.mae"] for row in rows], scratch).pvalue))
                )
    corrected = dict(zip([(s, w) for s, w, _ in tests], holm([p for *_, p in tests]), strict=True))
    lines = [
        "# Few labels: another corpus, and utterances without labels",
        "",
        "CMU-MOSI, intensity from transcripts (MiniLM vectors, MTMM-ES with 64 units), judged on its test split by the",
        f"protocol `mmsa`; mean and standard deviation over {seeds} seeds, each with its own draw of the labels.",
        "Settings are the same everywhere, nothing was tuned. *p* is of a paired t-test of the error against training",
        f"from scratch on the same labels and seeds, corrected by Holm for the {len(tests)} comparisons on this page.",
        "",
        f"    python benchmarks/transfer.py --data DATA --work runs/transfer --seeds {seeds}",
        "",
    ]
    for share, ways in found.items():
        labels = round(len(corpora["mosi"].rows("train")) * share / 100)
        lines += [f"## {share} % of the labels ({labels:,})", ""]
        lines += [
            "| way | options | MAE | *p* | correlation | Acc-2 (negative, positive) |",
            "|---|---|---|---|---|---|",
        ]
        for way, rows in ways.items():
            cells = []
            for metric in METRICS:
                values = [row[metric] for row in rows]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
            p = p_text(corrected[share, way]) if (share, way) in corrected else ""
            options = f"`{WAYS[way]}`" if WAYS[way] else ""
            lines.append(f"| {way} | {options} | {cells[0]} | {p} | {cells[1]} | {cells[2]} |")
        lines.append("")
    lines += ["## What it shows", "", *reading(found, corrected), ""]
    sure = {"better": [], "worse": []}  # type: dict[str, list[str]]
    for share, way, _ in tests:
        if corrected[share, way] < 0.05:
            mean = [np.mean([row["intensity.mae"] for row in found[share][name]]) for name in (way, "from scratch")]
            sure["better" if mean[0] < mean[1] else "worse"].append(f"{way} at {share} %")
    for verdict, which in sure.items():
        said = "; ".join(which) if which else "none"
        lines.append(f"- Surely {verdict} than from scratch (p < .05): {said}.")
    lines += [
        "- Each source is one run (seed 0), the same for every seed here, so the spread is that of the labels and of",
        "  training on them.",
        "- The source models predict CMU-MOSEI's intensity in [-3, 3] and MELD's sentiment as -1, 0 or 1; all weights,",
        "  the head too, are taken over, and the features are scaled as in the source.",
        "- The unlabelled corpus is CMU-MOSI's own train split, all of it, whose labels are not read.",
        "- With few labels the epoch is still chosen on the whole valid split.",
        "",
        "## Made with",
        "",
        f"- affectus {version('affectus')}, torch {version('torch')}, Python {platform.python_version()}, "
        f"{datetime.datetime.now(tz=datetime.UTC).date()}",
    ]
    for name, corpus in corpora.items():
        lines.append(f"- {corpus.name}, {len(corpus):,} utterances: corpus {corpus_hash(work / 'corpora' / name)[:16]}")
    return "\n".join(lines) + "\n"


def reading(found: dict[int, dict[str, list[dict[str, float]]]], corrected: dict[tuple[int, str], float]) -> list[str]:
    """Say what the tables show: what each way gains, and how many labels a source is worth."""

    def mae(share: int, way: str) -> float:
        return float(np.mean([row["intensity.mae"] for row in found[share][way]]))

    lines = []
    for way in (way for way in WAYS if way != "from scratch"):
        said = []
        for share in found:
            gain = mae(share, "from scratch") - mae(share, way)
            word = "less" if gain > 0 else "more"
            tested = "" if corrected[share, way] < 0.05 else ", which the test does not tell from none"
            said.append(f"at {share} % the error is {abs(gain):.3f} {word}{tested}")
        lines.append(f"- **{way[:1].upper()}{way[1:]}**: {'; '.join(said)}.")
    few, many = min(found), max(found)
    for way in ("from CMU-MOSEI", "from MELD"):
        for share in sorted(found, reverse=True):
            if share > few and mae(few, way) <= mae(share, "from scratch"):
                lines.append(
                    f"- {few} % of the labels {way} ({mae(few, way):.3f}) do as well as {share} % from scratch "
                    f"({mae(share, 'from scratch'):.3f})."
                )
                break
        else:
            if many > few:
                after = min(share for share in found if share > few)
                lines.append(
                    f"- {few} % of the labels {way} ({mae(few, way):.3f}) do not do as well as {after} % from scratch "
                    f"({mae(after, 'from scratch'):.3f})."
                )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("AFFECTUS_DATA", "../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shares", default="5,20,100")
    parser.add_argument("--page", type=Path, default=Path("docs/results/transfer.md"))
    arguments = parser.parse_args()
    corpora = make_corpora(Path(arguments.data), arguments.work)
    found: dict[int, dict[str, list[dict[str, float]]]] = {}
    for share in map(int, arguments.shares.split(",")):
        ways: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for seed in range(arguments.seeds):
            for way, rows in ways.items():
                rows.append(fit(way, corpora, share, seed, arguments.work))
                print(f"{share} %, seed {seed}, {way}: {rows[-1]}", flush=True)
        found[share] = ways
        write_text(arguments.page, page(found, corpora, arguments.work, arguments.seeds))


if __name__ == "__main__":
    main()
