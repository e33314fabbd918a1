"""Operations of the net with and without jit, on arrays of the host and of a device, on one and on
several devices: the value of a loop in float64, and its slope along a direction."""

import chex
import jax
import numpy as np
from absl.testing import parameterized
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import device_mesh
from alexnet_jax.network.convolution import conv
from alexnet_jax.network.normalization import local_response_norm, same_map_norm
from alexnet_jax.network.pooling import average_pool, max_pool
from tests.network import test_convolution, test_normalization
from tests.network.test_normalization import CONVENTIONS, SAME_MAP

RANDOM = np.random.default_rng(0)
KERNEL, BIAS = RANDOM.standard_normal((3, 3, 6, 4)), RANDOM.standard_normal(4)


def pool_loop(reduce):
    """Windows of 3×3, 2 apart, which end where a map of 8×8 does."""

    def pool(x: np.ndarray) -> np.ndarray:
        rows = [[reduce(x[:, i : i + 3, j : j + 3], axis=(1, 2)) for j in range(0, 7, 2)]
                for i in range(0, 7, 2)]  # fmt: skip
        return np.moveaxis(np.array(rows), 2, 0)

    return pool


OPERATIONS = {
    'conv': (
        lambda x: conv(x, np.float32(KERNEL), np.float32(BIAS), 2, (1, 0)),
        lambda x: test_convolution.loop(x, KERNEL, 2, (1, 0)) + BIAS,
    ),
    'local_response_norm': (
        lambda x: local_response_norm(x, 3, 0.3, 0.6, 1.5),
        lambda x: test_normalization.loop(x, CONVENTIONS['three neighbors, strong'], 1),
    ),
    'same_map_norm': (
        lambda x: same_map_norm(x, 3, 0.3 / 9, 0.6, 1.5),
        lambda x: test_normalization.same_map_loop(x, SAME_MAP['three places, strong']),
    ),
    'max_pool': (max_pool, pool_loop(np.max)),
    'average_pool': (average_pool, pool_loop(np.mean)),
}


def over_devices(operation, devices: int):
    """The operation, compiled, with the batch split over a mesh of so many devices."""
    spec, mesh = P(device_mesh.DATA), device_mesh.make_mesh(devices, 1)
    # Unchecked: kernel and bias, which lie outside, are the same on every device.
    return jax.jit(
        jax.shard_map(operation, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    )


class TestOperations(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    @parameterized.product(name=tuple(OPERATIONS), devices=(1, 4))
    def test_value_and_slope_equal_the_loop_s(self, name, devices):
        operation, loop = OPERATIONS[name]
        if devices > 1:
            operation = over_devices(operation, devices)
        random = np.random.default_rng(1)
        x, along = random.standard_normal((2, 4, 8, 8, 6)).astype(np.float32)
        cotangent = random.standard_normal(loop(x).shape).astype(np.float32)

        def value_and_gradient(x, cotangent):
            value, pull = jax.vjp(operation, x)
            return value, *pull(cotangent)

        value, gradient = self.variant(value_and_gradient)(x, cotangent)
        chex.assert_tree_all_finite((value, gradient))
        wide, step = x.astype(np.float64), 1e-6 * along
        above, below = loop(wide + step), loop(wide - step)
        chex.assert_trees_all_close(
            {'value': value, 'slope': np.sum(gradient * along)},
            {'value': loop(wide), 'slope': np.sum(cotangent * (above - below)) / 2e-6},
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip
