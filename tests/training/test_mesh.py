"""The mesh does not change the run: 20 steps, dropout on."""

import re

import jax
import numpy as np
import pytest

from alexnet_jax.data import pipeline
from alexnet_jax.network import columns
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import SMALL, architecture
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
from alexnet_jax.network.variants import with_lrn_across_columns, with_stages
from alexnet_jax.training import step
from alexnet_jax.training.schedule import Clock

NETS = {'small': SMALL, 'small_lrn_across': with_lrn_across_columns(SMALL, 'small_lrn_across')}
MESHES = [(1, 2), (2, 1), (2, 2)]


def build(name: str, mesh, digits):
    net = AlexNet(NETS[name], 10)
    train_step = step.make_train_step(
        net, mesh, pipeline.central_mean(digits, 28),
        seed=0, learning_rate=0.01, clock=Clock(steps=20, batch_size=64, epoch_size=1197),
    )  # fmt: skip
    return step.create_state(net, 0, mesh), train_step


@pytest.fixture(scope='module')
def run(digits):
    """(net, mesh) -> losses of 20 steps and the last parameters; each once."""
    kept = {}

    def run(name, shape):
        if (name, shape) not in kept:
            state, train_step = build(name, columns.make_mesh(*shape), digits)
            batches = pipeline.train_batches(digits, size=28, batch_size=64, seed=0)
            losses = []
            for _ in range(20):
                state, scores = train_step(state, next(batches))
                losses.append(float(scores['loss']))
            kept[name, shape] = np.array(losses), jax.device_get(state.params)
        return kept[name, shape]

    return run


@pytest.mark.parametrize('shape', MESHES)
@pytest.mark.parametrize('name', NETS)
def test_losses_and_parameters_equal_those_of_one_device(name, shape, run):
    losses, params = run(name, shape)
    expected, expected_params = run(name, (1, 1))
    assert np.abs(losses / expected - 1).max() < 1e-5
    for layer, weights in params.items():
        for part, values in weights.items():
            assert np.abs(values - expected_params[layer][part]).max() < 1e-4, (layer, part)


@pytest.mark.parametrize(('name', 'permutes'), [('small', 0), ('small_lrn_across', 8)])
def test_columns_exchange_no_more_than_the_paper_s_layers_need(name, permutes, digits, random):
    """On 1×2: an all-gather at conv3, fc6 and fc7 and back a reduce-scatter each,
    one sum of logits at fc8; neighbours across columns add two each way at each
    of two layers."""
    mesh = columns.make_mesh(1, 2)
    state, train_step = build(name, mesh, digits)
    batch = {
        'image': random.integers(0, 256, (8, 28, 28, 3), dtype=np.uint8),
        'color_shift': np.zeros((8, 3), np.float32),
        'label': np.zeros(8, np.int32),
        'mask': np.ones(8, np.float32),
    }
    compiled = train_step.lower(state, batch).compile().as_text()

    def count(collective):
        return len(re.findall(rf'= \S+ {collective}(?:-start)?\(', compiled))

    assert count('all-gather') == 3
    assert count('reduce-scatter') == 3
    assert count('collective-permute') == permutes
    assert count('all-to-all') == 0
    assert count('all-reduce') <= 3  # the logits; sums over 'data', of size 1 here


def test_initial_values_are_the_same_on_every_mesh():
    net = AlexNet(SMALL, 10)
    expected = jax.device_get(step.create_state(net, 5, columns.make_mesh()))
    for shape in MESHES:
        state = step.create_state(net, 5, columns.make_mesh(*shape))
        kernel = state.params['conv2']['kernel']
        assert kernel.addressable_shards[0].data.shape[0] == 2 // shape[1]
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected)


def test_batch_statistics_are_those_of_the_whole_batch(random):
    """4×1 and 1×1: the same losses, parameters and moving statistics; and these by hand
    in float64 for the first layer's first step."""
    net = AlexNet(
        with_stages(
            architecture('batchnorm227', 67, width=0.125), 'batchnorm67',
            lambda stage: None if isinstance(stage, Dropout) else stage,
        ),
        10,
    )  # fmt: skip
    batches = [
        {
            'image': random.integers(0, 256, (16, 67, 67, 3), dtype=np.uint8),
            'color_shift': np.zeros((16, 3), np.float32),
            'label': random.integers(0, 10, 16, dtype=np.int32),
            'mask': np.ones(16, np.float32),
        }
        for _ in range(5)
    ]
    mean = np.full((67, 67, 3), 127, np.float32)
    results = {}
    for shape in [(1, 1), (4, 1)]:
        mesh = columns.make_mesh(*shape)
        train_step = step.make_train_step(
            net, mesh, mean, seed=0, learning_rate=0.001, clock=Clock(5, 16, 160)
        )
        state = step.create_state(net, 0, mesh)
        losses, stats = [], [jax.device_get(state)]
        for batch in batches:
            state, scores = train_step(state, batch)
            losses.append(float(scores['loss']))
            stats.append(jax.device_get(state))
        variables = state.variables
        eval_step = step.make_eval_step(net, mesh, mean)
        results[shape] = losses, stats, float(eval_step(variables, batches[0])['loss'])
    (losses, states, evaluated), (others, other_states, other_evaluated) = results.values()
    assert np.abs(np.array(others) / losses - 1).max() < 1e-5
    assert other_evaluated == pytest.approx(evaluated, rel=1e-5)
    assert abs(evaluated / 16 / losses[0] - 1) > 1e-3  # moving statistics, not the batch's
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5),
        states[-1].variables, other_states[-1].variables,
    )  # fmt: skip

    _, activations = net.apply(states[0].variables, batches[0]['image'] - mean)
    values = np.asarray(activations['conv1/relu'], np.float64)
    moved = states[1].batch_stats['conv1_norm']
    expected_mean = 0.01 * values.mean(axis=(0, 1, 2))
    expected_var = 0.99 + 0.01 * values.var(axis=(0, 1, 2))
    np.testing.assert_allclose(moved['mean'], expected_mean, rtol=1e-4)
    np.testing.assert_allclose(moved['var'], expected_var, rtol=1e-4)


def test_columns_may_be_normalised_by_the_batch_too(random):
    """A net of two columns on 2×2 devices: statistics split with their maps."""
    stages = (Relu(), BatchNorm(), MaxPool())
    rows = (Conv('conv1', 8, 5, then=stages), Dense('fc2', 16))
    net = AlexNet(Architecture('two', 16, 2, rows, Output('fc3')), 10)
    batch = {
        'image': random.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8),
        'color_shift': np.zeros((8, 3), np.float32),
        'label': random.integers(0, 10, 8, dtype=np.int32),
        'mask': np.ones(8, np.float32),
    }
    mean = np.full((16, 16, 3), 127, np.float32)
    states = []
    for shape in [(1, 1), (2, 2)]:
        mesh = columns.make_mesh(*shape)
        train_step = step.make_train_step(
            net, mesh, mean, seed=0, learning_rate=0.01, clock=Clock(5, 8, 80)
        )
        state, _ = train_step(step.create_state(net, 0, mesh), batch)
        assert state.batch_stats['conv1_norm']['mean'].addressable_shards[0].data.shape == (
            8 // shape[1],
        )
        states.append(jax.device_get(state.variables))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6), *states
    )
