import functools
import itertools
import threading
import time

import chex
import numpy as np
import pytest

from alexnet_jax.data import augment, image_set, pipeline
from alexnet_jax.data.pipeline import ColorShift
from alexnet_jax.data.statistics import measure
from alexnet_jax.data.synthetic import synthetic_set


def batches(images, count, **options):
    settings = {'size': 28, 'batch_size': 64, 'seed': 0} | options
    stream = pipeline.train_batches(images, **settings)
    made = list(itertools.islice(stream, count))
    stream.close()
    return made


@pytest.mark.parametrize('threads', [0, 1, 2, 4])
def test_a_batch_is_a_function_of_seed_and_step(digits, threads):
    straight = batches(digits, 45)
    chex.assert_trees_all_equal(straight, batches(digits, 45, threads=threads))
    for step in (1, 20, 44):  # 20 holds the end of an epoch
        part = batches(digits, 45 - step, first_step=step, threads=threads)
        chex.assert_trees_all_equal(straight[step:], part)
    assert (straight[0]['image'] != batches(digits, 1, seed=1)[0]['image']).any()


def test_shapes_and_types(digits):
    (batch,) = batches(digits, 1)
    assert {name: (x.shape, str(x.dtype)) for name, x in batch.items()} == {
        'image': ((64, 28, 28, 3), 'uint8'),
        'mirrored': ((64,), 'bool'),
        'color_shift': ((64, 3), 'float32'),
        'label': ((64,), 'int32'),
        'mask': ((64,), 'float32'),
    }
    assert batch['mask'].all()


class Numbered:
    """Images whose first pixels hold their number, and whose third channel tells
    left from right and top from bottom."""

    def __init__(self, count: int, size: int):
        self._count, self._size = count, size

    def __len__(self) -> int:
        return self._count

    def read(self, row, scratch=None) -> image_set.Record:
        if not 0 <= row < self._count:
            raise IndexError(row)
        image = np.zeros((self._size, self._size, 3), np.uint8)
        image[..., 0] = np.arange(self._size)[:, None]
        image[..., 1] = np.arange(self._size)
        image[..., 2] = row % 251
        return image_set.Record(image, row, b'')


def numbered(count=300, size=36, mirror=True) -> image_set.ImageSet:
    records = Numbered(count, size)
    statistics = measure(records.read(row).image for row in range(count))
    return image_set.ImageSet({'train': records, 'val': records}, ('x',), statistics, mirror, {})


def test_each_epoch_meets_each_image_once_in_an_order_of_its_own():
    rows = [batch['label'] for batch in batches(numbered(), 30, batch_size=30)]
    epochs = np.concatenate(rows).reshape(3, 300)
    for epoch in epochs:
        assert sorted(epoch) == list(range(300))
    assert (epochs[0] != epochs[1]).mean() > 0.9
    assert (epochs[1] != epochs[2]).mean() > 0.9
    assert (epochs[0] != np.arange(300)).mean() > 0.9


def test_crops_and_mirrors_are_drawn_alike():
    """Over batches as they come: 9 × 9 offsets, mirrored or not, each as often."""
    counts = np.zeros((9, 9, 2))
    for step, batch in enumerate(batches(numbered(), 100, batch_size=100)):
        expected = augment.draw(0, 100 * step, 100).mirrored
        np.testing.assert_array_equal(batch['mirrored'], expected)
        first, last = batch['image'][:, 0, 0, :2], batch['image'][:, -1, -1, :2]
        np.testing.assert_array_equal(last - first, 27)
        np.add.at(counts, (first[:, 0], first[:, 1], batch['mirrored'].astype(int)), 1)
        np.testing.assert_array_equal(batch['image'][:, 5, 5, 2], batch['label'] % 251)
    expected = 10_000 / 162
    assert ((counts - expected) ** 2 / expected).sum() < 222  # 0.1 % point of 161


def test_crops_may_all_lie_in_the_middle():
    for batch in batches(numbered(size=37), 3, random_crop=False):
        np.testing.assert_array_equal(batch['image'][:, 0, 0, :2], 4)  # (37 − 28) // 2
        np.testing.assert_array_equal(batch['image'][:, -1, -1, :2], 31)


def test_images_are_mirrored_where_set_and_setting_allow_it():
    def mirrored(images, **options):
        return np.mean([batch['mirrored'] for batch in batches(images, 10, **options)])

    assert 0.4 < mirrored(numbered()) < 0.6
    assert mirrored(numbered(mirror=False)) == 0
    assert mirrored(numbered(), mirror=False) == 0


def test_color_shifts_follow_the_set_s_colors_and_the_epoch(digits):
    made = batches(digits, 50, batch_size=1297)
    shifts = np.concatenate([batch['color_shift'] for batch in made]).astype(float)
    components = digits.statistics.color_components
    covariance = components @ np.diag(digits.statistics.color_variances) @ components.T
    np.testing.assert_allclose(np.cov(shifts, rowvar=False), 0.01 * covariance, rtol=0.03)
    assert len(np.unique(shifts, axis=0)) > 0.999 * len(shifts)
    twice = batches(digits, 1, color=ColorShift(std=0.2))[0]['color_shift']
    np.testing.assert_allclose(twice, 2 * batches(digits, 1)[0]['color_shift'], rtol=1e-6)
    printed = batches(digits, 1, color=ColorShift(scale='variance'))[0]['color_shift']
    assert np.abs(printed).mean() > 20 * np.abs(twice).mean()
    ended = batches(digits, 50, color=ColorShift(epochs=1), batch_size=64)
    places = np.arange(50 * 64).reshape(50, 64)
    for batch, here in zip(ended, places, strict=True):
        np.testing.assert_array_equal(batch['color_shift'].any(axis=1), here < 1297)


@pytest.mark.parametrize('batch_size', [7, 100, 300, 512])
@pytest.mark.parametrize('threads', [0, 3])
def test_evaluation_counts_every_image_once_in_order(digits, batch_size, threads):
    labels, masks = [], []
    made = pipeline.eval_batches(digits, 'test', size=28, batch_size=batch_size, threads=threads)
    for batch in made:
        assert batch['image'].shape == (batch_size, 28, 28, 3)
        assert not batch['image'][~batch['mask']].any()
        labels.append(batch['label'])
        masks.append(batch['mask'])
    mask = np.concatenate(masks)
    records = digits.splits['test']
    expected = [records.read(row).label for row in range(300)]
    np.testing.assert_array_equal(np.concatenate(labels)[mask], expected)
    assert not mask[300:].any()


def test_hosts_together_evaluate_every_image_once(digits):
    def made(**options):
        return list(pipeline.eval_batches(digits, 'val', size=28, batch_size=64, **options))

    parts = [made(rows=slice(32 * host, 32 * host + 32)) for host in range(2)]
    joined = [
        {name: np.concatenate([left[name], right[name]]) for name in left}
        for left, right in zip(*parts, strict=True)
    ]
    chex.assert_trees_all_equal(made(), joined)


def test_ten_views_of_every_image():
    images = numbered(count=5)
    (one,) = pipeline.eval_batches(images, 'val', size=28, batch_size=6)
    (ten,) = pipeline.eval_batches(images, 'val', size=28, batch_size=6, views=10)
    assert ten['image'].shape == (60, 28, 28, 3)
    np.testing.assert_array_equal(ten['image'][4::10], one['image'])
    np.testing.assert_array_equal(ten['mask'], [1, 1, 1, 1, 1, 0])
    image = images.splits['val'].read(2).image
    np.testing.assert_array_equal(ten['image'][20:30], augment.ten_views(image, 28))
    assert ten['id'].tolist() == [*(images.splits['val'].read(row).id for row in range(5)), b'']


def test_batches_are_placed_before_they_are_asked_for():
    placed = []

    def place(batch):
        placed.append(batch)
        return -batch

    stream = pipeline.ahead((number for number in range(6)), place, count=2)
    assert next(stream) == 0 and placed == [0, 1, 2]
    assert next(stream) == -1 and placed == [0, 1, 2, 3]
    assert list(stream) == [-2, -3, -4, -5]


def test_closing_ends_the_threads(digits):
    before = threading.active_count()
    batches = pipeline.train_batches(digits, size=28, batch_size=64, seed=0, threads=3)
    stream = pipeline.ahead(batches, lambda batch: batch)
    next(stream)
    assert threading.active_count() > before
    stream.close()
    end = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_middle_of_the_mean_image(digits):
    mean = pipeline.central_mean(digits, 28)
    records = digits.splits['train']
    images = np.stack([records.read(row).image for row in range(len(records))])
    np.testing.assert_allclose(mean, images[:, 2:30, 2:30].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize('kind', ['mean_image', 'channel_mean', 'standardized'])
def test_normalization_by_hand(kind, random):
    """Of all pixels of the training images, in float64."""
    images = synthetic_set(40, 4, 16, 0)
    mean, scale = pipeline.normalization(images, 12, kind)
    records = images.splits['train']
    pixels = np.stack([records.read(row).image for row in range(len(records))]).astype(np.float64)
    expected = pixels.mean(axis=0)[2:14, 2:14]
    if kind != 'mean_image':
        expected = pixels.mean(axis=(0, 1, 2))
    deviations = pixels.std(axis=(0, 1, 2)) if kind == 'standardized' else np.ones(3)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(scale, deviations, rtol=1e-6)


def test_normalization_by_numbers_of_others():
    images, own = synthetic_set(40, 4, 16, 0), functools.partial(pipeline.normalization, size=12)
    means, deviations = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    mean, scale = own(images, kind='standardized', mean=means, std=deviations)
    assert mean.dtype == scale.dtype == np.float32
    np.testing.assert_array_equal(mean, np.float32(means))
    np.testing.assert_array_equal(scale, np.float32(deviations))
    for kind in ('channel_mean', 'standardized'):
        mean, scale = own(images, kind=kind, mean=means)
        np.testing.assert_array_equal(mean, np.float32(means))
        np.testing.assert_array_equal(scale, own(images, kind=kind)[1])
    mean, scale = own(images, kind='standardized', std=deviations)
    np.testing.assert_array_equal(mean, own(images, kind='standardized')[0])
    np.testing.assert_array_equal(scale, np.float32(deviations))
