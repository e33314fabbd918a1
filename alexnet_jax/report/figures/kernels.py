"""conv1's kernels, the columns apart (the paper's Figure 3)."""

import math
from pathlib import Path

import numpy as np

from alexnet_jax.evaluation.kernels import as_images, first_kernels, tile
from alexnet_jax.report.figures.canvas import canvas, save
from alexnet_jax.runtime import files

ACROSS = 16  # as in the paper: three rows of sixteen


def _seen_through(images: np.ndarray, across: int) -> np.ndarray:
    """The sheet, RGBA, with nothing between its images: it lies on light paper and on dark."""
    between = tile(np.zeros_like(images), across)[..., :1]
    return np.concatenate([tile(images, across), 255 - between], axis=-1)


def draw(kernel: np.ndarray, path: Path) -> None:
    """conv1's parameter, [columns, side, side, 3, features]. Draws path.png and path.svg;
    path.npz holds the kernels, [columns, features, side, side, 3]."""
    kernels = first_kernels(kernel)
    files.write_bytes(path.with_suffix('.npz'), files.npz({'kernels': kernels}))
    across = min(ACROSS, math.ceil(math.sqrt(2 * kernels.shape[1])))
    sheets = [_seen_through(images, across) for images in as_images(kernels)]
    height, width = sheets[0].shape[:2]
    figure, axes = canvas(height=len(sheets) * (4.4 * height / width + 0.35), rows=len(sheets))
    for number, (sheet, place) in enumerate(zip(sheets, axes.flat, strict=True), start=1):
        place.imshow(sheet, interpolation='nearest')
        place.axis('off')
        if len(sheets) > 1:
            place.set_title(f'column {number}')
    save(figure, path)
