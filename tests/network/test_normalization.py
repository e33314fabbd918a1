"""Against the paper's formula in float64, written as loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import collectives, device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.batch_normalization import batch_norm
from alexnet_jax.network.layers import LocalResponseNorm, SameMapNorm
from alexnet_jax.network.normalization import local_response_norm

CONVENTIONS = {
    'paper': LocalResponseNorm(),
    'authors': LocalResponseNorm(alpha_divided=True),
    'caffe': LocalResponseNorm(k=1.0, alpha_divided=True, across_columns=True),
    'paper across columns': LocalResponseNorm(across_columns=True),
    'three neighbors, strong': LocalResponseNorm(size=3, alpha=0.3, beta=0.6, k=1.5),
    'one map': LocalResponseNorm(size=1, alpha=0.3, beta=1.5, k=0.5),
    'more than all maps': LocalResponseNorm(size=15, alpha=0.3, across_columns=True),
}

SAME_MAP = {
    'krizhevsky2012': SameMapNorm(),
    'cifar18': SameMapNorm(size=3, alpha=5e-5),
    'three places, strong': SameMapNorm(size=3, alpha=0.3, beta=0.6, k=1.5),
    'one place': SameMapNorm(size=1, alpha=0.3),
    'wider than the map': SameMapNorm(size=9, alpha=0.3),
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


def same_map_loop(a: np.ndarray, row: SameMapNorm) -> np.ndarray:
    """The formula, place by place; alpha is divided by all places of a window, also
    where the edge cuts it."""
    half = row.size // 2
    b = np.empty_like(a)
    for i, j in np.ndindex(a.shape[1:3]):
        window = a[:, max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
        total = (window**2).sum(axis=(1, 2))
        b[:, i, j] = a[:, i, j] / (row.k + row.alpha / row.size**2 * total) ** row.beta
    return b


def loop_gradient(function, a: np.ndarray, cotangent: np.ndarray, axes) -> np.ndarray:
    """Central differences of a loop in float64, good to nine digits. `axes`: those
    its windows run along; along the others all is moved at once."""
    gradient, h = np.zeros_like(a), 1e-4 * np.abs(a).max()
    for place in np.ndindex(*(a.shape[axis] for axis in axes)):
        here = [slice(None)] * a.ndim
        for axis, index in zip(axes, place, strict=True):
            here[axis] = slice(index, index + 1)
        here = tuple(here)
        moved = np.zeros_like(a)
        moved[here] = h
        slope = (
            8 * (function(a + moved) - function(a - moved))
            - (function(a + 2 * moved) - function(a - 2 * moved))
        ) / (12 * h)
        gradient[here] = (cotangent * slope).sum(axis=axes, keepdims=True)
    return gradient


def stage(
    row: LocalResponseNorm | SameMapNorm, split: int, x: jax.Array, axis: str | None = None
) -> jax.Array:
    """The stage as the module runs it on the columns at hand."""
    net = AlexNet(architecture=None, classes=0, column_axis=axis)  # pyright: ignore[reportArgumentType]
    return jnp.concatenate(net._stage(row, jnp.split(x, split, axis=-1)), axis=-1)


def relative(x, reference) -> float:
    return float(np.abs(np.asarray(x, np.float64) - reference).max() / np.abs(reference).max())


@pytest.mark.usefixtures('every_form')
@pytest.mark.parametrize('name', CONVENTIONS)
@pytest.mark.parametrize('scale', [1.0, 100.0])
def test_value_and_gradient_against_the_loop(name, scale, random):
    row = CONVENTIONS[name]
    a = scale * random.standard_normal((2, 3, 3, 12))
    cotangent = random.standard_normal(a.shape)
    a32, cotangent32 = a.astype(np.float32), cotangent.astype(np.float32)
    how = jax.jit if scale == 1 else lambda run: run  # or operation by operation
    b, pull = jax.vjp(how(lambda x: stage(row, 2, x)), a32)
    a, cotangent = a32.astype(np.float64), cotangent32.astype(np.float64)
    assert relative(b, loop(a, row, 2)) < 1e-6
    gradient = loop_gradient(lambda a: loop(a, row, 2), a, cotangent, (3,))
    assert relative(pull(cotangent32)[0], gradient) < 1e-5


@pytest.mark.usefixtures('every_form')
@pytest.mark.thorough
@pytest.mark.parametrize('name', SAME_MAP)
@pytest.mark.parametrize('scale', [1.0, 100.0])
def test_same_map_value_and_gradient_against_the_loop(name, scale, random):
    row = SAME_MAP[name]
    a32 = (scale * random.standard_normal((2, 8, 6, 4))).astype(np.float32)
    cotangent32 = random.standard_normal(a32.shape).astype(np.float32)
    how = jax.jit if scale == 1 else lambda run: run
    b, pull = jax.vjp(how(lambda x: stage(row, 2, x)), a32)
    a, cotangent = a32.astype(np.float64), cotangent32.astype(np.float64)
    assert relative(b, same_map_loop(a, row)) < 1e-6
    gradient = loop_gradient(lambda a: same_map_loop(a, row), a, cotangent, (1, 2))
    assert relative(pull(cotangent32)[0], gradient) < 1e-5


def on_mesh(row: LocalResponseNorm, devices: int):
    """The stage with a column on each of the devices."""
    spec = P(None, None, None, device_mesh.COLUMN)
    return jax.shard_map(
        lambda x: stage(row, 1, x, device_mesh.COLUMN),
        mesh=device_mesh.make_mesh(1, devices), in_specs=spec, out_specs=spec,
    )  # fmt: skip


@pytest.mark.usefixtures('every_form')
@pytest.mark.parametrize(('devices', 'size', 'across'), [
    (2, 5, False),
    (2, 5, True),
    (2, 1, False),
    (2, 1, True),  # nothing is read of another column
    (4, 1, True),
    (4, 7, True),  # as far as the nearest device
    (4, 9, True),  # beyond it
    (4, 11, True),
])  # fmt: skip
def test_columns_on_several_devices(devices, size, across, random):
    """The window reaches over the border to the other devices, and its gradient back."""
    row = LocalResponseNorm(size=size, alpha=0.1, across_columns=across)
    a = random.standard_normal((2, 3, 3, 12)).astype(np.float32)
    cotangent = random.standard_normal(a.shape).astype(np.float32)
    b, pull = jax.vjp(jax.jit(on_mesh(row, devices)), a)
    reference = a.astype(np.float64)
    assert relative(b, loop(reference, row, devices)) < 1e-6
    gradient = loop_gradient(
        lambda a: loop(a, row, devices), reference, cotangent.astype(np.float64), (3,)
    )
    assert relative(pull(cotangent)[0], gradient) < 1e-5


@pytest.mark.thorough
@pytest.mark.parametrize('own', [1, 2, 3])
def test_neighbors_of_any_number_of_maps(own):
    """Of maps that are their numbers, from 1: those on either side, 0 beyond the ends."""
    mesh, spec = device_mesh.make_mesh(1, 4), P(device_mesh.COLUMN)
    every = np.pad(np.arange(1, 4 * own + 1), 4 * own)
    for maps in range(3 * own + 1):
        found = jax.shard_map(
            lambda x, maps=maps: collectives.with_neighbors(x, maps, device_mesh.COLUMN),
            mesh=mesh, in_specs=spec, out_specs=spec,
        )(jnp.arange(1, 4 * own + 1)).reshape(4, -1)  # fmt: skip
        for device, numbers in enumerate(found):
            first = 4 * own + device * own
            np.testing.assert_array_equal(numbers, every[first - maps : first + own + maps])


def test_general_power_agrees_with_the_paper_s(random):
    a = random.standard_normal((4, 8)).astype(np.float32)
    near = local_response_norm(a, 5, 0.1, 0.75 + 1e-6, 2.0)
    np.testing.assert_allclose(near, local_response_norm(a, 5, 0.1, 0.75, 2.0), rtol=1e-5)


def batch_norm_float64(x, scale, bias, epsilon):
    rows = x.reshape(-1, x.shape[-1])
    mean = np.array([np.mean(rows[:, i]) for i in range(rows.shape[1])])
    variance = np.array([np.mean((rows[:, i] - mean[i]) ** 2) for i in range(rows.shape[1])])
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias, mean, variance


@pytest.mark.parametrize('offset', [0.0, 100.0])
def test_batch_norm_against_float64(offset, random):
    """Values; and gradients as differences between values a little apart."""
    x = random.normal(offset, 2, (3, 4, 5, 6))
    weights = random.normal(0, 1, x.shape)
    scale, bias = random.normal(1, 0.3, 6), random.normal(0, 1, 6)
    arguments = tuple(jnp.float32(a) for a in (x, scale, bias))
    for ours, expected in zip(
        batch_norm(*arguments, 1e-3), batch_norm_float64(x, scale, bias, 1e-3), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-4 if offset else 5e-6)

    gradients = jax.grad(lambda *a: jnp.sum(batch_norm(*a, 1e-3)[0] * weights), (0, 1, 2))(
        *arguments
    )
    for number, gradient in enumerate(gradients):
        for _ in range(8):
            place = tuple(random.integers(0, extent) for extent in gradient.shape)
            sides = []
            for by in (1e-4, -1e-4):
                moved = [x.copy(), scale.copy(), bias.copy()]
                moved[number][place] += by
                sides.append(np.sum(batch_norm_float64(*moved, 1e-3)[0] * weights))
            slope = (sides[0] - sides[1]) / 2e-4
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-3, atol=1e-3)
