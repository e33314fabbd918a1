"""What happens to one image before the net sees it (paper §4.1), in NumPy.

Cropping and mirroring move bytes. The mean and the colour shift are arithmetic
and left to the device (`training/step.py`): here only the shift is drawn.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What is known of the training set's pixels, on the scale of 0 to 255.

    mean_image: float32 [size, size, 3].
    color_variances: float64 [3], λ, the eigenvalues of the RGB covariance.
    color_components: float64 [3, 3], its eigenvectors as columns.
    """

    mean_image: np.ndarray
    color_variances: np.ndarray
    color_components: np.ndarray


def crop(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """The size×size part of image [height, width, 3] from row `top`, column `left` on."""
    return image[top : top + size, left : left + size]


def random_crop(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """A crop at an offset drawn evenly from all there are: 0 to 32 for 224 of 256."""
    top, left = (random.integers(0, extent - size + 1) for extent in image.shape[:2])
    return crop(image, top, left, size)


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle size×size part."""
    height, width = image.shape[:2]
    return crop(image, (height - size) // 2, (width - size) // 2, size)


def random_mirror(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The image or its mirror image, with equal chances."""
    return image[:, ::-1] if random.random() < 0.5 else image


def color_shift(statistics: Statistics, std: float, random: np.random.Generator) -> np.ndarray:
    """One RGB vector, float32 [3], for all pixels of an image: Σ pᵢ αᵢ √λᵢ with
    αᵢ ~ N(0, std²) and components pᵢ.

    The paper prints λᵢ for √λᵢ. On the scale of 0 to 255 λ runs to thousands
    and would paint the image over; the authors' code has the root.
    """
    strengths = random.normal(0, std, 3) * np.sqrt(statistics.color_variances)
    return (statistics.color_components @ strengths).astype(np.float32)
