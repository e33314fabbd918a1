"""Pictures of the first layer's kernels (Figure 3 of the paper)."""

import math

import chex
import numpy as np


def first_kernels(kernel: np.ndarray) -> np.ndarray:
    """Splits conv1's parameter [columns, side, side, 3, features] into its kernels.

    Returns [columns, features, side, side, 3].
    """
    chex.assert_shape(kernel, (None, None, None, 3, None))
    return np.moveaxis(np.asarray(kernel), -1, 1)


def as_images(kernels: np.ndarray) -> np.ndarray:
    """Draws kernels [..., side, side, 3] as uint8 of the same shape.

    Gray is a weight of 0; each kernel is scaled by its largest absolute weight.
    """
    largest = np.abs(kernels).max(axis=(-3, -2, -1), keepdims=True)
    scaled = kernels / np.where(largest > 0, largest, 1)
    return np.round(127.5 + 127.5 * np.clip(scaled, -1, 1)).astype(np.uint8)


def tile(images: np.ndarray, across: int, gap: int = 1) -> np.ndarray:
    """Tiles uint8 [images, side, side, 3] into one image of rows of `across`, white between them."""
    count, side = images.shape[:2]
    down = math.ceil(count / across)
    sheet = np.full((down * (side + gap) + gap, across * (side + gap) + gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        row, place = divmod(number, across)
        top, left = gap + row * (side + gap), gap + place * (side + gap)
        sheet[top : top + side, left : left + side] = image
    return sheet


def sheet(kernel: np.ndarray) -> np.ndarray:
    """Draws all kernels of conv1's parameter in one picture, column below column."""
    columns = as_images(first_kernels(kernel))
    across = math.ceil(math.sqrt(2 * columns.shape[1]))
    return np.concatenate([tile(images, across) for images in columns])
