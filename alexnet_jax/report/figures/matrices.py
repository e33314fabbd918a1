"""Pictures of matrices: dissimilarities of images and similarities of layers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.report.figures.canvas import INK, canvas, label, save, save_png, write_numbers

MOST_IMAGES = 1000  # per side of a picture, one pixel each


def draw_dissimilarities(values: np.ndarray, name: str, path: Path) -> None:
    """Draws path.png of dissimilarities [images, images]. NaN is white.

    Of more than a thousand images, every second, third, ... image is drawn.

    Args:
      name: the name of the measure, at the color scale.
    """
    step = -(-len(values) // MOST_IMAGES)
    figure, ((axes,),) = canvas(height=4.2, width=5.2)
    figure.set_layout_engine('compressed')  # keeps the axes square
    picture = axes.imshow(values[::step, ::step], interpolation='nearest')
    axes.grid(False)
    axes.set(xlabel=f'image, in steps of {step}' if step > 1 else 'image', ylabel='image')
    figure.colorbar(picture, ax=axes, label=label(name))
    save_png(figure, path)


def draw_similarities(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], path: Path
) -> None:
    """Draws path.png and path.svg of similarities from 0 to 1, [rows, columns], with numbers.

    Writes all digits to path.csv. NaN is white.
    """
    figure, ((axes,),) = canvas(
        height=1.6 + 0.34 * len(rows), width=max(4.6, 2.2 + 0.5 * len(columns))
    )
    axes.imshow(values, vmin=0, vmax=1, interpolation='none', aspect='auto')
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        ink = INK[0] if value > 0.5 else '#fefefe'
        axes.text(column, row, f'{value:.2f}', ha='center', va='center', fontsize=8, color=ink)
    axes.set_xticks(range(len(columns)), [label(name) for name in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [label(name) for name in rows])
    axes.grid(False)
    save(figure, path)
    table = [
        (row, column, value if np.isfinite(value) else None)
        for row, numbers in zip(rows, values.tolist(), strict=True)
        for column, value in zip(columns, numbers, strict=True)
    ]
    write_numbers(path, ('row', 'column', 'value'), table)
