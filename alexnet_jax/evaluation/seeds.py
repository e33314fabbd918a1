"""What is known of a mean over runs that differ in their seed."""

import math
from collections.abc import Sequence
from typing import Any

from scipy import stats


def interval(
    values: Sequence[float | None], lowest: float = -math.inf, highest: float = math.inf
) -> dict[str, Any]:
    """Returns {'values', 'mean', 'low', 'high'}: the mean of two values or more, and its 95 %
    interval by Student's t, cut to the range of such values, `lowest` to `highest`. The mean is
    None where a value is missing or is not a number."""
    found = [value for value in values if value is not None and not math.isnan(value)]
    about: dict[str, Any] = {'values': list(values), 'mean': None, 'low': None, 'high': None}
    count = len(found)
    if count < max(2, len(values)):
        return about
    mean = math.fsum(found) / count
    variance = math.fsum((value - mean) ** 2 for value in found) / (count - 1)
    half = float(stats.t.ppf(0.975, count - 1)) * math.sqrt(variance / count)
    return about | {
        'mean': mean,
        'low': max(lowest, mean - half),
        'high': min(highest, mean + half),
    }


def epochs_text(row: dict[str, Any]) -> str:
    """Returns the epochs that the runs of an activation needed (Figure 1), by seed, as text.

    Args:
      row: as in figure1.json.
    """
    if row['learning_rate'] is None:
        return 'NaN at every rate'
    ended = row.get('no_number') or [False] * len(row['epochs'])
    return ', '.join(
        f'{epochs:.2f}' if epochs is not None else 'NaN' if no_number else 'never'
        for epochs, no_number in zip(row['epochs'], ended, strict=True)
    )


def told(value: dict[str, Any] | None) -> str:
    """Mean and interval as text."""
    if value is None or value['mean'] is None:
        return '–'
    return f'{value["mean"]:.3f} [{value["low"]:.3f}, {value["high"]:.3f}]'
