"""Random forest: its arrays of nodes against scikit-learn's own predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.testing import DIMS, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity", "emotions", "emotion_class", "ratings")
TRAIN = [make_batch(View.CONTEXTUAL, lengths=(6, 9, 12, 4, 7, 11), missing=0.2, seed=seed) for seed in range(3)]
TEST = make_batch(View.CONTEXTUAL, lengths=(5, 30), missing=0.2, seed=9)
TREES = 7


def vectors(batch) -> np.ndarray:
    return torch.cat(list(batch.features.values()), dim=-1)[batch.mask].numpy()


def fit(tasks=TASKS, batches=TRAIN, **options):
    model = MODELS["random_forest"].create(DIMS, tasks, {"trees": TREES, **options})
    model.fit(batches)
    return model


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.concatenate([vectors(batch) for batch in TRAIN])


def y_of(name: str) -> np.ndarray:
    task = next(t for t in TASKS if t.name == name)
    return np.concatenate([task.target(batch.labels)[batch.mask].numpy() for batch in TRAIN])


def probabilities(model, name: str, batch=TEST) -> np.ndarray:
    task = next(t for t in model.tasks if t.name == name)
    return task.probabilities(model(batch).predictions[name][batch.mask]).numpy()


def sklearn_forest(kind, **settings):
    return kind(n_estimators=TREES, max_features="sqrt", random_state=0, **settings)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("name", ["polarity", "emotion_class"])
def test_classes_equal_scikit_learn(name: str, balanced: bool, x) -> None:
    direct = sklearn_forest(RandomForestClassifier, class_weight="balanced" if balanced else None)
    expected = direct.fit(x, y_of(name)[:, 0]).predict_proba(vectors(TEST))
    np.testing.assert_allclose(probabilities(fit(balanced=balanced), name), expected, atol=5e-6)


def test_emotions_equal_scikit_learn(x) -> None:
    got = probabilities(fit(), "emotions")
    for column, y in enumerate(y_of("emotions").T):
        if len(np.unique(y)) == 2:
            direct = sklearn_forest(RandomForestClassifier, class_weight="balanced").fit(x, y)
            np.testing.assert_allclose(got[:, column], direct.predict_proba(vectors(TEST))[:, 1], atol=2e-6)


@pytest.mark.parametrize("name", ["intensity", "ratings"])
def test_numbers_equal_scikit_learn(name: str, x) -> None:
    for column, y in enumerate(y_of(name).T):
        expected = sklearn_forest(RandomForestRegressor).fit(x, y).predict(vectors(TEST))
        np.testing.assert_allclose(probabilities(fit(), name)[:, column], expected, atol=1e-5)


def test_depth_and_leaves_are_limited(x) -> None:
    settings = {"max_depth": 2, "min_samples_leaf": 10}
    direct = sklearn_forest(RandomForestRegressor, **settings).fit(x, y_of("intensity")[:, 0])
    model = fit(max_depth=2, min_leaf=10)
    np.testing.assert_allclose(probabilities(model, "intensity")[:, 0], direct.predict(vectors(TEST)), atol=1e-6)
    assert model.arrays()["intensity.0.depth"].item() == 2


def test_a_tree_by_hand() -> None:
    """One tree of one split, walked on paper."""
    part = {
        "feature": np.array([1, 0, 0]), "threshold": np.array([0.5, 0, 0]), "left": np.array([1, 1, 2]),
        "right": np.array([2, 1, 2]), "value": np.array([[0.4], [-1.0], [3.0]]), "root": np.array([0]),
        "depth": np.array([1]),
    }  # fmt: skip
    model = MODELS["random_forest"].create(DIMS, TASKS)
    np.testing.assert_array_equal(model.tell(part, np.array([[9.0, 0.5], [9.0, 0.6]])), [[-1.0], [3.0]])


def test_missing_labels_are_left_out_one_by_one(x) -> None:
    batches = [replace(b, labels={k: v.clone() for k, v in b.labels.items()}) for b in TRAIN]
    batches[0].labels["ratings"][..., 0][batches[0].mask] = torch.nan
    got = probabilities(fit(batches=batches), "ratings")
    kept = slice(int(TRAIN[0].mask.sum()), None)
    first = sklearn_forest(RandomForestRegressor).fit(x[kept], y_of("ratings")[kept, 0]).predict(vectors(TEST))
    np.testing.assert_allclose(got[:, 0], first, atol=1e-5)


def test_weights_of_a_task_count(x) -> None:
    tasks = tuple(replace(t, positive_weights=(1.0, 5.0)) if t.name == "polarity" else t for t in TASKS)
    direct = sklearn_forest(RandomForestClassifier, class_weight={0: 1.0, 1: 5.0}).fit(x, y_of("polarity")[:, 0])
    got = probabilities(fit(tasks, balanced=False), "polarity")
    np.testing.assert_allclose(got, direct.predict_proba(vectors(TEST)), atol=5e-6)


@pytest.mark.parametrize(("classes", "expected"), [((0.0,), [0]), ((0.0, 2.0), [0, 2]), ((), [0, 1, 2])])
def test_a_class_that_never_occurs(classes, expected) -> None:
    batch = make_batch(View.CONTEXTUAL, lengths=(6, 9, 12))
    there = torch.isin(batch.labels["emotion_class"], torch.tensor(classes))
    batch.labels["emotion_class"][~there] = torch.nan
    p = probabilities(fit(batches=[batch]), "emotion_class")
    assert np.flatnonzero(p.max(axis=0) > 1e-4).tolist() == expected


def test_stored_without_an_object_of_another_library() -> None:
    model = fit()
    arrays = load(save(model.arrays()))
    other = MODELS["random_forest"].create(DIMS, TASKS)
    other.load_arrays(arrays)
    for name, y in model(TEST).predictions.items():
        assert torch.equal(y, other(TEST).predictions[name])
    assert {str(value.dtype) for value in arrays.values()} <= {
        "torch.int32",
        "torch.int64",
        "torch.float32",
        "torch.float64",
    }


def test_a_generator_of_batches_is_read_whole() -> None:
    expected, got = fit()(TEST), fit(batches=(batch for batch in TRAIN))(TEST)
    assert torch.equal(expected.predictions["intensity"], got.predictions["intensity"])


def test_another_seed_another_forest() -> None:
    first, second = (fit(random_state=seed)(TEST).predictions["intensity"] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_errors() -> None:
    model = MODELS["random_forest"].create(DIMS, TASKS)
    with pytest.raises(AffectusError, match="nothing to fit the model 'random_forest' on"):
        model.fit([])
    with pytest.raises(AffectusError, match="The model 'random_forest' is not fitted"):
        model(TEST)
    with pytest.raises(AffectusError, match="The option 'trees' is out of range: got 0; expected 1 or more"):
        fit(trees=0)
    with pytest.raises(AffectusError, match="The option 'max_depth' is out of range: got -1"):
        fit(max_depth=-1)
    with pytest.raises(AffectusError, match=r"another width than the model was built for: got 6; expected 7"):
        MODELS["random_forest"].create({**DIMS, "text": 7}, TASKS).fit(TRAIN)
