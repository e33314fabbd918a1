"""Error and loss of a run by epoch, with the drops of the learning rate."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.report.figures.canvas import (
    FAINT,
    LINES,
    MUTED,
    canvas,
    color,
    label,
    legend,
    save,
    write_numbers,
)

POINTS = 300  # of a line at most: steps are averaged
DROP = 1.5  # times lower is a drop; rates that fall a little every step have none
ERRORS = ('loss', 'top1_error', 'top5_error')
Row = Mapping[str, Any]


def thinned(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Means of neighbouring rows, `POINTS` at most, by epoch."""
    parts = np.array_split(np.arange(len(rows)), min(POINTS, max(1, len(rows))))
    return [
        {name: float(np.mean([rows[i][name] for i in part])) for name in ('epoch', *ERRORS)}
        for part in parts
        if len(part)
    ]


def drops(rows: Sequence[Row]) -> list[float]:
    """The epochs at which the rate fell."""
    return [
        row['epoch'] for before, row in itertools.pairwise(rows)
        if row['learning_rate'] * DROP < before['learning_rate']
    ]  # fmt: skip


def draw(rows: Sequence[Row], path: Path, top5: bool = True) -> None:
    """Draws path.png and path.svg; path.csv has the points.

    Args:
      rows: as in metrics.jsonl. top5: whether their top-5 errors mean anything.
    """
    shown = ERRORS if top5 else ERRORS[:2]
    train = [row for row in rows if row['split'] == 'train']
    lines = {'training': thinned(train) if train else []}
    lines |= {
        name: [row for row in rows if row['split'] == split]
        for split, name in (('val', 'validation'), ('test', 'test'))
    }
    figure, axes = canvas(height=5.0, rows=2)
    (error,), (loss,) = axes
    for number, (name, points) in enumerate(line for line in lines.items() if line[1]):
        epochs = [row['epoch'] for row in points]
        kept = {'color': color(number), 'linewidth': 1.4}
        kept |= {'marker': 'o', 'markersize': 3} if name != 'training' else {}
        error.plot(
            epochs, [row['top1_error'] for row in points], '-', label=f'{name}, top-1', **kept
        )
        if top5:
            error.plot(
                epochs, [row['top5_error'] for row in points], ':', label=f'{name}, top-5', **kept
            )
        loss.plot(epochs, [row['loss'] for row in points], '-', label=name, **kept)
    for place in (error, loss):
        for epoch in drops(train):
            place.axvline(epoch, color=MUTED[0], linestyle='--', linewidth=0.8)
    error.set(ylabel='error', ylim=(0, None))
    loss.set(ylabel='loss', xlabel='epoch (dashed: the rate drops)', ylim=(0, None))
    for place in (error, loss):
        legend(place)
    save(figure, path)
    write_numbers(
        path, ('line', 'epoch', *shown),
        [(name, row['epoch'], *(row[e] for e in shown)) for name, points in lines.items() for row in points],
    )  # fmt: skip


def compare(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    path: Path,
    axes: tuple[str, str],
    level: float | None = None,
) -> None:
    """Lines of several runs by name, [(x, y)] each; `level`: a height to reach."""  # fmt: skip
    figure, ((place,),) = canvas(height=3.2 + 0.16 * len(curves))
    for number, (name, points) in enumerate(curves.items()):
        place.plot(
            [x for x, _ in points], [y for _, y in points], LINES[number % len(LINES)],
            color=color(number), linewidth=1.4, label=label(name, 40),
        )  # fmt: skip
    if level is not None:
        place.axhline(level, color=FAINT[0], linewidth=2, zorder=0)
    place.set(xlabel=axes[0], ylabel=axes[1], ylim=(0, None))
    legend(place, loc='upper center', bbox_to_anchor=(0.5, -0.18))
    save(figure, path)
    write_numbers(
        path, ('line', *axes), [(name, *point) for name, line in curves.items() for point in line]
    )
