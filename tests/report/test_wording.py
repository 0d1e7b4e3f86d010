import numpy as np
import pytest

from affectus.objectives import Task, TaskKind
from affectus.report.wording import gold_words, label_words, said_words

SIX = Task("emotions6", "emotions", TaskKind.MULTI_LABEL, ("anger", "fear"))
SEVEN = Task("emotions", "emotions", TaskKind.MULTI_LABEL, ("anger", "fear", "none"))


@pytest.mark.parametrize(
    ("task", "label", "probabilities", "gold", "said", "mark"),
    [
        (SEVEN, [0, 0, 1], [0.1, 0.1, 0.9], "none", "none", "right"),
        (SEVEN, [0, 0, 1], [0.1, 0.1, 0.1], "none", "no label, not even none", "wrong"),
        (SEVEN, [1, 0, 0], [0.1, 0.1, 0.1], "anger", "no label, not even none", "wrong"),
        (SEVEN, [1, 0, 0], [0.9, 0.9, 0.1], "anger", "anger, fear", "partly"),
        (SIX, [0, 0], [0.1, 0.1], "none of them", "none of them", "right"),
        (SIX, [0, 1], [0.1, 0.1], "fear", "none of them", "wrong"),
    ],
)
def test_words_and_mark_agree(
    task: Task, label: list[int], probabilities: list[float], gold: str, said: str, mark: str
) -> None:
    target, told = np.array(label, np.float32), np.array(probabilities, np.float32)
    found = said_words(task, told, target, {})
    assert (gold_words(task, target), found.text, found.mark) == (gold, said, mark)
    assert label_words(task, (told > 0.5).astype(np.int64)) == said
