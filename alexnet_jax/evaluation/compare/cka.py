"""Centered kernel alignment of every two layers of two sets of features.

See Kornblith et al., 2019, arXiv:1905.00414; the estimate is the unbiased one of `similarity`.
"""

from collections.abc import Sequence

import numpy as np

from alexnet_jax.evaluation import similarity
from alexnet_jax.runtime.errors import InputError, counted

LEAST = 4  # images that the unbiased estimate needs


def cka(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the unbiased linear CKA of every layer of `first` with every layer of `second`.

    The result is [layers, layers], float64; NaN for a layer that is the same for every image.

    The Gram matrices of `second`, [images, images] in float64, are in memory together.

    Args:
      first, second: features of layers, [images, ...] each, of the same images in the same order.

    Raises:
      InputError: there are fewer than four images, or a layer has other images.
    """
    count = len(first[0])
    if count < LEAST:
        raise InputError(f'CKA of {counted(count, "image")}; {LEAST} at least are needed')
    for features in (*first, *second):
        if len(features) != count:
            raise InputError(f'layers of {count} and {len(features)} images; allowed: the same')
    grams = [_gram(features) for features in second]
    rows = []
    for features in first:
        own = _gram(features)
        rows.append([similarity.cka(own, other) for other in grams])
    return np.array(rows)


def memory_needed(images: int, layers: int) -> int:
    """Returns the bytes that `cka` allocates at most with so many layers in `second`.

    They are a matrix for each, that of a layer of `first`, and three for products.
    """
    return (layers + 4) * images**2 * 8


def _gram(features: np.ndarray) -> np.ndarray:
    """Returns `similarity.gram`, of features that never change exactly 0, free of rounding."""
    if (features == features[:1]).all():
        return np.zeros((len(features), len(features)))
    return similarity.gram(features)
