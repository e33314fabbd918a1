"""Representational similarity analysis: the correlation of two dissimilarity matrices.

It is taken over the pairs of images, with a bootstrap interval and a permutation test over the
images (Nili et al., 2014, doi:10.1371/journal.pcbi.1003553).
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import stats

from alexnet_jax.evaluation.compare.matrices import require_matrix
from alexnet_jax.runtime.errors import InputError, counted, nearest, shown

INTERVAL = (2.5, 97.5)  # percentiles
Correlation = Callable[[np.ndarray, np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Rsa:
    """The result of `rsa`.

    value: the correlation over the pairs of images.
    interval: 95 % bootstrap percentile interval; None without resamples.
    p: of the one-sided permutation test; None without permutations.
    resamples: those that have a correlation and count.
    """

    correlation: str
    value: float
    interval: tuple[float, float] | None
    p: float | None
    images: int
    pairs: int
    resamples: int
    permutations: int
    seed: int


def rsa(
    first: np.ndarray,
    second: np.ndarray,
    correlation: str = 'spearman',
    bootstrap: int = 1000,
    permutations: int = 1000,
    seed: int = 0,
) -> Rsa:
    """Correlates two dissimilarity matrices over their upper triangles.

    A resample draws as many images as there are, with replacement, and takes the pairs of different
    images among them, as often as they were drawn; a pair of an image with itself has dissimilarity
    0 in both matrices and is left out. The permutation test (Mantel, 1967) shuffles the images of the second matrix; p is
    the share of correlations that are at least as large as the one found, the found one included.

    Args:
      first, second: [images, images], symmetric, finite; rows of the same images.
      correlation: 'spearman'; 'pearson'; 'kendall' (tau-b); or 'kendall_a' (tau-a, which Nili et
        al. recommend where a matrix has many equal values, as one of categories).
      bootstrap: resamples; 0: no interval.
      permutations: 0: no test.

    Raises:
      InputError: there is no such correlation; a matrix is not one, or has a single value; the
        matrices have different sizes.
    """
    if correlation not in CORRELATIONS:
        raise InputError(
            f'correlation is {shown(correlation)}; the nearest is'
            f' {nearest(correlation, CORRELATIONS)}; allowed: {", ".join(CORRELATIONS)}'
        )
    x, y = _pairs(first, 'first'), _pairs(second, 'second')
    if len(first) != len(second):
        raise InputError(
            f'the matrices are of {counted(len(first), "image")} and {len(second)}; allowed: the same'
        )
    if correlation != 'pearson':
        x, y = _order_of(x), _order_of(y)
    upper, random = np.triu_indices(len(first), 1), np.random.default_rng(seed)
    measure = CORRELATIONS[correlation]
    drawn = [_resampled(x, y, measure, upper, random) for _ in range(bootstrap)]
    usable = [one for one in drawn if np.isfinite(one)]
    return Rsa(
        correlation=correlation,
        value=measure(x, y),
        interval=_interval(usable),
        p=_p_value(x, y, correlation, upper, permutations, random),
        images=len(first),
        pairs=len(x),
        resamples=len(usable),
        permutations=permutations,
        seed=seed,
    )


def memory_needed(images: int) -> int:
    """Returns the bytes that `rsa` allocates at most: about twelve arrays of the pairs."""
    return 12 * images * (images - 1) // 2 * 8


def _pairs(values: np.ndarray, name: str) -> np.ndarray:
    """Returns the upper triangle of a matrix as a vector, [pairs]."""
    require_matrix(values, f'the {name} matrix')
    upper = values[np.triu_indices(len(values), 1)]
    if upper.min() == upper.max():
        raise InputError(
            f'the {name} matrix has {upper[0]:g} everywhere; without differences there is no'
            ' correlation'
        )
    return upper


def _order_of(values: np.ndarray) -> np.ndarray:
    """Returns the place of each value among the different values, from 0: all that correlations of
    ranks need."""
    return np.unique(values, return_inverse=True)[1]


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Pearson's correlation; NaN where one of the vectors has a single value."""
    if first.min() == first.max() or second.min() == second.max():
        return float('nan')
    first, second = first - first.mean(), second - second.mean()
    sizes = (first**2).sum() * (second**2).sum()  # BLAS would wait for its threads at every call
    return float((first * second).sum() / np.sqrt(sizes))


def _ranks(places: np.ndarray) -> np.ndarray:
    """Returns the ranks of integers from 0, the mean rank where several are equal. They are
    counted: faster than sorting, and there is a ranking for every resample."""
    counts = np.bincount(places)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    return _pearson(_ranks(first), _ranks(second))


def _kendall(first: np.ndarray, second: np.ndarray) -> float:
    return float(stats.kendalltau(first, second)[0])  # pyright: ignore[reportArgumentType]


def _kendall_a(first: np.ndarray, second: np.ndarray) -> float:
    """Returns tau-a: concordant less discordant pairs over all pairs, where tau-b divides by the
    geometric mean of those that are not tied in one vector."""
    every = len(first) * (len(first) - 1) / 2
    untied = [every - (n * (n - 1) / 2).sum() for n in (np.bincount(first), np.bincount(second))]
    return _kendall(first, second) * float(np.sqrt(untied[0] * untied[1])) / every


CORRELATIONS: dict[str, Correlation] = {
    'spearman': _spearman,
    'pearson': _pearson,
    'kendall': _kendall,
    'kendall_a': _kendall_a,
}


def _resampled(
    first: np.ndarray,
    second: np.ndarray,
    measure: Correlation,
    upper: tuple[np.ndarray, np.ndarray],
    random: np.random.Generator,
) -> float:
    """Returns the correlation of a resample of the images; NaN where it has none.

    Args:
      upper: the two images of each pair, [pairs] each.
    """
    images = int(upper[1].max()) + 1
    drawn = np.bincount(random.integers(images, size=images), minlength=images)
    times = drawn[upper[0]] * drawn[upper[1]]
    if np.count_nonzero(times) < 2:
        return float('nan')
    return measure(np.repeat(first, times), np.repeat(second, times))


def _interval(values: list[float]) -> tuple[float, float] | None:
    if not values:
        return None
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def _p_value(
    first: np.ndarray,
    second: np.ndarray,
    correlation: str,
    upper: tuple[np.ndarray, np.ndarray],
    permutations: int,
    random: np.random.Generator,
) -> float | None:
    """Returns the share of permutations of the images, the identity included, with a correlation at
    least as large."""
    if not permutations:
        return None
    measure = CORRELATIONS[correlation]
    if correlation == 'spearman':  # the ranks of the pairs stay, in another order
        first, second, measure = _ranks(first), _ranks(second), _pearson
    images = int(upper[1].max()) + 1
    matrix = np.zeros((images, images), second.dtype)
    matrix[upper] = second
    matrix += matrix.T
    least = measure(first, second) - 1e-12  # a permutation that changes nothing counts
    shuffles = (random.permutation(images) for _ in range(permutations))
    extreme = sum(measure(first, matrix[np.ix_(p, p)][upper]) >= least for p in shuffles)
    return (1 + extreme) / (1 + permutations)
