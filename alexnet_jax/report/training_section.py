"""Training section of a report: errors and loss by epoch, and the plateau at the start."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.experiment.model import Model
from alexnet_jax.network.layers import Architecture, BatchNorm
from alexnet_jax.report.figures import curves, page
from alexnet_jax.report.figures.curves import SPLITS
from alexnet_jax.runtime.errors import counted
from alexnet_jax.training import health

WINDOW = 10  # logged steps; the loss of a single batch is too noisy
SHORTEST = 50  # steps of a plateau; every net starts near ln(classes)
NEAR = 1.1  # times ln(classes); a higher mean loss is not that of a uniform prediction
Row = dict[str, Any]


def content(folder: Path, model: Model, rows: Sequence[Row], lost_lines: int) -> list[str]:
    """Returns the parts of the section; its figures are drawn in `folder`.

    Args:
      rows: the rows of metrics.jsonl. lost_lines: the number of its lines that cannot be read.
    """
    parts = []
    if lost_lines:
        lines = counted(lost_lines, 'line')
        parts.append(
            page.paragraph(
                f'{lines} of metrics.jsonl cannot be read and {"is" if lost_lines == 1 else "are"} skipped.'
            )
        )
    if not rows:
        return [
            *parts,
            page.paragraph('There is no log of the training: metrics.jsonl has no rows.'),
        ]
    classes = len(model.classes)
    curves.draw_errors(rows, folder / 'errors', top5=classes > 5)
    curves.draw_loss(rows, folder / 'loss', classes)
    last = rows[-1]
    errors = page.picture(
        folder / 'errors',
        f'Errors by epoch on a logarithmic axis. {last_value(last, "top1_error", "top-1 error")}',
        about_errors(rows, classes > 5),
    )
    loss = page.picture(folder / 'loss', *_about_loss(last, classes))
    parts.append(page.side_by_side(errors, loss))
    train = [row for row in rows if row['split'] == 'train']
    found = plateau(train, classes)
    if found:
        text = about_plateau(
            found, train, model.net.architecture, classes, model.config.start['from']
        )
        parts.append(page.paragraph(text))
    return parts


def last_value(row: Row, name: str, title: str) -> str:
    """Returns the last value as a sentence: 'After 3.0 epochs the validation loss is 0.061'."""
    return f'After {row["epoch"]:.1f} epochs the {SPLITS[row["split"]]} {title} is {row[name]:.3f}.'


def _about_loss(last: Row, classes: int) -> tuple[str, str]:
    """Returns the description and the caption of the loss curves."""
    value = last_value(last, 'loss', 'loss')
    line = ' The dotted line is the loss of a uniform prediction.' if classes > 1 else ''
    return f'Loss by epoch. {value}', f'{value}{line}'


def about_errors(rows: Sequence[Row], top5: bool) -> str:
    """Returns the caption of the error curves."""
    train = [row for row in rows if row['split'] == 'train']
    names = ('top1_error', 'top5_error') if top5 else ('top1_error',)
    text = last_value(rows[-1], 'top1_error', 'top-1 error') + ' The vertical axis is logarithmic.'
    if any(
        row[name] == 0
        for points in curves.lines_of(rows).values()
        for row in points
        for name in names
    ):
        text += ' Errors of 0 are drawn at its lower edge.'
    if len(train) > curves.POINTS:
        text += ' Training values are means over neighboring steps.'
    if curves.drops(train):
        text += (
            f' At each dashed line the learning rate drops, from {train[0]["learning_rate"]:.2g} to the'
            ' number at the line.'
        )
    return text


def plateau(train: Sequence[Row], classes: int) -> int:
    """Returns the last step of the plateau at the start of a training, or 0 without a plateau.

    The plateau lasts while the mean loss of `WINDOW` logged steps is at least 0.99 ln(classes), as in
    `training.health`.

    Args:
      train: the train rows of metrics.jsonl.
    """
    losses = np.array([row['loss'] for row in train])
    if not len(losses) or classes < 2:
        return 0
    least = health.CHANCE * math.log(classes)
    count = 0  # rows on the plateau
    while count < len(losses) and losses[count : count + WINDOW].mean() >= least:
        count += 1
    while count < len(losses) and losses[count] >= least:  # if few steps are logged
        count += 1
    step = train[count - 1]['step'] if count else 0
    near = losses[:count].mean() <= NEAR * math.log(classes) if count else False
    return step if near and step >= SHORTEST else 0


def about_plateau(
    last: int, train: Sequence[Row], net: Architecture, classes: int, started_from: str = ''
) -> str:
    """Returns a paragraph on the plateau.

    Args:
      last: its last step. started_from: the source of the initial weights, if they are not those of
        the table.
    """
    epoch = next(row['epoch'] for row in train if row['step'] == last)
    uniform = (
        f'ln {classes} = {math.log(classes):.3f}, the loss of a net that assigns the same probability to'
        f' each of the {classes} classes'
    )
    has_ended = last < train[-1]['step']
    if has_ended:
        text = f'For the first {last:,} steps ({epoch:.1f} epochs) the training loss stays near {uniform}.'
    else:
        text = (
            f'In all {last:,} steps ({epoch:.1f} epochs) the training loss stays near {uniform}: the net'
            ' has not learned anything yet.'
        )
    return ' '.join([text, *([] if started_from else _reason(net, has_ended))])


def _reason(net: Architecture, has_ended: bool) -> list[str]:
    """Returns sentences on the plateau of small initial weights; none for a net without them."""
    rows = (*net.layers, net.output)
    stds = sorted({row.std for row in rows if row.std is not None})
    is_normalized = any(isinstance(stage, BatchNorm) for row in net.layers for stage in row.then)
    if not stds or is_normalized:
        return []
    spread = f'{stds[0]:.2g}' if len(stds) == 1 else f'{stds[0]:.2g} to {stds[-1]:.2g}'
    biases = max(row.bias for row in net.layers)
    same = f' and biases of {biases:g} add the same value for every image' if biases else ''
    return [
        f'The reason is the initial values: weights are small (standard deviation {spread}){same}.',
        'Each layer reduces the differences between images, so the units below the classifier are nearly'
        ' equal for all images, and the gradients of the layers below it are small.',
        'The loss decreases when training has increased these differences; larger initial weights shorten'
        ' the plateau.'
        if has_ended
        else 'If the plateau lasts, a layer may return 0 for every image; training prints a warning for'
        ' such layers.',
    ]
