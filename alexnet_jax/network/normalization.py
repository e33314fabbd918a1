"""Local response normalisation (paper §3.3).

    b_i = a_i / (k + α · Σ_j a_j²)^β        |i − j| ≤ n // 2

over the n neighbouring kernel maps at the same place, the window cut at the
first and the last map.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


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
    return _norm(a, size, alpha, beta, k)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _norm(a, size, alpha, beta, k):
    return a * _power(_denominator(a, size, alpha, k), beta)


def _forward(a, size, alpha, beta, k):
    return _norm(a, size, alpha, beta, k), a


def _backward(size, alpha, beta, k, a, cotangent):
    # With d = k + α Σ a² and g the cotangent of b = a · d^−β:
    #   ∂/∂a_i = g_i · d_i^−β − 2αβ · a_i · Σ_j g_j · a_j · d_j^(−β−1)
    # j over the same neighbours. Only `a` is kept from the forward pass: d is
    # cheaper to compute again than to store and fetch.
    d = _denominator(a, size, alpha, k)
    direct = cotangent * _power(d, beta)
    return (direct - 2 * alpha * beta * a * _window_sum(direct * a / d, size),)


_norm.defvjp(_forward, _backward)


def _denominator(a: jax.Array, size: int, alpha: float, k: float) -> jax.Array:
    return k + alpha * _window_sum(a * a, size)


def _window_sum(x: jax.Array, size: int) -> jax.Array:
    """The sum of the `size` neighbours of each map, zeros beyond the ends."""
    # Shifted slices, not `reduce_window`: XLA fuses them into one pass.
    half = size // 2
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)])
    maps = x.shape[-1]
    return sum(padded[..., i : i + maps] for i in range(size))  # pyright: ignore[reportReturnType]


def _power(d: jax.Array, beta: float) -> jax.Array:
    """d^−β, without the slow general power where β is the paper's 3/4."""
    if beta == 0.75:
        root = lax.rsqrt(d)
        return root * lax.sqrt(root)
    return d**-beta
