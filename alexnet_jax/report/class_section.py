"""The section of a report on the classes: their errors, and which are confused with which."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.report.figures import bars, confusion, page
from alexnet_jax.runtime.errors import counted

ENDS = 10  # classes with the highest errors, and with the lowest, that are drawn
LISTED = 20  # confusions


def content(folder: Path, classes: tuple[str, ...], tally: Tally) -> list[str]:
    """Returns the section's parts; its figures are drawn in `folder`."""
    short = class_names.short_names(classes)
    errors = _errors(folder, short, tally)
    if not tally.confusions:
        return [errors, page.paragraph('No image was predicted as one of another class.')]
    ordered = sorted(tally.confusions.items(), key=lambda item: (-item[1], item[0]))
    sentences = [
        f'class {short[label]}: {counted(times, "image")} predicted as {short[predicted]}'
        for (label, predicted), times in ordered[:LISTED]
    ]
    return [
        page.side_by_side(_matrix(folder, short, tally), errors),
        page.heading('The most frequent confusions'),
        page.listed(sentences),
    ]


def _errors(folder: Path, short: list[str], tally: Tally) -> str:
    rows = [
        (int(wrong) / int(count), name)
        for wrong, count, name in zip(tally.top1, tally.examples, short, strict=True)
        if count
    ]
    rows.sort(key=lambda row: -row[0])
    shown, some = rows, ''
    if len(rows) > 2 * ENDS:
        shown = rows[:ENDS] + rows[-ENDS:]
        some = f'The {ENDS} classes with the highest errors and the {ENDS} with the lowest, of {len(rows)}.'
    path = folder / 'classes'
    bars.draw([name for _, name in shown], [error for error, _ in shown], path, 'top-1 error')
    described = 'Top-1 error by class, the highest first: ' + ', '.join(
        f'{name} {error:.3f}' for error, name in shown[:3]
    )
    return page.picture(path, described, some)


def _matrix(folder: Path, short: list[str], tally: Tally) -> str:
    """The confusion matrix, or of many classes the part of it that has the most confusions."""
    shown = most_confused(tally.confusions, len(short), confusion.MOST_CLASSES)
    right = tally.examples - tally.top1
    counts = np.array(
        [
            [
                right[row] if row == column else tally.confusions.get((row, column), 0)
                for column in shown
            ]
            for row in shown
        ]
    )
    path = folder / 'confusion'
    confusion.draw(counts, tally.examples[shown], [short[label] for label in shown], path)
    kept = {**{(label, label): int(n) for label, n in enumerate(right) if n}, **tally.confusions}
    confusion.write(kept, short, path)
    wrong = int(tally.top1.sum())
    described = f'Confusion matrix: {counted(wrong, "image")} off the diagonal.'
    caption = 'Rows: the class; columns: the predicted class. Color: the share of the row.'
    if len(shown) < len(short):
        caption = (
            f'The {len(shown)} classes of the most frequent confusions, of {len(short)}. {caption}'
            ' Predictions of other classes are not drawn.'
        )
    return page.picture(path, described, caption)


def most_confused(confusions: Mapping[tuple[int, int], int], classes: int, most: int) -> list[int]:
    """Returns the labels of the most frequent confusions, `most` at most.

    They are in the order of the labels, and all labels where there are no more.
    """
    if classes <= most:
        return list(range(classes))
    shown: set[int] = set()
    for pair in sorted(confusions, key=lambda pair: (-confusions[pair], pair)):
        if len(shown.union(pair)) <= most:
            shown.update(pair)
    return sorted(shown)
