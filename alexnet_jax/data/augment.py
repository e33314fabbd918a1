"""What happens to one image before the net sees it (paper §4.1), in NumPy.

Cropping copies bytes. The device mirrors, subtracts the mean and adds the color shift
(`training/step.py`): here it is only drawn which images are mirrored, and the shift.
"""

import dataclasses

import numpy as np

from alexnet_jax.data.statistics import Statistics

_KEY = 2  # tells these random numbers from those of the order of the same seed
WORDS = 8  # random numbers an image has, a whole number of Philox's blocks of four


@dataclasses.dataclass(frozen=True)
class Draws:
    """What chance decides for each of `count` images.

    crops: uint64 [count, 2], for `crop_offsets`.
    mirrored: bool [count].
    colors: float64 [count, 3], from the standard normal distribution.
    """

    crops: np.ndarray
    mirrored: np.ndarray
    colors: np.ndarray


def draw(seed: int, first: int, count: int) -> Draws:
    """Draws the random numbers of `count` images, from place `first` of a run's stream of images on.

    Philox is a function of a key and a counter: an image's draws depend on the
    seed and its place alone, and those of a batch take one call.
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
    """Returns the size×size part of image [height, width, 3] from row `top`, column `left` on."""
    return image[top : top + size, left : left + size]


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the middle size×size part."""
    height, width = image.shape[:2]
    return crop(image, (height - size) // 2, (width - size) // 2, size)


MIDDLE = {1: 0, 10: 4}  # which of so many views shows the middle


def views(image: np.ndarray, size: int, count: int, mirror: bool = True) -> np.ndarray:
    """Returns the views of an image in an evaluation, uint8 [count, size, size, 3].

    One view is the middle; ten are `ten_views`.
    """
    if count == 10:
        return ten_views(image, size, mirror)
    return center_crop(image, size)[None]


def ten_views(image: np.ndarray, size: int, mirror: bool = True) -> np.ndarray:
    """Returns the four corners, the middle, and the mirror images of all five (§4.1).

    uint8 [10, size, size, 3]. Without `mirror`, for images whose mirror images are none of their
    class, the five stand there a second time.
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
        prints. On the scale of 0 to 255 λ runs to thousands and paints the
        image over.
      normal: [count, 3].
    """
    variances = statistics.color_variances
    scales = np.sqrt(variances) if scale == 'std' else variances
    shifts = (std[:, None] * normal * scales) @ statistics.color_components.T
    return shifts.astype(np.float32)
