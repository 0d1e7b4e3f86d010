"""C-MKL: its kernels by hand, the learned mixture against a search over all mixtures, and what its CNNs see."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.svm import SVC

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.c_mkl import KERNELS, _components, _kernels, _thinned, learn_mixture
from affectus.models.vectors import Problem
from affectus.testing import DIMS, check_model, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity", "emotion_class")
TRAIN = [make_batch(View.CONTEXTUAL, lengths=(6, 9, 12, 4, 7, 11), missing=0.2, seed=seed) for seed in range(2)]
TEST = make_batch(View.CONTEXTUAL, lengths=(5, 3), missing=0.3, seed=9)
SMALL = {"cnn_filters": 4, "cnn_features": 5, "cnn_epochs": 2}


def fit(tasks=TASKS, batches=TRAIN, **options):
    model = MODELS["c_mkl"].create(DIMS, tasks, {**SMALL, **options})
    model.fit(batches)
    return model


def test_kernels_by_hand() -> None:
    x, y = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[1.0, 0.0]])
    narrow, wide, polynomial = _kernels(x, y, median=3.0)
    np.testing.assert_allclose(narrow, np.exp([[-4 / 1.5], [-1 / 1.5]]))
    np.testing.assert_allclose(wide, np.exp([[-4 / 6], [-1 / 6]]))
    expected = [[(1 + 0.5) ** 2 / np.sqrt((1 + 2.5) ** 2 * (1 + 0.5) ** 2)], [1 / np.sqrt((1 + 0.5) ** 2)]]
    np.testing.assert_allclose(polynomial, expected)
    for kernel in _kernels(x, x, median=3.0):
        np.testing.assert_allclose(np.diag(kernel), 1.0)


def test_a_missing_modality_is_like_nothing() -> None:
    model = fit()
    x = model.vectors(TEST)[TEST.mask].numpy()
    kernels = model.kernels(x, x).reshape(3, KERNELS, len(x), len(x))
    for i, name in enumerate(DIMS):
        there = (TEST.masks[name] & TEST.mask)[TEST.mask].numpy()
        assert (kernels[i][:, ~there] == 0).all()
        assert (kernels[i][:, :, ~there] == 0).all()
        np.testing.assert_allclose(kernels[i][:, there, there], 1.0, atol=1e-6)
    for kernel in kernels.reshape(-1, len(x), len(x)):
        assert np.linalg.eigvalsh(kernel.astype(float)).min() > -1e-5


def dual_value(machine, kernel, C):
    """The machine's objective, 1/2 |w|^2 + C sum of the hinges, at its solution."""
    rows, dual = machine.support_, machine.dual_coef_[0]
    return np.abs(dual).sum() - 0.5 * dual @ kernel[np.ix_(rows, rows)] @ dual


@pytest.mark.parametrize("norm", [1.0, 2.0])
def test_the_mixture_is_the_best_of_all(norm: float) -> None:
    """Two kernels, one of them noise: no weights of the same norm have a machine of a lower objective."""
    rng = np.random.default_rng(0)
    good, noise = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    target = np.sign(good[:, 0] + 0.3 * rng.normal(size=40))
    kernels = np.stack([_kernels(z, z, 5.0)[0] for z in (good, noise)])

    def solve(kernel):
        return SVC(kernel="precomputed", C=1.0, tol=1e-6).fit(kernel, target)

    mixture, machine = learn_mixture(kernels, solve, norm=norm, iterations=200)
    assert (mixture**norm).sum() == pytest.approx(1.0)
    assert mixture[0] > mixture[1]
    reached = dual_value(machine, np.tensordot(mixture, kernels, 1), 1.0)
    for share in np.linspace(0, 1, 21):
        weights = np.array([share, (1 - share**norm) ** (1 / norm)])
        kernel = np.tensordot(weights, kernels, 1)
        assert dual_value(solve(kernel), kernel, 1.0) >= reached - 1e-2


def test_the_turns_never_make_it_worse() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(30, 2)) for _ in range(4)]
    target = np.sign(parts[0][:, 0] * parts[0][:, 1])
    kernels = np.stack([_kernels(z, z, 4.0)[0] for z in parts])

    def solve(kernel):
        return SVC(kernel="precomputed", C=2.0, tol=1e-6).fit(kernel, target)

    values = []
    for turns in (1, 2, 3, 5, 8):
        mixture, machine = learn_mixture(kernels, solve, norm=2.0, iterations=turns)
        values.append(dual_value(machine, np.tensordot(mixture, kernels, 1), 2.0))
    assert all(after <= before + 1e-4 for before, after in pairwise(values))


def test_a_machine_without_support_stops() -> None:
    class Constant:
        support_, dual_coef_ = np.zeros(0, int), np.zeros((1, 0))

    mixture, _ = learn_mixture(np.ones((2, 3, 3)), lambda kernel: Constant(), norm=2.0, iterations=5)
    np.testing.assert_allclose(mixture, [0.5**0.5] * 2)


def test_two_classes_are_decided_as_the_machine_does() -> None:
    """The stored support vectors and weights against scikit-learn on the same mixture of kernels."""
    model = fit()
    arrays = {name: value.numpy() for name, value in model.arrays().items()}
    x = np.concatenate([model.vectors(b)[b.mask].numpy() for b in TRAIN]).astype(np.float32).astype(float)
    y = np.concatenate([TASKS[0].target(b.labels)[b.mask].numpy() for b in TRAIN])[:, 0]
    mixture = arrays["polarity.0.kernel_weights"][0]
    direct = SVC(kernel="precomputed", C=1.0).fit(np.tensordot(mixture, model.kernels(x, x), 1), y)
    test = model.vectors(TEST)[TEST.mask].numpy()
    f = direct.decision_function(np.tensordot(mixture, model.kernels(test, x), 1))
    said = model(TEST).predictions["polarity"][TEST.mask].double().numpy()
    expected = arrays["polarity.0.slope"] * f + arrays["polarity.0.offset"]
    np.testing.assert_allclose(said[:, 1] - said[:, 0], expected, atol=1e-3)


def test_components_are_those_of_the_scaled_columns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) * [1, 10, 100, 0] + [5, 0, 0, 7]
    x[:, 2] = 3 * x[:, 1] + 1e-6 * x[:, 2]  # one direction less
    learned = {name: value.numpy() for name, value in _components(x, 0.999).items()}
    assert learned["components"].shape == (4, 2)
    z = (x - learned["mean"]) @ learned["components"]
    standard = ((x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1))[:, :3]
    # nothing of the scaled columns is lost
    np.testing.assert_allclose(z @ z.T, standard @ standard.T, atol=1e-3)
    pairs = [((a - b) ** 2).sum() for i, a in enumerate(z) for b in z[:i]]
    np.testing.assert_allclose(learned["median"], np.median(pairs))


def test_the_kernel_that_tells_gets_the_weight() -> None:
    batch = make_batch(View.CONTEXTUAL, lengths=(12,) * 8, seed=3)
    batch.labels["sentiment"][..., 0] = batch.features["audio"][..., 0]
    model = fit(tasks=make_tasks("polarity", "intensity"), batches=[batch])
    for task in ("polarity", "intensity"):
        weights = model.arrays()[f"{task}.0.kernel_weights"][0].reshape(3, KERNELS).sum(dim=1)
        assert weights.argmax() == 1
    said = model(batch).predictions["polarity"].argmax(dim=-1)
    assert (said == (batch.labels["sentiment"][..., 0] >= 0)).double().mean() > 0.9


class TestCNN:
    TRAIN = make_batch(View.UNALIGNED, lengths=(3, 5, 2, 4) * 6, seed=1)

    def test_only_in_the_sequence_views_and_only_for_text_and_vision(self) -> None:
        assert fit()._cnns == {}
        assert list(fit(batches=[self.TRAIN])._cnns) == ["text", "vision"]
        assert fit(batches=[self.TRAIN], cnn=False)._cnns == {}

    def test_it_learns(self) -> None:
        """A word anywhere tells the sentiment, and the mean over the words does not."""
        torch.manual_seed(0)
        batch = make_batch(View.ALIGNED, dims={"text": 6}, lengths=(10,) * 60)
        x = batch.features["text"] * 0.1
        loud = torch.rand(60) < 0.5
        place = torch.randint(9, (60,))
        rows = torch.arange(60)
        x[rows, place, 0], x[rows, place + 1, 0] = 3.0, torch.where(loud, 3.0, -3.0)
        x[~loud, 0, 0] += 6.0
        batch = replace(batch, features={"text": x})
        batch.labels["sentiment"][:, 0] = torch.where(loud, 1.0, -1.0)
        options = {"cnn_filters": 8, "cnn_features": 8, "cnn_epochs": 150}
        model = MODELS["c_mkl"].create({"text": 6}, make_tasks("polarity"), options)
        model.fit([batch])
        features, _ = model._raw(batch)
        apart = features["text"][loud].mean(dim=0) - features["text"][~loud].mean(dim=0)
        spread = features["text"].std(dim=0).clamp(min=1e-3)
        assert (apart.abs() / spread).max() > 1.5

    def test_the_epoch_that_tells_the_rest_best_is_kept(self) -> None:
        """Of noise nothing is to be learned, so training on beyond the best epoch changes nothing."""
        batch = make_batch(View.ALIGNED, lengths=(4,) * 100, seed=4)
        options = {"cnn_filters": 16, "cnn_features": 16}
        found = [fit(batches=[batch], **options, cnn_epochs=epochs)._cnns["text"] for epochs in (60, 120)]
        for a, b in zip(found[0].parameters(), found[1].parameters()):
            assert torch.equal(a, b)
        few = fit(batches=[batch], **options, cnn_epochs=1)._cnns["text"]
        assert not torch.equal(few.dense.weight, found[0].dense.weight)

    def test_it_comes_back_whole(self) -> None:
        model, other = fit(batches=[self.TRAIN]), MODELS["c_mkl"].create(DIMS, TASKS, SMALL)
        other.load_arrays(load(save({k: v.contiguous() for k, v in model.arrays().items()})))
        test = make_batch(View.UNALIGNED, seed=5)
        for name, y in model(test).predictions.items():
            assert torch.equal(y, other(test).predictions[name])

    def test_another_seed_another_cnn(self) -> None:
        first, second = (fit(batches=[self.TRAIN], random_state=seed).arrays() for seed in (0, 1))
        assert not torch.equal(first["cnn.text.dense.weight"], second["cnn.text.dense.weight"])


def test_of_many_utterances_some_are_chosen_evenly() -> None:
    y = np.array([0.0] * 90 + [1.0] * 10)
    problem = Problem(False, (0, 1), np.arange(100.0)[:, None], y, np.arange(100))
    less = _thinned(problem, 20)
    assert (less.y == 1).sum() == 2
    assert (np.diff(less.x[:, 0]) > 0).all()
    numbers = _thinned(replace(problem, numbers=True), 34)
    np.testing.assert_array_equal(numbers.x[:, 0], np.arange(0, 100, 3))
    assert _thinned(problem, 100) is problem


def test_a_modality_that_is_never_there() -> None:
    model = fit(batches=[batch.without("audio") for batch in TRAIN])
    assert all(y.isfinite().all() for y in model(TEST).predictions.values())
    assert load(save(model.arrays()))["features.audio.components"].shape == (5, 1)


def test_balanced_and_sparse_keep_the_contract() -> None:
    options = {**SMALL, "norm": 1.0, "balanced": True, "most": 12}
    checks = ["shapes", "padding", "missing_modality", "checkpoint", "missing_labels", "batch"]
    check_model("c_mkl", view=View.ALIGNED, options=options, checks=checks)


def test_errors() -> None:
    for name, value in (
        ("C", 0.0),
        ("epsilon", -1.0),
        ("norm", 0.5),
        ("iterations", 0),
        ("most", 1),
        ("variance", 0.0),
    ):
        with pytest.raises(AffectusError, match=f"The option '{name}' is out of range: got {value}"):
            fit(**{name: value})
    with pytest.raises(AffectusError, match="The model 'c_mkl' is not fitted"):
        MODELS["c_mkl"].create(DIMS, TASKS)(TEST)
