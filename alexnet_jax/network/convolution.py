"""Convolution, with a weight gradient that is fast on CPU for strided kernels."""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def conv(x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]) -> jax.Array:
    """A convolution without groups: x [batch, height, width, maps], kernel
    [size, size, maps, features] -> [batch, rows, columns, features].

    `padding` is (before, after) on both spatial axes. Reverse mode only.
    """
    return _conv(x, kernel, stride, padding)


def grouped_conv(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int], groups: int
) -> jax.Array:
    """The same, maps and features in `groups` parts that do not meet: kernel [size,
    size, maps / groups, features]. A convolution each: `feature_group_count` is
    several times slower (docs/LOG.md)."""
    if groups == 1:
        return conv(x, kernel, stride, padding)
    pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([conv(*pair, stride, padding) for pair in pairs], axis=-1)


def _plain(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), (padding, padding), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


_conv = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _forward(x, kernel, stride, padding):
    return _plain(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, residuals, cotangent):
    x, kernel = residuals
    plain = functools.partial(_plain, stride=stride, padding=padding)
    (to_x,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(cotangent)
    if stride > 1 and jax.default_backend() == 'cpu':
        return to_x, _kernel_gradient(x, kernel, cotangent, stride, padding)
    (to_kernel,) = jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(cotangent)
    return to_x, to_kernel


_conv.defvjp(_forward, _backward)


def _kernel_gradient(x, kernel, cotangent, stride, padding):
    """The same gradient as a few matrix products.

    Taken in blocks of stride×stride pixels ("space to depth") the convolution
    has stride 1 and `reach`×`reach` kernel places; each place's gradient is one
    product over all positions. XLA's form on CPU, a dilated convolution, takes
    twice as long for conv1 (`benchmarks/step_time.py` shows the whole step).
    """
    size, _, maps, features = kernel.shape
    batch, rows, columns, _ = cotangent.shape
    reach = -(-size // stride)
    blocks = (rows + reach - 1, columns + reach - 1)
    before = padding[0]
    x = lax.pad(x, jnp.zeros((), x.dtype), (
        (0, 0, 0),
        (before, blocks[0] * stride - before - x.shape[1], 0),
        (before, blocks[1] * stride - before - x.shape[2], 0),
        (0, 0, 0),
    ))  # fmt: skip
    x = x.reshape(batch, blocks[0], stride, blocks[1], stride, maps)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *blocks, stride * stride * maps)
    cotangent = cotangent.reshape(-1, features)
    places = jnp.stack([
        x[:, row : row + rows, column : column + columns].reshape(len(cotangent), -1).T @ cotangent
        for row in range(reach) for column in range(reach)
    ])  # fmt: skip
    gradient = places.reshape(reach, reach, stride, stride, maps, features)
    gradient = gradient.transpose(0, 2, 1, 3, 4, 5)
    return gradient.reshape(reach * stride, reach * stride, maps, features)[:size, :size]
