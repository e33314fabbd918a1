"""A trained net as a library gives it: a pure function of images."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from alexnet_jax import load
from alexnet_jax.errors import InputError
from alexnet_jax.model import _described, describe
from tests import random_run


@pytest.fixture(scope='module')
def model(data_dir, tmp_path_factory):
    settings = {'data.dir': data_dir, 'network.width': '0.5'}
    return load(random_run.make(tmp_path_factory.mktemp('run') / 'run', settings, seed=0))


def test_it_is_a_pure_function_that_jax_transforms(model, random):
    images = random.integers(0, 256, (3, 28, 28, 3)).astype(np.uint8)
    logits, activations = model(images)
    np.testing.assert_allclose(jax.jit(model)(images)[0], logits, rtol=1e-4, atol=1e-4)
    one_by_one = jax.jit(jax.vmap(lambda image: model(image[None])[0][0]))(images)
    np.testing.assert_allclose(one_by_one, logits, rtol=1e-4, atol=1e-4)
    assert activations['fc7/relu'].shape == (3, 256)

    # The gradient of a logit at the pixels, against a difference along a direction.
    third = jax.jit(jax.value_and_grad(lambda images: model(images)[0][0, 3]))
    pixels = jnp.asarray(images[:1], jnp.float32)
    _, slope = third(pixels)
    direction = slope / jnp.linalg.norm(slope)
    step = 0.05
    rise = third(pixels + step * direction)[0] - third(pixels - step * direction)[0]
    assert float(rise) / (2 * step) == pytest.approx(float(jnp.linalg.norm(slope)), rel=0.05)


def test_it_subtracts_the_training_set_s_mean(model, digits):
    """The variables on images that are normalised already give the same."""
    middle = digits.statistics.mean_image[2:30, 2:30].astype(np.float32)
    image = digits.splits['test'].read(5).image[2:30, 2:30]
    logits, _ = model.net.apply(model.variables, (image - middle)[None])
    np.testing.assert_allclose(model(image[None])[0], logits, rtol=1e-5, atol=1e-5)
    assert model.classes == digits.classes and not model.mirror
    assert model.step == random_run.STEP


def test_a_file_becomes_what_the_net_was_shown(model, tmp_path, random):
    """Without mirror images: those of digits are no digits."""
    pixels = random.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    (middle,) = model.read(tmp_path / 'image.png')
    np.testing.assert_array_equal(middle, pixels[2:30, 2:30])
    ten = model.read((tmp_path / 'image.png').read_bytes(), views=10)
    corners = [pixels[a : a + 28, b : b + 28] for a, b in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))]
    np.testing.assert_array_equal(ten, corners * 2)


@pytest.fixture
def described(tmp_path):
    """The files of a workdir that say what its net was shown, of crops of 8 pixels."""
    describe(tmp_path, ('a', 'b'), True, np.zeros((8, 8, 3), np.float32), np.ones(3, np.float32))
    return tmp_path


def test_what_the_net_was_shown_is_read(described):
    classes, mirror, normalization = _described(described, 8)
    assert classes == ('a', 'b') and mirror is True
    np.testing.assert_array_equal(normalization['mean'], np.zeros((8, 8, 3)))
    np.testing.assert_array_equal(normalization['scale'], np.ones(3))
    assert {array.dtype for array in normalization.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"classes": "abc", "mirror": true}', r"classes is 'abc'; allowed: a list of names"),
        ('{"classes": [], "mirror": true}', r'classes is \[\]'),
        ('{"classes": {"a": 1}, "mirror": true}', 'classes is'),
        ('{"classes": ["a", 1], "mirror": true}', 'classes has 1; allowed: names'),
        ('{"classes": ["a", null], "mirror": true}', 'classes has None'),
        ('{"classes": ["a", ["b"]], "mirror": true}', 'classes has'),
        ('{"classes": ["a", ""], "mirror": true}', "classes has ''"),
        ('{"classes": ["a", "b", "a"], "mirror": true}', "classes has 'a' more than once"),
        ('{"classes": ["a", "b"], "mirror": "yes"}', "mirror is 'yes'; allowed: true or false"),
        ('{"classes": ["a", "b"], "mirror": 1}', 'mirror is 1'),
        ('{"classes": ["a", "b"], "mirror": null}', 'mirror is None'),
        ('{"classes": ["a", "b"]}', 'mirror is None'),
        ('{"mirror": true}', 'classes is None'),
        ('{"classes": ["a", "b"], "mirror": true, "mirror": false}', 'a name twice'),
        ('{"classes": ["a", NaN], "mirror": true}', 'NaN'),
        ('[]', 'it holds'),
        ('null', 'it holds'),
        ('3', 'it holds'),
        ('', 'cannot be used'),
        ('[' * 10**5, 'nested too deep'),
        ('{"classes": ["\\ud8', 'cannot be used'),
    ],
)
def test_a_description_of_something_else_is_refused(text, message, described):
    (described / 'model.json').write_text(text)
    with pytest.raises(InputError, match=message) as error:
        _described(described, 8)
    assert str(described / 'model.json') in str(error.value) and len(str(error.value)) < 600


MEAN, SCALE = np.zeros((8, 8, 3), np.float32), np.ones(3, np.float32)


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'mean': MEAN * np.nan, 'scale': SCALE}, 'mean has numbers that are not finite'),
        ({'mean': MEAN, 'scale': SCALE * np.inf}, 'scale has numbers that are not finite'),
        ({'mean': MEAN.astype('U1'), 'scale': SCALE}, 'mean has the type <U1'),
        ({'mean': MEAN.astype(complex), 'scale': SCALE}, 'mean has the type complex128'),
        ({'mean': MEAN.astype(bool), 'scale': SCALE}, 'mean has the type bool'),
        ({'mean': MEAN.astype('S1'), 'scale': SCALE}, 'mean has the type'),
        ({'mean': MEAN, 'scale': SCALE.astype('M8[s]')}, 'scale has the type'),
        ({'mean': MEAN[1:], 'scale': SCALE}, r'mean has the shape \(7, 8, 3\); allowed: \(3,\) or \(8, 8, 3\)'),
        ({'mean': MEAN, 'scale': MEAN}, r'scale has the shape'),
        ({'mean': MEAN.astype(np.float64) + 1e300, 'scale': SCALE}, 'too large for float32'),
        ({'mean': MEAN, 'scale': SCALE.astype(np.float64) * 1e39}, 'too large for float32'),
        ({'mean': MEAN}, 'no array scale'),
        ({'scale': SCALE}, 'no array mean'),
        ({}, 'no array mean'),
    ],
)  # fmt: skip
def test_a_normalization_of_other_numbers_is_refused(arrays, message, described):
    with np.errstate(invalid='ignore'):
        np.savez(described / 'normalization.npz', **arrays)
    with pytest.raises(InputError, match=message) as error:
        _described(described, 8)
    assert str(described / 'normalization.npz') in str(error.value)


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
@pytest.mark.parametrize('name', ['model.json', 'normalization.npz'])
def test_what_is_no_file_is_refused_at_once(name, make, described):
    (described / name).unlink()
    make(described / name)
    with pytest.raises(InputError, match=f'{name} cannot be read: '):
        _described(described, 8)
