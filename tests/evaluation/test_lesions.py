"""Nets with a part cut, against nets that never had it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.evaluation import lesions
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.inference import variable_shapes
from alexnet_jax.network.layers import (
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    LeakyRelu,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    Output,
    Relu,
    Sigmoid,
    Tanh,
)
from tests.network import parity

NET = architecture('small', width=0.5)
CLASSES = 7
# Strong, so that a leak is no rounding.
ACROSS = LocalResponseNorm(alpha=0.5, k=1.0, across_columns=True)
STAGES = {
    'relu': (Relu(), ACROSS, MaxPool()),
    'tanh': (Tanh(), ACROSS),
    'sigmoid': (Sigmoid(), ACROSS),
    'leaky_relu': (LeakyRelu(), ACROSS),
    'maxout': (Maxout(), ACROSS),
    'pooled before': (MaxPool(), Relu(), ACROSS),
    'normalized before': (ACROSS, MaxPool(), Sigmoid()),
    'batch_norm': (Relu(), BatchNorm(), ACROSS),
    'batch_norm, then sigmoid': (BatchNorm(), Sigmoid(), ACROSS),
    'sigmoid, then batch_norm': (Sigmoid(), BatchNorm(), ACROSS),
}


def drawn(net: AlexNet, random: np.random.Generator):
    """Variables large enough that every part counts."""

    def numbers(path, shape):
        spread = np.sqrt(2 / np.prod(shape.shape[1:-1])) if path[-1].key == 'kernel' else 0.1
        return random.normal(0, spread, shape.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(numbers, variable_shapes(net))
    return variables | {'batch_stats': jax.tree.map(lambda x: 0.1 + x**2, variables['batch_stats'])}


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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


def across(then) -> Architecture:
    """Two layers that normalize across columns, and one that reads both columns in groups."""
    return Architecture('across', 12, 2, (
        Conv('conv1', 20, kernel=3, then=then), Conv('conv2', 20, kernel=3, then=then),
        Conv('conv3', 8, kernel=1, reads_all=True, groups=2, then=(Tanh(),)),
        Dense('fc4', 8, then=(Tanh(),)),
    ), Output('fc8'))  # fmt: skip


def gradient_of_others(net, variables, column, images):
    """The gradient of the logits, weighted, for the lesioned parameters: (own, others')."""
    weights = np.random.default_rng(5).normal(size=(len(images), CLASSES))

    def total(params, stats):
        logits, _ = AlexNet(net, CLASSES).apply({'params': params, 'batch_stats': stats}, images)
        return jnp.sum(logits * weights)

    slope = jax.jit(jax.grad(total), compiler_options=parity.QUICK)
    alone = lesions.column_alone(net, variables, column)
    gradients = slope(alone['params'], alone['batch_stats'])
    own, others = {}, {}
    for layer, parts in gradients.items():
        for part, gradient in parts.items():
            if (layer, part) == (net.output.name, 'bias'):
                continue  # no column's
            of_columns = np.reshape(gradient, (net.columns, -1))
            own[layer, part] = np.abs(of_columns[column]).max()
            others[layer, part] = np.abs(np.delete(of_columns, column, axis=0)).max()
    del others[net.output.name, 'kernel']  # where they are cut, not what they compute
    return own, others


@pytest.mark.thorough
@pytest.mark.parametrize('column', [0, 1])
@pytest.mark.parametrize('name', STAGES)
def test_nothing_of_another_column_reaches_the_logits_of_one_alone(name, column, random):
    net = across(STAGES[name])
    variables = drawn(AlexNet(net, CLASSES), random)
    images = random.normal(size=(3, 12, 12, 3)).astype(np.float32)
    own, others = gradient_of_others(net, variables, column, images)
    assert min(own.values()) > 0, own
    assert max(others.values()) == 0, others


@pytest.mark.thorough
@pytest.mark.parametrize('name', STAGES)
def test_beside_a_silent_column_normalization_is_that_of_one_column(name, random):
    """The logits are those of the net whose windows are cut at the border between columns."""
    net = across(STAGES[name])
    within = across(tuple(
        dataclasses.replace(stage, across_columns=False) if stage == ACROSS else stage
        for stage in STAGES[name]
    ))  # fmt: skip
    variables = drawn(AlexNet(net, CLASSES), random)
    images = random.normal(size=(3, 12, 12, 3)).astype(np.float32)
    alone = lesions.column_alone(net, variables, 1)

    def logits_of(net, variables):
        run = jax.jit(AlexNet(net, CLASSES).apply, compiler_options=parity.QUICK)
        return run(variables, images)[0]

    logits = logits_of(net, alone)
    np.testing.assert_allclose(logits, logits_of(within, alone), rtol=1e-5, atol=1e-5)
    whole = logits_of(net, variables)
    assert np.abs(whole - logits).max() > 0.01


# One whose normalization crosses; the rest with `pytest -m slow`.
QUICK_ONES = ('paper_lrn_across',)


@pytest.mark.parametrize(
    'name',
    [
        name if name in QUICK_ONES else pytest.param(name, marks=pytest.mark.slow)
        for name, net in ARCHITECTURES.items()
        if net.columns > 1
    ],
)
def test_nothing_of_another_column_reaches_the_logits_of_any_net(name, random):
    small = ARCHITECTURES[name].input_size < 100
    net = architecture(name, 0 if small else 67, 0.5 if small else 0.25)
    variables = drawn(AlexNet(net, CLASSES), random)
    shape = (2, net.input_size, net.input_size, 3)
    for column in (0, 1):
        own, others = gradient_of_others(net, variables, column, random.normal(size=shape))
        assert min(own.values()) > 0, own
        assert max(others.values()) == 0, others


def test_kernels_that_read_in_groups_are_cut_map_by_map():
    """By hand: 8 maps of two columns, read in groups of 4 by two columns of 4 features."""
    net = Architecture('grouped', 8, 2, (
        Conv('conv1', 8, kernel=1), Conv('conv2', 8, kernel=1, reads_all=True, groups=2),
        Conv('conv3', 4, kernel=1, reads_all=True, groups=1),
    ), Output('fc4'))  # fmt: skip
    ones = jax.tree.map(lambda x: np.ones(x.shape), variable_shapes(AlexNet(net, 3)))
    kernel = lesions.without_crossing(net, ones, 'conv2')['params']['conv2']['kernel'][:, 0, 0]
    # The first group reads the first column's maps alone, the second the second's.
    first, second = np.zeros((4, 4)), np.zeros((4, 4))
    first[:, :2] = 1
    second[:, 2:] = 1
    np.testing.assert_array_equal(kernel, [first, second])
    kernel = lesions.without_crossing(net, ones, 'conv3')['params']['conv3']['kernel'][:, 0, 0]
    np.testing.assert_array_equal(kernel[0], np.repeat([1, 0], 4)[:, None] * np.ones(2))


@pytest.mark.parametrize('column', [-1, 2])
def test_a_column_that_is_not_there(column, variables):
    with pytest.raises(ValueError, match=f'column is {column}; expected: from 0 to 1'):
        lesions.column_alone(NET, variables, column)
