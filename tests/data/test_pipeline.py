import itertools

import numpy as np
import pytest

from alexnet_jax.data import pipeline, prepare


def batches(images, count, **options):
    settings = {'size': 28, 'batch_size': 64, 'color_std': 0.1, 'seed': 0} | options
    return list(itertools.islice(pipeline.train_batches(images, **settings), count))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_batch_is_a_function_of_seed_and_step(digits):
    straight = batches(digits, 45)
    assert_same(straight, batches(digits, 45, threads=5))
    for step in (1, 20, 44):  # 20 holds the end of an epoch
        assert_same(straight[step:], batches(digits, 45 - step, first_step=step))
    assert (straight[0]['image'] != batches(digits, 1, seed=1)[0]['image']).any()


@pytest.mark.parametrize('batch_size', [1, 1297, 2000])
def test_batches_of_any_size(digits, batch_size):
    straight = batches(digits, 3, batch_size=batch_size)
    assert all(len(batch['image']) == batch_size for batch in straight)
    assert_same(straight[2:], batches(digits, 1, batch_size=batch_size, first_step=2))


def test_shapes_and_types(digits):
    (batch,) = batches(digits, 1)
    assert {name: (x.shape, str(x.dtype)) for name, x in batch.items()} == {
        'image': ((64, 28, 28, 3), 'uint8'),
        'color_shift': ((64, 3), 'float32'),
        'label': ((64,), 'int32'),
        'mask': ((64,), 'float32'),
    }
    assert batch['mask'].all()


@pytest.fixture
def numbered() -> prepare.ImageSet:
    """300 images whose first pixels hold their number; asymmetric, so that a
    mirror image shows."""

    def record(row):
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., 0], image[..., 1], image[:, 0, 2] = row % 256, row // 256, 255
        return {'image': image, 'label': row}

    records = [record(row) for row in range(300)]
    return prepare.ImageSet({'train': records}, ('x',), prepare.measure(records), mirror=True)


def test_each_epoch_meets_each_image_once_in_an_order_of_its_own(numbered):
    rows = [b['label'] for b in batches(numbered, 30, size=8, batch_size=30)]
    epochs = np.concatenate(rows).reshape(3, 300)
    for epoch in epochs:
        assert sorted(epoch) == list(range(300))
    assert (epochs[0] != epochs[1]).mean() > 0.9
    assert (epochs[1] != epochs[2]).mean() > 0.9
    assert (epochs[0] != np.arange(300)).mean() > 0.9


def test_images_are_mirrored_where_the_set_allows_it(numbered):
    def mirrored(images):
        seen = np.concatenate([b['image'][:, 0, -1, 2] for b in batches(images, 10, size=8)])
        return (seen == 255).mean()

    assert 0.4 < mirrored(numbered) < 0.6
    upright = prepare.ImageSet(numbered.splits, ('x',), numbered.statistics, mirror=False)
    assert mirrored(upright) == 0


def test_an_image_looks_different_in_each_epoch(digits):
    by_epoch = [{}, {}]
    for number, batch in enumerate(batches(digits, 80, batch_size=32)):
        for i in range(32):
            epoch = (number * 32 + i) // 1297
            if epoch < 2:
                by_epoch[epoch].setdefault(int(batch['label'][i]), set()).add(
                    batch['color_shift'][i].tobytes()
                )
    assert sum(map(len, by_epoch[0].values())) == 1297  # no shift was drawn twice
    for label in range(10):
        assert not by_epoch[0][label] & by_epoch[1][label]


@pytest.mark.parametrize('batch_size', [7, 100, 300, 512])
def test_evaluation_counts_every_image_once_in_order(digits, batch_size):
    labels, masks = [], []
    for batch in pipeline.eval_batches(digits, 'test', size=28, batch_size=batch_size):
        assert batch['image'].shape == (batch_size, 28, 28, 3)
        assert not batch['color_shift'].any()
        labels.append(batch['label'])
        masks.append(batch['mask'])
    mask = np.concatenate(masks).astype(bool)
    records = digits.splits['test']
    expected = [records[row]['label'] for row in range(300)]
    np.testing.assert_array_equal(np.concatenate(labels)[mask], expected)
    assert not mask[300:].any()


def test_the_middle_of_the_mean_image(digits):
    mean = pipeline.central_mean(digits, 28)
    records = digits.splits['train']
    images = np.stack([records[row]['image'] for row in range(len(records))])
    np.testing.assert_allclose(mean, images[:, 2:30, 2:30].mean(axis=0), rtol=1e-6)
