"""Local response normalization (paper §3.3).

    b_i = a_i / (k + α · Σ_j a_j²)^β        |i − j| ≤ n // 2

over n neighboring kernel maps at the same position; the window ends at the first and the last map.
The authors' code also normalizes over the n×n neighboring positions of the same map.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.network import checks, platforms, rules
from alexnet_jax.network.derivatives import with_gradient


def local_response_norm(
    a: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> jax.Array:
    """Normalizes `a` over its last axis; the formula above.

    Args:
      a: activations [..., maps].
      size: n, the number of neighbors, odd.
      alpha: α, the factor of the sum. For conventions that divide α by n (Caffe, PyTorch, the
        authors' code), pass α / n.
      beta: β.
      k: k, above 0.

    Returns:
      b, of a's shape.

    Raises:
      ValueError: an even window, or a shape, type or number that is not allowed.
    """
    checks.require('local_response_norm', size=(size, rules.ODD))
    _require('local_response_norm', a, alpha, beta, k)
    if a.ndim < 1:
        raise ValueError(f'local_response_norm: a has the shape {a.shape}; expected: (..., maps)')
    return _norm(a, size, alpha, beta, k, (-1,))


def same_map_norm(
    a: jax.Array, size: int = 5, alpha: float = 1e-3 / 25, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """Normalizes over the `size`×`size` neighboring positions of the same map, fewer at the edges.

    a: [batch, height, width, maps]. The authors' code divides α by size²: pass α / size².

    Raises:
      ValueError: as `local_response_norm`.
    """
    checks.require('same_map_norm', size=(size, rules.ODD))
    _require('same_map_norm', a, alpha, beta, k)
    checks.require_maps('same_map_norm', a)
    return _norm(a, size, alpha, beta, k, (1, 2))


def _require(function: str, a: jax.Array, alpha: float, beta: float, k: float) -> None:
    checks.require_type(f'{function}: a', a, jnp.floating)
    checks.require(
        function, alpha=(alpha, rules.NOT_NEGATIVE), beta=(beta, rules.FINITE),
        k=(k, rules.POSITIVE),
    )  # fmt: skip


def _norm(a, size, alpha, beta, k, axes):
    around = functools.partial(_window_sum, size=size, axes=axes, precision=_precision(a))
    how = (around, alpha, beta, k)
    return with_gradient(functools.partial(_forward, how), functools.partial(_backward, how))(a)


def _forward(how, a):
    around, alpha, beta, k = how
    wide = widened(a)
    return (wide * _power(k + alpha * around(wide * wide), beta)).astype(a.dtype), a


def _backward(how, a, cotangent):
    # With d = k + α Σ a² and g the cotangent of b = a · d^−β:
    #   ∂/∂a_i = g_i · d_i^−β − 2αβ · a_i · Σ_j g_j · a_j · d_j^(−β−1)
    # j over the same neighbors. Only `a` is saved for the backward pass: computing d again costs
    # less than storing and loading it.
    around, alpha, beta, k = how
    wide = widened(a)
    d = k + alpha * around(wide * wide)
    direct = widened(cotangent) * _power(d, beta)
    return ((direct + -2 * alpha * beta * wide * around(direct * wide / d)).astype(a.dtype),)


def widened(x: jax.Array) -> jax.Array:
    """Returns x in float32 at least: squares and powers in bfloat16 are too inexact."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _precision(a: jax.Array) -> lax.Precision:
    """Returns the precision of products on TPU: three passes of bfloat16 hold the square of a
    bfloat16 number exactly; float32 numbers need six."""
    return lax.Precision.HIGH if a.dtype == jnp.bfloat16 else lax.Precision.HIGHEST


def _window_sum(x: jax.Array, size: int, axes: tuple[int, ...], precision) -> jax.Array:
    """Returns the sum of the `size` neighbors along each of the axes, zeros beyond the ends."""
    band = functools.partial(_band_product, precision=precision)
    for axis in axes:
        x = platforms.form(tpu=band, default=_sum_of_slices)(x, size, axis)
    return x


def _sum_of_slices(x: jax.Array, size: int, axis: int) -> jax.Array:
    """Adds shifted slices, which XLA fuses into one pass; `reduce_window` is slower."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (size // 2, size // 2)
    padded, extent = jnp.pad(x, padding), x.shape[axis]
    return sum(lax.slice_in_dim(padded, i, i + extent, axis=axis) for i in range(size))  # pyright: ignore[reportReturnType]


def _band_product(x: jax.Array, size: int, axis: int, precision) -> jax.Array:
    """Multiplies by a band matrix of ones: the matrix unit of a TPU is idle otherwise, and the
    surrounding operations are fused with the product.
    """
    place = np.arange(x.shape[axis])
    band = abs(place[:, None] - place) <= size // 2
    product = jnp.tensordot(x, band.astype(x.dtype), (axis, 0), precision=precision)
    return jnp.moveaxis(product, -1, axis)


def _power(d: jax.Array, beta: float) -> jax.Array:
    """Returns d^−β. For the paper's β = 3/4 it avoids the slow general power."""
    if beta == 0.75:
        root = lax.rsqrt(d)
        return root * lax.sqrt(root)
    return d**-beta
