"""The section of a report on the training: errors and loss by epoch, and the plateau at its start."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.experiment.model import Model
from alexnet_jax.network.layers import Architecture, BatchNorm
from alexnet_jax.report.figures import curves, page
from alexnet_jax.runtime.errors import counted
from alexnet_jax.training import health

WINDOW = 10  # logged steps: a batch's own loss says little
SHORTEST = 50  # steps of a plateau: every net begins near ln(classes)
NEAR = 1.1  # times ln(classes): a mean loss above it is not that of guessing
Row = dict[str, Any]


def content(folder: Path, model: Model, rows: Sequence[Row], lost_lines: int) -> list[str]:
    """Returns the section's parts; its figures are drawn in `folder`.

    Args:
      rows: of metrics.jsonl. lost_lines: how many of its lines cannot be read.
    """
    parts = []
    if lost_lines:
        lines = counted(lost_lines, 'line')
        parts.append(page.paragraph(f'{lines} of metrics.jsonl cannot be read and are left out.'))
    if not rows:
        return [*parts, page.paragraph('There is no log of a training: metrics.jsonl has no rows.')]
    classes = len(model.classes)
    curves.draw_errors(rows, folder / 'errors', top5=classes > 5)
    curves.draw_loss(rows, folder / 'loss', classes)
    last = rows[-1]
    at_last = f'up to epoch {last["epoch"]:.1f}: at last {last["split"]}'
    errors = page.picture(
        folder / 'errors',
        f'Errors by epoch, on a logarithmic axis, {at_last} top-1 error {last["top1_error"]:.3f}.',
        about_errors(rows, classes > 5),
    )
    loss = page.picture(
        folder / 'loss',
        f'Loss by epoch, {at_last} loss {last["loss"]:.3f}.',
        'Mean cross-entropy. The dotted line is the loss of a net that gives every class the same'
        ' probability.' if classes > 1 else 'Mean cross-entropy.',
    )  # fmt: skip
    parts.append(page.side_by_side(errors, loss))
    train = [row for row in rows if row['split'] == 'train']
    found = plateau(train, classes)
    if found:
        text = about_plateau(
            found, train, model.net.architecture, classes, model.config.start['from']
        )
        parts.append(page.paragraph(text))
    return parts


def about_errors(rows: Sequence[Row], top5: bool) -> str:
    """Returns the caption of the error curves."""
    train = [row for row in rows if row['split'] == 'train']
    names = ('top1_error', 'top5_error') if top5 else ('top1_error',)
    text = 'Logarithmic axis.'
    if any(
        row[name] == 0
        for points in curves.lines_of(rows).values()
        for row in points
        for name in names
    ):
        text += ' Errors of 0 are drawn on its lower edge.'
    if len(train) > curves.POINTS:
        text += ' Each training value is a mean over neighboring steps.'
    falls = curves.drops(train)
    if falls:
        text += (
            f' Dashed lines: the learning rate falls from {train[0]["learning_rate"]:.2g} to the'
            ' value beside the line.'
        )
    return text


def plateau(train: Sequence[Row], classes: int) -> int:
    """Returns the last step of the plateau at the start of a training, 0 if there was none.

    It lasts while the mean loss of `WINDOW` logged steps is not below 0.99 ln(classes), as in
    `training.health`.

    Args:
      train: the train rows of metrics.jsonl.
    """
    losses = np.array([row['loss'] for row in train])
    if not len(losses) or classes < 2:
        return 0
    least = health.CHANCE * math.log(classes)
    count = 0  # of rows on the plateau
    while count < len(losses) and losses[count : count + WINDOW].mean() >= least:
        count += 1
    while count < len(losses) and losses[count] >= least:  # where few steps are logged
        count += 1
    step = train[count - 1]['step'] if count else 0
    near = losses[:count].mean() <= NEAR * math.log(classes) if count else False
    return step if near and step >= SHORTEST else 0


def about_plateau(
    last: int, train: Sequence[Row], net: Architecture, classes: int, started_from: str = ''
) -> str:
    """Returns a paragraph on the plateau.

    Args:
      last: step of it. started_from: weights that training began with; their values are not the
        table's.
    """
    epoch = next(row['epoch'] for row in train if row['step'] == last)
    guess = (
        f'ln {classes} = {math.log(classes):.3f}, the loss of a net that gives each of the {classes}'
        ' classes the same probability'
    )
    has_ended = last < train[-1]['step']
    if has_ended:
        text = f'For the first {last:,} steps ({epoch:.1f} epochs) the training loss stays near {guess}.'
    else:
        text = (
            f'In all {last:,} steps ({epoch:.1f} epochs) the training loss stays near {guess}: the net has'
            ' learned nothing yet.'
        )
    return ' '.join([text, *([] if started_from else _reason(net, has_ended))])


def _reason(net: Architecture, has_ended: bool) -> list[str]:
    """Sentences on why small initial weights make a plateau; none for a net without them."""
    rows = (*net.layers, net.output)
    stds = sorted({row.std for row in rows if row.std is not None})
    is_normalized = any(isinstance(stage, BatchNorm) for row in net.layers for stage in row.then)
    if not stds or is_normalized:
        return []
    spread = f'{stds[0]:g}' if len(stds) == 1 else f'{stds[0]:g} to {stds[-1]:g}'
    biases = max(row.bias for row in net.layers)
    same = f' and biases of {biases:g} add the same to every image' if biases else ''
    return [
        f'The initial values explain it: weights are small (standard deviation {spread}){same}.',
        'Each layer passes on less of the differences between images than it reads, so the classifier'
        ' begins with nearly the same units for every image, and the gradients of the layers below it'
        ' are small.',
        'The loss falls once training has made these differences larger; larger initial weights shorten'
        ' the plateau.'
        if has_ended
        else 'If that lasts, a layer may give 0 for every image; the training warns of such layers.',
    ]
