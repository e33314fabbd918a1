import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.data.statistics import Statistics


def numbered(size: int) -> np.ndarray:
    """Pixel (row, column) holds (row, column, 0)."""
    rows, columns = np.mgrid[:size, :size]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_crops_begin_at_every_offset_alike():
    """33 × 33 offsets for 224 of 256, 0 and 32 among them."""
    draws = augment.draw(0, 0, 200_000)
    offsets = augment.crop_offsets(draws.crops, 256, 224)
    counts = np.zeros((33, 33))
    np.add.at(counts, tuple(offsets.T), 1)
    expected = 200_000 / 33**2
    assert ((counts - expected) ** 2 / expected).sum() < 1237  # 0.1 % point of 1088
    assert not augment.crop_offsets(draws.crops[:9], 224, 224).any()
    image = numbered(256)
    np.testing.assert_array_equal(augment.crop(image, 7, 9, 224)[0, 0], [7, 9, 0])


def test_draws_of_color_are_standard_normal():
    colors = augment.draw(0, 0, 200_000).colors
    np.testing.assert_allclose(colors.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(np.cov(colors, rowvar=False), np.eye(3), atol=0.015)
    np.testing.assert_allclose((colors**4).mean(axis=0), 3, atol=0.15)


def test_color_shifts_have_the_pixels_covariance(random):
    """Σ pᵢ αᵢ √λᵢ with αᵢ ~ N(0, 0.1²) has 0.01 of the pixels' covariance."""
    covariance = np.array([[900.0, 500, 300], [500, 700, 200], [300, 200, 400]])
    variances, components = np.linalg.eigh(covariance)
    statistics = Statistics(np.zeros((4, 4, 3)), variances, components)
    normal = augment.draw(0, 0, 100_000).colors
    std = np.full(len(normal), 0.1)
    shifts = augment.color_shifts(statistics, std, 'std', normal)
    np.testing.assert_allclose(np.cov(shifts, rowvar=False), 0.01 * covariance, atol=0.15)
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.03)
    # As §4.1 prints it, the variance itself: Σ pᵢ αᵢ λᵢ has 0.01 of the square.
    printed = augment.color_shifts(statistics, std, 'variance', normal)
    squared = 0.01 * covariance @ covariance
    np.testing.assert_allclose(np.cov(printed, rowvar=False), squared, rtol=0.05)
    by_image = augment.color_shifts(statistics, np.array([0.0, 0.2]), 'std', normal[:2])
    assert not by_image[0].any()
    np.testing.assert_allclose(by_image[1], 2 * shifts[1], rtol=1e-6)
