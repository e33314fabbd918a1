"""Gradients of data shards, against sums by hand, in each platform's form."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import device_mesh
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.layers import Architecture, Dense, Output
from alexnet_jax.training import gradient_sums

SHAPES = {'conv1': {'kernel': (3, 2), 'bias': (2,)}, 'conv1_norm': {'scale': (2,)},
          'conv2': {'kernel': (2, 2)}, 'fc3': {'kernel': (2, 5), 'bias': (5,)}}  # fmt: skip

DENSE = Architecture('dense', 2, 1, (Dense('fc1', 5),), Output('fc3'))


def is_shape(x) -> bool:
    return isinstance(x, tuple)


@pytest.mark.parametrize('shards', [2, 4])
@pytest.mark.parametrize('net', [ARCHITECTURES['small'], DENSE], ids=['small', 'dense'])
def test_gradients_are_the_shards_sums(net, shards, every_form, random):
    """Of a sum of products of all parameters with numbers of each shard's own."""
    params = jax.tree.map(lambda s: random.normal(size=s), SHAPES, is_leaf=is_shape)
    factors = jax.tree.map(lambda s: random.normal(size=(shards, *s)), SHAPES, is_leaf=is_shape)
    mesh = device_mesh.make_mesh(shards, 1)

    def total(params, factors):
        own = gradient_sums.for_each_shard(params, net)
        products = jax.tree.map(lambda x, factor: jnp.sum(x * factor[0]), own, factors)
        return jax.lax.psum(sum(jax.tree.leaves(products)), 'data')

    over_mesh = jax.shard_map(total, mesh=mesh, in_specs=(P(), P('data')), out_specs=P())
    found = jax.jit(jax.grad(over_mesh))(params, factors)
    expected = jax.tree.map(lambda factor: factor.sum(axis=0), factors)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )


def test_on_tpus_the_first_kernel_waits_for_the_sums_of_fully_connected_layers(tpu_forms):
    """In the lowered program: the operands of the barrier are two sums and the first kernel's gradient,
    which is all-reduced afterwards."""
    params = {name: jax.tree.map(jnp.ones, SHAPES[name], is_leaf=is_shape) for name in SHAPES}

    def total(params):
        own = gradient_sums.for_each_shard(params, ARCHITECTURES['small'])
        return jax.lax.psum(sum(jnp.sum(x**2) for x in jax.tree.leaves(own)), 'data')

    mesh = device_mesh.make_mesh(2, 1)
    over_mesh = jax.shard_map(total, mesh=mesh, in_specs=P(), out_specs=P())
    text = jax.jit(jax.grad(over_mesh)).lower(params).as_text()
    (found,) = re.findall(r'(%\d+):3 = stablehlo.optimization_barrier (.*?), (.*?), (.*?) :', text)
    waits, *sums, kernel = found
    assert all(f'{one} = "stablehlo.all_reduce"' in text for one in sums)
    assert f'{kernel} = stablehlo.multiply' in text
    assert f'"stablehlo.all_reduce"({waits}#2)' in text
