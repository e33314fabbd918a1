"""Curves of errors and loss, with the drops of the learning rate.

Errors have a logarithmic axis. The loss has a line at that of a uniform prediction.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from alexnet_jax.report.figures.canvas import (
    FAINT,
    INK,
    LINES,
    MUTED,
    PAPER,
    canvas,
    color,
    label,
    legend,
    save,
    write_numbers,
)

POINTS = 100  # maximum number of points of a line; steps are averaged
DROP = 1.5  # minimum factor of a drop; rates that decrease a little at every step have no drops
MOST_DROPS = 8  # more marks would hide the lines
EPOCHS = 'training images seen (epochs)'
ERRORS = ('loss', 'top1_error', 'top5_error')
SPLITS = {'train': 'training', 'val': 'validation', 'test': 'test'}
Row = Mapping[str, Any]
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Drop:
    """A drop of the learning rate: its epoch and the new rate."""

    epoch: float
    rate: float


def thinned(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Returns means of neighboring rows, at most `POINTS`, by epoch."""
    parts = np.array_split(np.arange(len(rows)), min(POINTS, max(1, len(rows))))
    return [
        {name: float(np.mean([rows[i][name] for i in part])) for name in ('epoch', *ERRORS)}
        for part in parts
        if len(part)
    ]


def drops(rows: Sequence[Row]) -> list[Drop]:
    """Returns the drops of the learning rate, each at its first train row with the lower rate."""
    return [
        Drop(row['epoch'], row['learning_rate']) for before, row in itertools.pairwise(rows)
        if row['learning_rate'] * DROP < before['learning_rate']
    ]  # fmt: skip


def lines_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Returns the rows of metrics.jsonl by line: 'training', 'validation' and 'test'."""
    by_split = {name: [row for row in rows if row['split'] == split]
                for split, name in SPLITS.items()}  # fmt: skip
    return {name: thinned(of_split) if name == 'training' else of_split
            for name, of_split in by_split.items() if of_split}  # fmt: skip


def draw_errors(rows: Sequence[Row], path: Path, top5: bool = True) -> None:
    """Draws the errors by epoch. Writes path.png, path.svg and path.csv.

    Args:
      rows: as in metrics.jsonl. top5: whether to draw the top-5 errors.
    """
    shown = ERRORS[1:] if top5 else ERRORS[1:2]
    figure, ((axes,),) = canvas(height=3.8)
    lines = lines_of(rows)
    floor = log_axis(
        axes, (row[name] for points in lines.values() for row in points for name in shown)
    )
    for number, (split, points) in enumerate(lines.items()):
        for name, style in zip(shown, ('-', ':'), strict=False):
            heights = [max(row[name], floor) for row in points]
            text = f'{split}, {name[:3]}-{name[3]}'
            axes.plot(_epochs(points), heights, style, label=text, **_look(number, split, points))
    axes.set(xlabel=EPOCHS, ylabel='error (fraction)')
    _finish(axes, rows, axes.get_ylim()[1])
    save(figure, path)
    _write(path, shown, lines)


def draw_loss(rows: Sequence[Row], path: Path, classes: int) -> None:
    """Draws the loss by epoch with that of a uniform prediction, ln(classes).

    Writes path.png, path.svg and path.csv.
    """
    figure, ((axes,),) = canvas(height=3.8)
    lines = lines_of(rows)
    for number, (split, points) in enumerate(lines.items()):
        losses = [row['loss'] for row in points]
        axes.plot(_epochs(points), losses, '-', label=split, **_look(number, split, points))
    axes.set(xlabel=EPOCHS, ylabel='loss (mean cross-entropy, nats)')
    axes.set_ylim(0)
    draw_uniform(axes, classes)
    _finish(axes, rows, math.log(classes) or axes.get_ylim()[1])
    save(figure, path)
    _write(path, ERRORS[:1], lines)


def compare(
    curves: Mapping[str, Points],
    path: Path,
    names: tuple[str, str],
    level: float | None = None,
    classes: int | None = None,
    log: bool = False,
    falls: Mapping[str, Sequence[Drop]] | None = None,
) -> None:
    """Draws one line per run. Writes path.png, path.svg and path.csv.

    Args:
      curves: (x, y) points by the name of the run.
      names: the names of x and y, in the CSV file and without units.
      level: draws a horizontal line at this value.
      classes: draws the loss of a uniform prediction over this number of classes.
      log: whether y has a logarithmic axis, for errors.
      falls: by run, the drops of its learning rate, which triangles mark.
    """
    figure, ((axes,),) = canvas(height=3.2 + 0.2 * len(curves))
    heights = [y for points in curves.values() for _, y in points]
    floor = log_axis(axes, heights) if log else -math.inf
    for number, (name, points) in enumerate(curves.items()):
        x, y = [x for x, _ in points], [max(y, floor) for _, y in points]
        axes.plot(
            x,
            y,
            LINES[number % len(LINES)],
            color=color(number),
            linewidth=1.4,
            marker='o' if len(points) == 1 else '',
            label=label(name, 40),
        )
        epochs = [drop.epoch for drop in (falls or {}).get(name, ())[:MOST_DROPS]]
        axes.plot(epochs, np.interp(epochs, x, y), 'v', color=color(number), markersize=7)
    if level is not None:
        axes.axhline(level, color=FAINT[0], linewidth=2, zorder=0)
    axes.set(xlabel=_axis_label(names[0]), ylabel=_axis_label(names[1]))
    if not log:
        axes.set_ylim(0)
    if classes is not None:
        draw_uniform(axes, classes)
    legend(axes, loc='lower left', bbox_to_anchor=(0, 1))
    save(figure, path)
    write_numbers(
        path, ('line', *names), [(name, *point) for name, line in curves.items() for point in line]
    )


def log_axis(axes: Axes, errors: Iterable[float]) -> float:
    """Makes the vertical axis logarithmic, up to an error of 1.

    Returns the height of errors of 0: the lower edge, half of the smallest other error.
    """
    values = list(errors)
    positive = [value for value in values if value > 0]
    if not positive:
        axes.set_ylim(0, 1)
        return 0.0
    lowest, highest = min(positive), max(positive)
    floor = lowest / 2 if min(values) == 0 else lowest / 1.15
    axes.set_yscale('log')
    axes.set_ylim(floor, min(highest * 1.15, 1.02))
    subs = (1, 2, 5) if highest / floor > 8 else range(1, 10)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=50))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    return floor


def draw_uniform(axes: Axes, classes: int) -> None:
    """Draws the loss of a uniform prediction, ln(classes); nothing for one class."""
    loss = math.log(classes)
    if not loss:
        return
    axes.set_ylim(top=max(axes.get_ylim()[1], loss * 1.12))
    axes.axhline(loss, color=MUTED[0], linestyle=(0, (1, 2)), linewidth=1.4)
    axes.annotate(
        f'uniform prediction: ln {classes} = {loss:.3f}', (1, loss), (-2, 4),
        xycoords=('axes fraction', 'data'), textcoords='offset points', ha='right', va='bottom',
        fontsize=9, color=INK[0], bbox={'facecolor': PAPER[0], 'edgecolor': 'none', 'pad': 1},
    )  # fmt: skip


def _finish(axes: Axes, rows: Sequence[Row], top: float) -> None:
    """Marks the drops of the learning rate, each with the new rate below `top`, and draws the legend."""
    for drop in drops([row for row in rows if row['split'] == 'train'])[:MOST_DROPS]:
        axes.axvline(drop.epoch, color=MUTED[0], linestyle='--', linewidth=0.8)
        rate = np.format_float_positional(drop.rate, 2, fractional=False, trim='-')
        axes.annotate(
            rate, (drop.epoch, top), (2, -4), textcoords='offset points', rotation=90,
            ha='left', va='top', fontsize=8, color=INK[0],
        )  # fmt: skip
    legend(axes, loc='lower left', bbox_to_anchor=(0, 1), ncols=2)


def _epochs(points: Sequence[Row]) -> list[float]:
    return [row['epoch'] for row in points]


def _look(number: int, split: str, points: Sequence[Row]) -> dict[str, Any]:
    look: dict[str, Any] = {'color': color(number), 'linewidth': 1.4, 'clip_on': False}
    # A line of one point is invisible without a marker.
    is_plain = split == 'training' and len(points) > 1
    return look if is_plain else look | {'marker': 'o', 'markersize': 3}


def _write(path: Path, shown: Sequence[str], lines: Mapping[str, Sequence[Row]]) -> None:
    write_numbers(
        path, ('line', 'epoch', *shown),
        [(split, row['epoch'], *(row[name] for name in shown))
         for split, points in lines.items() for row in points],
    )  # fmt: skip


def _axis_label(name: str) -> str:
    """Returns the name of an axis with its unit."""
    units = {'epoch': EPOCHS, 'step': 'training step'}
    if name.endswith('error'):
        return f'{name} (fraction)'
    return f'{name} (nats)' if name.endswith('loss') else units.get(name, name)
