"""Kernels in float32 beside bfloat16 activations, against sums in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES
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


def test_forward_mode_is_refused_where_types_differ(case, tpu_forms):
    x, kernel, product, _ = case
    with pytest.raises(TypeError, match='custom_vjp'):
        jax.jvp(lambda kernel: product(x, kernel), (kernel,), (kernel,))
    same = kernel.astype(jnp.bfloat16)
    assert jax.jvp(lambda kernel: product(x, kernel), (same,), (same,))[1].dtype == jnp.bfloat16


@pytest.mark.slow
def test_a_training_rounds_no_kernels_gradient(tpu_forms, random):
    """And only a training does not: other gradients have forward mode."""
    net = AlexNet(ARCHITECTURES['small'], 10, compute='bfloat16')
    images = random.normal(0, 50, (4, 28, 28, 3)).astype(np.float32)
    params = nn.unbox(net.init(jax.random.key(0), images)['params'])

    def rounds(dropout_key) -> set[str]:
        """The layers whose kernels have gradients that bfloat16 has."""

        def total(params):
            return net.apply({'params': params}, images, dropout_key=dropout_key)[0].sum()

        gradients = jax.jit(jax.grad(total))(params)
        kernels = {name: np.asarray(gradients[name]['kernel']) for name in gradients}
        return {name for name, x in kernels.items() if np.array_equal(rounded(x), x)}

    assert rounds(None) == {layer.name for layer in net.architecture.layers}
    assert rounds(jax.random.key(1)) == set()
