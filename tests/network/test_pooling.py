import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from alexnet_jax.network import platforms
from alexnet_jax.network.pooling import average_pool, max_pool


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


WINDOWS = pytest.mark.parametrize(('height', 'width', 'size', 'stride'), [
    (13, 13, 3, 2), (55, 55, 3, 2), (28, 14, 3, 2), (9, 7, 2, 2), (11, 11, 3, 1), (8, 8, 3, 3),
    *(pytest.param(*wide, marks=pytest.mark.slow) for wide in ((31, 31, 16, 15), (18, 18, 17, 1))),
])  # fmt: skip


@pytest.mark.usefixtures('every_form')
@pytest.mark.thorough
@WINDOWS
def test_value_and_gradient_equal_xla_s_own(height, width, size, stride, random):
    shape = (2, height, width, 5)
    x = random.permutation(np.prod(shape)).reshape(shape).astype(np.float32)  # no ties
    y, pull = jax.vjp(jax.jit(lambda x: max_pool(x, size, stride)), x)
    reference, pull_reference = jax.vjp(jax.jit(lambda x: xla_pool(x, size, stride)), x)
    np.testing.assert_array_equal(y, reference)
    cotangent = random.standard_normal(y.shape).astype(np.float32)
    np.testing.assert_allclose(pull(cotangent)[0], pull_reference(cotangent)[0], atol=1e-6)


@pytest.mark.usefixtures('every_form')
def test_a_tie_sends_the_gradient_to_one_place():
    x = jnp.ones((1, 7, 7, 1))
    _, pull = jax.vjp(jax.jit(max_pool), x)
    gradient = pull(jnp.ones((1, 3, 3, 1)))[0]
    expected = np.zeros((7, 7))
    expected[0:6:2, 0:6:2] = 1  # the first place of each of the nine windows
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


@WINDOWS
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_form_for_tpu_has_the_same_bits(height, width, size, stride, dtype, random):
    x = jnp.asarray(random.integers(-2, 3, (2, height, width, 3)), dtype)  # with ties
    windows = max_pool(x, size, stride).shape
    cotangent = jnp.asarray(random.standard_normal(windows), dtype)

    def gradient():
        return jax.vjp(lambda x: max_pool(x, size, stride), x)[1](cotangent)[0]

    default = gradient()
    with platforms.traced_for('tpu'):
        np.testing.assert_array_equal(gradient(), default)


@pytest.mark.parametrize('place', [(0, 0), (1, 2), (2, 2)])
def test_nan_is_not_lost(place):
    x = jnp.zeros((1, 3, 3, 1)).at[0, place[0], place[1], 0].set(jnp.nan)
    assert np.isnan(max_pool(x)).all()


@WINDOWS
def test_average_value_and_gradient_against_a_loop(height, width, size, stride, random):
    x = random.standard_normal((2, height, width, 5)).astype(np.float32)
    y, pull = jax.vjp(jax.jit(lambda x: average_pool(x, size, stride)), x)
    rows, columns = (-(-(extent - size) // stride) + 1 for extent in (height, width))
    assert y.shape == (2, rows, columns, 5)
    cotangent = random.standard_normal(y.shape).astype(np.float32)
    expected = np.empty(y.shape)
    gradient = np.zeros(x.shape)
    for i, j in np.ndindex(rows, columns):
        # Slices end where the map does: the mean is over what lies in it.
        here = np.s_[:, i * stride : i * stride + size, j * stride : j * stride + size]
        window = x[here].astype(np.float64)
        expected[:, i, j] = window.mean(axis=(1, 2))
        gradient[here] += cotangent[:, i : i + 1, j : j + 1] / window[0, ..., 0].size
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_allclose(pull(cotangent)[0], gradient, atol=1e-6)


def test_the_mean_of_bfloat16_is_added_up_in_float32(random):
    """The mean of 256 values, and each one's gradient where 16 windows meet, as in float64 but
    for the last rounding."""
    x = jnp.asarray(random.uniform(1, 2, (1, 16, 16, 3)), jnp.bfloat16)
    y, pull = jax.vjp(lambda x: average_pool(x, 16, 16), x)
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(y, np.float64)[:, 0, 0], exact, rtol=2**-8)
    assert pull(jnp.ones_like(y))[0].dtype == jnp.bfloat16


@pytest.mark.usefixtures('every_form')
@pytest.mark.parametrize('pool', [max_pool, average_pool])
def test_gradients_of_windows_that_meet_are_added_up_in_float32(pool):
    """One place that four windows read: 1, and three parts too small to count beside it one at a
    time in bfloat16, where the next number is 1 + 2^-7."""
    x = jnp.zeros((1, 3, 3, 1), jnp.bfloat16).at[0, 1, 1, 0].set(1)
    _, pull = jax.vjp(lambda x: pool(x, 2, 1), x)
    for large in range(4):
        cotangent = jnp.full(4, 0.0029, jnp.bfloat16).at[large].set(1).reshape(1, 2, 2, 1)
        (gradient,) = pull(cotangent if pool is max_pool else 4 * cotangent)
        assert gradient.dtype == jnp.bfloat16
        exact = np.asarray(cotangent, np.float64).sum()
        assert float(gradient[0, 1, 1, 0]) == float(jnp.bfloat16(exact)) == 1 + 2**-7
