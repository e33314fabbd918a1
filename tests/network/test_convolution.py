import jax
import numpy as np
import pytest

from alexnet_jax.network.convolution import conv, conv_of_any_batch


def loop(x, kernel, stride, padding):
    """float64, window by window."""
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    rows = (x.shape[1] - size) // stride + 1
    columns = (x.shape[2] - size) // stride + 1
    y = np.empty((len(x), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, i, j] = np.einsum('bhwc,hwco->bo', window, kernel)
    return y


@pytest.mark.parametrize(('size', 'extent', 'stride', 'padding'), [
    (11, 32, 4, (0, 3)), (11, 35, 4, (0, 0)), (5, 9, 1, (2, 2)), (3, 10, 2, (1, 1)),
    (4, 9, 2, (1, 0)),
])  # fmt: skip
def test_value_and_gradients_against_the_loop(size, extent, stride, padding, random):
    x = random.standard_normal((2, extent, extent, 3))
    kernel, bias = random.standard_normal((size, size, 3, 4)), random.standard_normal(4)
    y, pull = jax.vjp(
        lambda x, kernel, bias: conv(x, kernel, bias, stride, padding),
        x.astype(np.float32), kernel.astype(np.float32), bias.astype(np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(y, loop(x, kernel, stride, padding) + bias, rtol=1e-4, atol=1e-4)
    cotangent = random.standard_normal(y.shape)
    to_x, to_kernel, to_bias = pull(cotangent.astype(np.float32))
    np.testing.assert_allclose(to_bias, cotangent.sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-4)
    # The sum Σ cotangent · conv is linear in x and in the kernel: its derivative
    # along any direction is its value there.
    along_x, along_kernel = random.standard_normal(x.shape), random.standard_normal(kernel.shape)
    expected_x = (cotangent * loop(along_x, kernel, stride, padding)).sum()
    expected_kernel = (cotangent * loop(x, along_kernel, stride, padding)).sum()
    np.testing.assert_allclose((to_x * along_x).sum(), expected_x, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(
        (to_kernel * along_kernel).sum(), expected_kernel, rtol=1e-4, atol=1e-2
    )
    # And place by place, for two rows of the kernel.
    places = np.zeros_like(kernel)
    for place in np.ndindex(2, size):
        for maps in np.ndindex(3, 4):
            one = np.zeros_like(kernel)
            one[(*place, *maps)] = 1
            places[(*place, *maps)] = (cotangent * loop(x, one, stride, padding)).sum()
    np.testing.assert_allclose(to_kernel[:2], places[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('batch', 'computed'), [(1, 6), (6, 6), (7, 7)])
def test_small_batches_have_places_for_every_thread(batch, computed, monkeypatch):
    """32 places for each of 8 threads are six maps of 7×7."""
    monkeypatch.setenv('PJRT_NPROC', '8')
    kernel, bias = np.ones((3, 3, 4, 8), np.float32), np.ones(8, np.float32)

    def sums(x):
        return conv_of_any_batch(x, kernel, bias, 1, (1, 1), 1)

    x = np.random.default_rng(0).normal(size=(batch, 7, 7, 4)).astype(np.float32)
    text = jax.jit(sums).lower(x).as_text()
    assert f'tensor<{computed}x7x7x8xf32>' in text
    assert sums(x).shape == (batch, 7, 7, 8)
    np.testing.assert_allclose(sums(x), conv(x, kernel, bias, 1, (1, 1)), rtol=1e-5)
