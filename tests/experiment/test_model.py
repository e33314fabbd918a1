"""A trained net as a library gives it: a pure function of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from alexnet_jax import load
from alexnet_jax.runtime.errors import InputError
from tests import random_run


@pytest.fixture(scope='module')
def model(data_dir, tmp_path_factory):
    settings = {'data.dir': data_dir, 'network.width': '0.5'}
    return load(random_run.make(tmp_path_factory.mktemp('run') / 'run', settings, seed=0))


@pytest.mark.thorough
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


@pytest.mark.parametrize('views', [0, 3, -10, [1]])
def test_other_numbers_of_views_are_refused(views, model, tmp_path):
    Image.new('RGB', (32, 32)).save(tmp_path / 'image.png')
    with pytest.raises(InputError, match=r'views is .*; allowed: 1 or 10'):
        model.read(tmp_path / 'image.png', views=views)


@pytest.mark.parametrize('step', [6.0, True, '6'])
def test_a_step_is_a_whole_number(step, tmp_path):
    with pytest.raises(InputError, match=r'step is .*; allowed: a whole number'):
        load(tmp_path, step=step)


@pytest.mark.parametrize('name', ['a' * 5000, 'a\0b'])
def test_names_that_no_folder_can_have_are_refused(name):
    with pytest.raises(InputError, match='holds no checkpoints'):
        load(name)


@pytest.mark.parametrize(
    'shape',
    [(28, 28, 3), (2, 3, 28, 28), (2, 27, 27, 3), (2, 32, 32, 3), (2, 28, 28, 1), (0, 28, 28, 3)],
)
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_images_of_another_shape_are_refused(model, shape, dtype):
    with pytest.raises(ValueError, match='images has the shape') as raised:
        model(np.zeros(shape, dtype))
    assert f'{shape}; expected: (batch, 28, 28, 3), RGB' in str(raised.value)
