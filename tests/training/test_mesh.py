"""The mesh does not change the run: 20 steps, dropout on."""

import dataclasses
import functools
import re

import chex
import jax
import numpy as np
import pytest

from alexnet_jax.data import pipeline
from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, SMALL, architecture
from alexnet_jax.network.layers import (
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Output,
    Relu,
)
from alexnet_jax.network.variants import with_layers, with_lrn_across_columns, with_stages
from alexnet_jax.training import step
from alexnet_jax.training.protocols import ALEXNET_BN
from alexnet_jax.training.schedule import Clock
from tests.network import parity

conv1, conv2, conv3, *_, fc6, fc7 = SMALL.layers
TINY = with_layers(
    dataclasses.replace(SMALL, layers=(conv1, conv2, conv3, fc6, fc7)), 'tiny',
    **{name: {'features': 16} for name in ('conv1', 'conv2', 'conv3')},
    **{name: {'features': 64} for name in ('fc6', 'fc7')},
)  # fmt: skip
NETS = {
    'tiny': TINY, 'tiny_lrn_across': with_lrn_across_columns(TINY, 'tiny_lrn_across'),
    'small': SMALL, 'small_lrn_across': with_lrn_across_columns(SMALL, 'small_lrn_across'),
}  # fmt: skip
MESHES = [(1, 2), (2, 1), (2, 2)]


@pytest.fixture(scope='module')
def run(digits):
    """(net, mesh, exchange) -> losses of 20 steps, the last state and the compiled step; each
    once."""

    @functools.cache
    def initial(name):
        return jax.device_get(
            step.create_state(AlexNet(NETS[name], 10), 0, device_mesh.make_mesh())
        )

    @functools.cache
    def run(name, shape, exchange='gather'):
        net, mesh = AlexNet(NETS[name], 10, exchange=exchange), device_mesh.make_mesh(*shape)
        # `small` as it is trained on the digits.
        batch_size, options = (64, None) if name.startswith('small') else (16, parity.QUICK)
        train_step = step.make_train_step(
            net, mesh, pipeline.central_mean(digits, 28),
            seed=0, learning_rate=0.01, clock=Clock(20, batch_size, epoch_size=1197),
        )  # fmt: skip
        state = jax.device_put(initial(name), step.state_shardings(net, mesh))
        batches = pipeline.train_batches(digits, size=28, batch_size=batch_size, seed=0)
        batches = [next(batches) for _ in range(20)]
        train_step = train_step.lower(state, batches[0]).compile(compiler_options=options)
        losses = []
        for batch in batches:
            state, scores = train_step(state, batch)
            losses.append(float(scores['loss']))
        return np.array(losses), state, train_step

    return run


@pytest.mark.parametrize(('name', 'shape'), [
    *(('tiny', shape) for shape in MESHES),
    ('tiny_lrn_across', (1, 2)),  # the mesh on which neighbors are on another device
    *(
        pytest.param(name, shape, marks=pytest.mark.slow)
        for name in ('small', 'small_lrn_across')
        for shape in MESHES
    ),
])  # fmt: skip
def test_losses_and_parameters_equal_those_of_one_device(name, shape, run):
    assert_close(run(name, shape), run(name, (1, 1)))


def assert_close(found, expected):
    losses, expected_losses = found[0], expected[0]
    assert np.abs(losses / expected_losses - 1).max() < 1e-5
    chex.assert_trees_all_close(found[1].params, expected[1].params, rtol=0, atol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize('shape', [(1, 2), (2, 2)])
@pytest.mark.parametrize('name', ['tiny', pytest.param('small', marks=pytest.mark.slow)])
def test_scattered_sums_equal_gathered_units(name, shape, run):
    assert_close(run(name, shape, 'scatter'), run(name, shape))


def test_on_one_device_both_exchanges_are_one(run):
    (losses, state, _), (expected, others, _) = run('tiny', (1, 1), 'scatter'), run('tiny', (1, 1))
    chex.assert_trees_all_equal((losses, state.params), (expected, others.params))


@pytest.mark.parametrize(('exchange', 'forward'), [
    ('gather', ['all-gather 7,7,16', 'all-gather 7,7,16', 'all-gather 64']),
    ('scatter', ['all-gather 7,7,16', 'reduce-scatter 32', 'reduce-scatter 32']),
])  # fmt: skip
def test_what_conv3_fc6_and_fc7_send(exchange, forward, run):
    """On 1×2, collectives and the shapes they give for an image: all maps and units read,
    or the own columns' sums. Back the other way round."""
    _, _, train_step = run('tiny', (1, 2), exchange)
    found = {'jvp': [], 'transpose': []}
    for shape, collective, way in re.findall(
        r'= f32\[16,(\S+)\]\S* (all-gather|reduce-scatter)\(.*op_name="\S*?/(jvp|transpose)',
        train_step.as_text(),
    ):
        found[way].append(f'{collective} {shape}')
    transposed = {
        'all-gather 7,7,16': 'reduce-scatter 7,7,8', 'all-gather 64': 'reduce-scatter 32',
        'reduce-scatter 32': 'all-gather 64',
    }  # fmt: skip
    assert sorted(found['jvp']) == sorted(forward)
    assert sorted(found['transpose']) == sorted(transposed[what] for what in forward)


def quickly(function, *arguments):
    """Compiled for these."""
    return function.lower(*arguments).compile(compiler_options=parity.QUICK)


BATCH_NORM = (Relu(), BatchNorm(), MaxPool())
ONE_COLUMN = Architecture(
    'one', 16, 1, (Conv('conv1', 8, 5, then=BATCH_NORM), Dense('fc2', 16)), Output('fc3')
)
TWO_COLUMNS = dataclasses.replace(ONE_COLUMN, name='two', columns=2)
BATCHNORM67 = with_stages(
    architecture('batchnorm227', 67, width=0.125), 'batchnorm67',
    lambda stage: None if isinstance(stage, Dropout) else stage,
)  # fmt: skip


NORM_FIRST = with_layers(
    TWO_COLUMNS, 'norm_first', conv1={'then': (BatchNorm(), Relu(), MaxPool())}
)


@pytest.mark.thorough
@pytest.mark.parametrize(('shape', 'exchange'), [((1, 2), 'scatter'), ((2, 2), 'gather')])
def test_lars_takes_its_norms_over_all_columns(shape, exchange, random):
    """Three steps in which all parameters have rates of their own, as on one device; the biases
    before batch normalization are left out, which follow rounding alone."""
    batches = [
        {
            'image': random.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8),
            'mirrored': random.random(16) < 0.5,
            'color_shift': np.zeros((16, 3), np.float32),
            'label': random.integers(0, 10, 16, dtype=np.int32),
            'mask': np.ones(16, np.float32),
        }
        for _ in range(3)
    ]

    def params(shape, exchange):
        net, mesh = AlexNet(NORM_FIRST, 10, exchange=exchange), device_mesh.make_mesh(*shape)
        train_step = step.make_train_step(
            net, mesh, np.full((16, 16, 3), 127, np.float32), seed=0, learning_rate=10.0,
            clock=Clock(1000, 16, 160), protocol=ALEXNET_BN[0],
        )  # fmt: skip
        state = step.create_state(net, 0, mesh)
        for batch in batches:
            state, _ = train_step(state, batch)
        found = jax.device_get(state.params)
        del found['conv1']['bias']
        return found

    chex.assert_trees_all_close(
        params(shape, exchange), params((1, 1), 'gather'), rtol=1e-4, atol=1e-6
    )


@pytest.mark.thorough
def test_initial_values_are_the_same_on_every_mesh():
    net = AlexNet(TWO_COLUMNS, 10)
    expected = jax.device_get(step.create_state(net, 5, device_mesh.make_mesh()))
    for shape, exchange in [*((shape, 'gather') for shape in MESHES), ((1, 2), 'scatter')]:
        net = AlexNet(TWO_COLUMNS, 10, exchange=exchange)
        state = step.create_state(net, 5, device_mesh.make_mesh(*shape))
        chex.assert_trees_all_equal(state, expected)
        if shape == (1, 2):
            here = jax.tree.map(lambda x: x.addressable_shards[0].data.shape, state)
            of_fc2 = (1, 6, 6, 8, 8) if exchange == 'gather' else (2, 6, 6, 4, 8)
            for tree in (here.params, here.momentum.trace):
                assert tree['conv1']['kernel'] == (1, 5, 5, 3, 4)
                assert tree['fc2'] == {'kernel': of_fc2, 'bias': (1, 8)}
                assert tree['fc3']['kernel'] == (1, 8, 10)


def test_scatter_splits_other_axes_of_fully_connected_layers_that_read_all_columns():
    def differ(architecture):
        one, other = (
            inference.variable_specs(AlexNet(architecture, 10, exchange=exchange))['params']
            for exchange in ('gather', 'scatter')
        )
        return {
            f'{layer}/{part}': tuple(other[layer][part])
            for layer, parts in one.items() for part in parts
            if parts[part] != other[layer][part]
        }  # fmt: skip

    assert differ(ARCHITECTURES['paper']) == {
        'fc6/kernel': (None, None, None, 'column'), 'fc7/kernel': (None, 'column'),
    }  # fmt: skip
    assert differ(ARCHITECTURES['no_communication']) == {}


def test_evaluation_gives_the_same_bits_after_either_exchange(run, digits):
    """Whether its variables are brought to their places before or by the compiled function."""
    mesh, images = device_mesh.make_mesh(1, 2), np.ones((4, 28, 28, 3), np.uint8)
    _, state, _ = run('tiny', (1, 2), 'scatter')
    net = AlexNet(TINY, 10, exchange='scatter')
    forward = inference.make_forward(net, mesh, pipeline.central_mean(digits, 28), 1.0)
    placed = inference.place_variables(net, mesh, state.variables)
    assert placed['params']['fc7']['kernel'].addressable_shards[0].data.shape == (1, 64, 32)
    alone, other = jax.device_get(state.variables), device_mesh.make_mesh()
    alone_forward = inference.make_forward(net, other, pipeline.central_mean(digits, 28), 1.0)
    expected, _ = quickly(alone_forward, alone, images)(alone, images)
    for variables in (placed, state.variables):
        logits, _ = quickly(forward, variables, images)(variables, images)
        np.testing.assert_array_equal(logits, expected)


@pytest.mark.thorough
@pytest.mark.parametrize(('architecture', 'shape'), [
    (ONE_COLUMN, (4, 1)),
    (TWO_COLUMNS, (2, 2)),
    pytest.param(BATCHNORM67, (4, 1), marks=pytest.mark.slow),
], ids=lambda value: getattr(value, 'name', value))  # fmt: skip
def test_batch_statistics_are_those_of_the_whole_batch(architecture, shape, random):
    """On a mesh as on one device: losses, parameters and moving statistics of five steps.
    The statistics after one step, and what an evaluation makes of them, by hand."""
    net, size = AlexNet(architecture, 10), architecture.input_size
    mean = np.full((size, size, 3), 127, np.float32)
    batches = [
        {
            'image': random.integers(0, 256, (16, size, size, 3), dtype=np.uint8),
            'mirrored': np.zeros(16, bool),
            'color_shift': np.zeros((16, 3), np.float32),
            'label': random.integers(0, 10, 16, dtype=np.int32),
            'mask': np.ones(16, np.float32),
        }
        for _ in range(5)
    ]

    initial = jax.device_get(step.create_state(net, 0, device_mesh.make_mesh()))

    def run(mesh):
        train_step = step.make_train_step(
            net, mesh, mean, seed=0, learning_rate=0.001, clock=Clock(5, 16, 160)
        )
        states = [jax.device_put(initial, step.state_shardings(net, mesh))]
        train_step, losses = quickly(train_step, states[0], batches[0]), []
        kept = [jax.device_get(states[0])]
        for batch in batches:
            state, scores = train_step(states.pop(), batch)
            states.append(state)
            kept.append(jax.device_get(state))
            losses.append(float(scores['loss']))
        statistics = states[0].batch_stats['conv1_norm']['mean'].addressable_shards[0].data
        assert len(statistics) == architecture.layers[0].features // mesh.shape['column']
        forward = inference.make_forward(net, mesh, mean, 1.0)
        given = states[0].variables, batches[0]['image']
        logits, _ = quickly(forward, *given)(*given)
        return np.array(losses), kept, np.asarray(logits)

    losses, states, evaluated = run(device_mesh.make_mesh())
    others, other_states, other_evaluated = run(device_mesh.make_mesh(*shape))
    assert np.abs(others / losses - 1).max() < 1e-5
    chex.assert_trees_all_close(
        (other_evaluated, other_states[-1].variables), (evaluated, states[-1].variables),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip

    apply = jax.jit(net.apply, compiler_options=parity.QUICK)

    def activations(state):
        found = apply(state.variables, batches[0]['image'] - mean)[1]
        return {name: np.asarray(found[f'conv1/{name}'], np.float64)
                for name in ('relu', 'batch_norm')}  # fmt: skip

    values, moved = activations(states[0])['relu'], states[1].batch_stats['conv1_norm']
    np.testing.assert_allclose(moved['mean'], 0.01 * values.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(moved['var'], 0.99 + 0.01 * values.var(axis=(0, 1, 2)), rtol=1e-4)
    after, learned = activations(states[1]), states[1].params['conv1_norm']
    expected = (after['relu'] - moved['mean']) / np.sqrt(moved['var'] + np.float64(1e-3))
    expected = expected * learned['scale'] + learned['bias']
    np.testing.assert_allclose(after['batch_norm'], expected, rtol=1e-4, atol=1e-4)
