"""Linear probes beside scikit-learn's logistic regression."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from alexnet_jax.evaluation.compare import softmax_regression
from alexnet_jax.evaluation.compare.probe import GRID, choose, probe, split
from alexnet_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures('quickly')
IMAGES = 300


@pytest.fixture(scope='module')
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels of real digits, [images, 8, 8]; some are 0 in every image."""
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8).astype(np.float32), labels


def reference(features: np.ndarray, labels: np.ndarray, l2: float):
    """scikit-learn's classifier of standardized features."""
    scaler = StandardScaler().fit(features)
    c = (2 if len(set(labels)) == 2 else 1) / (l2 * len(labels))
    model = LogisticRegression(C=c, solver='newton-cg', tol=1e-8, max_iter=1000)
    model.fit(scaler.transform(features), labels)
    return lambda x: model.predict_proba(scaler.transform(x)), model


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@pytest.mark.thorough
@pytest.mark.parametrize('case', ['fewer units', 'more units', 'two classes'])
def test_the_minimum_is_scikit_learn_s(digits, random, case):
    images, labels = digits
    flat = images.reshape(len(images), -1).astype(np.float64)
    classes = 10
    if case == 'more units':  # 500 of 300 images
        flat = np.maximum(flat @ random.normal(size=(64, 500)), 0)
    if case == 'two classes':
        labels, classes = labels % 2, 2
    for l2 in (0.1, 0.01):
        (ours,) = softmax_regression.fit(flat[:IMAGES], labels[:IMAGES], classes, [l2])
        probabilities, model = reference(flat[:IMAGES], labels[:IMAGES], l2)
        assert ours.converged
        found = softmax(ours.logits(flat[IMAGES:]))
        np.testing.assert_allclose(found, probabilities(flat[IMAGES:]), atol=1e-5)
        weights, expected = ours.weights, model.coef_.T
        if classes == 2:
            weights = weights[:, 1:] - weights[:, :1]
        np.testing.assert_allclose(weights, expected, atol=1e-5)
        wrong = ours.predictions(flat[IMAGES:]) != labels[IMAGES:]
        assert wrong.sum() == (probabilities(flat[IMAGES:]).argmax(axis=1) != labels[IMAGES:]).sum()


@pytest.mark.thorough
def test_errors_are_those_of_the_images_held_out(digits):
    images, labels = digits
    names = [f'digit {label}' for label in labels]
    test = images[IMAGES:], names[IMAGES:]
    found = probe(images[:IMAGES], names[:IMAGES], test, l2=0.01)
    flat = images.reshape(len(images), -1)
    probabilities, _ = reference(flat[:IMAGES], labels[:IMAGES], 0.01)
    wrong = probabilities(flat).argmax(axis=1) != labels
    assert found.error == wrong[IMAGES:].mean()
    assert found.training_error == wrong[:IMAGES].mean()
    assert (found.training_images, found.held_out_images) == (IMAGES, len(labels) - IMAGES)
    n, e, z = found.held_out_images, found.error, 1.959963984540054  # Wilson (1927)
    middle, half = e + z * z / 2 / n, z * np.sqrt(e * (1 - e) / n + z * z / 4 / n / n)
    ends = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    assert found.interval == pytest.approx(ends)
    most = np.bincount(labels[:IMAGES]).argmax()
    assert found.chance_error == np.mean(labels[IMAGES:] != most)
    assert found.classes == tuple(f'digit {n}' for n in range(10)) and not found.l2_errors


def test_a_share_of_each_class_is_held_out_by_the_seed():
    labels = ['a'] * 50 + ['b'] * 10 + ['c']
    held = split(labels, 0.2, np.random.default_rng(1))
    assert [held[:50].sum(), held[50:60].sum(), held[60]] == [10, 2, 0]
    np.testing.assert_array_equal(held, split(labels, 0.2, np.random.default_rng(1)))
    assert (held != split(labels, 0.2, np.random.default_rng(2))).any()


@pytest.mark.thorough
def test_the_penalty_with_the_lowest_error_is_chosen(digits, random):
    images, labels = digits
    images, labels = images[:100] + random.normal(scale=6, size=(100, 8, 8)), labels[:100]
    chosen, errors = choose(images, labels, 10, np.random.default_rng(0))
    held = split(labels, 0.2, np.random.default_rng(0))
    flat = images.reshape(len(images), -1)
    for l2 in GRID[2:]:
        probabilities, _ = reference(flat[~held], labels[~held], l2)
        wrong = probabilities(flat[held]).argmax(axis=1) != labels[held]
        assert errors[l2] == pytest.approx(wrong.mean())
    assert list(errors) == list(GRID) and len(set(errors.values())) > 1
    best = min(errors.values())
    assert chosen == max(l2 for l2 in GRID if errors[l2] == best)
    found = probe(images, [str(label) for label in labels])
    assert found.model.l2 in GRID and set(found.l2_errors) == set(GRID)


@pytest.mark.thorough
def test_a_search_that_was_cut_short_says_so(digits, monkeypatch):
    images, labels = digits
    monkeypatch.setattr(softmax_regression, 'MOST_STEPS', 3)
    (found,) = softmax_regression.fit(images[:90], labels[:90], 10, [0.001])
    assert (found.steps, found.converged) == (3, False)


EYE = np.eye(6)
LABELS = list('aaabbb')


@pytest.mark.parametrize(
    ('features', 'labels', 'more', 'words'),
    [
        (EYE, ['a'] * 6, {}, "two classes or more to train on; there are 1: 'a'"),
        (EYE, LABELS[:5], {'test': (EYE, LABELS)}, '6 images and 5 labels'),
        (EYE, LABELS, {'held_out': 0.01}, 'no image is held out'),
        (EYE, LABELS, {'test': (EYE, list('aaabbc'))}, "1 class without an image.*'c'"),
        (EYE, LABELS, {'test': (EYE[:, :5], LABELS)}, r'features \(6,\) and held-out images \(5,\)'),
        (EYE[:4], list('aabb'), {'test': (EYE, LABELS)}, 'a class with three training images'),
    ],
)  # fmt: skip
def test_what_cannot_be_probed_is_refused(features, labels, more, words):
    with pytest.raises(InputError, match=words):
        probe(features, labels, **more)
