from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affectus.corpus import Corpus, load_corpus
from affectus.objectives import Task, TaskKind
from affectus.report.embedding import MOST_LABELS, MOST_POINTS, fused_map, neighbour_shares, project
from affectus.report.judging import Judged, judge
from affectus.training import load_run
from affectus.training.inference import Predictions
from affectus.vocabulary import SEVEN_EMOTIONS


@pytest.fixture(scope="module")
def judged(studies: Path) -> Judged:
    corpus: Corpus = load_corpus(studies / "corpus")
    return judge(load_run(studies / "heads"), "heads", corpus, split="test", protocol="akhtar2019")


def with_targets(judged: Judged, task: Task, targets: np.ndarray) -> Judged:
    """The run as if it had this one task, with these labels."""
    run = replace(judged.run)
    object.__setattr__(run, "tasks", (task,))
    mean = Predictions(np.arange(len(targets)), {}, {task.name: targets.astype(np.float32)})
    return replace(judged, run=run, mean=mean)


def intensity(labels: list[float]) -> tuple[Task, np.ndarray]:
    return Task("intensity", "sentiment", TaskKind.REAL, ("intensity",), -3, 3), np.array(labels)[:, None]


def clusters(n: int = 30, width: int = 5) -> np.ndarray:
    """Three far clusters of n points each."""
    random = np.random.default_rng(0)
    return np.concatenate([random.normal(loc=40 * i, size=(n, width)) for i in range(3)])


def test_clusters_stay_together_and_neighbours_say_so(judged: Judged) -> None:
    task, labels = intensity([-1.0] * 30 + [0.0] * 30 + [2.5] * 30)
    found = fused_map(with_targets(judged, task, labels), clusters())
    assert (found.seed, found.width, found.coloured, found.total, found.nearest) == (0, 5, "intensity", 90, 10)
    assert [group.label for group in found.groups] == ["negative", "neutral", "positive"]
    centres = []
    for group in found.groups:
        assert len(group.points) == 30
        assert group.neighbours == 1.0
        assert group.chance == pytest.approx(29 / 89)
        centres.append(np.mean(group.points, axis=0))
        spread = np.std(group.points, axis=0).max()
    distances = [np.linalg.norm(a - b) for i, a in enumerate(centres) for b in centres[i + 1 :]]
    assert min(distances) > 2 * spread


def test_labels_at_random_have_neighbours_by_chance(judged: Judged) -> None:
    labels = np.random.default_rng(1).choice([-1.0, 1.0], 400)
    task, targets = intensity(labels.tolist())
    found = fused_map(with_targets(judged, task, targets), np.random.default_rng(2).normal(size=(400, 8)))
    for group in found.groups:
        assert group.neighbours == pytest.approx(group.chance, abs=0.06)


def test_the_same_values_give_the_same_map() -> None:
    values = np.random.default_rng(0).normal(size=(40, 80))
    first = project(values)
    assert first.shape == (40, 2)
    assert np.array_equal(first, project(values))
    assert not np.array_equal(first, project(values[::-1]))


def test_neighbours_are_asked_in_the_space_itself() -> None:
    values = np.array([[0.0, 0], [0, 1], [5, 0], [5, 1]])
    labels = np.array(["a", "b", "b", "b"], object)
    assert neighbour_shares(values, labels, 1).tolist() == [0, 0, 1, 1]


def test_more_utterances_than_legible_are_drawn_by_lot(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affectus.report.embedding.MOST_POINTS", 40)
    task, targets = intensity([-1.0] * 50 + [1.0] * 50)
    found = fused_map(with_targets(judged, task, targets), np.random.default_rng(0).normal(size=(100, 4)))
    assert found.total == 100
    assert sum(len(group.points) for group in found.groups) == 40 < MOST_POINTS
    assert all(len(group.points) > 10 for group in found.groups)


@pytest.mark.parametrize(
    ("task", "targets", "expected"),
    [
        (
            Task("emotions", "emotions", TaskKind.MULTI_LABEL, SEVEN_EMOTIONS),
            np.eye(7)[[0] * 5 + [6] * 5 + [3] * 5] + np.eye(7)[[0] * 12 + [1] * 3],
            ["anger", "none", "several"],
        ),
        (
            Task("emotion_intensity", "emotions", TaskKind.REAL, SEVEN_EMOTIONS[:6], 0, 3),
            np.concatenate([np.eye(6)[[2] * 6] * 0.5, np.zeros((4, 6)), np.ones((5, 6))]),
            ["fear", "none", "several"],
        ),
        (
            Task("emotion_class", "emotion_class", TaskKind.ONE_OF_K, ("b", "a")),
            np.array([[0.0]] * 6 + [[1.0]] * 6 + [[np.nan]] * 3),
            ["b", "a", "no label"],
        ),
        (
            Task("ratings", "ratings", TaskKind.REAL, ("persuasive", "calm"), 1, 7),
            np.stack([np.arange(15), np.zeros(15)], axis=1),
            ["lowest third", "middle third", "highest third"],
        ),
        (Task("polarity", "sentiment", TaskKind.BINARY, ("negative", "positive")), np.ones((15, 1)), ["positive"]),
    ],
    ids=lambda value: value.name if isinstance(value, Task) else "",
)
def test_labels_of_every_kind_have_a_word(judged: Judged, task: Task, targets: np.ndarray, expected: list[str]) -> None:
    if task.name == "emotions":
        targets = np.minimum(targets, 1)
        targets[5:10] = np.eye(7)[6]
    found = fused_map(with_targets(judged, task, targets), np.random.default_rng(0).normal(size=(15, 4)))
    assert [group.label for group in found.groups] == expected
    assert found.coloured == task.name


def test_rare_classes_share_a_colour(judged: Judged) -> None:
    task = Task("emotion_class", "emotion_class", TaskKind.ONE_OF_K, tuple("abcdefghijkl"))
    targets = np.repeat(np.arange(12), [9, 8, 7, 6, 5, 4, 3, 2, 2, 2, 2, 2])[:, None].astype(float)
    found = fused_map(with_targets(judged, task, targets), np.random.default_rng(0).normal(size=(52, 3)))
    assert len(found.groups) == MOST_LABELS
    assert [group.label for group in found.groups] == [*"abcdefg", "others"]
    assert len(found.groups[-1].points) == 10


@pytest.mark.parametrize(
    "fused", [None, np.zeros((9, 3)), np.zeros((20, 3)), np.full((20, 3), np.nan)], ids=["none", "few", "same", "nan"]
)
def test_what_cannot_be_drawn_is_left_out(judged: Judged, fused: np.ndarray | None) -> None:
    task, targets = intensity([1.0] * (0 if fused is None else len(fused)))
    assert fused_map(with_targets(judged, task, targets), fused) is None
