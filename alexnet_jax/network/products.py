"""Products of activations with kernels.

The kernel may be float32 while activations are bfloat16. It is then rounded to bfloat16 for the
product, and its gradient, a sum over the batch and all positions, is returned in float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.network import platforms
from alexnet_jax.network.collectives import varying_like

Product = Callable[[jax.Array, jax.Array], jax.Array]
BLOCK = 64  # images; smaller blocks read large kernels from memory more often (docs/LOG.md)


def matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies each column's units with its kernel.

    x [columns, batch, units], kernel [columns, units, features] -> [columns, batch, features] in
    the type of x.
    """

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return x @ kernel.astype(x.dtype)

    def of_kernel(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        over_batch = (((1,), (1,)), ((0,), (0,)))
        return lax.dot_general(x, cotangent, over_batch, preferred_element_type=kernel.dtype)

    return _with_kernel_gradient(product, of_kernel)(x, kernel)


def product_in_blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies as `matrix_product`, without its special gradient of the kernel.

    On CPU it computes blocks of BLOCK images. The size of a product determines the order in which a
    CPU sums its terms; with blocks of one size the result for an image has the same bits in every
    batch.
    """

    def product(x: jax.Array) -> jax.Array:
        return x @ kernel.astype(x.dtype)

    def in_blocks(x: jax.Array) -> jax.Array:
        columns, batch, units = x.shape
        if not isinstance(batch, int):  # exported for batches of any size
            return product(x)
        count = -(-batch // BLOCK)
        whole = jnp.pad(x, ((0, 0), (0, count * BLOCK - batch), (0, 0)))
        if count == 1:
            return product(whole)[:, :batch]
        blocks = jnp.moveaxis(whole.reshape(columns, count, BLOCK, units), 1, 0)
        products = jnp.moveaxis(lax.map(product, blocks), 0, 1)
        return products.reshape(columns, count * BLOCK, -1)[:, :batch]

    return platforms.form(cpu=in_blocks, default=product)(x)


def convolution(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """Convolves maps with a kernel.

    x [batch, height, width, maps], kernel [size, size, maps, features] -> [batch, rows, columns,
    features] in the type of x.

    On CPU and GPU the gradient of a float32 kernel is rounded to the type of x. On a GPU cuDNN
    returns the type of its inputs, and float32 copies of these would take twice the memory.
    """

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel.astype(x.dtype), (stride, stride), (padding, padding),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        )  # fmt: skip

    def of_kernel(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        # Both factors were bfloat16 numbers: one pass of bfloat16, the default on TPU, is exact.
        with jax.default_matmul_precision('default'):
            wide = x.astype(kernel.dtype)
            _, transposed = jax.vjp(lambda kernel: product(wide, kernel), kernel)
            (gradient,) = transposed(cotangent.astype(kernel.dtype))
        return gradient

    return platforms.form(tpu=_with_kernel_gradient(product, of_kernel), default=product)(x, kernel)


def _with_kernel_gradient(
    product: Product, of_kernel: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
) -> Product:
    """Returns a product whose kernel gradient is `of_kernel`(x, kernel, cotangent) where x and the
    kernel differ in type.

    In that case it has no forward mode: `derivatives.with_gradient` would transpose the gradient
    twice, and XLA for TPUs then copies the factors of large products.
    """

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
