"""Top-1 and top-5 error and loss over a whole split."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np


def evaluate(
    eval_step: Callable[[Any, Any], dict[str, jax.Array]],
    variables: Any,
    batches: Iterable[dict[str, np.ndarray]],
    examples: int,
) -> dict[str, float | int]:
    """Means over every image, each counted once.

    Args:
      eval_step: (variables, batch) -> sums over the batch, with their 'count'.
      batches: filled up with images of mask 0.
      examples: how many images there are.

    Returns:
      {'examples', 'loss', 'top1_error', 'top5_error'}; errors are fractions.

    Raises:
      RuntimeError: the batches held more or fewer images than `examples`.
    """
    sums = {'loss': 0.0, 'top1_error': 0.0, 'top5_error': 0.0, 'count': 0.0}
    late = None  # read one batch late, so that the device need not wait for us
    for batch in batches:
        if late is not None:
            _add(sums, late)
        late = eval_step(variables, batch)
    if late is not None:
        _add(sums, late)
    count = round(sums.pop('count'))
    if count != examples:
        raise RuntimeError(f'evaluated {count} images where there are {examples}')
    return {'examples': count, **{name: total / count for name, total in sums.items()}}


def _add(sums: dict[str, float], scores: dict[str, jax.Array]) -> None:
    for name in sums:
        sums[name] += float(scores[name])
