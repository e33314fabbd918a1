import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from alexnet_jax.network.pooling import max_pool


def xla_pool(x, size, stride):
    """XLA's own, the input filled up where the last window overhangs."""
    rows = -(-(x.shape[1] - size) // stride) + 1
    columns = -(-(x.shape[2] - size) // stride) + 1
    bottom = max(0, (rows - 1) * stride + size - x.shape[1])
    right = max(0, (columns - 1) * stride + size - x.shape[2])
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1),
        ((0, 0), (0, bottom), (0, right), (0, 0)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ('height', 'width', 'size', 'stride'),
    [(13, 13, 3, 2), (55, 55, 3, 2), (28, 14, 3, 2), (9, 7, 2, 2), (11, 11, 3, 1), (8, 8, 3, 3)],
)
def test_value_and_gradient_equal_xla_s_own(height, width, size, stride, random):
    shape = (2, height, width, 5)
    x = random.permutation(np.prod(shape)).reshape(shape).astype(np.float32)  # no ties
    y, pull = jax.vjp(lambda x: max_pool(x, size, stride), x)
    reference, pull_reference = jax.vjp(lambda x: xla_pool(x, size, stride), x)
    np.testing.assert_array_equal(y, reference)
    cotangent = random.standard_normal(y.shape).astype(np.float32)
    np.testing.assert_allclose(pull(cotangent)[0], pull_reference(cotangent)[0], atol=1e-6)


def test_a_tie_sends_the_gradient_to_one_place():
    x = jnp.ones((1, 7, 7, 1))
    _, pull = jax.vjp(max_pool, x)
    gradient = pull(jnp.ones((1, 3, 3, 1)))[0]
    expected = np.zeros((7, 7))
    expected[0:6:2, 0:6:2] = 1  # the first place of each of the nine windows
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@pytest.mark.parametrize('place', [(0, 0), (1, 2), (2, 2)])
def test_nan_is_not_lost(place):
    x = jnp.zeros((1, 3, 3, 1)).at[0, place[0], place[1], 0].set(jnp.nan)
    assert np.isnan(max_pool(x)).all()
