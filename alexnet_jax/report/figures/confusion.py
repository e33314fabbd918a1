"""What was taken for what."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb

from alexnet_jax.report.figures.canvas import BLUE, INK, canvas, label, save, write_numbers

MOST_CLASSES = 24  # whose names and numbers still can be read


def draw(counts: np.ndarray, names: Sequence[str], path: Path) -> None:
    """counts: [label, taken for]. Draws path.png and path.svg; path.csv has what is not 0."""
    side = len(names)
    figure, ((axes,),) = canvas(height=4.6)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ink = np.broadcast_to(to_rgb(BLUE[0]), (side, side, 3))
    axes.imshow(np.concatenate([ink, shares[:, :, None]], axis=-1))
    size = 9 if side <= 10 else 6
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = shares[row, column] > 0.5
        axes.text(
            column, row, str(counts[row, column]), ha='center', va='center', fontsize=size,
            color='#fefefe' if dark else INK[0],
        )  # fmt: skip
    texts = [label(name, 14) for name in names]
    axes.set_xticks(range(side), texts, rotation=90, fontsize=size)
    axes.set_yticks(range(side), texts, fontsize=size)
    axes.grid(False)
    axes.set(xlabel='taken for', ylabel='class')
    axes.spines[:].set_color(INK[0])
    save(figure, path)
    rows = [
        (names[i], names[j], int(counts[i, j])) for i, j in zip(*np.nonzero(counts), strict=True)
    ]
    write_numbers(path, ('class', 'taken_for', 'images'), rows)
