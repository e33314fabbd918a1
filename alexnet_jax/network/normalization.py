"""Local response normalisation (paper §3.3).

    b_i = a_i / (k + α · Σ_j a_j²)^β        |i − j| ≤ n // 2

over the n neighbouring kernel maps at the same place, the window cut at the
first and the last map. The authors' code also has it over the n×n neighbouring
places of the same map.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.network import checks, rules
from alexnet_jax.network.derivatives import with_gradient


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
    """The same over the `size`×`size` neighbouring places of the same map, cut at the
    edges; a [batch, height, width, maps]. The authors' code divides α by size²:
    pass α / size².

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


def _norm(a, *how):
    return with_gradient(functools.partial(_forward, how), functools.partial(_backward, how))(a)


def _forward(how, a):
    size, alpha, beta, k, axes = how
    wide = widened(a)
    return (wide * _power(_denominator(wide, size, alpha, k, axes), beta)).astype(a.dtype), a


def _backward(how, a, cotangent):
    # With d = k + α Σ a² and g the cotangent of b = a · d^−β:
    #   ∂/∂a_i = g_i · d_i^−β − 2αβ · a_i · Σ_j g_j · a_j · d_j^(−β−1)
    # j over the same neighbours. Only `a` is kept from the forward pass: d is
    # cheaper to compute again than to store and fetch.
    size, alpha, beta, k, axes = how
    wide = widened(a)
    d = _denominator(wide, size, alpha, k, axes)
    direct = widened(cotangent) * _power(d, beta)
    around = _window_sum(direct * wide / d, size, axes)
    return ((direct + -2 * alpha * beta * wide * around).astype(a.dtype),)


def widened(x: jax.Array) -> jax.Array:
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
