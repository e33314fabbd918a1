"""Data augmentation of one image (paper §4.1), in NumPy.

This module crops images, and draws the mirroring and the color shifts. The device mirrors,
subtracts the mean and adds the color shift (`training/step.py`).
"""

import dataclasses

import numpy as np

from alexnet_jax.data.statistics import Statistics

_KEY = 2  # separates these random numbers from those of the order with the same seed
WORDS = 8  # random numbers per image, a multiple of Philox's block of four


@dataclasses.dataclass(frozen=True)
class Draws:
    """Random augmentation parameters of `count` images.

    crops: uint64 [count, 2], for `crop_offsets`.
    mirrored: bool [count].
    colors: float64 [count, 3], from the standard normal distribution.
    """

    crops: np.ndarray
    mirrored: np.ndarray
    colors: np.ndarray


def draw(seed: int, first: int, count: int) -> Draws:
    """Draws the random numbers of `count` images from position `first` of a run's stream of images.

    Philox is a function of a key and a counter: the draws of an image depend only on the seed and
    its position, and one call draws those of a batch.
    """
    philox = np.random.Philox(key=[seed, _KEY], counter=first * (WORDS // 4))
    words = philox.random_raw(count * WORDS).reshape(count, WORDS)
    uniform = (words[:, 3:7] >> np.uint64(11)) * 2.0**-53  # [0, 1)
    radius = np.sqrt(-2 * np.log1p(-uniform[:, :2]))
    angle = 2 * np.pi * uniform[:, 2:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return Draws(words[:, :2], words[:, 2] >> np.uint64(63) == 1, normal[:, :3])


def crop_offsets(draws: np.ndarray, image_size: int, size: int) -> np.ndarray:
    """Returns top and left of each crop, int64 [count, 2], all equally likely.

    For 224 of 256 pixels they are 0 to 32.
    """
    choices = np.uint64(image_size - size + 1)
    half = np.uint64(32)
    return ((draws >> half) * choices >> half).astype(np.int64)


def crop(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """Returns the size×size crop of image [height, width, 3] at row `top`, column `left`."""
    return image[top : top + size, left : left + size]


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the size×size center crop."""
    height, width = image.shape[:2]
    return crop(image, (height - size) // 2, (width - size) // 2, size)


MIDDLE = {1: 0, 10: 4}  # index of the center view, by number of views


def views(image: np.ndarray, size: int, count: int, mirror: bool = True) -> np.ndarray:
    """Returns the views of an image in an evaluation, uint8 [count, size, size, 3].

    One view is the center crop; ten are `ten_views`.
    """
    if count == 10:
        return ten_views(image, size, mirror)
    return center_crop(image, size)[None]


def ten_views(image: np.ndarray, size: int, mirror: bool = True) -> np.ndarray:
    """Returns the ten-crop: four corners, center, and the mirror images of all five (§4.1).

    uint8 [10, size, size, 3]. Without `mirror`, for images whose mirror images are not of their
    class, the five crops are repeated.
    """
    bottom, right = (extent - size for extent in image.shape[:2])
    corners = [crop(image, top, left, size) for top in (0, bottom) for left in (0, right)]
    views = np.stack([*corners, center_crop(image, size)])
    return np.concatenate([views, views[:, :, ::-1] if mirror else views])


def color_shifts(
    statistics: Statistics, std: np.ndarray, scale: str, normal: np.ndarray
) -> np.ndarray:
    """Returns an RGB vector for all pixels of each image, float32 [count, 3] (§4.1).

    It is Σ pᵢ αᵢ sᵢ with the training set's principal components pᵢ and αᵢ = std · normal.

    Args:
      std: [count], the standard deviation of each image's αs.
      scale: 'std', sᵢ = √λᵢ, as in the authors' code; 'variance', sᵢ = λᵢ, as §4.1
        prints. On the scale of 0 to 255, λ is in the thousands, and the shift hides the image.
      normal: [count, 3].
    """
    variances = statistics.color_variances
    scales = np.sqrt(variances) if scale == 'std' else variances
    shifts = (std[:, None] * normal * scales) @ statistics.color_components.T
    return shifts.astype(np.float32)
