"""Dissimilarities beside SciPy's pdist."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from alexnet_jax.evaluation import inner_products
from alexnet_jax.evaluation.compare import dissimilarity
from alexnet_jax.evaluation.compare.dissimilarity import METRICS, rdm
from alexnet_jax.runtime.errors import InputError


@pytest.fixture(params=['whole', 'blocks'])
def block(request, monkeypatch):
    """The features in one block, and in blocks of 3 images of 36 units, of which the last has fewer."""
    if request.param == 'blocks':
        for module in (inner_products, dissimilarity):
            monkeypatch.setattr(module, 'BLOCK', 3 * 36 + 5)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize('metric', METRICS)
def test_dissimilarities_are_pdist_s(metric, random, tmp_path):
    maps = (random.normal(size=(14, 3, 3, 4)) + 5).astype(np.float32)
    np.save(tmp_path / 'maps.npy', maps)
    found = rdm(np.load(tmp_path / 'maps.npy', mmap_mode='r'), metric)
    expected = squareform(pdist(maps.reshape(14, -1).astype(np.float64), metric))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize('metric', METRICS)
def test_images_alike_are_0_apart(metric, random):
    """Far from 0, where inner products are large and their differences are rounding."""
    features = (1000 + random.normal(size=(9, 36))).astype(np.float32)
    features[7] = features[2]
    found = rdm(features, metric)
    assert found[2, 7] == found[7, 2] == pytest.approx(0, abs=1e-12)
    expected = squareform(pdist(features.astype(np.float64), metric))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.usefixtures('block')
@pytest.mark.parametrize(('metric', 'value'), [('correlation', 0.1), ('cosine', 0)])
def test_an_image_without_a_dissimilarity_is_nan_and_named(metric, value, random):
    """0.1 has no exact mean: what is left of it after centering is rounding, not a pattern."""
    features = random.normal(size=(8, 36)).astype(np.float32)
    features[5] = value
    without = np.arange(8) == 5
    np.testing.assert_array_equal(dissimilarity.undefined(features, metric), without)
    found = rdm(features, metric)
    off = ~np.eye(8, dtype=bool)
    np.testing.assert_array_equal(np.isnan(found), (without[:, None] | without) & off)
    assert not np.isnan(rdm(features, 'euclidean')).any()
    assert not dissimilarity.undefined(features, 'euclidean').any()


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="'euclid'; the nearest is euclidean; allowed: correl"):
        rdm(np.eye(3), 'euclid')
