"""Kernels and similarity of two columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.report.figures.canvas import (
    BLUE,
    LINES,
    MUTED,
    canvas,
    color,
    legend,
    save,
    write_numbers,
)

MARKERS = 'os^Dv'


def selectivity(color_index: np.ndarray, orientation_index: np.ndarray, path: Path) -> None:
    """Draws the color and orientation index of every kernel.

    Writes path.png, path.svg and path.csv.

    Args:
      color_index, orientation_index: [columns, kernels].
    """
    figure, ((axes,),) = canvas(height=3.8)
    for number, (x, y) in enumerate(zip(color_index, orientation_index, strict=True)):
        face = {'facecolors': 'none'} if number % 2 else {}
        axes.scatter(
            x, y, s=28, marker=MARKERS[number % len(MARKERS)], edgecolors=color(number),
            color=color(number), label=f'column {number + 1}', **face,
        )  # fmt: skip
        kept = ~np.isnan(x)
        if kept.any():
            axes.axvline(
                x[kept].mean(), color=color(number), linestyle=LINES[number % 4], linewidth=1
            )
    axes.set(
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        xlabel='color index (0 to 1; lines: means of the columns)',
        ylabel='orientation index (0 to 1)',
    )
    if len(color_index) > 1:
        legend(axes)
    save(figure, path)
    rows = [
        (column + 1, kernel, float(color_index[column, kernel]), float(orientation_index[column, kernel]))
        for column in range(len(color_index)) for kernel in range(color_index.shape[1])
    ]  # fmt: skip
    write_numbers(path, ('column', 'kernel', 'color_index', 'orientation_index'), rows)


def separation(
    steps: Sequence[int], found: Mapping[str, Sequence[tuple[float, float, float]]], path: Path
) -> None:
    """Draws the separation of two columns during training: the difference of their mean indices.

    Writes path.png, path.svg and path.csv.

    Args:
      found: by index, (difference, chance level, p) at each step.
    """
    figure, ((axes,),) = canvas(height=3.4)
    for number, (index, values) in enumerate(found.items()):
        axes.plot(steps, [abs(row[0]) for row in values], '-o', color=color(number), markersize=3,
                  label=index)  # fmt: skip
        axes.plot(
            steps,
            [row[1] for row in values],
            ':',
            color=color(number),
            label=f'{index}, chance level',
        )
    axes.set(xlabel='training step', ylabel='difference of the mean indices', ylim=(0, None))
    legend(axes, loc='lower left', bbox_to_anchor=(0, 1), ncols=2)
    save(figure, path)
    write_numbers(
        path, ('step', 'index', 'difference', 'by_chance', 'p'),
        [(step, index, *row) for index, values in found.items() for step, row in zip(steps, values, strict=True)],
    )  # fmt: skip


def similarity_by_layer(
    layers: Sequence[str], columns: Sequence[float], halves: Sequence[np.ndarray], path: Path
) -> None:
    """Draws the CKA of the two columns and of random halves, by layer.

    The band of the random halves has 90 % of their values. Writes path.png, path.svg and path.csv.

    Args:
      columns: by layer. halves: by layer, the CKA of each random assignment.
    """
    figure, ((axes,),) = canvas(height=3.2)
    positions = np.arange(len(layers))
    means = [np.mean(values) for values in halves]
    low, high = ([np.quantile(values, q) for values in halves] for q in (0.05, 0.95))
    axes.fill_between(positions, low, high, color=MUTED[0], alpha=0.25, linewidth=0)
    axes.plot(positions, means, ':', color=MUTED[0], label='random halves (band: 5 to 95 %)')
    axes.plot(positions, columns, '-o', color=BLUE[0], markersize=4, label='columns 1 and 2')
    axes.set_xticks(positions, layers)
    axes.set(xlabel='layer', ylabel='CKA', ylim=(min(0, *low, *columns), 1.03))
    legend(axes)
    save(figure, path)
    rows = zip(layers, columns, means, low, high, strict=True)
    write_numbers(path, ('layer', 'columns', 'halves_mean', 'halves_5', 'halves_95'), rows)
