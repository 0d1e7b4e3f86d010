"""In a worker: a run and a corpus -> the run's report, and every utterance with its error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectus.app.analysing import ANALYSIS, FEATURES, VIEW
from affectus.corpus import Corpus, load_corpus, save_corpus
from affectus.corpus.readers.base import ReadOptions
from affectus.corpus.readers.manifest import read_manifest
from affectus.errors import AffectusError
from affectus.files import atomic_path, write_json
from affectus.labels import LabelKind
from affectus.predict.exports import csv_text
from affectus.predict.predictor import Predictor
from affectus.predict.results import Analysis, Utterance
from affectus.report import write_report
from affectus.vocabulary import SIX_EMOTIONS

Tell = Callable[[str, float], None]
REPORT = "report.html"


@dataclass(frozen=True)
class ReviewTask:
    """A corpus to judge.

    Attributes:
        name: shown to people.
        run: folder of a run; None for the model that ships.
        corpus: folder of a corpus, or a manifest.
        split: of it; None for every utterance.
        out: folder to write.
        threads: of each network.
    """

    name: str
    run: Path | None
    corpus: Path
    split: str | None
    out: Path
    threads: int = 1


def review(task: ReviewTask, default: Callable[[], Predictor], tell: Tell) -> dict[str, Any]:
    """Judge, write what was found, and return it in short.

    Args:
        task: what to judge.
        default: gives the predictor if the task names no run.
        tell: told what is being done.

    Raises:
        AffectusError: the corpus does not fit the run.
    """
    tell("opening", 0.0)
    predictor = default() if task.run is None else Predictor.load(task.run)
    corpus = open_corpus(task.corpus)
    part = corpus if task.split is None else corpus.select(corpus.rows(task.split))
    tell("predicting", 0.1)
    told = predictor.predict(
        part, threads=task.threads, progress=lambda done, total: tell("predicting", 0.1 + 0.5 * done / max(total, 1))
    )
    examples = [judged(one, gold_of(part, row)) for row, one in enumerate(told)]
    found = Analysis(
        source=task.name, utterances=tuple(told), model=predictor.identity, media="corpus",
        notes=(*corpus.card.notes, *(predictor.notes(part) if predictor.run is not None else ())),
    )  # fmt: skip
    with atomic_path(task.out) as folder:
        folder.mkdir()
        reported = False
        if predictor.run is not None and task.split is not None:
            tell("writing the report", 0.6)
            try:
                write_report(predictor.run, corpus, folder / REPORT, split=task.split)
                reported = True
            except AffectusError as error:
                found = Analysis(**{**vars(found), "notes": (*found.notes, f"There is no report: {error}")})
        view = {**found.to_json(), "modalities": found.modalities, "report": reported, "split": task.split}
        for line, example in zip(view["utterances"], examples, strict=True):
            line |= example
        write_json(folder / VIEW, view)
        write_json(folder / ANALYSIS, view)
        (folder / "utterances.csv").write_text(csv_text(found), encoding="utf-8", newline="\n")
        save_corpus(part, folder / FEATURES)
    errors = [one["error"] for one in examples if one["error"] is not None]
    tell("done", 1.0)
    return {
        "media": "corpus",
        "utterances": len(told),
        "labelled": len(errors),
        "error": sum(errors) / len(errors) if errors else None,
        "disagreements": sum(one.disagree for one in told),
        "modalities": list(found.modalities),
        "model": found.model,
        "report": reported,
    }


def open_corpus(path: Path) -> Corpus:
    """Return a corpus of a folder or of a manifest."""
    return read_manifest([path], ReadOptions()) if path.suffix.lower() == ".csv" else load_corpus(path)


def gold_of(corpus: Corpus, row: int) -> dict[str, Any]:
    """Return the labels of an utterance, sentiment on a scale from -3 to 3; what is missing is left out."""
    line: Mapping[str, Any] = corpus.table.row(row, named=True)
    gold: dict[str, Any] = {}
    for scheme in corpus.schemes.values():
        values = {column: line[column] for column in scheme.columns if line.get(column) is not None}
        if scheme.name == "sentiment" and values:
            gold["sentiment"] = float(next(iter(values.values()))) * 3 / max(abs(scheme.high or 3), 1e-6)
        elif scheme.name == "emotion_class" and values and scheme.kind is LabelKind.ONE_OF_K:
            gold["emotion"] = next(iter(values.values()))
        elif scheme.name == "emotions" and values:
            gold["emotions"] = [column for column in SIX_EMOTIONS if float(values.get(column) or 0) > 0]
    return gold


def judged(said: Utterance, gold: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels of an utterance and how far what was said is from them.

    The error is the difference of intensities, from 0 to 6, where both are known; else the probability that the right
    polarity or emotion was not given, times 6, so that both sort on one scale.
    """
    opinion, error, by = said.opinion, None, None
    sentiment, emotion = gold.get("sentiment"), gold.get("emotion")
    if sentiment is not None and opinion.intensity is not None:
        error, by = abs(sentiment - opinion.intensity), "intensity"
    elif sentiment is not None and opinion.polarities:
        word = "negative" if sentiment < 0 else "positive" if sentiment > 0 else "neutral"
        if word in opinion.polarities:
            error, by = 6 * (1 - opinion.polarities[word]), "polarity"
    if error is None and emotion is not None and emotion in opinion.emotions:
        error, by = 6 * (1 - opinion.emotions[emotion]), "emotion"
    if error is None and "emotions" in gold and said.present:
        off = [abs((name in gold["emotions"]) - value) for name, value in said.present.items()]
        error, by = 6 * sum(off) / len(off), "emotions"
    return {"gold": dict(gold), "error": error, "error_of": by}
