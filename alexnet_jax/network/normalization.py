"""Local response normalisation (paper §3.3), and batch normalisation of later nets.

    b_i = a_i / (k + α · Σ_j a_j²)^β        |i − j| ≤ n // 2

over the n neighbouring kernel maps at the same place, the window cut at the
first and the last map. The authors' code also has it over the n×n neighbouring
places of the same map.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.network.convolution import sum_over_places


def local_response_norm(
    a: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> jax.Array:
    """Normalises `a` over its last axis; the formula above.

    Args:
      a: activations [..., maps].
      size: n, the number of neighbours, odd.
      alpha: α, as it multiplies the sum. For conventions that divide α by n
        (Caffe, PyTorch, the authors' code), pass α / n.
      beta: β.
      k: k, above 0.

    Returns:
      b, of a's shape. Differentiable in reverse mode only.
    """
    return _norm(a, size, alpha, beta, k, (-1,))


def same_map_norm(
    a: jax.Array, size: int = 5, alpha: float = 1e-3 / 25, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """The same over the `size`×`size` neighbouring places of the same map, cut at the
    edges; a [batch, height, width, maps]. The authors' code divides α by size²:
    pass α / size²."""
    return _norm(a, size, alpha, beta, k, (1, 2))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _norm(a, size, alpha, beta, k, axes):
    wide = _wide(a)
    return (wide * _power(_denominator(wide, size, alpha, k, axes), beta)).astype(a.dtype)


def _forward(a, size, alpha, beta, k, axes):
    return _norm(a, size, alpha, beta, k, axes), a


def _backward(size, alpha, beta, k, axes, a, cotangent):
    # With d = k + α Σ a² and g the cotangent of b = a · d^−β:
    #   ∂/∂a_i = g_i · d_i^−β − 2αβ · a_i · Σ_j g_j · a_j · d_j^(−β−1)
    # j over the same neighbours. Only `a` is kept from the forward pass: d is
    # cheaper to compute again than to store and fetch.
    wide = _wide(a)
    d = _denominator(wide, size, alpha, k, axes)
    direct = _wide(cotangent) * _power(d, beta)
    around = _window_sum(direct * wide / d, size, axes)
    return ((direct - 2 * alpha * beta * wide * around).astype(a.dtype),)


_norm.defvjp(_forward, _backward)


def _wide(x: jax.Array) -> jax.Array:
    """float32 at least: squares and powers of bfloat16 would lose what digits it has."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _denominator(a: jax.Array, size: int, alpha: float, k: float, axes) -> jax.Array:
    return k + alpha * _window_sum(a * a, size, axes)


def _window_sum(x: jax.Array, size: int, axes: tuple[int, ...]) -> jax.Array:
    """The sum of the `size` neighbours along each of the axes, zeros beyond the ends."""
    # Shifted slices, not `reduce_window`: XLA fuses them into one pass.
    half = size // 2
    for axis in axes:
        padding = [(0, 0)] * x.ndim
        padding[axis] = (half, half)
        padded = jnp.pad(x, padding)
        extent = x.shape[axis]
        x = sum(lax.slice_in_dim(padded, i, i + extent, axis=axis) for i in range(size))  # pyright: ignore[reportAssignmentType]
    return x


def _power(d: jax.Array, beta: float) -> jax.Array:
    """d^−β, without the slow general power where β is the paper's 3/4."""
    if beta == 0.75:
        root = lax.rsqrt(d)
        return root * lax.sqrt(root)
    return d**-beta


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each map less its mean, over √(variance + epsilon), times `scale` plus `bias`.

    Mean and variance (that of the batch itself, biased) are over the batch and all places:
    E (x − E x)², as E x² − (E x)² loses digits where the mean is large.

    Args:
      x: [batch, ..., maps].
      scale, bias: [maps].
      axis_name: the mesh axis that the batch is split over, in equal parts.

    Returns:
      what is normal, of x's shape and type, and mean and variance [maps]. Differentiable in
      reverse mode only; the gradient of mean and variance is taken to be 0.
    """
    return _batch_forward(x, scale, bias, epsilon, axis_name)[0]


def _batch_forward(x, scale, bias, epsilon, axis_name):
    wide = _wide(x)
    mean = _mean_over_places(sum_over_places(wide), x, axis_name)
    variance = _mean_over_places(sum_over_places((wide - mean) ** 2), x, axis_name)
    inverse = lax.rsqrt(variance + epsilon)
    normal = (wide - mean) * (scale * inverse) + bias
    return (normal.astype(x.dtype), mean, variance), (x, scale, mean, inverse)


def _batch_backward(epsilon, axis_name, residuals, cotangents):
    # With n = (x − mean) · inverse and g the cotangent of n · scale + bias:
    #   ∂/∂x = scale · inverse · (g − E g − n · E g·n)
    x, scale, mean, inverse = residuals
    g, centered = _wide(cotangents[0]), _wide(x) - mean
    of_bias = sum_over_places(g)
    of_scale = sum_over_places(g * centered) * inverse
    mean_g, mean_gn = (_mean_over_places(total, x, axis_name) for total in (of_bias, of_scale))
    of_x = (g - mean_g - centered * (inverse * mean_gn)) * (scale * inverse)
    return of_x.astype(x.dtype), of_scale, of_bias


batch_norm.defvjp(_batch_forward, _batch_backward)


def _mean_over_places(total: jax.Array, x: jax.Array, axis_name: str | None) -> jax.Array:
    """Of a device's sums over the places of x [batch, ..., maps], over the mesh axis too."""
    places = math.prod(x.shape[:-1])
    return total / places if axis_name is None else lax.pmean(total, axis_name) / places
