"""Kernels in float32 beside bfloat16 activations, against sums in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network.products import convolution, matrix_product

WINDOW = (3, 3)


def matrices(x, kernel):
    return np.einsum('cbr,crf->cbf', x, kernel)


def windows(x, kernel):
    """[batch, places, features] of stride 2 with a row and column of zeros around."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=(1, 2))[:, ::2, ::2]
    return np.einsum('byxmij,ijmf->byxf', seen, kernel)


CASES = {
    'matrices': ((2, 64, 30), (2, 30, 20), matrix_product, matrices),
    'windows': ((16, 9, 9, 3), (*WINDOW, 3, 8), lambda x, k: convolution(x, k, 2, (1, 1)), windows),
}


@pytest.fixture(params=CASES)
def case(request, random):
    """(x in bfloat16, kernel in float32, the product, the same in NumPy)."""
    x, kernel, product, expected = CASES[request.param]
    x = jnp.asarray(random.normal(size=x), jnp.bfloat16)
    return x, random.normal(size=kernel).astype(np.float32), product, expected


def rounded(x) -> np.ndarray:
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


def test_products_are_of_rounded_kernels(case, every_form):
    x, kernel, product, expected = case
    found = product(x, kernel)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        rounded(found), expected(rounded(x), rounded(kernel)), rtol=0.01, atol=0.02
    )


def test_gradients_of_kernels_are_not_rounded(case, tpu_forms, random):
    x, kernel, product, expected = case
    out, transposed = jax.vjp(product, x, kernel)
    cotangent = jnp.asarray(random.normal(size=out.shape), jnp.bfloat16)
    of_x, of_kernel = transposed(cotangent)
    assert (of_x.dtype, of_kernel.dtype) == (jnp.bfloat16, jnp.float32)
    # A linear function's gradient: its values at each of the kernel's unit vectors.
    units = np.eye(kernel.size).reshape(kernel.size, *kernel.shape)
    exact = [np.sum(expected(rounded(x), unit) * rounded(cotangent)) for unit in units]
    np.testing.assert_allclose(of_kernel.ravel(), exact, rtol=1e-4, atol=1e-5)
    direction = jnp.asarray(random.normal(size=x.shape), jnp.bfloat16)
    along = np.sum(expected(rounded(direction), rounded(kernel)) * rounded(cotangent))
    assert np.sum(rounded(of_x) * rounded(direction)) == pytest.approx(along, rel=0.02, abs=0.5)


def test_gradients_have_forward_mode(case, tpu_forms, random):
    x, kernel, product, expected = case
    direction = random.normal(size=kernel.shape).astype(np.float32)
    _, tangent = jax.jvp(lambda kernel: product(x, kernel), (kernel,), (direction,))
    np.testing.assert_allclose(
        rounded(tangent), expected(rounded(x), direction), rtol=0.02, atol=0.1
    )
