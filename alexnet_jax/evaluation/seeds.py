"""What is known of a mean over runs that differ in their seed."""

import math
from collections.abc import Sequence
from typing import Any

from scipy import stats


def interval(values: Sequence[float | None], highest: float = math.inf) -> dict[str, Any]:
    """{'values', 'mean', 'low', 'high'}: the mean of two values or more, and its 95 % interval
    by Student's t, cut to the range that values of their kind have, 0 to `highest`. No mean where
    a value is missing or no number."""
    found = [value for value in values if value is not None and not math.isnan(value)]
    about: dict[str, Any] = {'values': list(values), 'mean': None, 'low': None, 'high': None}
    count = len(found)
    if count < max(2, len(values)):
        return about
    mean = math.fsum(found) / count
    variance = math.fsum((value - mean) ** 2 for value in found) / (count - 1)
    half = float(stats.t.ppf(0.975, count - 1)) * math.sqrt(variance / count)
    return about | {'mean': mean, 'low': max(0.0, mean - half), 'high': min(highest, mean + half)}


def told(value: dict[str, Any] | None) -> str:
    """Mean and interval as text."""
    if value is None or value['mean'] is None:
        return '–'
    return f'{value["mean"]:.3f} [{value["low"]:.3f}, {value["high"]:.3f}]'
