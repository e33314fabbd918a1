"""Products of activations with kernels.

A kernel kept in float32 beside bfloat16 activations is rounded for the product. Its gradient, a sum
over the batch and all places, comes in float32 as it was added up, and is not rounded on the way.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.network import platforms
from alexnet_jax.network.collectives import varying_like

Product = Callable[[jax.Array, jax.Array], jax.Array]


def matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [columns, batch, read], kernel [columns, read, features] -> [columns, batch, features], in
    the type of x."""

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return x @ kernel.astype(x.dtype)

    def of_kernel(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        over_batch = (((1,), (1,)), ((0,), (0,)))
        turned = lax.dot_general(cotangent, x, over_batch, preferred_element_type=kernel.dtype)
        return jnp.swapaxes(turned, 1, 2)

    return _with_kernel_gradient(product, of_kernel)(x, kernel)


def convolution(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """x [batch, height, width, maps], kernel [size, size, maps, features] -> [batch, rows, columns,
    features], in the type of x.

    On GPUs the gradient of a float32 kernel is rounded to the type of x: their convolutions give
    out the type that they read, and to read float32 takes twice the memory and time.
    """

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel.astype(x.dtype), (stride, stride), (padding, padding),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        )  # fmt: skip

    def of_kernel(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        # The default on TPUs, one pass of bfloat16, has all digits of what was bfloat16 before.
        with jax.default_matmul_precision('default'):
            wide = x.astype(kernel.dtype)
            _, transposed = jax.vjp(lambda kernel: product(wide, kernel), kernel)
            (gradient,) = transposed(cotangent.astype(kernel.dtype))
        return gradient

    return platforms.form(tpu=_with_kernel_gradient(product, of_kernel), default=product)(x, kernel)


def _with_kernel_gradient(
    product: Product, of_kernel: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
) -> Product:
    """Returns the product, with `of_kernel`: (x, kernel, cotangent) -> the kernel's gradient where
    x has another type than the kernel. There it has no forward mode: of a gradient transposed twice,
    as `derivatives.with_gradient` does, XLA copies the factors."""

    def forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return product(x, kernel), (x, kernel)

    def backward(
        arguments: tuple[jax.Array, jax.Array], cotangent: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        x, kernel = arguments
        _, transposed = jax.vjp(lambda x: product(x, kernel), x)
        return *transposed(cotangent), of_kernel(x, kernel, cotangent)

    apart = jax.custom_vjp(product)
    apart.defvjp(forward, backward)

    def run(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if x.dtype == kernel.dtype:
            return product(x, kernel)
        return apart(varying_like(x, kernel), varying_like(kernel, x))

    return run
