import numpy as np
import pytest

from alexnet_jax.data.statistics import PixelSums, measure


def check_statistics(images: np.ndarray, statistics) -> None:
    """Against NumPy in float64 over the whole array, to 1e-6."""
    pixels = images.reshape(-1, 3).astype(np.float64)
    covariance = np.cov(pixels, rowvar=False, bias=True)
    variances, components = np.linalg.eigh(covariance)
    np.testing.assert_allclose(
        statistics.mean_image, images.astype(np.float64).mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(statistics.color_variances, variances, atol=1e-6)
    ours = statistics.color_components
    np.testing.assert_allclose(ours.T @ ours, np.eye(3), atol=1e-9)
    rebuilt = ours @ np.diag(statistics.color_variances) @ ours.T
    np.testing.assert_allclose(rebuilt, covariance, atol=1e-6)
    assert (ours[np.abs(ours).argmax(axis=0), range(3)] > 0).all()
    if np.diff(variances).min() > 1:  # else any vectors of the plane will do
        for one, other in zip(ours.T, components.T, strict=True):
            assert abs(one @ other) == pytest.approx(1, abs=1e-6)  # but for their sign


def colored(random, count: int, size: int = 8) -> np.ndarray:
    base = random.integers(0, 200, (count, size, size, 1))
    tint = random.integers(0, [20, 40, 55], (count, size, size, 3))
    return (base + tint).astype(np.uint8)


def test_statistics_of_color_images(random):
    images = colored(random, 300)
    check_statistics(images, measure(images))
    assert (measure(np.full((2, 4, 4, 3), 255, np.uint8)).color_variances == 0).all()


def test_sums_are_the_same_in_any_order_and_parts(random):
    images = colored(random, 50)
    whole = measure(images)
    sums = PixelSums.zero(8)
    for part in (images[30:], images[:10], images[10:30][::-1]):
        of_part = PixelSums.zero(8)
        for image in part:
            of_part.add_image(image)
        sums.add(of_part)
    for ours, theirs in zip(vars(sums.statistics()).values(), vars(whole).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('size', [1, 7, 45, 256])
def test_sums_of_products_are_exact(size, random):
    """Also where all products are the largest, beside Python's whole numbers."""
    for image in (
        np.full((size, size, 3), 255, np.uint8),
        random.integers(200, 256, (size, size, 3)).astype(np.uint8),
    ):
        sums = PixelSums.zero(size)
        sums.add_image(image)
        pixels = image.reshape(-1, 3).astype(np.int64)
        np.testing.assert_array_equal(sums.products, np.einsum('pi,pj->ij', pixels, pixels))
