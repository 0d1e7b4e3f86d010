"""The baselines: linear against scikit-learn called directly, majority against counting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold

from affectus.errors import AffectusError
from affectus.models import MODELS
from affectus.models.linear import ALPHAS, FOLDS, neighbour_means
from affectus.testing import DIMS, make_batch, make_tasks
from affectus.vocabulary import View

TASKS = make_tasks("polarity", "intensity", "emotions", "emotion_class", "ratings")
TRAIN = [make_batch(View.CONTEXTUAL, lengths=(6, 9, 12, 4, 7, 11), missing=0.2, seed=seed) for seed in range(3)]
TEST = make_batch(View.CONTEXTUAL, lengths=(5, 3), missing=0.2, seed=9)


def vectors(batch) -> np.ndarray:
    """Features of real utterances side by side; a batch is zero where a modality is missing."""
    return torch.cat(list(batch.features.values()), dim=-1)[batch.mask].double().numpy()


def targets(task, batch) -> np.ndarray:
    return task.target(batch.labels)[batch.mask].numpy()


def fit(tasks=TASKS, batches=TRAIN, **options):
    model = MODELS["linear"].create(DIMS, tasks, options)
    model.fit(batches)
    return model


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.concatenate([vectors(batch) for batch in TRAIN])


def y_of(name: str) -> np.ndarray:
    task = next(t for t in TASKS if t.name == name)
    return np.concatenate([targets(task, batch) for batch in TRAIN])


def probabilities(model, name: str, batch=TEST) -> np.ndarray:
    task = next(t for t in model.tasks if t.name == name)
    return task.probabilities(model(batch).predictions[name][batch.mask]).numpy()


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("name", ["polarity", "emotion_class"])
def test_classes_equal_scikit_learn(name: str, balanced: bool, x) -> None:
    weight = "balanced" if balanced else None
    direct = LogisticRegression(C=0.01, class_weight=weight, max_iter=2000).fit(x, y_of(name)[:, 0])
    np.testing.assert_allclose(
        probabilities(fit(balanced=balanced), name), direct.predict_proba(vectors(TEST)), atol=1e-6
    )


def test_emotions_equal_scikit_learn(x) -> None:
    got = probabilities(fit(C=0.1), "emotions")
    for column, y in enumerate(y_of("emotions").T):
        if len(np.unique(y)) == 2:
            direct = LogisticRegression(C=0.1, max_iter=2000).fit(x, y).predict_proba(vectors(TEST))[:, 1]
            np.testing.assert_allclose(got[:, column], direct, atol=1e-6)
        else:
            assert (abs(got[:, column] - y[0]) < 1e-5).all()


@pytest.mark.parametrize("name", ["intensity", "ratings"])
def test_numbers_equal_scikit_learn(name: str, x) -> None:
    direct = Ridge(alpha=20.0).fit(x, y_of(name)).predict(vectors(TEST)).reshape(len(vectors(TEST)), -1)
    np.testing.assert_allclose(probabilities(fit(alpha=20.0), name), direct, atol=1e-5)


def test_alpha_is_chosen_over_whole_videos(x) -> None:
    groups = np.concatenate([np.repeat(np.arange(6) + 6 * i, b.mask.sum(dim=1)) for i, b in enumerate(TRAIN)])
    y = y_of("intensity")[:, 0]
    errors = [
        sum(
            ((Ridge(alpha=alpha).fit(x[a], y[a]).predict(x[b]) - y[b]) ** 2).sum()
            for a, b in GroupKFold(FOLDS).split(x, y, groups)
        )
        for alpha in ALPHAS
    ]
    direct = Ridge(alpha=ALPHAS[int(np.argmin(errors))]).fit(x, y).predict(vectors(TEST))
    np.testing.assert_allclose(probabilities(fit(alpha=None), "intensity")[:, 0], direct, atol=1e-5)


def test_alpha_with_a_single_video() -> None:
    one = make_batch(View.CONTEXTUAL, lengths=(6,))
    assert np.isfinite(probabilities(fit(batches=[one], alpha=None), "intensity")).all()


def test_missing_labels_are_left_out_one_by_one(x) -> None:
    batches = [replace(b, labels={k: v.clone() for k, v in b.labels.items()}) for b in TRAIN]
    batches[0].labels["ratings"][..., 0][batches[0].mask] = torch.nan
    got = probabilities(fit(batches=batches, alpha=20.0), "ratings")
    kept = slice(int(TRAIN[0].mask.sum()), None)
    first = Ridge(alpha=20.0).fit(x[kept], y_of("ratings")[kept, 0]).predict(vectors(TEST))
    second = Ridge(alpha=20.0).fit(x, y_of("ratings")[:, 1]).predict(vectors(TEST))
    np.testing.assert_allclose(got, np.stack([first, second], axis=1), atol=1e-5)


def test_weights_of_a_task_count(x) -> None:
    tasks = tuple(replace(t, positive_weights=(1.0, 5.0)) if t.name == "polarity" else t for t in TASKS)
    y = y_of("polarity")[:, 0]
    direct = LogisticRegression(C=0.01, class_weight={0: 1.0, 1: 5.0}, max_iter=2000).fit(x, y)
    np.testing.assert_allclose(probabilities(fit(tasks), "polarity"), direct.predict_proba(vectors(TEST)), atol=1e-6)


@pytest.mark.parametrize(("classes", "expected"), [((0.0,), [0]), ((0.0, 2.0), [0, 2]), ((), [0, 1, 2])])
def test_a_class_that_never_occurs(classes, expected) -> None:
    batch = make_batch(View.CONTEXTUAL, lengths=(6, 9, 12))
    there = torch.isin(batch.labels["emotion_class"], torch.tensor(classes))
    batch.labels["emotion_class"][~there] = torch.nan
    p = probabilities(fit(batches=[batch]), "emotion_class")
    assert np.isfinite(p).all()
    assert np.flatnonzero(p.max(axis=0) > 1e-4).tolist() == expected


def test_neighbours_by_a_plain_loop() -> None:
    got = neighbour_means(TEST.features["text"], TEST.mask, 2)
    for video, length in ((0, 5), (1, 3)):
        rows = TEST.features["text"][video].numpy()
        for i in range(length):
            near = [j for j in range(max(0, i - 2), min(length, i + 3)) if j != i]
            np.testing.assert_allclose(got[video, i].numpy(), rows[near].mean(axis=0), atol=1e-6)


def test_neighbours_widen_the_vectors(x) -> None:
    model = fit(neighbours=1)
    assert model.arrays()["polarity.weight"].shape == (2 * sum(DIMS.values()), 2)
    alone = make_batch(View.CONTEXTUAL, lengths=(1,))
    assert (neighbour_means(alone.features["text"], alone.mask, 3) == 0).all()


@pytest.mark.parametrize("view", [View.UNALIGNED, View.ALIGNED])
def test_sequences_are_averaged_over_real_steps(view) -> None:
    train, test = make_batch(view, lengths=(3, 5, 2, 4, 1, 6) * 4, missing=0.2), make_batch(view, seed=5)

    def pooled(batch):
        columns = []
        for name, features in batch.features.items():
            rows = [
                x[m].mean(dim=0) if m.any() else torch.zeros(x.shape[1]) for x, m in zip(features, batch.masks[name])
            ]
            columns.append(torch.stack(rows))
        return torch.cat(columns, dim=1).double().numpy()

    direct = LogisticRegression(C=0.01).fit(pooled(train), targets(TASKS[0], train)[:, 0])
    np.testing.assert_allclose(
        probabilities(fit(batches=[train]), "polarity", test), direct.predict_proba(pooled(test)), atol=1e-6
    )


def test_errors() -> None:
    model = MODELS["linear"].create(DIMS, TASKS, {"neighbours": 1})
    with pytest.raises(AffectusError, match="'neighbours' needs the contextual view: got the aligned view"):
        model.fit([make_batch(View.ALIGNED)])
    with pytest.raises(AffectusError, match="nothing to fit the model 'linear' on"):
        model.fit([])
    with pytest.raises(AffectusError, match="The model 'linear' is not fitted"):
        model(TEST)
    with pytest.raises(AffectusError, match="The option 'C' is out of range: got 0"):
        fit(C=0.0)
    with pytest.raises(AffectusError, match="The option 'alpha' is out of range: got -1"):
        fit(alpha=-1.0)
    with pytest.raises(AffectusError, match="The option 'neighbours' is out of range"):
        fit(neighbours=-1)
    with pytest.raises(AffectusError, match=r"another width than the model was built for: got 6; expected 7"):
        MODELS["linear"].create({**DIMS, "text": 7}, TASKS).fit(TRAIN)


class TestMajority:
    def fitted(self, batches=TRAIN):
        model = MODELS["majority"].create(DIMS, TASKS)
        model.fit(batches)
        return model

    def test_shares_rates_and_means(self) -> None:
        model = self.fitted()
        y = y_of("polarity")[:, 0]
        np.testing.assert_allclose(probabilities(model, "polarity")[0], [1 - y.mean(), y.mean()], atol=1e-6)
        counts = np.bincount(y_of("emotion_class")[:, 0].astype(int), minlength=3)
        np.testing.assert_allclose(probabilities(model, "emotion_class")[0], counts / counts.sum(), atol=1e-6)
        np.testing.assert_allclose(probabilities(model, "emotions")[0], y_of("emotions").mean(axis=0), atol=2e-6)
        np.testing.assert_allclose(probabilities(model, "ratings")[0], y_of("ratings").mean(axis=0), atol=1e-5)
        assert (probabilities(model, "intensity") == probabilities(model, "intensity")[0]).all()

    def test_without_labels(self) -> None:
        batch = make_batch(View.CONTEXTUAL, unlabelled=1.0)
        model = self.fitted([batch])
        np.testing.assert_allclose(probabilities(model, "polarity")[0], [0.5, 0.5])
        np.testing.assert_allclose(probabilities(model, "emotions")[0], 0.5)
        assert (probabilities(model, "intensity") == 0).all()

    def test_not_fitted(self) -> None:
        with pytest.raises(AffectusError, match="The model 'majority' is not fitted"):
            MODELS["majority"].create(DIMS, TASKS)(TEST)
