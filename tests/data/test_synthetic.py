import numpy as np
import pytest

from alexnet_jax.data.synthetic import Synthetic


def test_synthetic_images_depend_on_their_seed_and_row_alone():
    def make(seed=0, part=0):
        return Synthetic(20, 5, 24, seed, part)

    np.testing.assert_array_equal(make().read(3).image, make().read(3).image)
    assert (make().read(3).image != make(seed=1).read(3).image).any()
    assert (make().read(3).image != make(part=1).read(3).image).any()
    assert (make().read(3).image != make().read(8).image).any()
    assert [make().read(row).label for row in range(6)] == [0, 1, 2, 3, 4, 0]
    with pytest.raises(IndexError):
        make().read(20)


def test_synthetic_classes_can_be_told_apart_on_another_part():
    train, val = (Synthetic(200, 5, 24, 0, part) for part in (0, 1))
    means = np.array([
        np.mean([train.read(row).image.astype(float) for row in range(label, 200, 5)], axis=0)
        for label in range(5)
    ])  # fmt: skip
    nearest = [
        np.abs(means - val.read(row).image).sum(axis=(1, 2, 3)).argmin() for row in range(50)
    ]
    assert nearest == [row % 5 for row in range(50)]
