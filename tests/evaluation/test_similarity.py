"""CKA against its definition, term by term."""

import itertools
import math

import numpy as np
import pytest

from alexnet_jax.evaluation.similarity import cka, gram


def hsic(k: np.ndarray, ell: np.ndarray) -> float:
    """The mean over all four different images (Song et al. 2012, equation 4)."""
    terms = [
        k[i, j] * (ell[i, j] + ell[q, r] - 2 * ell[i, q])
        for i, j, q, r in itertools.permutations(range(len(k)), 4)
    ]
    return sum(terms) / len(terms)


def test_against_the_definition(random):
    x = random.normal(size=(7, 5))
    y = x @ random.normal(size=(5, 9)) + random.normal(size=(7, 9))
    k, ell = x @ x.T, y @ y.T  # not centered: it does not matter
    expected = hsic(k, ell) / math.sqrt(hsic(k, k) * hsic(ell, ell))
    assert cka(gram(x), gram(y)) == pytest.approx(expected, rel=1e-9)


def test_a_turned_and_scaled_copy_is_alike_and_noise_is_not(random):
    x = random.normal(size=(60, 20))
    turn, _ = np.linalg.qr(random.normal(size=(20, 20)))
    assert cka(gram(x), gram(3 * x @ turn + 7)) == pytest.approx(1)
    # The usual estimate is near 1 for so many more units than images.
    noise = [cka(gram(random.normal(size=(60, 3000))), gram(random.normal(size=(60, 3000))))
             for _ in range(20)]  # fmt: skip
    assert abs(np.mean(noise)) < 0.02


def test_sets_of_units_add_up(random):
    maps = random.normal(size=(8, 3, 3, 6))
    halves = gram(maps[..., :2]) + gram(maps[..., 2:])
    np.testing.assert_allclose(gram(maps), halves, atol=1e-9)


def test_units_that_never_change_are_like_nothing(random):
    assert math.isnan(cka(gram(np.ones((8, 3))), gram(random.normal(size=(8, 3)))))
    with pytest.raises(ValueError, match='four'):
        cka(np.eye(3), np.eye(3))
