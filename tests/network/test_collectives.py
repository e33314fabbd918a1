"""Gather and scatter between columns against NumPy, in each platform's form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import collectives, device_mesh

MAPS = 3


def over_columns(function, devices: int, out: P):
    """function: (the device's maps) -> array, on a mesh of columns; the maps are split."""
    mesh = device_mesh.make_mesh(1, devices)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=P(None, 'column'), out_specs=out))


@pytest.mark.parametrize('devices', [2, 4])
@pytest.mark.parametrize('held', [1, 2])
def test_gather_puts_columns_side_by_side(devices, held, random, every_form):
    """Each device multiplies the gathered maps by weights of its own; the gradient is the sum of
    all devices' weights."""
    maps = random.normal(size=(5, devices * held * MAPS)).astype(np.float32)
    weights = random.normal(size=(5, devices, devices * held * MAPS)).astype(np.float32)

    def weighted(here):
        whole = collectives.gather(jnp.split(here, held, axis=-1), 'column')
        own = jax.lax.dynamic_index_in_dim(weights, jax.lax.axis_index('column'), 1)
        return whole[:, None] * own

    run = over_columns(weighted, devices, P(None, 'column'))
    np.testing.assert_array_equal(run(maps), maps[:, None] * weights)
    gradient = jax.jit(jax.grad(lambda x: run(x).sum()))(maps)
    np.testing.assert_allclose(gradient, weights.sum(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('devices', [2, 4])
@pytest.mark.parametrize('held', [1, 2])
def test_scatter_sums_each_columns_shares(devices, held, random, every_form):
    columns = devices * held
    shares = random.normal(size=(5, devices, columns * MAPS)).astype(np.float32)
    weights = random.normal(size=(5, columns * MAPS)).astype(np.float32)

    def scattered(here):
        return jnp.concatenate(
            collectives.scatter(jnp.split(here[:, 0], columns, axis=-1), 'column'), axis=-1
        )

    run = over_columns(scattered, devices, P(None, 'column'))
    np.testing.assert_allclose(run(shares), shares.sum(axis=1), rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: (run(x) * weights).sum()))(shares)
    np.testing.assert_array_equal(gradient, np.broadcast_to(weights[:, None], shares.shape))
