"""Tasks from label schemes: targets, what a missing label does, and losses against plain PyTorch."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from affectus.errors import AffectusError
from affectus.labels import LabelKind, LabelScheme, emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.objectives import RealLoss, Task, TaskKind, available_tasks, choose_tasks
from affectus.testing import SCHEMES

NAN = float("nan")
TASKS = available_tasks({**SCHEMES, "sentiment_text": sentiment_scheme(-1, 1, modality="text")})


def test_available() -> None:
    kinds = {name: (str(task.kind), task.outputs) for name, task in TASKS.items()}
    assert kinds == {
        "polarity": ("binary", 2),
        "intensity": ("real", 1),
        "emotions": ("multi_label", 7),
        "emotions6": ("multi_label", 6),
        "emotion_intensity": ("real", 6),
        "emotion_class": ("one_of_k", 3),
        "ratings": ("real", 2),
        "sentiment_text": ("real", 1),
    }
    assert TASKS["emotions"].values[-1] == "none"
    assert (TASKS["intensity"].low, TASKS["intensity"].high) == (-3.0, 3.0)
    assert (TASKS["sentiment_text"].low, TASKS["sentiment_text"].high) == (-1.0, 1.0)
    assert TASKS["polarity"].low is None


def test_available_from_labels_that_are_already_present_or_absent() -> None:
    scheme = LabelScheme(name="emotions", kind=LabelKind.MULTI_LABEL, columns=("anger", "fear"))
    tasks = available_tasks({"emotions": scheme})
    assert set(tasks) == {"emotions", "emotions6"}  # no intensity to be told
    assert tasks["emotions"].values == ("anger", "fear", "none")


def target(name: str, *rows: list[float]) -> list[list[float]]:
    labels = {TASKS[name].scheme: torch.tensor(rows)}
    return torch.nan_to_num(TASKS[name].target(labels), nan=-99).tolist()


def test_polarity_counts_neutral_as_positive() -> None:
    assert target("polarity", [-0.4], [0.0], [3.0], [NAN]) == [[0.0], [1.0], [1.0], [-99.0]]


def test_emotions_and_none() -> None:
    assert target("emotions", [0.0] * 6) == [[0.0] * 6 + [1.0]]
    assert target("emotions", [0.0, 0.33, 0, 3, 0, 0]) == [[0, 1, 0, 1, 0, 0, 0]]
    # one is there, so none is ruled out; nothing is there, but one is not known, so none is not known either
    assert target("emotions", [1.0, NAN, 0, 0, 0, 0]) == [[1, -99, 0, 0, 0, 0, 0]]
    assert target("emotions", [0.0, NAN, 0, 0, 0, 0]) == [[0, -99, 0, 0, 0, 0, -99]]
    assert target("emotions", [NAN] * 6) == [[-99] * 7]
    assert target("emotions6", [0.0, 0.33, 0, 3, 0, NAN]) == [[0, 1, 0, 1, 0, -99]]


@pytest.mark.parametrize("name", ["intensity", "emotion_intensity", "emotion_class", "ratings"])
def test_other_targets_are_the_labels(name: str) -> None:
    width = SCHEMES[TASKS[name].scheme].size
    row = [0.5 * i for i in range(width - 1)] + [NAN]
    assert target(name, row) == [[-99 if x != x else x for x in row]]


def test_cross_entropy() -> None:
    output, known = torch.randn(5, 3), torch.tensor([[0.0], [2.0], [1.0], [NAN], [2.0]])
    expected = F.cross_entropy(output[[0, 1, 2, 4]], torch.tensor([0, 2, 1, 2]))
    torch.testing.assert_close(TASKS["emotion_class"].loss_of(output, known), expected)


def test_cross_entropy_in_the_contextual_view() -> None:
    output, labels = torch.randn(2, 3, 2), torch.tensor([[[0.0], [1.0], [NAN]], [[1.0], [NAN], [NAN]]])
    expected = F.cross_entropy(torch.stack([output[0, 0], output[0, 1], output[1, 0]]), torch.tensor([0, 1, 1]))
    torch.testing.assert_close(TASKS["polarity"].loss_of(output, labels), expected)


def test_weighted_cross_entropy_is_the_mean_of_weighted_terms() -> None:
    task = replace(TASKS["polarity"], positive_weights=(1.0, 3.0))
    output, labels = torch.randn(4, 2), torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    each = F.cross_entropy(output, labels[:, 0].long(), reduction="none")
    torch.testing.assert_close(task.loss_of(output, labels), (each * torch.tensor([1.0, 3, 3, 1])).mean())


def test_binary_cross_entropy_over_known_labels() -> None:
    task = replace(TASKS["emotions6"], positive_weights=(1.0, 2, 3, 4, 5, 6))
    output, labels = torch.randn(3, 6), (torch.rand(3, 6) < 0.5).float()
    plain = F.binary_cross_entropy_with_logits(output, labels)
    torch.testing.assert_close(TASKS["emotions6"].loss_of(output, labels), plain)
    each = F.binary_cross_entropy_with_logits(
        output, labels, pos_weight=torch.tensor(task.positive_weights), reduction="none"
    )
    labels[1, 2] = labels[0, 5] = NAN
    known = ~torch.isnan(labels)
    torch.testing.assert_close(task.loss_of(output, labels), each[known].mean())


@pytest.mark.parametrize(
    ("loss", "function"),
    [(RealLoss.MSE, F.mse_loss), (RealLoss.L1, F.l1_loss), (RealLoss.SMOOTH_L1, F.smooth_l1_loss)],
)
def test_real_losses(loss, function) -> None:
    task = replace(TASKS["ratings"], loss=loss)
    output, labels = 3 * torch.randn(4, 2), 3 * torch.randn(4, 2)
    torch.testing.assert_close(task.loss_of(output, labels), function(output, labels))
    labels[2, 1] = NAN
    known = ~torch.isnan(labels)
    torch.testing.assert_close(task.loss_of(output, labels), function(output[known], labels[known]))


@pytest.mark.parametrize("name", TASKS)
def test_without_labels_the_loss_and_its_gradient_are_zero(name: str) -> None:
    task = TASKS[name]
    output = torch.randn(2, 3, task.outputs, requires_grad=True)
    width = 1 if task.kind in (TaskKind.BINARY, TaskKind.ONE_OF_K) else task.outputs
    loss = task.loss_of(output, torch.full((2, 3, width), NAN))
    loss.backward()
    assert loss == 0
    assert (output.grad == 0).all()


def test_probabilities() -> None:
    output = torch.randn(4, 7)
    torch.testing.assert_close(TASKS["emotions"].probabilities(output), torch.sigmoid(output))
    torch.testing.assert_close(TASKS["polarity"].probabilities(output[:, :2]).sum(dim=-1), torch.ones(4))
    assert TASKS["ratings"].probabilities(output[:, :2]) is not None
    torch.testing.assert_close(TASKS["ratings"].probabilities(output[:, :2]), output[:, :2])


def test_balanced() -> None:
    # shares 1/4 and 3/4: each class gets the same sum of weights, and their mean over examples is 1
    binary = TASKS["polarity"].balanced(torch.tensor([[0.0], [1.0], [1.0], [1.0], [NAN]]))
    assert binary.positive_weights == pytest.approx((2.0, 2 / 3))
    many = TASKS["emotions6"].balanced(torch.tensor([[1.0, 0, 1, 0, NAN, 0], [0, 0, 1, 0, 1, 1], [0, 0, 1, 1, 0, NAN]]))
    assert many.positive_weights == pytest.approx((2.0, 3.0, 0.0, 2.0, 1.0, 1.0))
    assert TASKS["intensity"].balanced(torch.randn(3, 1)) is TASKS["intensity"]


def test_choose() -> None:
    tasks = choose_tasks(["emotions:0.5", "polarity"], SCHEMES)
    assert [(task.name, task.weight) for task in tasks] == [("emotions", 0.5), ("polarity", 1.0)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["polarty"], r"Unknown task 'polarty' in this corpus's labels.*Did you mean 'polarity'"),
        (["polarity", "polarity"], "The task 'polarity' is given twice"),
        (["polarity:x"], "The weight of the task 'polarity' must be a positive number: got 'x'"),
        (["polarity:-1"], "must be a positive number: got '-1'"),
        (["polarity:0"], "must be a positive number: got '0'"),
        (["polarity:inf"], "must be a positive number: got 'inf'"),
        (["polarity:nan"], "must be a positive number: got 'nan'"),
        ([], "No task is given: expected one or more of: emotion_class"),
    ],
)
def test_choose_refuses(names: list[str], message: str) -> None:
    with pytest.raises(AffectusError, match=message):
        choose_tasks(names, SCHEMES)


def test_a_task_that_the_labels_do_not_allow() -> None:
    with pytest.raises(AffectusError, match="Unknown task 'emotions'"):
        choose_tasks(["emotions"], {"emotion_class": emotion_class_scheme(("anger", "none"))})


def test_emotions_out_of_order() -> None:
    with pytest.raises(AffectusError, match="The scheme 'emotions' must name emotions in affectus's order: got fear"):
        available_tasks({"emotions": emotions_scheme(columns=("fear", "anger"))})


def test_a_task_of_an_unknown_scheme_takes_it_as_it_is() -> None:
    task = Task("arousal", "arousal", TaskKind.REAL, ("arousal",))
    assert task.target({"arousal": torch.tensor([[1.5]])}).tolist() == [[1.5]]
