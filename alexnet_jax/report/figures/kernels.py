"""The first layer's kernels, the columns apart (the paper's Figure 3)."""

from pathlib import Path

import numpy as np

from alexnet_jax.evaluation.kernels import as_images, first_kernels, tile
from alexnet_jax.evaluation.selectivity import color_index
from alexnet_jax.report.figures.canvas import canvas, save_png
from alexnet_jax.runtime import files

ACROSS = 8  # two columns beside each other, as wide as a page, leave a weight 4 pixels and more


def sheets(kernel: np.ndarray) -> list[np.ndarray]:
    """Returns a picture of each column's kernels, a weight a pixel, uint8 RGBA.

    Nothing is between them: the picture lies on light paper and on dark. They are in the order of
    their color index, gray first.

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
    """Draws path.png, the sheets beside each other.

    Writes the kernels in the net's order, [columns, features, side, side, 3], to path.npz.
    """
    files.write_bytes(path.with_suffix('.npz'), files.npz({'kernels': first_kernels(kernel)}))
    pictures = sheets(kernel)
    height, width = pictures[0].shape[:2]
    figure, axes = canvas(
        height=4.4 * height / width + 0.35, columns=len(pictures), width=4.6 * len(pictures)
    )
    for number, (picture, place) in enumerate(zip(pictures, axes.flat, strict=True), start=1):
        place.imshow(picture, interpolation='nearest')
        place.axis('off')
        if len(pictures) > 1:
            place.set_title(f'column {number}')
    save_png(figure, path)
