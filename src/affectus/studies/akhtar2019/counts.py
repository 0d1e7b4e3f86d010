"""What is counted: the corpus (Tables 2 and 3), and the predictions of each class beside the labels (section 5.5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from affectus.corpus import Corpus
from affectus.evaluation.evaluate import choose_for
from affectus.metrics import AKHTAR_GRID, weighted_accuracy, weighted_f1
from affectus.studies.akhtar2019.plan import EMOTIONS, POLARITY, Plan
from affectus.studies.published import Results
from affectus.studies.tables import NOTHING, Grid, Section, spread, summary
from affectus.training import Predictions, Run
from affectus.vocabulary import Emotion, Split

FloatArray = npt.NDArray[np.float32]
ALL = "all"
SPLITS = (*map(str, Split), ALL)


def counted(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Return per split (and for all) the counts of Table 2: videos, utterances, signs of sentiment, each emotion."""
    found: dict[str, dict[str, int]] = {}
    here = set(corpus.splits.tolist())
    for split in SPLITS:
        if split != ALL and split not in here:
            continue
        rows = corpus.rows(None if split == ALL else split)
        counts = {"videos": len(corpus.recordings(None if split == ALL else split)), "utterances": len(rows)}
        if "sentiment" in corpus.schemes:
            sentiment = corpus.label("sentiment")[rows, 0]
            counts["positive"] = int((sentiment >= 0).sum())
            counts["negative"] = int((sentiment < 0).sum())
        if "emotions" in corpus.schemes:
            strengths = corpus.label("emotions")[rows]
            for column, emotion in enumerate(corpus.schemes["emotions"].columns):
                counts[emotion] = int((strengths[:, column] > 0).sum())
            counts["no emotion"] = int((strengths == 0).all(axis=1).sum())
            counts["emotion_labels"] = int((strengths > 0).sum())
        found[split] = counts
    return found


def table2(corpus: Corpus, results: Results) -> Section:
    """Return the counts of the corpus beside the paper's."""
    found = counted(corpus)
    splits = [split for split in SPLITS if split in found]
    rows: list[tuple[str, ...]] = []
    data: dict[str, dict[str, Any]] = {}
    for name in found[ALL]:
        cells = []
        data[name] = {}
        for split in splits:
            published = results.count("2", {"split": split}, name)
            cells += [_published(published), f"{found[split][name]:,}"]
            data[name][split] = {"published": published[0] if published else None, "here": found[split][name]}
        rows.append((name.replace("_", " "), *cells))
    head = ("", *(words for split in splits for words in (f"{split}, paper", f"{split}, here")))
    notes = (
        "Positive: sentiment of 0 or more, as in the released code. An emotion is present if its label is above 0.",
    )
    return Section("Table 2: the data", (), (Grid("Counts of the corpus", head, tuple(rows), notes),), data)


def table3(corpus: Corpus, results: Results) -> Section:
    """Return how many utterances bear how many emotions, beside the paper's sums."""
    if "emotions" not in corpus.schemes:
        return Section("Table 3: emotions per utterance", ("The corpus has no labels of emotions.",))
    strengths = corpus.label("emotions")
    known = ~np.isnan(strengths).any(axis=1)
    number = (strengths > 0).sum(axis=1)
    here = [split for split in SPLITS if split == ALL or (corpus.splits == split).any()]
    masks = {split: known & ((corpus.splits == split) | (split == ALL)) for split in here}
    most = strengths.shape[1]
    counts = {
        str(k): {split: int((mask & (number == k)).sum()) for split, mask in masks.items()} for k in range(most + 1)
    }
    rows = [(k, *(f"{of[split]:,}" for split in here), NOTHING) for k, of in counts.items()]
    for name, total in (
        ("utterances", {split: int(mask.sum()) for split, mask in masks.items()}),
        ("emotion_labels", {split: int(number[mask].sum()) for split, mask in masks.items()}),
    ):
        published = _published(results.count("3", {"split": ALL}, name))
        rows.append((name.replace("_", " "), *(f"{total[split]:,}" for split in here), published))
        counts[name] = total
    head = ("emotions present", *(f"{split}, here" for split in here), "all, paper")
    return Section("Table 3: emotions per utterance", (), (Grid("Utterances by emotions", head, tuple(rows)),), counts)


def _published(found: tuple[float, str | None] | None) -> str:
    return NOTHING if found is None else f"{found[0]:,.0f}{'?' if found[1] else ''}"


def section55(plan: Plan, runs: Sequence[Run], published: Mapping[str, float]) -> Section:
    """Return how often each class is predicted, beside how often it is the label.

    Args:
        plan: of the corpus.
        runs: that tell the tasks: the joint one, or the one of the only task.
        published: the thresholds that the paper settles on.
    """
    title = "Section 5.5: how often each class is predicted"
    grids: list[Grid] = []
    data: dict[str, Any] = {}
    for run in runs:
        chosen = choose_for(run, plan.corpus, plan.split)
        epochs = [run.recorded(seed, plan.split) for seed in run.seeds]
        for task in run.tasks:
            target = chosen[0][0].targets[task.name]
            if task.name == POLARITY:
                gold = {name: int((target[:, 0] == i).sum()) for i, name in enumerate(task.values)}
                honest = [{"": _of_classes(p, target)} for p, _ in chosen]
                best = [{"": _of_classes(_best_polarity(of), target)} for of in epochs if of]
                columns: tuple[str, ...] = ("",)
            elif task.name == EMOTIONS:
                gold = {name: int(np.nansum(target[:, i])) for i, name in enumerate(task.values)}
                columns = ("weighted_f1", "weighted_accuracy")
                honest, best = [], []
                for predictions, cuts in chosen:
                    given = predictions.probabilities[EMOTIONS]
                    thresholds = cuts.get(EMOTIONS)
                    plain = (0.5,) * len(task.values)
                    honest.append(
                        {c: _above(given, getattr(thresholds, c) if thresholds else plain, target) for c in columns}
                    )
                for of in epochs:
                    if of:
                        best.append({c: _best_emotions(of, c, task.values) for c in columns})
            else:
                continue
            grids.append(_counts_grid(task.name, task.values, columns, gold, best, honest))
            data[task.name] = {
                name: {
                    "gold": gold[name],
                    "oracle": {c or "class": summary([float(one[c][i]) for one in best]) for c in columns},
                    "honest": {c or "class": summary([float(one[c][i]) for one in honest]) for c in columns},
                }
                for i, name in enumerate(task.values)
            }
    settled = ", ".join(f"{cut:g} for {name.replace('_', ' ')}" for name, cut in published.items())
    text = (
        "Counts over the judged split, mean over seeds. The oracle's are those of the epoch and threshold that are "
        "best on that split in the mean over the six emotions (in accuracy, for polarity), as the released code picks "
        f"them. The paper's own counts are not at hand; it settles on one threshold for all emotions: {settled}.",
    )
    return Section(title, text, tuple(grids), data)


def _of_classes(predictions: Predictions, target: FloatArray) -> list[int]:
    said = predictions.probabilities[POLARITY].argmax(axis=1)[~np.isnan(target[:, 0])]
    return [int((said == i).sum()) for i in (0, 1)]


def _above(given: FloatArray, cuts: Sequence[float], target: FloatArray) -> list[int]:
    """Count what is predicted among the labelled utterances, per value."""
    return [int(n) for n in ((given >= np.asarray(cuts, given.dtype)) & ~np.isnan(target)).sum(axis=0)]


def _best_polarity(epochs: Sequence[Predictions]) -> Predictions:
    def accuracy(predictions: Predictions) -> float:
        target = predictions.targets[POLARITY][:, 0]
        known = ~np.isnan(target)
        return float((predictions.probabilities[POLARITY].argmax(axis=1)[known] == target[known]).mean())

    return max(epochs, key=accuracy)


def _best_emotions(epochs: Sequence[Predictions], rule: str, values: Sequence[str]) -> list[int]:
    metric = weighted_f1 if rule == "weighted_f1" else weighted_accuracy
    six = [i for i, value in enumerate(values) if value != Emotion.NONE]
    best, counts = -1.0, [0] * len(values)
    for predictions in epochs:
        given, target = predictions.probabilities[EMOTIONS], predictions.targets[EMOTIONS]
        known = ~np.isnan(target)
        for cut in AKHTAR_GRID:
            said = given >= cut
            scores = [metric(target[known[:, i], i].astype(int), said[known[:, i], i].astype(int)) for i in six]
            score = float(np.nanmean(scores))
            if score > best:
                best, counts = score, [int(n) for n in (said & known).sum(axis=0)]
    return counts


def _counts_grid(
    task: str,
    values: Sequence[str],
    columns: Sequence[str],
    gold: Mapping[str, int],
    oracle: Sequence[Mapping[str, Sequence[int]]],
    honest: Sequence[Mapping[str, Sequence[int]]],
) -> Grid:
    names = {"": "", "weighted_f1": ", threshold for F1", "weighted_accuracy": ", threshold for W-Acc"}
    head = ["class", "labels"]
    head += [f"{kind}{names[column]}" for column in columns for kind in ("oracle", "honest")]
    rows = []
    for i, value in enumerate(values):
        cells = [value, f"{gold[value]:,}"]
        for column in columns:
            for found in (oracle, honest):
                cells.append(spread([float(one[column][i]) for one in found], scale=1, digits=0))
        rows.append(tuple(cells))
    return Grid(f"Predictions of {task}", tuple(head), tuple(rows))
