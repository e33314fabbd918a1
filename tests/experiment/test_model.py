"""A trained net as a library gives it: a pure function of images, and a pytree."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from alexnet_jax import Model, load
from alexnet_jax.data.images import BadImageError
from alexnet_jax.experiment import config as configuration
from alexnet_jax.runtime.errors import InputError
from tests import random_run


@pytest.fixture(scope='module')
def run(runs):
    return runs / '0'


@pytest.fixture(scope='module')
def model(run):
    return load(run)


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
    """The variables on images that are normalized already give the same."""
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
    with pytest.raises(InputError, match='no such workdir or weight file'):
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


def test_its_leaves_are_its_arrays(model):
    leaves = jax.tree.leaves(model)
    assert {x.dtype for x in leaves} == {np.dtype('float32')}
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(model)]
    assert names[0] == ".variables['params']['conv1']['bias']" and names[-2:] == ['.mean', '.scale']
    assert len(names) == 2 * 8 + 2
    doubled = jax.tree.map(lambda x: 2 * x, model)
    assert isinstance(doubled, Model)
    np.testing.assert_array_equal(doubled.mean, 2 * model.mean)
    for field in ('config', 'net', 'classes', 'mirror', 'step', 'data'):
        assert getattr(doubled, field) == getattr(model, field), field


@pytest.mark.thorough
def test_it_is_an_argument_of_jit_and_grad(model, run, random):
    images = random.integers(0, 256, (2, 28, 28, 3)).astype(np.uint8)

    @jax.jit
    @chex.assert_max_traces(1)
    def logits_of(model, images):
        return model(images)[0]

    np.testing.assert_allclose(logits_of(model, images), model(images)[0], rtol=1e-4, atol=1e-4)
    logits_of(load(run), images)  # another object, the same but for its arrays: not traced again
    halved = jax.tree.map(lambda x: x / 2, model)
    assert not np.allclose(logits_of(halved, images), model(images)[0])

    def total(model):
        return model(images)[0].sum()

    slopes = jax.jit(jax.grad(total))(model)
    expected = jax.grad(lambda variables: total(dataclasses.replace(model, variables=variables)))
    chex.assert_trees_all_close(slopes.variables, jax.jit(expected)(model.variables), rtol=1e-5)
    assert slopes.mean.shape == model.mean.shape


def test_what_is_no_array_is_compiled_for(model):
    traced = []
    run = jax.jit(lambda model: traced.append(model.step) or model)
    assert run(model).step == model.step
    other = dataclasses.replace(model, step=7)
    assert run(other).step == 7
    config = configuration.changed(model.config, {'data.mirror': False})
    assert not run(dataclasses.replace(model, config=config)).config.data.mirror
    assert run(model).config == model.config
    assert traced == [model.step, 7, model.step]
    with pytest.raises(ValueError, match='step 7 of small') as caught:
        jax.tree.map(jnp.add, model, other)
    assert len(str(caught.value)) < 500


def test_its_repr_is_a_line(model):
    count = sum(x.size for x in jax.tree.leaves(model.variables['params']))
    expected = f'Model(small: 10 classes, {count:,} parameters, step {random_run.STEP})'
    assert repr(model) == str(model) == expected
    assert repr(jax.tree.map(np.shape, model)) == expected
    one = dataclasses.replace(model, net=model.net.clone(classes=1), classes=('a',))
    assert repr(one).startswith('Model(small: 1 class, ')


def test_all_forms_of_an_image_are_read_alike(model, tmp_path, random):
    """The same pixels as a path, bytes, a Pillow image and arrays; and in a list, in its order."""
    pixels = random.integers(0, 256, (40, 33, 3)).astype(np.uint8)
    path = tmp_path / 'image.png'
    Image.fromarray(pixels).save(path)
    expected = model.read(path)
    forms = [str(path), path.read_bytes(), Image.fromarray(pixels), Image.open(path), pixels,
             jnp.asarray(pixels)]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(model.read(form), expected)
    other = pixels[::-1]
    listed = model.read([*forms, other])
    np.testing.assert_array_equal(listed, [*expected] * len(forms) + [*model.read(other)])
    ten = model.read((other, path), views=10)
    np.testing.assert_array_equal(ten[:10], model.read(other, views=10))
    np.testing.assert_array_equal(ten[10:], model.read(path, views=10))
    gray = pixels[..., 0]
    Image.fromarray(gray).save(path)
    np.testing.assert_array_equal(model.read(gray), model.read(path))
    model(listed)  # takes it as it is


def test_an_image_that_cannot_be_read_is_named(model, tmp_path):
    good, bad, away = np.zeros((32, 32), np.uint8), tmp_path / 'bad.png', tmp_path / 'away.png'
    bad.write_bytes(b'no image')
    cases = [
        (bad, f'{bad} is no JPEG or PNG'),
        ([good, str(bad)], f'{bad} is no JPEG or PNG'),
        (away, f'{away} cannot be read: No such file or directory'),
        (b'no image', 'the image is no JPEG or PNG'),
        ([good, b'no image', good], 'image 2 of 3 is no JPEG or PNG'),
        (Image.new('RGB', (3, 3)), 'the image has 3×3 pixels; allowed: at least 8 a side'),
        (Image.new('F', (32, 32)), 'the image has the mode F; allowed: modes of 8 or 16 bits'),
        (Image.new('I', (32, 32)), 'the image has the mode I; allowed: modes of 8 or 16 bits'),
        ([good, np.zeros((9, 9, 3))], 'image 2 of 2 is float64 [9, 9, 3]; allowed: uint8 [height,'),
    ]
    for picture, message in cases:
        with pytest.raises(BadImageError, match=f'^{re.escape(message)}'):
            model.read(picture)


@pytest.mark.parametrize(('picture', 'message'), [
    ([], 'the list of images is empty; allowed: at least 1'),
    (None, 'the image is None; allowed: a path, the bytes of a JPEG or PNG, a Pillow image'),
    (['a.png', 5], 'image 2 of 2 is 5; allowed: a path'),
])  # fmt: skip
def test_what_is_no_image_at_all_is_refused(picture, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (32, 32)).save('a.png')
    with pytest.raises(InputError, match=f'^{re.escape(message)}'):
        model.read(picture)


def test_a_call_takes_interventions_and_refuses_what_is_none(model):
    images = np.zeros((1, 28, 28, 3), np.uint8)
    _, found = model(images, mask={'fc7/relu': [0.0] * 256})  # a list of numbers will do
    assert not found['fc7/relu'].any()
    fc8 = model.variables['params']['fc8']
    np.testing.assert_allclose(found['fc8'][0], fc8['bias'], atol=1e-6)
    for given in ('abc', [1], {'fc7/relu': 'abc'}):
        with pytest.raises(ValueError, match=r'^mask.* expected: '):
            model(images, mask=given)
