"""Inner products of the features of images, in blocks.

Features may be on disk, and their float64 copy may be larger than the memory.
"""

from collections.abc import Callable

import numpy as np

BLOCK = 2**25  # numbers of a block; in float64, 256 MiB


def inner_products(features: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns the inner products of every two images, [images, images], float64.

    Two blocks of rows are in memory at a time, besides the result.

    Args:
      features: [images, ...], real numbers; possibly mapped from a file.
      prepare: changes rows [images of a block, units], float64, before the product.
    """
    flat = features.reshape(len(features), -1)
    size = max(1, BLOCK // flat.shape[1])
    parts = [slice(first, first + size) for first in range(0, len(flat), size)]
    products = np.empty((len(flat), len(flat)))
    for number, part in enumerate(parts):
        rows = prepare(np.array(flat[part], np.float64))
        products[part, part] = rows @ rows.T
        for other in parts[:number]:
            products[part, other] = rows @ prepare(np.array(flat[other], np.float64)).T
            products[other, part] = products[part, other].T
    return products
