"""The table of CKA beside loops over its definition."""

import math

import numpy as np
import pytest

from alexnet_jax.evaluation.compare.cka import cka
from alexnet_jax.runtime.errors import InputError


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Nguyen, Raghu and Kornblith (2021, arXiv:2010.15327), equation 3, by loops."""
    n = len(x)
    k = [[0 if i == j else sum(x[i] * x[j]) for j in range(n)] for i in range(n)]
    ell = [[0 if i == j else sum(y[i] * y[j]) for j in range(n)] for i in range(n)]
    trace = sum(k[i][j] * ell[j][i] for i in range(n) for j in range(n))
    sums = sum(map(sum, k)) * sum(map(sum, ell))
    both = sum(k[i][j] * ell[j][q] for i in range(n) for j in range(n) for q in range(n))
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


def test_every_layer_beside_every_layer(random):
    first = [random.normal(size=(9, 5)), random.normal(size=(9, 2, 3))]
    second = [first[0] @ random.normal(size=(5, 4)), random.normal(size=(9, 7)), first[1] + 1]
    found = cka(first, second)
    assert found.shape == (2, 3)
    for row, x in enumerate(first):
        for column, y in enumerate(second):
            x, y = x.reshape(9, -1), y.reshape(9, -1)
            expected = hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))
            assert found[row, column] == pytest.approx(expected, rel=1e-8)


def test_a_layer_that_never_changes_has_none(random):
    """0.1 less its mean over 104 images is not 0, and neither is HSIC of that rounding error."""
    constant = np.full((104, 5), 0.1)
    found = cka([constant, random.normal(size=(104, 3))], [random.normal(size=(104, 3))])
    assert np.isnan(found).tolist() == [[True], [False]]


def test_too_few_images_and_other_images_are_refused():
    with pytest.raises(InputError, match='CKA of 3 images; 4 at least are needed'):
        cka([np.eye(3)], [np.eye(3)])
    with pytest.raises(InputError, match='layers of 5 and 6 images'):
        cka([np.eye(5)], [np.eye(6)])
