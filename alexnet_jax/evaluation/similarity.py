"""Centered kernel alignment of two sets of units (Kornblith, Norouzi, Lee and Hinton, 2019).

See arXiv:1905.00414. It is linear, with the unbiased estimate of HSIC (Song et al., 2012), because
the usual one approaches 1 if there are more units than images.
"""

import chex
import numpy as np

from alexnet_jax.evaluation.inner_products import inner_products
from alexnet_jax.runtime.errors import counted


def gram(features: np.ndarray) -> np.ndarray:
    """Returns the products of some images' units, [images, ...] -> [images, images], float64.

    The matrices of two sets of units add up to that of their union.
    """
    flat = np.asarray(features).reshape(len(features), -1)
    mean = flat.mean(axis=0, dtype=np.float64)
    return inner_products(flat, lambda rows: rows - mean)  # changes only the rounding


def cka(first: np.ndarray, second: np.ndarray) -> float:
    """Computes CKA of two Gram matrices [images, images] of four images or more.

    It is 1 if one set of units is a rotated, mirrored or scaled copy of the other, around 0 if they
    are independent, and NaN for units that are the same for every image.
    """
    chex.assert_shape([first, second], (len(first), len(first)))
    own = hsic(first, first) * hsic(second, second)
    return hsic(first, second) / own**0.5 if own > 0 else float('nan')


def hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the unbiased estimate of HSIC of two Gram matrices [images, images].

    It is equation 5 of Song et al., without the factor 1 / (n (n − 3)), for four images or more.
    """
    first, second = (x - np.diag(np.diag(x)) for x in (first, second))
    count = len(first)
    if count < 4:
        raise ValueError(f'{counted(count, "image")}; four at least are needed')
    sums = first.sum(axis=0), second.sum(axis=0)
    return float(
        (first * second).sum()
        + sums[0].sum() * sums[1].sum() / ((count - 1) * (count - 2))
        - 2 * (sums[0] @ sums[1]) / (count - 2)
    )
