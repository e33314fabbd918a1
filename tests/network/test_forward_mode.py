"""Forward mode, and derivatives of derivatives: through every operation with a gradient of its
own, through whole nets, and on the mesh. In float64."""

import functools

import chex
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.batch_normalization import batch_norm
from alexnet_jax.network.convolution import grouped_conv
from alexnet_jax.network.normalization import local_response_norm, same_map_norm
from alexnet_jax.network.pooling import average_pool, max_pool
from tests.network import parity
from tests.network.test_float64 import PYTORCH, in_float64
from tests.network.test_own_loop import DATA, loss_of, over_mesh
from tests.network.test_parity import variables

pytestmark = pytest.mark.usefixtures('quickly')
CLOSE = {'rtol': 1e-9, 'atol': 1e-12}


@pytest.mark.parametrize(('operation', 'shapes'), [
    (lambda x: max_pool(x, 3, 2), [(2, 8, 7, 3)]),
    (lambda x: average_pool(x, 3, 2), [(2, 8, 7, 3)]),
    (lambda x: local_response_norm(x, 5, 0.3, 0.75, 1.5), [(2, 3, 3, 9)]),
    (lambda x: local_response_norm(x, 3, 0.3, 0.6, 1.5), [(2, 9)]),
    (lambda x: same_map_norm(x, 3, 0.3), [(2, 5, 4, 2)]),
    (lambda *args: grouped_conv(*args, 2, (1, 0), 2), [(2, 5, 5, 4), (2, 2, 2, 6), (6,)]),
    (lambda *args: batch_norm(*args, 1e-3)[0], [(3, 2, 2, 4), (4,), (4,)]),
], ids=['max', 'average', 'lrn', 'lrn 0.6', 'same map', 'conv', 'batch norm'])  # fmt: skip
def test_first_and_second_derivatives_of_operations_equal_differences(
    operation, shapes, x64, random
):
    """Forward, reverse, and each of both over each, of values that no tie or corner is near."""
    # Numbers a twentieth apart or more, in any order.
    arrays = [random.permutation(np.prod(shape)).reshape(shape) / 20 - 1 for shape in shapes]
    operation = jax.jit(operation)
    check_grads(operation, arrays, order=2, atol=1e-4, rtol=1e-4)
    # Along several directions at once, as jax.jacfwd and jax.hessian do.
    columns = jax.jacfwd(operation)(*arrays)
    chex.assert_trees_all_close(columns, jax.jacrev(operation)(*arrays), **CLOSE)


def directions(params: dict, random: np.random.Generator) -> dict:
    return jax.tree.map(lambda x: np.abs(x).mean() * random.standard_normal(x.shape), params)


def moved(params: dict, along: dict, step: float) -> dict:
    return jax.tree.map(lambda x, v: x + step * v, params, along)


def products_by(loss):
    """The Hessian of a loss times a direction, both ways that need forward mode."""
    return {
        'forward over reverse': lambda params, along: jax.jvp(
            jax.grad(loss), (params,), (along,))[1],
        'reverse over forward': jax.grad(
            lambda params, along: jax.jvp(loss, (params,), (along,))[1]),
    }  # fmt: skip


SLOW = ('batchnorm227 training', 'cifar18', 'krizhevsky2012', 'caffe', 'four_layer maxout')


@pytest.mark.thorough
@pytest.mark.parametrize(
    'case', ['small', *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_hessian_products_equal_pytorch_s_and_differences(case, x64, random):
    loss, params = in_float64(case)
    loss = functools.partial(lambda loss, params: loss(params)[0], loss)
    along, step = directions(params, random), 1e-6
    gradient = jax.jit(jax.grad(loss))
    ends = [gradient(moved(params, along, by)) for by in (step, -step)]
    rise = flatten_dict(jax.tree.map(lambda a, b: (a - b) / (2 * step), *ends), sep='/')
    theirs = None
    if PYTORCH:
        from tests.network import torch_nets

        weights = jax.tree.map(np.float64, variables(case))
        batch = parity.images_and_labels(parity.reduced(case).input_size)
        theirs = torch_nets.hessian_product(case, weights, *batch, along)
    for name, product in products_by(loss).items():
        found = flatten_dict(jax.device_get(jax.jit(product)(params, along)), sep='/')
        assert max(parity.apart(found, rise).values()) < 1e-5, name
        assert not theirs or max(parity.apart(found, theirs).values()) < 1e-12, name


@pytest.mark.thorough
def test_tangents_of_logits_and_activations_equal_differences(x64, random):
    """Along parameters and images; by `jax.jvp`, `jax.linearize` and under `jax.vmap`."""
    net = AlexNet(parity.reduced('small'), parity.CLASSES, compute='float64')
    images = parity.images_and_labels(28)[0].astype(np.float64)
    at = (jax.tree.map(np.float64, variables('small')['params']), images)
    along = (directions(at[0], random), random.standard_normal(images.shape))

    def run(params, images):
        return net.apply({'params': params}, images)

    ends = [jax.jit(run)(*moved(at, along, by)) for by in (1e-6, -1e-6)]
    rise = jax.tree.map(lambda a, b: (a - b) / 2e-6, *ends)
    found = jax.jit(lambda along: jax.jvp(run, at, along)[1])(along)
    chex.assert_trees_all_close(found, rise, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(jax.linearize(jax.jit(run), *at)[1](*along), found, **CLOSE)
    twice = jax.tree.map(lambda x: np.stack([x, 2 * x]), along)
    both = jax.jit(jax.vmap(lambda along: jax.jvp(run, at, along)[1]))(twice)
    expected = jax.tree.map(lambda x: np.stack([x, 2 * x]), found)
    chex.assert_trees_all_close(both, expected, **CLOSE)


@pytest.mark.thorough
@pytest.mark.parametrize(('case', 'shape'), [('small', (2, 2)), ('batchnorm227 training', (2, 1))])
def test_on_the_mesh_they_are_those_of_one_device(case, shape, random):
    """Of the loss of the whole batch, in float32: its tangent, and a product with its Hessian."""
    training = case.endswith('training')
    net = AlexNet(parity.reduced(case), parity.CLASSES)
    weights, batch = variables(case), parity.images_and_labels(net.architecture.input_size)
    params, kept = weights['params'], weights['batch_stats']
    along = jax.tree.map(np.float32, directions(params, random))

    def of(loss):
        def slope(params, along, kept, *batch):
            return jax.jvp(lambda params: loss(params, kept, *batch)[0], (params,), (along,))[1]

        return jax.value_and_grad(slope)

    expected = jax.jit(of(loss_of(net, training)))(params, along, kept, *batch)
    on_columns = net.clone(column_axis=device_mesh.COLUMN)
    loss, _, specs = over_mesh(on_columns, shape, training)
    found = jax.jit(
        jax.shard_map(
            of(loss), mesh=device_mesh.make_mesh(*shape),
            in_specs=(specs['params'], specs['params'], specs['batch_stats'], DATA, DATA),
            out_specs=(P(), specs['params']),
        )
    )(params, along, kept, *batch)  # fmt: skip
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-4)
    one, other = (flatten_dict(jax.device_get(x[1]), sep='/') for x in (found, expected))
    assert max(parity.apart(one, other).values()) < 1e-3


def test_bfloat16_has_tangents_of_its_digits(random):
    case, images = 'small', parity.images_and_labels(28)[0]
    params = variables(case)['params']
    along = jax.tree.map(np.float32, directions(params, random))

    def tangent(compute):
        net = AlexNet(parity.reduced(case), parity.CLASSES, compute=compute)

        def logits(params):
            return net.apply({'params': params}, images)[0]

        return np.ravel(jax.jit(lambda: jax.jvp(logits, (params,), (along,))[1])())

    exact, rough = tangent('float32'), tangent('bfloat16')
    assert 0.95 < exact @ rough / np.linalg.norm(exact) / np.linalg.norm(rough) < 1
