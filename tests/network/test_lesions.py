"""Nets with a part cut, against nets that never had it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import lesions
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.inference import variable_shapes

NET = architecture('small', width=0.5)
CLASSES = 7


def drawn(net: AlexNet, random: np.random.Generator):
    """Variables large enough that every part counts."""

    def numbers(path, shape):
        spread = np.sqrt(2 / np.prod(shape.shape[1:-1])) if path[-1].key == 'kernel' else 0.1
        return random.normal(0, spread, shape.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(numbers, variable_shapes(net))


@pytest.fixture
def variables(random):
    return drawn(AlexNet(NET, CLASSES), random)


@pytest.fixture
def images(random):
    return random.normal(size=(3, 28, 28, 3)).astype(np.float32)


def run(variables, images):
    return AlexNet(NET, CLASSES).apply(variables, images)


def half(net):
    """One column of it, by itself."""
    rows = tuple(dataclasses.replace(row, features=row.features // 2) for row in net.layers)
    return dataclasses.replace(net, name='half', columns=1, layers=rows)


@pytest.mark.parametrize('column', [0, 1])
def test_a_column_alone_is_a_net_of_one_column(column, variables, images):
    """With the classifier's bias, which is no column's."""
    alone = lesions.column_alone(NET, variables, column)
    logits, activations = run(alone, images)
    single = {}
    for layer, parts in variables['params'].items():
        kernel = np.asarray(parts['kernel'])[column : column + 1]
        bias = parts['bias'] if layer == 'fc8' else np.asarray(parts['bias'])[column : column + 1]
        if layer in lesions.crossings(NET):
            own = kernel.shape[-2] // 2
            kernel = kernel[..., column * own : (column + 1) * own, :]
        single[layer] = {'kernel': kernel, 'bias': bias}
    expected, own = AlexNet(half(NET), CLASSES).apply({'params': single}, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    both = np.split(np.asarray(activations['conv5/pool']), 2, axis=-1)
    np.testing.assert_allclose(both[column], own['conv5/pool'], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('layer', ['conv3', 'fc6', 'fc7'])
def test_a_crossing_that_is_cut_brings_nothing(layer, variables, images):
    """What a layer's first column computes, by the second column below it: by the gradient."""
    below = {'conv3': 'conv2', 'fc6': 'conv5', 'fc7': 'fc6'}[layer]
    second = variables['params'][below]['bias'][1]

    def first_column(bias, variables):
        parts = variables['params'][below]
        changed = parts | {'bias': jnp.stack([parts['bias'][0], bias])}
        activation = run({'params': variables['params'] | {below: changed}}, images)[1][layer]
        return jnp.split(activation, 2, axis=-1)[0].sum()

    slope = jax.grad(first_column)
    assert np.abs(slope(second, variables)).max() > 0
    cut = lesions.without_crossing(NET, variables, layer)
    assert np.abs(slope(second, cut)).max() == 0
    others = [name for name in variables['params'] if name != layer]
    assert all(cut['params'][name] is variables['params'][name] for name in others)


def test_where_columns_cross():
    assert lesions.crossings(ARCHITECTURES['paper']) == ['conv3', 'fc6', 'fc7']
    assert lesions.crossings(ARCHITECTURES['no_communication']) == []
    assert lesions.crossings(ARCHITECTURES['torchvision']) == []
