"""Tables of results: means over seeds, with intervals."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from scipy import stats

from alexnet_jax.runtime.errors import plain

LONGEST_CELL = 2000  # characters


def interval(
    values: Sequence[float | None], lowest: float = -math.inf, highest: float = math.inf
) -> dict[str, Any]:
    """Returns the mean of at least two values, and its 95 % interval by Student's t.

    The result is {'values', 'mean', 'low', 'high'}, with the interval clipped to the range `lowest`
    to `highest`. The mean is None if a value is missing or NaN.
    """
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
      row: a row of figure1.json.
    """
    if row['learning_rate'] is None:
        return 'NaN at every rate'
    ended = row.get('no_number') or [False] * len(row['epochs'])
    return ', '.join(
        f'{epochs:.2f}' if epochs is not None else 'NaN' if no_number else 'never'
        for epochs, no_number in zip(row['epochs'], ended, strict=True)
    )


def interval_text(value: dict[str, Any] | None) -> str:
    """Returns a mean and its interval as text."""
    if value is None or value['mean'] is None:
        return '–'
    return with_interval(value['mean'], value['low'], value['high'], digits=3)


def with_interval(value: float, low: float, high: float, digits: int = 4) -> str:
    """Formats a value and its confidence interval: '0.0100 [0.0034, 0.0290]'."""
    return f'{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]'


# Measures of specialization.json (studies/column_runs.py) in words.
WORDS = (
    (r'^top1 error, no crossing at (.*)', r'top-1 error without the crossing at \1'),
    (r'^top1 error', 'top-1 error'),
    (r'^(color|orientation) apart by chance', r'separation by \1, chance level'),
    (r'^(color|orientation) apart', r'separation by \1'),
    (r'^columns alone differ in leaning', 'difference in leaning'),
    (r'halves at random', 'random halves'),
)


def measure_text(name: str) -> str:
    """Returns the name of a measure in words, such as 'separation by color'."""
    for pattern, words in WORDS:
        name = re.sub(pattern, words, name)
    return name


def measure_table(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and lines of a table of the measures of columns, with a column per net.

    Args:
      rows: as in specialization.json.
    """
    names = list(dict.fromkeys(name for row in rows for name in row['measures']))
    lines = [
        [measure_text(name), *(interval_text(row['measures'].get(name)) for row in rows)]
        for name in names
    ]
    lines += [
        [f'runs with a separation by {index}, p < 0.05',
         *(f'{row["apart"][index]} of {row["runs"]}' for row in rows)]
        for index in rows[0]['apart']
    ]  # fmt: skip
    return ['mean [95 % interval]', *(row['net'] for row in rows)], lines


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table in Markdown."""
    head_line, *lines = (f'| {" | ".join(cells)} |' for cells in (head, *rows))
    return [head_line, '|---' * len(head) + '|', *lines]


def cell(text: str) -> str:
    """Returns a text as a cell of a Markdown table.

    The text may be untrusted: it is written on one line, without HTML or markup that ends the cell.
    """
    return plain(text, LONGEST_CELL).replace('|', '\\|').replace('<', '&lt;')
