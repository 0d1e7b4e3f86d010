"""What a report says, before it is a page: plain values in frozen dataclasses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from affectus.evaluation.spread import std_over_seeds
from affectus.report.figures import Bin


@dataclass(frozen=True)
class Score:
    """One metric of one run: mean and sample standard deviation over the seeds, and each seed's value.

    The deviation is NaN where it is unknown, for a single seed.
    """

    mean: float
    std: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        """Return the score of values, one per seed."""
        return cls(float(np.mean(values)), float(std_over_seeds(values)), tuple(values))


@dataclass(frozen=True)
class ScoreRow:
    """One metric of every run.

    Attributes:
        metric: its full name.
        scores: per run; None where the run does not have it.
        majority: per majority column (:attr:`Report.majorities`).
    """

    metric: str
    scores: tuple[Score | None, ...]
    majority: tuple[float | None, ...]


@dataclass(frozen=True)
class EmotionRow:
    """One emotion's figures.

    Attributes:
        emotion: its name.
        known: utterances with a label of it.
        gold: utterances that have it.
        predicted: per run the mean over seeds of how many utterances were said to have it.
        scores: per metric (``weighted_f1`` and so on) the row of all runs.
    """

    emotion: str
    known: int
    gold: int
    predicted: tuple[float | None, ...]
    scores: dict[str, ScoreRow]

    @property
    def prevalence(self) -> float:
        """Share of the labelled utterances that have the emotion."""
        return self.gold / self.known if self.known else float("nan")


@dataclass(frozen=True)
class SeedCurve:
    """One seed's epochs in one stage of training; NaN where an epoch lacks a figure.

    Attributes:
        seed: which.
        train: loss on train.
        valid: loss on valid.
        metric: the metric that is shown beside the losses, on valid; empty for a part of the loss.
        best: the selected epoch, from 0; None if this stage does not choose.
    """

    seed: int
    train: tuple[float, ...]
    valid: tuple[float, ...]
    metric: tuple[float, ...]
    best: int | None


@dataclass(frozen=True)
class LearningCurves:
    """All seeds of one stage.

    Attributes:
        stage: its name.
        metric: name of the metric that is shown beside the losses; None if valid was not scored.
        selects: what the best epoch was chosen by, in words.
        seeds: one curve each.
        losses: by name, the curves of each loss of which the whole is made; empty if there is but one.
    """

    stage: str
    metric: str | None
    selects: str
    seeds: tuple[SeedCurve, ...]
    losses: dict[str, tuple[SeedCurve, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix, mean over the seeds; rows are the truth.

    Attributes:
        title: what is classified.
        labels: the classes.
        counts: per true class, per predicted class.
    """

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Calibration:
    """Probabilities against what came true.

    Attributes:
        title: of what.
        bins: over the predictions of all seeds.
        ece: expected calibration error, mean over the seeds.
    """

    title: str
    bins: tuple[Bin, ...]
    ece: float


@dataclass(frozen=True)
class ThresholdCurves:
    """An emotion's scores over the grid of thresholds, means over the seeds.

    Attributes:
        emotion: its name.
        grid: the thresholds.
        weighted_f1: per split.
        weighted_accuracy: per split.
        chosen_f1: the threshold that each seed uses for F1.
        chosen_accuracy: the threshold that each seed uses for weighted accuracy.
    """

    emotion: str
    grid: tuple[float, ...]
    weighted_f1: dict[str, tuple[float, ...]]
    weighted_accuracy: dict[str, tuple[float, ...]]
    chosen_f1: tuple[float, ...]
    chosen_accuracy: tuple[float, ...]


@dataclass(frozen=True)
class RunPart:
    """What is told of one run by itself."""

    label: str
    model: str
    paper: tuple[str, str] | None
    """Short citation and address."""
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    seeds: tuple[int, ...]
    trained_on: str
    trained_hash: str | None
    versions: dict[str, str]
    command: str
    notes: tuple[str, ...]
    parameters: int | None = None
    seconds: float | None = None
    """Training time of a seed, mean."""
    balanced: bool = False
    """Rare classes weighed up in training."""
    curves: tuple[LearningCurves, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    thresholds: tuple[ThresholdCurves, ...] = ()


@dataclass(frozen=True)
class Said:
    """What a run says of one task of one utterance.

    Attributes:
        text: the predicted label or labels.
        mark: ``right``, ``partly`` or ``wrong``; None if there is no truth, or for a number.
    """

    text: str
    mark: str | None


@dataclass(frozen=True)
class UtteranceRow:
    """One utterance of the chosen video.

    Attributes:
        id: the corpus's.
        text: its transcript, if there is one.
        gold: per task, the label in words.
        said: per task, per run; None where the run does not have the task.
    """

    id: str
    text: str | None
    gold: dict[str, str]
    said: dict[str, tuple[Said | None, ...]]


@dataclass(frozen=True)
class Heatmap:
    """Attention of one modality over another one's utterances: ``weights[i][j]`` of utterance i over utterance j."""

    query: str
    key: str
    weights: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class HeatmapPair:
    """N1 and N2 of a pair of modalities; only N1 where a lone modality attends to itself."""

    first: Heatmap
    second: Heatmap | None


@dataclass(frozen=True)
class VideoPart:
    """One video: its utterances, what every run says of them, and where contextual attention looks.

    Attributes:
        video: its id.
        total: how many utterances it has; the part shows the first of them if they are many.
        utterances: those shown.
        heatmaps: per run.
    """

    video: str
    total: int
    utterances: tuple[UtteranceRow, ...]
    heatmaps: tuple[tuple[HeatmapPair, ...], ...]


@dataclass(frozen=True)
class Example:
    """An utterance on which two runs differ.

    Attributes:
        id: the corpus's.
        text: its transcript, if there is one.
        gold: the true label or labels.
        said: by the first and by the second run.
        precision: of the labels, first and second; None for tasks with one label.
        recall: as precision.
    """

    id: str
    text: str | None
    gold: str
    said: tuple[str, str]
    precision: tuple[float, float] | None
    recall: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """Where two runs differ on one task.

    Attributes:
        task: its name.
        runs: the places of the two.
        n: labelled utterances.
        better: how many the first, and how many the second run tells better.
        even: how many they tell differently, but equally well.
        examples: of the first run's and of the second run's better ones, the clearest first.
    """

    task: str
    runs: tuple[int, int]
    n: int
    better: tuple[int, int]
    even: int
    examples: tuple[tuple[Example, ...], tuple[Example, ...]]


@dataclass(frozen=True)
class HeadScore:
    """What one head of one run says on the whole.

    Attributes:
        bias: mean of what is said less the label.
        negative: share of the utterances that are said to be negative.
    """

    bias: Score
    negative: Score


@dataclass(frozen=True)
class HeadRow:
    """One head: a modality by itself, or all together.

    Attributes:
        head: its name.
        n: utterances with a label and the modality.
        label: share of negative labels among them.
        own: share of negative ones among the labels of annotators who perceived this modality alone; None without any.
        scores: per run; None where the run has no such head.
    """

    head: str
    n: int
    label: float
    own: float | None
    scores: tuple[HeadScore | None, ...]


@dataclass(frozen=True)
class HeadTable:
    """Every head of every run on one task: ``intensity``, or ``polarity`` as a probability of *positive*."""

    task: str
    rows: tuple[HeadRow, ...]


@dataclass(frozen=True)
class Sample:
    """One utterance, and what every head makes of it.

    Attributes:
        id: the corpus's.
        text: its transcript, if there is one.
        label: the true value.
        own: per modality, the label of annotators who perceived it alone; None where there is none.
        said: per head, per run; None where the run has no such head or the utterance lacks the modality.
        apart: how far the modalities lie apart.
    """

    id: str
    text: str | None
    label: float | None
    own: dict[str, float | None]
    said: dict[str, tuple[float | None, ...]]
    apart: float


@dataclass(frozen=True)
class SampleList:
    """Utterances on which the modalities disagree most.

    Attributes:
        by: whose disagreement: ``said`` or ``labels``.
        of: among how many.
        samples: the clearest first.
    """

    by: str
    of: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class ModalitiesPart:
    """Each modality by itself beside all together.

    Attributes:
        sources: per run, where a modality's own prediction comes from: ``own`` (heads of the model), ``hidden`` (all
            other modalities were hidden); None if the run has one modality and no such head.
        tables: per task.
        task: the one of which the samples tell.
        low: smallest value of it.
        high: largest value of it.
        samples: the lists, none if no modality can disagree with another.
    """

    sources: tuple[str | None, ...]
    tables: tuple[HeadTable, ...]
    task: str
    low: float
    high: float
    samples: tuple[SampleList, ...]


@dataclass(frozen=True)
class MapGroup:
    """The utterances of one label in a map.

    Attributes:
        label: in words.
        points: where they lie.
        neighbours: mean share of the same label among the nearest utterances in the space itself, not in the map.
        chance: what that share would be if labels lay at random.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    neighbours: float
    chance: float


@dataclass(frozen=True)
class FusedMap:
    """The representation that one model decides by, drawn in two dimensions by t-SNE.

    Attributes:
        seed: whose model.
        width: of the representation.
        coloured: the task whose labels are told apart.
        total: how many utterances there are; the map has as many as its groups.
        nearest: how many neighbours are counted.
        groups: by label.
    """

    seed: int
    width: int
    coloured: str
    total: int
    nearest: int
    groups: tuple[MapGroup, ...]


@dataclass(frozen=True)
class Report:
    """A whole report."""

    version: str
    command: str
    corpus: str
    corpus_hash: str | None
    corpus_notes: tuple[str, ...]
    generated: bool
    split: str
    n: int
    videos: int
    protocol: str
    protocol_summary: str
    oracle: bool
    notes: tuple[str, ...]
    majorities: tuple[str, ...]
    """Headings of the majority columns: one for all runs, or one per run where they differ."""
    scores: tuple[ScoreRow, ...]
    emotions: dict[str, tuple[EmotionRow, ...]]
    """Per multi-label family of metrics (``emotions``)."""
    runs: tuple[RunPart, ...]
    video: VideoPart | None = None
    differences: tuple[Difference, ...] = ()
    modalities: ModalitiesPart | None = None
    maps: tuple[FusedMap | None, ...] = ()
    """Per run; None where the model gives no representation."""
