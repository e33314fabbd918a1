"""Training error of a run by epoch, from its log."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.runtime.errors import InputError, counted, plain
from alexnet_jax.training import metrics_log

Row = dict[str, Any]
Curve = list[tuple[float, float]]  # (epochs, training error)


def curve(workdir: Path, batch_size: int) -> Curve:
    """Returns the training error after each step, from the end of the first epoch.

    It is the mean over the batches of the last epoch.

    Raises:
      InputError: metrics.jsonl does not have one train row for each step.
    """
    rows = train_rows(workdir)
    if not rows:
        return []
    window = _window(rows[0], batch_size)
    errors = np.array([row['top1_error'] for row in rows])
    if len(errors) < window:
        return []
    means = np.lib.stride_tricks.sliding_window_view(errors, window).mean(axis=-1)
    return [
        (row['epoch'], _rounded(mean)) for row, mean in zip(rows[window - 1 :], means, strict=True)
    ]


def _window(row: Row, batch_size: int) -> int:
    """Returns the number of steps per epoch, from any train row."""
    # epoch = step · batch_size / epoch_size, rounded once, so that rounding restores the integer.
    epoch_size = round(row['step'] * batch_size / row['epoch'])
    return -(-epoch_size // batch_size)


def _rounded(mean: np.floating) -> float:
    """Returns a mean of fractions without rounding errors of the sum."""
    return round(float(mean), 9)


class Reached:
    """Callable: whether a run has reached a training error or a number of epochs.

    Each call reads the new rows of the log.

    Args:
      workdir: of the run, which may not exist yet.
      epochs: maximum number of epochs, for any error.
    """

    def __init__(self, workdir: Path, batch_size: int, error: float, epochs: float = math.inf):
        self._path, self._batch_size = workdir / 'metrics.jsonl', batch_size
        self._error, self._epochs = error, epochs
        self._position, self._rows = 0, []

    def __call__(self) -> bool:
        """Returns whether the run has reached the training error or the maximum number of epochs."""
        self._read()
        if not self._rows:
            return False
        window = _window(self._rows[0], self._batch_size)
        last = [row['top1_error'] for row in self._rows[-window:]]
        reached = len(last) == window and _rounded(np.mean(last)) <= self._error
        return reached or self._rows[-1]['epoch'] >= self._epochs

    def _read(self) -> None:
        with contextlib.suppress(FileNotFoundError), self._path.open('rb') as file:
            file.seek(self._position)
            for line in file:
                row = json.loads(line)
                self._position += len(line)
                if row['split'] == 'train':
                    self._rows.append(row)


def train_rows(workdir: Path) -> list[Row]:
    """Returns the train rows of a run, one for each step; [] before training.

    Raises:
      InputError: a step has no row or several.
    """
    path = workdir / 'metrics.jsonl'
    rows, _ = metrics_log.read(path)
    rows = [row for row in rows if row['split'] == 'train']
    for step, row in enumerate(rows, start=1):
        if row['step'] != step:
            raise InputError(
                f'{plain(path)} has no train row of step {step}, or several, or in another order;'
                ' Figure 1 needs one for every step (train.log_every_steps 1)\n'
                'Remove that run to train it again, or use another folder'
            )
    return rows


def epochs_to(curve: Curve, error: float) -> float | None:
    """Returns the number of epochs until the training error is at most `error`, or None."""
    return next((epochs for epochs, reached in curve if reached <= error), None)


def whole_curve(workdir: Path, batch_size: int, steps: int) -> Curve:
    """Returns the curve of a run that ended after `steps` steps.

    Raises:
      InputError: as `curve`; metrics.jsonl ends at another step.
    """
    rows = train_rows(workdir)
    if len(rows) != steps:
        raise InputError(
            f'{plain(workdir / "metrics.jsonl")} has train rows of {counted(len(rows), "step")}; the run has'
            f' {steps}: remove that run to train it again, or use another folder'
        )
    return curve(workdir, batch_size)
