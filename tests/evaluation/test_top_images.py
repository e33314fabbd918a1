"""The images kept of each unit, beside a sort of all values."""

import numpy as np
import pytest

from alexnet_jax.evaluation import top_images


def kept(activations: np.ndarray, size: int, count: int) -> top_images.Top:
    """Of all images, `size` at a time."""
    top = top_images.none(activations.shape[-1])
    for first in range(0, len(activations), size):
        top = top_images.add(top, activations[first : first + size], first, count)
    return top


@pytest.mark.parametrize('size', [1, 7, 40, 64])
@pytest.mark.parametrize('shape', [(40, 3, 4, 5), (40, 5)])
def test_the_largest_of_all_in_any_batches(size, shape, random):
    """Whole numbers, of which many are equal: ties are in the order of the images and places."""
    activations = random.integers(-3, 4, shape).astype(np.float32)
    top = kept(activations, size, 9)
    for unit in range(5):
        maps = [image[..., unit].ravel().tolist() for image in activations]
        expected = sorted(range(40), key=lambda row, maps=maps: (-max(maps[row]), row))[:9]
        assert top.rows[unit].tolist() == expected
        assert top.values[unit].tolist() == [max(maps[row]) for row in expected]
        assert top.places[unit].tolist() == [maps[row].index(max(maps[row])) for row in expected]
    assert len(set(top.values.ravel().tolist())) < 9


def test_fewer_images_than_are_asked_for():
    top = kept(np.arange(6.0).reshape(3, 2), 2, 9)
    assert top.rows.tolist() == [[2, 1, 0], [2, 1, 0]] and top.values[1].tolist() == [5, 3, 1]


def test_nan_is_not_lost_among_numbers(random):
    activations = random.normal(size=(20, 4, 4, 2))
    activations[13, 1, 2, 1] = np.nan
    top = kept(activations, 6, 3)
    assert np.isnan(top.values[1, 0]) and top.rows[1, 0] == 13 and top.places[1, 0] == 6
    assert np.isfinite(top.values[0]).all()
