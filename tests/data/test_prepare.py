import subprocess
import sys

import numpy as np
import pytest

from alexnet_jax.data import prepare
from alexnet_jax.errors import InputError


def check_statistics(images: np.ndarray, statistics) -> None:
    """Against NumPy in float64 over the whole array."""
    pixels = images.reshape(-1, 3).astype(np.float64)
    covariance = np.cov(pixels, rowvar=False, bias=True)
    expected = np.linalg.eigvalsh(covariance)
    scale = expected.max()
    np.testing.assert_allclose(
        statistics.mean_image, images.mean(axis=0, dtype=np.float64), rtol=1e-6
    )
    np.testing.assert_allclose(statistics.color_variances, expected, atol=1e-6 * scale)
    components = statistics.color_components
    rebuilt = components @ np.diag(statistics.color_variances) @ components.T
    np.testing.assert_allclose(rebuilt, covariance, atol=1e-6 * scale)


def test_statistics_of_colour_images(random):
    base = random.integers(0, 200, (30, 8, 8, 1))
    images = np.clip(base + random.integers(0, 55, (30, 8, 8, 3)), 0, 255).astype(np.uint8)
    check_statistics(images, prepare.measure([{'image': image, 'label': 0} for image in images]))


def test_kept_statistics_of_the_digits(digits, data_dir):
    records = digits.splits['train']
    images = np.stack([records[row]['image'] for row in range(len(records))])
    check_statistics(images, digits.statistics)
    again = prepare.digits(32, data_dir).statistics
    np.testing.assert_array_equal(again.mean_image, digits.statistics.mean_image)


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(InputError, match=r'data\.dir /dev/null/nowhere'):
        prepare.digits(32, '/dev/null/nowhere')


def test_two_processes_may_prepare_at_once(tmp_path):
    code = f'from alexnet_jax.data import prepare; print(len(prepare.digits(32, {str(tmp_path)!r}).splits["train"]))'
    both = [
        subprocess.Popen(
            [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert out.split() == [b'1297'], err
