"""Confusion matrices: counts by class and predicted class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb

from alexnet_jax.report.figures.canvas import BLUE, INK, canvas, label, save, write_numbers

MOST_CLASSES = 20  # more would be too small to read


def draw(counts: np.ndarray, totals: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draws path.png and path.svg.

    Args:
      counts: [class, predicted class]. totals: [class], the number of images of a class, including
        images predicted as a class that is not in the matrix.
    """
    side = len(names)
    figure, ((axes,),) = canvas(height=4.6)
    shares = counts / np.maximum(totals[:, None], 1)
    ink = np.broadcast_to(to_rgb(BLUE[0]), (side, side, 3))
    axes.imshow(np.concatenate([ink, shares[:, :, None]], axis=-1), interpolation='none')
    size = 9 if side <= 10 else 7
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = shares[row, column] > 0.5
        axes.text(
            column, row, str(counts[row, column]), ha='center', va='center', fontsize=size,
            color='#fefefe' if dark else INK[0],
        )  # fmt: skip
    texts = [label(name, 18) for name in names]
    turned = 90 if max(map(len, texts)) > 2 else 0
    axes.set_xticks(range(side), texts, rotation=turned, fontsize=size)
    axes.set_yticks(range(side), texts, fontsize=size)
    axes.grid(False)
    axes.set(xlabel='predicted class (numbers: images)', ylabel='class')
    axes.spines[:].set_color(INK[0])
    save(figure, path)


def write(counts: Mapping[tuple[int, int], int], names: Sequence[str], path: Path) -> None:
    """Writes path.csv with the counts of all classes that are not 0.

    Args:
      counts: by (class, predicted class).
    """
    rows = [(names[i], names[j], counts[i, j]) for i, j in sorted(counts)]
    write_numbers(path, ('class', 'taken_for', 'images'), rows)
