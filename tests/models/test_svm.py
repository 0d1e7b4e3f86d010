"""SVM: machines against scikit-learn called directly, Platt's rule against a plain minimisation, the dictionary."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.margins import calibrate, machines_of, platt, tell_by_margins, weights_of
from affectus.models.svm import SAMPLE, MultimodalDictionary, _Thinned
from affectus.models.vectors import Problem
from affectus.testing import DIMS, check_model, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity", "emotions", "emotion_class", "ratings")
TRAIN = [make_batch(View.CONTEXTUAL, lengths=(6, 9, 12, 4, 7, 11), missing=0.2, seed=seed) for seed in range(3)]
TEST = make_batch(View.CONTEXTUAL, lengths=(5, 30), missing=0.2, seed=9)
RADIAL = [False, True]


def fit(tasks=TASKS, batches=TRAIN, **options):
    model = MODELS["svm"].create(DIMS, tasks, options)
    model.fit(batches)
    return model


def x_of(model, batches) -> np.ndarray:
    return np.concatenate([model.vectors(batch)[batch.mask].double().numpy() for batch in batches])


def y_of(name: str) -> np.ndarray:
    task = next(t for t in TASKS if t.name == name)
    return np.concatenate([task.target(batch.labels)[batch.mask].numpy() for batch in TRAIN])


def output(model, name: str) -> np.ndarray:
    return model(TEST).predictions[name][TEST.mask].double().numpy()


def probabilities(model, name: str) -> np.ndarray:
    task = next(t for t in model.tasks if t.name == name)
    return task.probabilities(model(TEST).predictions[name][TEST.mask]).double().numpy()


def sklearn_machine(radial: bool, numbers: bool, C: float):
    if radial:
        return SVR(C=C, epsilon=0.2) if numbers else SVC(C=C)
    if numbers:
        return LinearSVR(C=C, epsilon=0.2, loss="squared_epsilon_insensitive", dual=False, tol=1e-8)
    return LinearSVC(C=C, dual=False, tol=1e-8)


@pytest.mark.parametrize("radial", RADIAL)
def test_numbers_equal_scikit_learn(radial: bool) -> None:
    model = fit(radial=radial, C=0.5, epsilon=0.2)
    for column, y in enumerate(y_of("ratings").T):
        direct = sklearn_machine(radial, True, 0.5).fit(x_of(model, TRAIN), y - y.mean())
        expected = direct.predict(x_of(model, [TEST])) + y.mean()
        np.testing.assert_allclose(output(model, "ratings")[:, column], expected, atol=2e-4)


@pytest.mark.parametrize("radial", RADIAL)
def test_two_classes_are_decided_as_scikit_learn_does(radial: bool) -> None:
    """The log-odds are the machine's decision value by Platt's line."""
    model = fit(radial=radial, C=0.5)
    direct = sklearn_machine(radial, False, 0.5).fit(x_of(model, TRAIN), y_of("polarity")[:, 0])
    f = direct.decision_function(x_of(model, [TEST]))
    arrays = {name: value.numpy() for name, value in model.arrays().items()}
    said = output(model, "polarity")
    expected = arrays["polarity.0.slope"] * f + arrays["polarity.0.offset"]
    np.testing.assert_allclose(said[:, 1] - said[:, 0], expected, atol=1e-3)


@pytest.mark.parametrize("radial", RADIAL)
def test_more_classes_are_each_against_the_rest(radial: bool) -> None:
    model = fit(radial=radial, C=0.5)
    arrays = {name: value.numpy() for name, value in model.arrays().items()}
    y, columns = y_of("emotion_class")[:, 0], []
    for k in range(3):
        f = sklearn_machine(radial, False, 0.5).fit(x_of(model, TRAIN), y == k).decision_function(x_of(model, [TEST]))
        slope, offset = (arrays[f"emotion_class.0.{name}"][k] for name in ("slope", "offset"))
        columns.append(1 / (1 + np.exp(-(slope * f + offset))))
    p = np.stack(columns, axis=1)
    np.testing.assert_allclose(probabilities(model, "emotion_class"), p / p.sum(axis=1, keepdims=True), atol=1e-4)


def test_platt_is_the_most_likely_line() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.3
    values = 5 * (positive + rng.normal(size=60))
    n, m = positive.sum(), (~positive).sum()
    soft = np.where(positive, (n + 1) / (n + 2), 1 / (m + 2))

    def cost(line):
        p = 1 / (1 + np.exp(-(line[0] * values + line[1])))
        return -(soft * np.log(p) + (1 - soft) * np.log(1 - p)).sum()

    expected = minimize(cost, [0.1, 0.0], tol=1e-12).x
    np.testing.assert_allclose(platt(values, positive), expected, atol=1e-4)


def test_platt_stays_finite_where_all_is_separated() -> None:
    slope, offset = platt(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    # three of four: the softened target of two examples
    p = 1 / (1 + np.exp(-(slope * 2.5 + offset)))
    assert 0.7 < p < 0.8


def problem(y, groups, **settings) -> Problem:
    y, groups = np.array(y, float), np.array(groups)
    return Problem(False, (0, 1), np.zeros((len(y), 1)), y, groups, **settings)


def test_calibration_sees_no_video_of_which_it_learned() -> None:
    p = problem([0, 1] * 20, np.repeat(np.arange(8), 5))
    asked = []

    def decide(train, test, target, weight):
        assert not set(p.groups[train]) & set(p.groups[test])
        assert set(target) == {-1.0, 1.0}
        asked.extend(test.tolist())
        return p.y[test] * 2.0 - 1.0

    part = calibrate(p, machines_of(p), weights_of(p, False), decide)
    assert sorted(asked) == list(range(40))
    assert part["slope"][0] > 1.0


def test_calibration_with_too_few_examples() -> None:
    """A single positive one cannot be held out: the machine that saw all is asked."""
    p = problem([0, 0, 0, 1], [0, 1, 2, 3])
    asked = []

    def decide(train, test, target, weight):
        asked.append((train.tolist(), test.tolist()))
        return p.y[test]

    calibrate(p, machines_of(p), weights_of(p, False), decide)
    assert asked == [([0, 1, 2, 3], [0, 1, 2, 3])]


def test_weights() -> None:
    np.testing.assert_allclose(weights_of(problem([0, 0, 0, 1], [0] * 4), True), [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_allclose(weights_of(problem([0, 1], [0] * 2, weights={0: 1.0, 1: 3.0}), False), [1, 3])
    tasks = tuple(replace(t, positive_weights=(1.0, 50.0)) if t.name == "polarity" else t for t in TASKS)
    plain, weighed = fit(), fit(tasks)
    slope = plain.arrays()["polarity.0.weight"], weighed.arrays()["polarity.0.weight"]
    assert not torch.allclose(*slope)


def test_values_to_numbers_and_probabilities() -> None:
    np.testing.assert_allclose(tell_by_margins({"mean": np.array([4.0])}, np.array([[0.5]])), [[4.5]])
    line = {"slope": np.array([2.0]), "offset": np.array([0.0])}
    np.testing.assert_allclose(tell_by_margins(line, np.array([[np.log(3) / 2]])), [[0.25, 0.75]])
    three = {"slope": np.ones(3), "offset": np.zeros(3)}
    np.testing.assert_allclose(tell_by_margins(three, np.zeros((1, 3))), [[1 / 3] * 3])
    assert np.isfinite(tell_by_margins(three, np.array([[-1e6, -1e6, -1e6]]))).all()


class TestDictionary:
    @pytest.mark.parametrize("view", [View.CONTEXTUAL, View.ALIGNED])
    def test_entries_by_a_plain_loop(self, view) -> None:
        batch = make_batch(view, lengths=(3, 5, 2, 4), missing=0.3, seed=4)
        dictionary = MultimodalDictionary(DIMS, words=4, gestures=3)
        dictionary.learn(TRAIN if view is View.CONTEXTUAL else [make_batch(view, lengths=(5,) * 9, seed=5)], TASKS)
        atoms = {name: centres.numpy() for name, centres in dictionary.atoms.items()}
        assert {name: len(centres) for name, centres in atoms.items()} == {"text": 4, "audio": 3, "vision": 3}

        def cluster(name, at):
            return int(((atoms[name] - batch.features[name][at].numpy()) ** 2).sum(axis=1).argmin())

        rows = []
        for b in range(batch.size):
            steps = [[(b, t)] for t in range(5)] if view is View.CONTEXTUAL else [[(b, t) for t in range(5)]]
            for step in steps:
                entries = np.zeros((2, 4, 3))
                for at in step:
                    for i, name in enumerate(("audio", "vision")):
                        if batch.masks["text"][at] and batch.masks[name][at]:
                            entries[i, cluster("text", at), cluster(name, at)] = 1
                rows.append(entries.ravel())
        np.testing.assert_array_equal(dictionary.entries(batch).numpy(), np.array(rows))

    def test_without_text_the_first_modality_speaks(self) -> None:
        dictionary = MultimodalDictionary({"vision": 4, "gaze": 3}, words=5, gestures=2)
        assert (dictionary.spoken, dictionary.shown, dictionary.sizes) == (
            "vision",
            ("gaze",),
            {"vision": 5, "gaze": 2},
        )

    def test_a_modality_that_is_never_there_has_no_cluster(self) -> None:
        model = fit(batches=[batch.without("audio") for batch in TRAIN])
        assert len(model.dictionary.atoms["audio"]) == 0
        assert np.isfinite(output(model, "intensity")).all()

    def test_it_counts(self) -> None:
        """A sentiment that only the pair of a word and a gesture tells, which no linear function of both does."""
        torch.manual_seed(0)
        batch = make_batch(View.CONTEXTUAL, dims={"text": 2, "vision": 2}, lengths=(40, 40, 40, 40, 40))
        word, gesture = ((torch.rand(5, 40) < 0.5).float() * 2 - 1 for _ in range(2))
        batch.features["text"][..., 0], batch.features["vision"][..., 0] = 3 * word, 3 * gesture
        batch.labels["sentiment"][..., 0] = word * gesture
        right = {}
        for dictionary in (True, False):
            model = MODELS["svm"].create(
                {"text": 2, "vision": 2}, make_tasks("polarity"), {"dictionary": dictionary, "words": 8, "C": 1.0}
            )
            model.fit([batch])
            said = model(batch).predictions["polarity"].argmax(dim=-1)
            right[dictionary] = (said == (batch.labels["sentiment"][..., 0] >= 0)).double().mean().item()
        assert right[True] > 0.95
        assert right[False] < 0.7

    def test_a_sample_is_thinned_evenly(self) -> None:
        thinned = _Thinned(10)
        for start in range(0, 100, 7):
            thinned.add(torch.arange(start, min(start + 7, 100)).unsqueeze(1))
        kept = thinned.rows().flatten().tolist()
        assert kept == list(range(0, 100, thinned.stride))
        assert 5 <= len(kept) <= 10
        assert SAMPLE >= 1000


def test_radial_machines_keep_the_contract() -> None:
    check_model("svm", view=View.UNALIGNED, options={"radial": True, "balanced": True})


def test_errors() -> None:
    with pytest.raises(AffectusError, match="The option 'C' is out of range: got 0"):
        fit(C=0.0)
    with pytest.raises(AffectusError, match="The option 'epsilon' is out of range: got -1"):
        fit(epsilon=-1.0)
    for name in ("words", "gestures"):
        with pytest.raises(AffectusError, match=f"The option '{name}' is out of range: got 0; expected 1 or more"):
            fit(**{name: 0})
    with pytest.raises(AffectusError, match="The model 'svm' is not fitted"):
        MODELS["svm"].create(DIMS, TASKS)(TEST)
