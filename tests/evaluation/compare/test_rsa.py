"""Representational similarity analysis beside SciPy, and beside loops over its definition."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from alexnet_jax.evaluation.compare.rsa import rsa
from alexnet_jax.runtime.errors import InputError

IMAGES = 12


def tau_a(x: np.ndarray, y: np.ndarray) -> float:
    """Concordant less discordant pairs, over all pairs."""
    signs = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in itertools.combinations(range(len(x)), 2)]  # fmt: skip
    return float(np.mean(signs))


REFERENCES = {
    'spearman': lambda x, y: stats.spearmanr(x, y).statistic,
    'pearson': lambda x, y: stats.pearsonr(x, y).statistic,
    'kendall': lambda x, y: stats.kendalltau(x, y).statistic,
    'kendall_a': tau_a,
}


@pytest.fixture
def pair(random) -> tuple[np.ndarray, np.ndarray]:
    """Two related matrices; the second has few different values, so that many are tied."""
    features = random.normal(size=(IMAGES, 4))
    noisy = features + random.normal(size=(IMAGES, 4))
    return squareform(pdist(features)), np.round(squareform(pdist(noisy)))


def upper(values: np.ndarray) -> np.ndarray:
    return np.array([values[i, j] for i in range(len(values)) for j in range(i + 1, len(values))])


@pytest.mark.parametrize('correlation', REFERENCES)
def test_the_correlation_is_scipy_s(pair, correlation):
    found = rsa(*pair, correlation, bootstrap=0, permutations=0)
    expected = REFERENCES[correlation](upper(pair[0]), upper(pair[1]))
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.images, found.pairs) == (IMAGES, IMAGES * (IMAGES - 1) // 2)
    assert found.interval is None and found.p is None


@pytest.mark.parametrize('correlation', REFERENCES)
def test_the_interval_is_that_of_resampled_matrices(pair, correlation):
    """The rows and columns of the images drawn; the pairs of one image with itself left out."""
    found = rsa(*pair, correlation, bootstrap=30, permutations=0, seed=3)
    random, values = np.random.default_rng(3), []
    for _ in range(30):
        drawn = random.integers(IMAGES, size=IMAGES)
        first, second = (matrix[np.ix_(drawn, drawn)] for matrix in pair)
        different = upper(drawn[:, None] != drawn)
        values.append(REFERENCES[correlation](upper(first)[different], upper(second)[different]))
    assert found.resamples == 30
    assert found.interval == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)


@pytest.mark.parametrize('correlation', REFERENCES)
def test_p_is_that_of_shuffled_matrices(random, correlation):
    first, second = (squareform(pdist(random.normal(size=(6, 3)))) for _ in range(2))
    found = rsa(first, second, correlation, bootstrap=0, permutations=99, seed=5)
    again, reference = np.random.default_rng(5), REFERENCES[correlation]
    value = reference(upper(first), upper(second))
    null = []
    for _ in range(99):
        order = again.permutation(6)
        null.append(reference(upper(first), upper(second[order][:, order])))
    assert found.p == (1 + sum(x >= value - 1e-9 for x in null)) / 100
    assert 0.05 < found.p < 0.95  # neither end, where a fault might not show


def test_a_matrix_with_itself(pair):
    found = rsa(pair[0], pair[0], bootstrap=20, permutations=99)
    assert found.value == pytest.approx(1)
    assert found.interval == pytest.approx((1, 1))
    assert found.p == 0.01  # of 12! orders none but the first is likely to be drawn
    turned = np.where(pair[0] > 0, 10 - pair[0], 0)
    assert rsa(pair[0], turned, bootstrap=0, permutations=99).p == 1


def test_p_of_unrelated_matrices_is_below_one_in_ten_one_time_in_ten(random):
    """The test keeps its level although pairs that share an image are not independent: of 100,
    binomial, 10 ± 3."""
    times = 0
    for _ in range(100):
        first, second = (squareform(pdist(random.normal(size=(8, 2)))) for _ in range(2))
        times += rsa(first, second, bootstrap=0, permutations=39).p <= 0.1
    assert 3 <= times <= 18


def test_resamples_without_a_correlation_are_left_out():
    """Of three images most resamples have two different pairs at most."""
    first, second = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]]), np.array([[0, 5, 1], [5, 0, 2], [1, 2, 0.0]])  # fmt: skip
    found = rsa(first, second, bootstrap=50, permutations=0)
    assert 0 < found.resamples < 50
    assert found.interval is not None and np.isfinite(found.interval).all()


def test_what_cannot_be_correlated_is_refused(pair):
    with pytest.raises(
        InputError, match="'spear'; the nearest is spearman; allowed: spearman, pea"
    ):
        rsa(*pair, 'spear')
    with pytest.raises(InputError, match='the second matrix has 1 everywhere'):
        rsa(pair[0], 1 - np.eye(IMAGES))
    with pytest.raises(InputError, match='of 12 images and 11'):
        rsa(pair[0], pair[1][1:, 1:])
    with pytest.raises(InputError, match='the first matrix is not symmetric'):
        rsa(np.triu(pair[0]), pair[1])
