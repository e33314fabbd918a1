"""Kernels of the first layer by column (the paper's Figure 3)."""

from pathlib import Path

import numpy as np

from alexnet_jax.evaluation.kernels import as_images, first_kernels, tile
from alexnet_jax.evaluation.selectivity import color_index
from alexnet_jax.report.figures.canvas import canvas, save_png
from alexnet_jax.runtime import files

ACROSS = (
    8  # kernels per row; two columns side by side then have at least 4 screen pixels per weight
)


def sheets(kernel: np.ndarray) -> list[np.ndarray]:
    """Returns a picture of each column's kernels, uint8 RGBA, with one pixel per weight.

    The space between kernels is transparent, for light and dark themes. Kernels are sorted by their
    color index, gray ones first.

    Args:
      kernel: conv1's parameter, [columns, side, side, 3, features].
    """
    pictures = []
    for kernels in first_kernels(kernel):
        images = as_images(kernels[np.argsort(color_index(kernels), kind='stable')])
        across = min(ACROSS, len(images))
        between = tile(np.zeros_like(images), across)[..., :1]
        pictures.append(np.concatenate([tile(images, across), 255 - between], axis=-1))
    return pictures


def draw(kernel: np.ndarray, path: Path) -> None:
    """Draws path.png, with the columns side by side.

    Writes the kernels in the order of the net, [columns, features, side, side, 3], to path.npz.
    """
    files.write_bytes(path.with_suffix('.npz'), files.npz({'kernels': first_kernels(kernel)}))
    pictures = sheets(kernel)
    height, width = pictures[0].shape[:2]
    figure, axes = canvas(
        height=4.4 * height / width + 0.35, columns=len(pictures), width=4.6 * len(pictures)
    )
    for number, (picture, part) in enumerate(zip(pictures, axes.flat, strict=True), start=1):
        part.imshow(picture, interpolation='nearest')
        part.axis('off')
        if len(pictures) > 1:
            part.set_title(f'column {number}')
    save_png(figure, path)
