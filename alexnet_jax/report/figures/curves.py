"""Errors and loss by epoch, with the drops of the learning rate.

Errors have a logarithmic axis, the loss stands beside that of guessing.
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
    canvas,
    color,
    label,
    legend,
    save,
    write_numbers,
)

POINTS = 100  # of a line at most: steps are averaged
DROP = 1.5  # times lower is a drop; rates that fall a little every step have none
MOST_DROPS = 8  # that are marked: more would hide the lines
ERRORS = ('loss', 'top1_error', 'top5_error')
SPLITS = {'train': 'training', 'val': 'validation', 'test': 'test'}
Row = Mapping[str, Any]
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Drop:
    """The learning rate fell: at which epoch, and to what."""

    epoch: float
    rate: float


def thinned(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Means of neighboring rows, `POINTS` at most, by epoch."""
    parts = np.array_split(np.arange(len(rows)), min(POINTS, max(1, len(rows))))
    return [
        {name: float(np.mean([rows[i][name] for i in part])) for name in ('epoch', *ERRORS)}
        for part in parts
        if len(part)
    ]


def drops(rows: Sequence[Row]) -> list[Drop]:
    """Finds where the learning rate fell: the first of the train rows with the lower rate."""
    return [
        Drop(row['epoch'], row['learning_rate']) for before, row in itertools.pairwise(rows)
        if row['learning_rate'] * DROP < before['learning_rate']
    ]  # fmt: skip


def lines_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Returns the rows of a metrics.jsonl by line of the figure.

    The lines are 'training', 'validation' and 'test'.
    """
    by_split = {name: [row for row in rows if row['split'] == split]
                for split, name in SPLITS.items()}  # fmt: skip
    return {name: thinned(of_split) if name == 'training' else of_split
            for name, of_split in by_split.items() if of_split}  # fmt: skip


def draw_errors(rows: Sequence[Row], path: Path, top5: bool = True) -> None:
    """Draws path.png and path.svg; path.csv has the points.

    Args:
      rows: as in metrics.jsonl. top5: whether their top-5 errors mean anything.
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
            axes.plot(_epochs(points), heights, style, label=text, **_look(number, split))
    axes.set(xlabel='epoch', ylabel='error')
    _finish(axes, rows, axes.get_ylim()[1])
    save(figure, path)
    _write(path, shown, lines)


def draw_loss(rows: Sequence[Row], path: Path, classes: int) -> None:
    """Draws path.png and path.svg, with a line at ln(classes), the loss of guessing.

    Writes the points to path.csv.
    """
    figure, ((axes,),) = canvas(height=3.8)
    lines = lines_of(rows)
    for number, (split, points) in enumerate(lines.items()):
        losses = [row['loss'] for row in points]
        axes.plot(_epochs(points), losses, '-', label=split, **_look(number, split))
    axes.set(xlabel='epoch', ylabel='loss')
    axes.set_ylim(0)
    guessing(axes, classes)
    _finish(axes, rows, math.log(classes) or axes.get_ylim()[1])
    save(figure, path)
    _write(path, ERRORS[:1], lines)


def compare(
    curves: Mapping[str, Points],
    path: Path,
    axes: tuple[str, str],
    level: float | None = None,
    classes: int | None = None,
    log: bool = False,
    falls: Mapping[str, Sequence[Drop]] | None = None,
) -> None:
    """Draws lines of several runs by name, [(x, y)] each.

    Args:
      level: a height to reach. classes: draws the loss of guessing among so many. log: errors, on
        a logarithmic axis. falls: where the rate of each run fell, which a triangle marks on its line.
    """
    figure, ((place,),) = canvas(height=3.2 + 0.2 * len(curves))
    heights = [y for points in curves.values() for _, y in points]
    floor = log_axis(place, heights) if log else -math.inf
    for number, (name, points) in enumerate(curves.items()):
        x, y = [x for x, _ in points], [max(y, floor) for _, y in points]
        place.plot(
            x,
            y,
            LINES[number % len(LINES)],
            color=color(number),
            linewidth=1.4,
            label=label(name, 40),
        )
        epochs = [drop.epoch for drop in (falls or {}).get(name, ())[:MOST_DROPS]]
        place.plot(epochs, np.interp(epochs, x, y), 'v', color=color(number), markersize=7)
    if level is not None:
        place.axhline(level, color=FAINT[0], linewidth=2, zorder=0)
    place.set(xlabel=axes[0], ylabel=axes[1])
    if not log:
        place.set_ylim(0)
    if classes is not None:
        guessing(place, classes)
    legend(place, loc='lower left', bbox_to_anchor=(0, 1))
    save(figure, path)
    write_numbers(
        path, ('line', *axes), [(name, *point) for name, line in curves.items() for point in line]
    )


def log_axis(axes: Axes, errors: Iterable[float]) -> float:
    """Makes the vertical axis one of errors, logarithmic up to 1 at most.

    Returns the height at which errors of 0 are to be drawn, its lower edge: half of the smallest
    other.
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


def guessing(axes: Axes, classes: int) -> None:
    """Draws the loss of a net that gives every class the same probability, ln(classes).

    It draws nothing for one class.
    """
    loss = math.log(classes)
    if not loss:
        return
    axes.set_ylim(top=max(axes.get_ylim()[1], loss * 1.12))
    axes.axhline(loss, color=MUTED[0], linestyle=(0, (1, 2)), linewidth=1.4)
    axes.annotate(
        f'ln {classes} = {loss:.3f}: guessing', (1, loss), (-2, 3), xycoords=('axes fraction', 'data'),
        textcoords='offset points', ha='right', va='bottom', fontsize=9, color=INK[0],
    )  # fmt: skip


def _finish(axes: Axes, rows: Sequence[Row], top: float) -> None:
    """Marks the drops of the rate, each with the new rate below `top`, and names the lines."""
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


def _look(number: int, split: str) -> dict[str, Any]:
    look: dict[str, Any] = {'color': color(number), 'linewidth': 1.4, 'clip_on': False}
    return look if split == 'training' else look | {'marker': 'o', 'markersize': 3}


def _write(path: Path, shown: Sequence[str], lines: Mapping[str, Sequence[Row]]) -> None:
    write_numbers(
        path, ('line', 'epoch', *shown),
        [(split, row['epoch'], *(row[name] for name in shown))
         for split, points in lines.items() for row in points],
    )  # fmt: skip
