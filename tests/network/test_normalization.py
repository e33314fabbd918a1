"""Against the paper's formula in float64, written as loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import columns
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import LocalResponseNorm
from alexnet_jax.network.normalization import local_response_norm

CONVENTIONS = {
    'paper': LocalResponseNorm(),
    'authors': LocalResponseNorm(alpha_divided=True),
    'caffe': LocalResponseNorm(k=1.0, alpha_divided=True, across_columns=True),
    'paper across columns': LocalResponseNorm(across_columns=True),
    'three neighbours, strong': LocalResponseNorm(size=3, alpha=0.3, beta=0.6, k=1.5),
}


def loop(a: np.ndarray, row: LocalResponseNorm, split: int) -> np.ndarray:
    """The formula, map by map; `split` columns of maps if the window stays in them."""
    maps = a.shape[-1]
    column = maps if row.across_columns else maps // split
    alpha = row.alpha / row.size if row.alpha_divided else row.alpha
    b = np.empty_like(a)
    for i in range(maps):
        first, last = i // column * column, i // column * column + column - 1
        total = 0.0
        for j in range(max(first, i - row.size // 2), min(last, i + row.size // 2) + 1):
            total = total + a[..., j] ** 2
        b[..., i] = a[..., i] / (row.k + alpha * total) ** row.beta
    return b


def loop_gradient(a, row, split, cotangent) -> np.ndarray:
    """Central differences of the loop in float64, good to nine digits."""
    gradient, h = np.zeros_like(a), 1e-4 * np.abs(a).max()
    for i in range(a.shape[-1]):
        moved = np.zeros_like(a)
        moved[..., i] = h
        slope = (
            8 * (loop(a + moved, row, split) - loop(a - moved, row, split))
            - (loop(a + 2 * moved, row, split) - loop(a - 2 * moved, row, split))
        ) / (12 * h)
        gradient[..., i] = (cotangent * slope).sum(axis=-1)
    return gradient


def stage(row: LocalResponseNorm, split: int, x: jax.Array, axis: str | None = None) -> jax.Array:
    """The stage as the module runs it on the columns at hand."""
    net = AlexNet(architecture=None, classes=0, column_axis=axis)  # pyright: ignore[reportArgumentType]
    return jnp.concatenate(net._stage(row, jnp.split(x, split, axis=-1)), axis=-1)


def relative(x, reference) -> float:
    return float(np.abs(np.asarray(x, np.float64) - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize('name', CONVENTIONS)
@pytest.mark.parametrize('scale', [1.0, 100.0])
def test_value_and_gradient_against_the_loop(name, scale, random):
    row = CONVENTIONS[name]
    a = scale * random.standard_normal((2, 3, 3, 12))
    cotangent = random.standard_normal(a.shape)
    a32, cotangent32 = a.astype(np.float32), cotangent.astype(np.float32)
    b, pull = jax.vjp(lambda x: stage(row, 2, x), a32)
    a, cotangent = a32.astype(np.float64), cotangent32.astype(np.float64)
    assert relative(b, loop(a, row, 2)) < 1e-6
    assert relative(pull(cotangent32)[0], loop_gradient(a, row, 2, cotangent)) < 1e-5


@pytest.mark.parametrize('across', [False, True])
def test_columns_on_two_devices(across, random):
    """The window reaches over the border to the other device, and its gradient back."""
    row = dataclasses.replace(LocalResponseNorm(alpha=0.1), across_columns=across)
    a = random.standard_normal((2, 3, 3, 12)).astype(np.float32)
    cotangent = random.standard_normal(a.shape).astype(np.float32)
    mesh = columns.make_mesh(1, 2)
    spec = P(None, None, None, columns.COLUMN)
    on_mesh = jax.shard_map(
        lambda x: stage(row, 1, x, columns.COLUMN), mesh=mesh, in_specs=spec, out_specs=spec
    )
    b, pull = jax.vjp(jax.jit(on_mesh), a)
    reference = a.astype(np.float64)
    assert relative(b, loop(reference, row, 2)) < 1e-6
    gradient = loop_gradient(reference, row, 2, cotangent.astype(np.float64))
    assert relative(pull(cotangent)[0], gradient) < 1e-5


def test_general_power_agrees_with_the_paper_s(random):
    a = random.standard_normal((4, 8)).astype(np.float32)
    near = local_response_norm(a, 5, 0.1, 0.75 + 1e-6, 2.0)
    np.testing.assert_allclose(near, local_response_norm(a, 5, 0.1, 0.75, 2.0), rtol=1e-5)
