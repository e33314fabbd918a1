"""Calibration: confidence compared with accuracy.

See Guo et al., 2017, arXiv:1706.04599.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15  # of equal width, as in Guo et al.'s tables


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> list[dict[str, Any]]:
    """Returns the bins of the reliability curve, the lowest confidences first.

    Bin m of M has the images whose confidence is above (m - 1) / M and at most m / M (§2); the
    first has those of 0 too. Counts and sums are exact and do not depend on the order of the
    images.

    Args:
      confidences: of each image, the largest of its probabilities; NaN is in no bin.
      right: whether that class is the image's label.

    Returns:
      of each bin 'above' and 'at_most', its 'images', their mean 'confidence' and their 'accuracy',
      both None where it has no images.
    """
    edges = np.arange(BINS + 1) / BINS
    values, hits = np.asarray(confidences, np.float64), np.asarray(right, bool)
    places = np.maximum(np.searchsorted(edges, values, side='left') - 1, 0)
    bins = []
    for number, (above, at_most) in enumerate(itertools.pairwise(edges)):
        mine = (places == number) & ~np.isnan(values)
        count = int(mine.sum())
        bins.append({
            'above': float(above),
            'at_most': float(at_most),
            'images': count,
            'confidence': math.fsum(values[mine]) / count if count else None,
            'accuracy': int(hits[mine].sum()) / count if count else None,
        })  # fmt: skip
    return bins


def expected_error(bins: Sequence[dict[str, Any]]) -> float:
    """Returns the expected calibration error of bins of `reliability`.

    It is the mean over the images of |accuracy - confidence| of their bin (Guo et al., equation
    3); NaN without images.
    """
    count = sum(one['images'] for one in bins)
    if not count:
        return math.nan
    gaps = (
        one['images'] * abs(one['accuracy'] - one['confidence']) for one in bins if one['images']
    )
    return math.fsum(gaps) / count
