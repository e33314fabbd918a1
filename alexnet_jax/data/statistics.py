"""Statistics of the training set's pixels.

The statistics are the mean image and the principal components of the colors (paper §4.1).
"""

import dataclasses
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Statistics:
    """On the scale of 0 to 255, in float64.

    mean_image: [size, size, 3].
    color_variances: [3], λ, the eigenvalues of the RGB covariance, ascending.
    color_components: [3, 3], its eigenvectors as columns.
    """

    mean_image: np.ndarray
    color_variances: np.ndarray
    color_components: np.ndarray


@dataclasses.dataclass
class PixelSums:
    """Sums over images in integers, and therefore exact in any order.

    count: number of images.
    total: int64 [size, size, 3].
    products: int64 [3, 3], Σ over all pixels of rgbᵀ rgb.
    """

    count: int
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def zero(cls, size: int) -> 'PixelSums':
        """Returns empty sums for images of `size`×`size` pixels."""
        return cls(0, np.zeros((size, size, 3), np.int64), np.zeros((3, 3), np.int64))

    def add_image(self, image: np.ndarray) -> None:
        """Adds one image, uint8 [size, size, 3]."""
        self.count += 1
        self.total += image
        self.products += _products(image)

    def add(self, other: 'PixelSums') -> None:
        """Adds the sums of other images to these, in place."""
        self.count += other.count
        self.total += other.total
        self.products += other.products

    def statistics(self) -> Statistics:
        """Returns the statistics of all added images, at least one."""
        mean_image = self.total / self.count
        mean = self.total.sum(axis=(0, 1)) / (self.count * self.total[..., 0].size)
        moments = self.products / (self.count * self.total[..., 0].size)
        variances, components = np.linalg.eigh(moments - np.outer(mean, mean))
        # The sign of an eigenvector is arbitrary: its largest component is made positive.
        largest = np.abs(components).argmax(axis=0)
        components = components * np.sign(components[largest, range(3)])
        return Statistics(mean_image, np.maximum(variances, 0), components)


# Shape of a matrix product: pixels per row, and rows. A sum of 256 products of bytes is below 2²⁴
# and therefore exact in float32; long rows are multiplied faster than rows of three values.
_PIXELS, _ROWS = 8, 256


def _products(image: np.ndarray) -> np.ndarray:
    """Returns Σ over the pixels of uint8 [size, size, 3] of rgbᵀ rgb, exactly: int64 [3, 3]."""
    parts = -(-image.size // (3 * _PIXELS * _ROWS))
    values = np.zeros(parts * _ROWS * _PIXELS * 3, np.float32)
    values[: image.size] = image.reshape(-1)
    rows = values.reshape(parts, _ROWS, _PIXELS * 3)
    products = (rows.transpose(0, 2, 1) @ rows).sum(axis=0, dtype=np.float64)
    # Only products of a pixel with itself are used, not those with others of its row.
    own = products.reshape(_PIXELS, 3, _PIXELS, 3).trace(axis1=0, axis2=2)
    return own.astype(np.int64)


def measure(images: Iterable[np.ndarray]) -> Statistics:
    """Returns the statistics of uint8 images [size, size, 3], at least one."""
    sums = None
    for image in images:
        sums = sums or PixelSums.zero(len(image))
        sums.add_image(image)
    assert sums is not None, 'no images'
    return sums.statistics()
