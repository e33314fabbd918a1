import numpy as np

from alexnet_jax.data import augment


def numbered(size: int) -> np.ndarray:
    """Pixel (row, column) holds (row, column, 0)."""
    rows, columns = np.mgrid[:size, :size]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_random_crops_begin_at_every_offset_alike(random):
    image, corners = numbered(32), []
    for _ in range(5000):
        crop = augment.random_crop(image, 28, random)
        assert crop.shape == (28, 28, 3)
        np.testing.assert_array_equal(crop - crop[0, 0], numbered(28))
        corners.append(crop[0, 0, :2])
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.array(corners).T), 1)
    chi_square = ((counts - 200) ** 2 / 200).sum()
    assert chi_square < 51.2  # 0.1 % point of 24 degrees of freedom


def test_center_crop():
    np.testing.assert_array_equal(augment.center_crop(numbered(256), 224)[0, 0], [16, 16, 0])
    np.testing.assert_array_equal(augment.center_crop(numbered(224), 224), numbered(224))


def test_half_the_images_are_mirrored(random):
    image, mirrored = numbered(8), 0
    for _ in range(2000):
        view = augment.random_mirror(image, random)
        if view[0, 0, 1]:
            np.testing.assert_array_equal(view[:, ::-1], image)
            mirrored += 1
    assert 900 < mirrored < 1100


def test_color_shifts_have_the_pixels_covariance(random):
    """Σ pᵢ αᵢ √λᵢ with αᵢ ~ N(0, 0.1²) has 0.01 of the pixels' covariance."""
    pixels = random.multivariate_normal(
        [0, 0, 0], [[900, 500, 300], [500, 700, 200], [300, 200, 400]], 5000
    )
    covariance = np.cov(pixels, rowvar=False)
    variances, components = np.linalg.eigh(covariance)
    statistics = augment.Statistics(np.zeros((4, 4, 3)), variances, components)
    shifts = np.array([augment.color_shift(statistics, 0.1, random) for _ in range(20000)])
    np.testing.assert_allclose(
        np.cov(shifts, rowvar=False), 0.01 * covariance, atol=0.01 * 900 * 0.05
    )
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.1)
    assert not augment.color_shift(statistics, 0.0, random).any()
