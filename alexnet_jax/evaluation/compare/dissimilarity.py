"""Representational dissimilarity matrices (RDMs).

They hold how differently a set of units responds to every two images (Kriegeskorte, Mur and
Bandettini, 2008, doi:10.3389/neuro.06.004.2008).
"""

import numpy as np

from alexnet_jax.evaluation.inner_products import BLOCK, inner_products
from alexnet_jax.evaluation.similarity import gram
from alexnet_jax.runtime.errors import InputError, nearest, shown

METRICS = ('correlation', 'euclidean', 'cosine')
UNDEFINED = {'correlation': 'all the same', 'cosine': 'all 0'}  # features, where it has no value
ROUNDING = 1e-6  # of the features' norm: float32 has 6e-8, and inner products lose some


def rdm(features: np.ndarray, metric: str = 'correlation') -> np.ndarray:
    """Returns the dissimilarity of every two images, [images, images], float64.

    The diagonal is 0; metrics are those of `scipy.spatial.distance.pdist`.

    - correlation: 1 − r, with r Pearson's correlation over the units;
    - euclidean: the square root of the sum over the units of squared differences;
    - cosine: 1 − x·y / (|x| |y|).

    It is computed in blocks of inner products. Euclidean distances below a millionth of the two
    images' distances from the mean image are 0: they would be rounding errors.

    Args:
      features: [images, ...], finite real numbers.

    Returns:
      The matrix. Rows and columns of the images for which `undefined` is true are NaN off the
      diagonal.

    Raises:
      InputError: there is no such metric.
    """
    if metric not in METRICS:
        raise InputError(
            f'metric is {shown(metric)}; the nearest is {nearest(metric, METRICS)};'
            f' allowed: {", ".join(METRICS)}'
        )
    if metric == 'euclidean':
        values = _distances(gram(features))
    else:
        values = inner_products(features, _centered_units if metric == 'correlation' else _units)
        np.clip(np.subtract(1, values, out=values), 0, 2, out=values)
        without = undefined(features, metric)
        values[without], values[:, without] = np.nan, np.nan
    np.fill_diagonal(values, 0)
    return values


def undefined(features: np.ndarray, metric: str) -> np.ndarray:
    """Returns for which images the metric is not defined, bool [images].

    Correlation is not with features that are all the same, cosine not with features that are all
    0.
    """
    flat = features.reshape(len(features), -1)
    if metric == 'euclidean':
        return np.zeros(len(flat), bool)
    found = []
    size = max(1, BLOCK // flat.shape[1])
    for first in range(0, len(flat), size):
        rows = np.asarray(flat[first : first + size])
        against = rows[:, :1] if metric == 'correlation' else 0
        found.append((rows == against).all(axis=1))
    return np.concatenate(found)


def memory_needed(images: int) -> int:
    """Returns the bytes that `rdm` allocates at most.

    They are the matrix, an array of its size, and blocks of features in float64.
    """
    return 2 * images**2 * 8 + 4 * BLOCK * 8


def _distances(products: np.ndarray) -> np.ndarray:
    """Turns inner products of centered features into Euclidean distances, in place."""
    norms = np.diag(products).copy()
    for row, values in enumerate(products):
        both = norms[row] + norms
        values *= -2
        values += both
        values[values < ROUNDING**2 * both] = 0
    return np.sqrt(products, out=products)


def _centered_units(rows: np.ndarray) -> np.ndarray:
    return _units(rows - rows.mean(axis=1, keepdims=True))


def _units(rows: np.ndarray) -> np.ndarray:
    """Scales rows [images, units] to norm 1; rows of 0 stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
