"""The images that most activate units, beside a sort of all images' activations; which activation is
maximized; ascents of a trained net."""

import numpy as np
import pytest

from alexnet_jax import load
from alexnet_jax.evaluation.evaluate import Outputs
from alexnet_jax.experiment import unit_images
from alexnet_jax.experiment.unit_images import Search
from alexnet_jax.network.architectures import PAPER
from alexnet_jax.network.layers import Architecture, BatchNorm, Conv, Maxout, MaxPool, Output, Relu
from alexnet_jax.runtime.errors import StopRequestedError


def outputs(name, values, size):
    """Yields activations [images, views, ...] as an evaluation does."""
    for first in range(0, len(values), size):
        part = values[first : first + size]
        ids = np.array([b'x'] * len(part), object)
        yield Outputs(ids, np.zeros(len(part), int), np.zeros((len(part), 1, 10)), {name: part})


@pytest.mark.parametrize('layer', ['conv3/relu', 'fc7/relu'])
def test_crops_are_those_of_a_sort_of_all_images(layer, runs, digits):
    """Of conv3 a unit's field is 27 pixels, 4 apart, the first from -10 on (docs/interventions.md), in
    an image of 28; of fc7 it is the image. The record has 32 pixels, of which the net sees the middle."""
    model, records, units = load(runs / '0'), digits.splits['test'], [5, 0, 17]
    images = np.stack([records.read(row).image[2:30, 2:30] for row in range(300)])
    values = np.asarray(model(images)[1][layer])
    search = Search(layer, units, 4)
    passed = list(search.watching(outputs(layer, values[:, None], 64)))
    assert sum(len(batch.labels) for batch in passed) == 300
    for unit, crops in zip(units, search.crops(model, digits, 'test'), strict=True):
        maps = values[..., unit].reshape(300, -1)
        rows = np.argsort(-maps.max(axis=1), kind='stable')[:4]
        assert [crop.value for crop in crops] == maps.max(axis=1)[rows].tolist()
        for crop, row in zip(crops, rows.tolist(), strict=True):
            record = records.read(row)
            assert (crop.id, crop.label) == (record.id.decode(), record.label)
            top, left, bottom, right = crop.box
            if layer == 'fc7/relu':
                assert crop.place is None and crop.box == (0, 0, 28, 28)
            else:
                assert values[row][(*crop.place, unit)] == crop.value
                for at, first, end in zip(crop.place, (top, left), (bottom, right), strict=True):
                    assert (first, end) == (max(0, 4 * at - 10), min(28, 4 * at + 17))
            np.testing.assert_array_equal(crop.pixels, images[row, top:bottom, left:right])


def test_of_several_views_the_middle_counts(random):
    values = random.normal(size=(6, 10, 4)).astype(np.float32)
    search = Search('fc7', [2], 6)
    list(search.watching(outputs('fc7', values, 4)))
    np.testing.assert_array_equal(search.top.values[0], np.sort(values[:, 4, 2])[::-1])


def test_sums_are_maximized_in_place_of_what_a_relu_makes_of_them():
    names = ('conv1', 'conv1/relu', 'conv1/norm', 'conv5/pool', 'fc7/dropout', 'fc8')
    found = {name: unit_images.ascended(PAPER, name) for name in names}
    assert found == dict(
        zip(names, ('conv1', 'conv1', 'conv1', 'conv5', 'fc7', 'fc8'), strict=True)
    )
    normalized = Conv('conv1', 8, kernel=3, then=(BatchNorm(), Relu(), MaxPool()))
    pairs = Conv('conv2', 8, kernel=3, then=(Maxout(), MaxPool()))
    table = Architecture('other', 33, 1, (normalized, pairs), Output('fc3'))
    names = ('conv1/batch_norm', 'conv1/relu', 'conv1/pool', 'conv2', 'conv2/pool')
    found = [unit_images.ascended(table, name) for name in names]
    assert found == [
        'conv1/batch_norm',
        'conv1/batch_norm',
        'conv1/batch_norm',
        'conv2',
        'conv2/pool',
    ]


@pytest.mark.thorough
def test_ascents_of_a_net_rise_and_keep_their_order(runs, monkeypatch):
    """Three units, two at a time."""
    model, units = load(runs / '0'), [3, 0, 12]
    together = unit_images.ascents(model, 'conv2', units, 8, 0)
    monkeypatch.setattr(unit_images, 'AT_ONCE', 2)
    made = unit_images.ascents(model, 'conv2', units, 8, 0)
    assert len(made) == 3
    for unit, one, other in zip(units, made, together, strict=True):
        assert one.value > one.start + 0.1 * abs(one.start)
        assert one.image.shape == (28, 28, 3) and one.image.dtype == np.uint8
        assert np.ptp(one.image) > 20
        maps = np.asarray(model(one.image[None])[1]['conv2'])[0, ..., unit]
        assert maps.max() == pytest.approx(one.value, rel=0.02)  # pixels are rounded
        assert other.value == pytest.approx(one.value, rel=1e-2)


@pytest.mark.thorough
def test_an_ascent_stops_on_request(runs):
    asked = iter([False, False, True])
    with pytest.raises(StopRequestedError):
        unit_images.ascents(load(runs / '0'), 'conv2', [0], 100, 0, lambda: next(asked))
    assert next(asked, None) is None
