"""Attributions beside finite differences, plain loops and formulas by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.evaluation import attribution
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.receptive_fields import ReceptiveField, Window
from tests.network import parity
from tests.network.tiny import CLASSES, TINY, drawn, rest

LABELS = np.array([2, 0, 4])


@pytest.fixture
def variables_and_images(random, x64):
    return drawn(TINY, random, np.float64)


@pytest.fixture
def net(variables_and_images):
    variables, _ = variables_and_images
    module = AlexNet(TINY, CLASSES, compute='float64')
    return functools.partial(module.apply, variables)


@pytest.fixture
def images(variables_and_images):
    return variables_and_images[1]


def compiled(function, *arguments):
    return np.asarray(jax.jit(function, compiler_options=parity.QUICK)(*arguments))


def squares(images):
    """A net of two logits by hand: Σ x² and Σ 3x."""
    flat = images.reshape(len(images), -1)
    return jnp.stack([(flat**2).sum(axis=1), 3 * flat.sum(axis=1)], axis=1), {}


def test_the_gradient_equals_finite_differences(net, images, random):
    slope = compiled(lambda images: attribution.gradient(net, images, LABELS), images)
    logits = jax.jit(lambda images: net(images)[0], compiler_options=parity.QUICK)
    for _ in range(3):
        direction = random.normal(size=images.shape) * 1e-7
        rise = (logits(images + direction) - logits(images - direction)) / 2
        found = (slope * direction).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(found, np.asarray(rise)[range(3), LABELS], rtol=1e-5)


def test_integrated_gradients_of_squares():
    """By hand: x² − x'² a pixel, and 3 (x − x'), for any number of steps."""
    images, baseline = np.random.default_rng(0).normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    for steps in (1, 5):
        found = attribution.integrated_gradients(squares, images, np.array([0, 1]), baseline, steps)
        np.testing.assert_allclose(
            found[0], images[0] ** 2 - baseline[0] ** 2, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(found[1], 3 * (images[1] - baseline[1]), rtol=1e-5)


@pytest.mark.thorough
def test_integrated_gradients_sum_to_the_difference_of_the_logits(random):
    """In float32, with 256 steps, to a hundredth of the largest difference."""
    variables, images = drawn(TINY, random)
    net = functools.partial(AlexNet(TINY, CLASSES).apply, variables)
    total = np.asarray(net(images)[0] - net(np.full_like(images, 0.1))[0])[range(3), LABELS]
    found = jax.jit(lambda x: attribution.integrated_gradients(net, x, LABELS, 0.1, 256))(images)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), total, atol=0.01 * np.abs(total).max())


def test_grad_cam_equals_a_computation_in_numpy(variables_and_images, net, images):
    """The weights of the maps by finite differences of the layers above, written in NumPy: a map
    that rises by ε everywhere moves the logit by ε times the sum of its derivatives."""
    variables, _ = variables_and_images
    maps = np.asarray(net(images)[1]['conv1/pool'])

    def above(maps):
        return rest(variables['params'], maps)[range(3), LABELS]

    expected = np.zeros(maps.shape[:3])
    for number in range(maps.shape[-1]):
        step = 1e-6 * (np.arange(maps.shape[-1]) == number)
        weight = (above(maps + step) - above(maps - step)) / 2e-6 / np.prod(maps.shape[1:3])
        expected += weight[:, None, None] * maps[..., number]
    expected = np.maximum(expected, 0)
    found = compiled(lambda images: attribution.grad_cam(net, images, LABELS, 'conv1/pool'), images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    assert (expected > 0).any() and (expected == 0).any()


@pytest.mark.parametrize(('size', 'stride', 'rows'), [(4, 3, 4), (5, 4, 3), (13, 1, 1)])
def test_occlusion_equals_a_plain_loop(size, stride, rows, net, images):
    """Of squares that fit, and of such as overhang; each image on its own gray."""
    gray = images.mean(axis=(1, 2, 3), keepdims=True)
    probability = jax.jit(lambda images: jax.nn.softmax(net(images)[0]), compiler_options=parity.QUICK)  # fmt: skip
    whole = np.asarray(probability(images))[range(3), LABELS]
    expected = np.zeros((3, rows, rows))
    for row, column in np.ndindex(rows, rows):
        covered = images.copy()
        here = (
            slice(row * stride, row * stride + size),
            slice(column * stride, column * stride + size),
        )
        covered[:, *here] = gray
        expected[:, row, column] = whole - np.asarray(probability(covered))[range(3), LABELS]
    found = compiled(
        lambda images: attribution.occlusion(net, images, LABELS, gray, size, stride), images
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(expected).max() > 1e-3


def test_maps_are_spread_from_the_middles_of_their_fields():
    """By hand: fields of 5 pixels, 4 apart, of which the first begins 1 before the image; their
    middles are the pixels 1, 5 and 9."""
    field = ReceptiveField((Window(5, 4, 1, 12),), 3)
    rows = np.array([0.0, 4.0, 8.0])
    found = attribution.spread((rows[:, None] + np.zeros(3))[None], field, 12)
    down = np.clip(np.arange(12) - 1.0, 0, 8)
    np.testing.assert_allclose(found[0], np.repeat(down[:, None], 12, axis=1), atol=1e-12)
    turned = attribution.spread((np.zeros((3, 1)) + rows)[None], field, 12)
    np.testing.assert_allclose(turned[0], found[0].T, atol=1e-12)


IMAGES = np.zeros((2, 13, 13, 3), np.float32)
BAD = [
    (lambda net: attribution.gradient(net, IMAGES[0], LABELS[:2]), 'images has the shape (13, 13, 3)'),
    (lambda net: attribution.gradient(net, IMAGES, LABELS), 'labels has the shape (3,); expected: (2,)'),
    (lambda net: attribution.gradient(net, IMAGES, np.zeros(2)), 'labels has the type float64'),
    (lambda net: attribution.integrated_gradients(net, IMAGES, LABELS[:2], 0, 0), 'steps is 0; expected: at least 1'),
    (lambda net: attribution.grad_cam(net, IMAGES, LABELS[:2], 'conv9'), "layer is 'conv9'; expected: one of conv1, "),
    (lambda net: attribution.grad_cam(net, IMAGES, LABELS[:2], 'fc3/relu'), 'layer fc3/relu has the shape (2, 20); expected: (batch, height'),
    (lambda net: attribution.occlusion(net, IMAGES, LABELS[:2], 0, 14, 2), 'size is 14; expected: from 1 to the 13'),
    (lambda net: attribution.occlusion(net, IMAGES, LABELS[:2], 0, 4, 5), 'stride is 5; expected: from 1 to the size, 4'),
]  # fmt: skip


@pytest.mark.parametrize(('call', 'message'), BAD, ids=[message for _, message in BAD])
def test_what_does_not_fit_is_refused(call, message, net):
    with pytest.raises(ValueError) as caught:
        jax.eval_shape(lambda: call(net))
    assert str(caught.value).startswith(message)
