import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import (
    ARCHITECTURES,
    SMALL,
    architecture,
)
from alexnet_jax.network.layers import Architecture
from tests.network import parity

quick_jit = functools.partial(jax.jit, compiler_options=parity.QUICK)


def init(architecture: Architecture, classes: int = 10, seed: int = 0):
    net = AlexNet(architecture, classes)
    size = architecture.input_size
    return net, nn.unbox(quick_jit(net.init)(jax.random.key(seed), jnp.zeros((1, size, size, 3))))


def made_up(architecture: Architecture, classes: int = 10):
    """The same with weights from NumPy, which need no compiling."""
    net, size = AlexNet(architecture, classes), architecture.input_size
    shapes = nn.unbox(jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, size, size, 3))))
    random = np.random.default_rng(0)

    def draw(like):
        inputs = np.prod(like.shape[1:-1], initial=1)
        return jnp.asarray(random.normal(0, (2 / inputs) ** 0.5, like.shape), jnp.float32)

    drawn = jax.tree.map(draw, shapes)
    statistics = jax.tree.map(jnp.abs, drawn.pop('batch_stats', {}))  # no variance is below 0
    return net, drawn | {'batch_stats': statistics}


@pytest.fixture(scope='module')
def small():
    return init(SMALL)


def images(size: int, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 60, (batch, size, size, 3)).astype(np.float32)


def test_initial_values_have_the_table_s_std_and_bias(small):
    _, variables = small
    for layer in (*SMALL.layers, SMALL.output):
        weights = variables['params'][layer.name]
        assert np.std(weights['kernel']) == pytest.approx(layer.std, rel=0.1), layer.name
        assert abs(np.mean(weights['kernel'])) < layer.std / 10, layer.name
        np.testing.assert_array_equal(weights['bias'], layer.bias)


# Layers that read both columns, and nets whose normalization reaches across: by hand.
MEETINGS = {name: {'conv3', 'fc6', 'fc7', 'fc8'} for name in (
    'paper', 'paper_lrn_across', 'krizhevsky2012', 'no_lrn', 'non_overlapping', 'no_conv4',
    'paper_no_lrn', 'paper_non_overlapping', 'paper_no_conv4', 'caffe', 'caffenet', 'alexnet_bn',
    'conv5_192', 'conv5_192_std03', 'small', 'patterns', 'photographs', 'no_dropout',
    'paper_no_dropout',
    *(f'photographs_{name}' for name in ('no_lrn', 'non_overlapping', 'no_conv4', 'no_dropout')),
)} | {
    **{f'{base}six_conv': {'conv3', 'conv6', 'fc6', 'fc7', 'fc8'}
       for base in ('', 'paper_', 'photographs_')},
    **{f'{base}no_communication': {'fc8'}
       for base in ('', 'paper_', 'patterns_', 'photographs_')},
}  # fmt: skip
ACROSS = {'paper_lrn_across', 'caffe', 'caffenet'}


def test_the_nets_of_two_columns_are_these():
    assert {net.name for net in ARCHITECTURES.values() if net.columns == 2} == MEETINGS.keys()
    assert {net.columns for net in ARCHITECTURES.values()} == {1, 2}


@functools.partial(quick_jit, static_argnums=0)
def activations_of(module, variables):
    return module.apply(variables, images(module.architecture.input_size))[1]


def changed_by(module, variables, layer: str, kernel) -> set[str]:
    """Names of the activations whose first half changes with another kernel."""
    params = variables['params']
    changed = variables | {'params': params | {layer: params[layer] | {'kernel': kernel}}}
    before, after = activations_of(module, variables), activations_of(module, changed)
    return {
        name
        for name, x in before.items()
        if (x != after[name])[..., : max(1, x.shape[-1] // 2)].any()
    }


# Those that meet in other places than another one here; the rest with `pytest -m slow`.
QUICK_ONES = ('paper', 'caffe', 'no_communication', 'six_conv', 'small')


@pytest.mark.parametrize(
    'name',
    [
        name if name in QUICK_ONES else pytest.param(name, marks=pytest.mark.slow)
        for name in MEETINGS
    ],
)
def test_columns_meet_only_where_they_should(name):
    """Other kernels in column 1 of a layer change column 0 of the next where that reads
    both columns, and nowhere else."""
    net = ARCHITECTURES[name]
    if net.input_size > 100:
        net = architecture(name, 67, width=0.25)
    module, variables = made_up(net)
    rows = [row.name for row in (*net.layers, net.output)]
    for below, above in itertools.pairwise(rows):
        kernel = variables['params'][below]['kernel']
        changed = changed_by(module, variables, below, kernel.at[1].mul(1.5))
        assert below not in changed
        reaches = name in ACROSS and below in ('conv1', 'conv2')
        assert (above in changed) == (above in MEETINGS[name] or reaches), (below, above)


def test_pytorch_s_initial_values_are_uniform():
    _, variables = init(architecture('torchvision', 67, width=0.25))
    inputs = {'conv1': 3 * 121, 'conv2': 16 * 25, 'fc7': 1024, 'fc8': 1024}
    for layer, count in inputs.items():
        for part in ('kernel', 'bias'):
            values, bound = np.asarray(variables['params'][layer][part]), count**-0.5
            assert np.abs(values).max() <= bound, (layer, part)
            assert np.std(values) == pytest.approx(bound / 3**0.5, rel=0.3), (layer, part)


def test_dropout_halves_the_units_and_doubles_the_rest(small):
    net, variables = small
    x = images(28, batch=64)
    _, activations = quick_jit(net.apply)(variables, x, dropout_key=jax.random.key(3))
    before, after = activations['fc6/relu'], activations['fc6/dropout']
    alive = np.asarray(before) > 0
    kept = np.asarray(after)[alive] != 0
    assert kept.mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(np.asarray(after)[alive][kept], 2 * np.asarray(before)[alive][kept])
    _, evaluated = quick_jit(net.apply)(variables, x)
    np.testing.assert_array_equal(evaluated['fc6/dropout'], evaluated['fc6/relu'])


def test_dropout_depends_on_example_and_unit_alone(small):
    """An image keeps its units wherever it stands in a batch; two images, two
    columns and two layers drop different ones."""
    net, variables = small
    x = images(28, batch=4)

    def kept(rows):
        _, activations = quick_jit(net.apply)(
            variables, x[rows], dropout_key=jax.random.key(3), examples=jnp.asarray(rows)
        )
        return {name: np.asarray(activations[f'{name}/dropout']) != 0 for name in ('fc6', 'fc7')}

    whole, part = kept([0, 1, 2, 3]), kept([3, 1])
    np.testing.assert_array_equal(whole['fc6'][[3, 1]], part['fc6'])
    alike = [
        (whole['fc6'][0], whole['fc6'][1]),
        (whole['fc6'][0, :256], whole['fc6'][0, 256:]),
        (whole['fc6'][0], whole['fc7'][0]),
    ]
    for one, other in alike:
        assert 0.3 < np.mean(one == other) < 0.7


def dropped_by(apply, x) -> np.ndarray:
    """The units that fc6 keeps, image by image; `apply`: images -> activations."""
    kept = np.asarray(quick_jit(lambda x: apply(x)['fc6/dropout'] != 0)(x))
    return kept.reshape(x.shape[0], -1)


@pytest.mark.thorough
def test_images_drop_units_of_their_own_however_a_batch_is_split(small):
    """Without numbers given: by `jax.vmap`, once and twice, inside and outside `jax.jit`, with
    gradients, and over the mesh, as in one batch."""
    net, variables = small
    key, x = jax.random.key(3), images(28, batch=4)

    def whole(x):
        return net.apply(variables, x, dropout_key=key)[1]

    expected = dropped_by(whole, x)
    assert len(np.unique(expected, axis=0)) == 4
    one_by_one = jax.vmap(lambda image: whole(image[None]))
    np.testing.assert_array_equal(dropped_by(one_by_one, x), expected)
    inside = jax.vmap(jax.jit(lambda image: whole(image[None])))
    np.testing.assert_array_equal(dropped_by(inside, x), expected)
    twice = jax.vmap(jax.vmap(lambda image: whole(image[None])))
    pairs = dropped_by(lambda x: twice(x.reshape(2, 2, 28, 28, 3)), x)
    np.testing.assert_array_equal(pairs, expected)

    def slope(x):
        """Of a sum that each kept unit moves: where it is not 0."""

        def total(image):
            return whole(image[None])['fc6/dropout'].sum()

        return jax.vmap(jax.grad(total))(x)

    assert np.isfinite(quick_jit(slope)(x)).all()
    spec = P(device_mesh.DATA)
    over_mesh = jax.shard_map(
        lambda x: net.clone(column_axis=device_mesh.COLUMN).apply(
            variables, x, dropout_key=key)[1]['fc6/dropout'] != 0,
        mesh=device_mesh.make_mesh(2, 1), in_specs=spec, out_specs=P(device_mesh.DATA, device_mesh.COLUMN),
    )  # fmt: skip
    np.testing.assert_array_equal(quick_jit(over_mesh)(x), expected)
