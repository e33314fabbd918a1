import numpy as np
import pytest
from sklearn.datasets import load_digits

from alexnet_jax.data import sources


def test_digits_are_split_evenly_by_class_and_without_overlap(digits):
    labels = load_digits().target
    rows = sources.split_digits(labels)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(1797))
    np.testing.assert_array_equal(np.bincount(labels[rows['test']]), [30] * 10)
    np.testing.assert_array_equal(np.bincount(labels[rows['val']]), [20] * 10)
    assert {split: len(records) for split, records in digits.splits.items()} == {
        'train': 1297, 'val': 200, 'test': 300,
    }  # fmt: skip


def test_stored_records_are_the_digits(digits):
    data = load_digits()
    rows = sources.split_digits(data.target)
    for split, records in digits.splits.items():
        for place in (0, 7, len(records) - 1):
            record, row = records[place], rows[split][place]
            assert record['label'] == data.target[row]
            assert record['image'].dtype == np.uint8
            assert record['image'].shape == (32, 32, 3)
            # Reduced again to 8×8 by block means, it is still the digit.
            inner = record['image'][2:30, 2:30, 0].astype(float)
            blocks = inner.reshape(7, 4, 7, 4).mean(axis=(1, 3))
            coarse = data.images[row][:7, :7]
            assert np.corrcoef(blocks.ravel(), coarse.ravel())[0, 1] > 0.5
    assert digits.classes == tuple('0123456789')
    assert not digits.mirror


def test_every_crop_of_seven_eighths_holds_the_whole_digit():
    full = sources.enlarge_digit(np.full((8, 8), 16.0), 32)
    assert full.max() == 255
    for top, left in [(0, 0), (4, 4), (0, 4)]:
        assert (full[top : top + 28, left : left + 28] > 0).sum() >= (full > 0).sum() * 0.85
    assert (full[:2] == 0).all() and (full[-2:] == 0).all()


def test_synthetic_images_depend_on_their_seed_and_row_alone():
    def make(seed=0, part=0):
        return sources.Synthetic(20, 5, 24, seed, part)

    np.testing.assert_array_equal(make()[3]['image'], make()[3]['image'])
    assert (make()[3]['image'] != make(seed=1)[3]['image']).any()
    assert (make()[3]['image'] != make(part=1)[3]['image']).any()
    assert (make()[3]['image'] != make()[8]['image']).any()
    assert [make()[row]['label'] for row in range(6)] == [0, 1, 2, 3, 4, 0]
    with pytest.raises(IndexError):
        make()[20]


def test_synthetic_classes_can_be_told_apart_on_another_part():
    train, val = (sources.Synthetic(200, 5, 24, 0, part) for part in (0, 1))
    means = np.array([
        np.mean([train[row]['image'].astype(float) for row in range(label, 200, 5)], axis=0)
        for label in range(5)
    ])  # fmt: skip
    nearest = [np.abs(means - val[row]['image']).sum(axis=(1, 2, 3)).argmin() for row in range(50)]
    assert nearest == [row % 5 for row in range(50)]
