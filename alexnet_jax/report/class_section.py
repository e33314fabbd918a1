"""Class section of a report: errors by class and confusions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.report.figures import bars, confusion, page
from alexnet_jax.report.figures.canvas import shortened
from alexnet_jax.runtime.errors import counted

ENDS = 10  # classes with the highest errors, and as many with the lowest errors
LISTED = 20  # confusions in the list


def content(folder: Path, classes: tuple[str, ...], tally: Tally) -> list[str]:
    """Returns the parts of the section; its figures are drawn in `folder`."""
    names = class_names.short_names(classes)
    errors = _errors(folder, names, tally)
    if not tally.confusions:
        return [errors, page.paragraph('All predictions are correct.')]
    ordered = sorted(tally.confusions.items(), key=lambda item: (-item[1], item[0]))
    sentences = [
        confusion_sentence(names[label], names[predicted], times)
        for (label, predicted), times in ordered[:LISTED]
    ]
    return [
        page.side_by_side(_matrix(folder, names, tally), errors),
        page.heading('Most frequent confusions'),
        page.listed(sentences),
    ]


def confusion_sentence(label: str, predicted: str, images: int) -> str:
    """Returns a confusion as a sentence: '30 images of class 0 were predicted as 9'."""
    name = label if label.startswith('class ') else f'class {label}'
    return (
        f'{counted(images, "image")} of {shortened(name, page.NAME)}'
        f' {"was" if images == 1 else "were"} predicted as {shortened(predicted, page.NAME)}.'
    )


def _errors(folder: Path, names: list[str], tally: Tally) -> str:
    rows = [
        (int(wrong) / int(count), name)
        for wrong, count, name in zip(tally.top1, tally.examples, names, strict=True)
        if count
    ]
    rows.sort(key=lambda row: -row[0])
    highest, lowest = rows[0][0], rows[-1][0]
    caption = (
        f'The top-1 error is highest for {_classes_with(highest, rows)} ({highest:.3f}) and lowest for'
        f' {_classes_with(lowest, rows)} ({lowest:.3f}).'
    )
    if highest == lowest:
        caption = f'The top-1 error of every class is {highest:.3f}.'
    drawn = rows
    if len(rows) > 2 * ENDS:
        drawn = rows[:ENDS] + rows[-ENDS:]
        caption += (
            f' The figure has the {ENDS} classes with the highest errors and the {ENDS} with the'
            f' lowest errors, of {len(rows)}.'
        )
    path = folder / 'classes'
    bars.draw(
        [name for _, name in drawn], [error for error, _ in drawn], path, 'top-1 error',
        axis_label='top-1 error (fraction)',
    )  # fmt: skip
    described = 'Top-1 error by class, highest first: ' + ', '.join(
        f'{name} {error:.3f}' for error, name in drawn[:3]
    )
    return page.picture(path, described, caption)


def _classes_with(error: float, rows: Sequence[tuple[float, str]]) -> str:
    """Returns the name of the class with an error, or the number of classes that share it."""
    names = [name for one, name in rows if one == error]
    return f'{len(names)} classes' if len(names) > 1 else shortened(names[0], page.NAME)


def _matrix(folder: Path, names: list[str], tally: Tally) -> str:
    """Draws the confusion matrix, or the part of a large one that has the most confusions."""
    labels = most_confused(tally.confusions, len(names), confusion.MOST_CLASSES)
    right = tally.examples - tally.top1
    counts = np.array(
        [
            [
                right[row] if row == column else tally.confusions.get((row, column), 0)
                for column in labels
            ]
            for row in labels
        ]
    )
    path = folder / 'confusion'
    confusion.draw(counts, tally.examples[labels], [names[label] for label in labels], path)
    every = {**{(label, label): int(n) for label, n in enumerate(right) if n}, **tally.confusions}
    confusion.write(every, names, path)
    wrong = int(tally.top1.sum())
    described = f'Confusion matrix: {counted(wrong, "image")} off the diagonal.'
    caption = (
        'A number is the number of images of a class (row) with a prediction (column). The color is'
        ' its fraction of the row.'
    )
    if len(labels) < len(names):
        caption = (
            f'{caption} The figure has the {len(labels)} classes with the most frequent confusions, of'
            f' {len(names)}, and omits predictions of other classes.'
        )
    return page.picture(path, described, caption)


def most_confused(confusions: Mapping[tuple[int, int], int], classes: int, most: int) -> list[int]:
    """Returns the labels of the most frequent confusions, `most` at most, in ascending order.

    If there are no more than `most` classes, it returns all labels.
    """
    if classes <= most:
        return list(range(classes))
    labels: set[int] = set()
    for pair in sorted(confusions, key=lambda pair: (-confusions[pair], pair)):
        if len(labels.union(pair)) <= most:
            labels.update(pair)
    return sorted(labels)
