"""Overlapping pooling (paper §3.4)."""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.network import checks, platforms, rules
from alexnet_jax.network.derivatives import with_gradient
from alexnet_jax.network.normalization import widened
from alexnet_jax.network.shapes import pooled


def max_pool(x: jax.Array, size: int = 3, stride: int = 2) -> jax.Array:
    """Returns the largest value of each `size`×`size` window, `stride` apart.

    Args:
      x: [batch, height, width, maps].
      size: side of the window.
      stride: distance of the windows' corners, at most `size`.

    Returns:
      [batch, rows, columns, maps] with rows = ceil((height − size) / stride) + 1,
      and columns likewise: the last windows may overhang the input.

    The gradient goes to the first largest value of a window, as in XLA's gradient.

    Raises:
      ValueError: a shape, type or window is not allowed.
    """
    _require('max_pool', x, size, stride)
    forward, backward = (functools.partial(f, size, stride) for f in (_forward, _backward))
    return with_gradient(forward, backward)(x)


def average_pool(x: jax.Array, size: int = 3, stride: int = 2) -> jax.Array:
    """Returns the mean of each window's values, shapes as for `max_pool`.

    In an overhanging window it is the mean of the values inside the map, as in the authors' code.
    Sums are float32 at least.

    Raises:
      ValueError: as `max_pool`.
    """
    _require('average_pool', x, size, stride)
    overhang = [(0, _overhang(extent, size, stride)) for extent in x.shape[1:3]]
    window, strides = (size, size), (stride, stride)
    means = nn.avg_pool(widened(x), window, strides, overhang, count_include_pad=False)  # pyright: ignore[reportArgumentType]
    return means.astype(x.dtype)


def _require(function: str, x: jax.Array, size: int, stride: int) -> None:
    checks.require(function, size=(size, rules.WINDOW), stride=(stride, rules.WINDOW))
    checks.require_maps(function, x)
    if stride > size:
        raise ValueError(
            f'{function}: stride is {stride} for windows of {size}×{size}; expected: at most'
            f' {size}, or a window would lie beyond the map'
        )
    if min(pooled(extent, size, stride) for extent in x.shape[1:3]) < 1:
        raise ValueError(
            f'{function}: windows of {size}×{size}, stride {stride}, over a map of'
            f' {x.shape[1:3]}; expected: a map of at least {max(1, size - stride + 1)} pixels'
        )


def _forward(size, stride, x):
    largest, place = _max_and_place(x, size, stride)
    return largest, (place, jnp.zeros((0, *x.shape[1:]), jnp.bool_))


def _backward(size, stride, residuals, cotangent):
    # Each input position gathers the cotangents of the windows whose maximum it was. XLA's own
    # gradient is a scatter, an order of magnitude slower on CPU.
    place, like = residuals
    shape = like.shape[1:3]
    gradient = platforms.form(tpu=_by_phases, default=_by_blocks)
    return (gradient(size, stride, shape, place, cotangent),)


def _by_blocks(size, stride, shape, place, cotangent):
    """Returns the gradient of the input, computed in one pass over blocks of `stride`×`stride`
    positions. The windows that cover a block are broadcast to it; on TPU, XLA would write these
    broadcasts to memory.
    """
    height, width = shape
    batch, _, _, maps = place.shape
    blocks = [math.ceil(extent / stride) for extent in shape]
    phase = np.arange(stride)  # row stride · i + phase of the input is row `phase` of window i
    whole = (batch, blocks[0], stride, blocks[1], stride, maps)
    total = jnp.zeros((), widened(cotangent).dtype)
    for up, left, place_then, cotangent_then in _earlier(size, stride, shape, place, cotangent):
        row, column = phase[:, None, None, None] + up * stride, phase[:, None] + left * stride
        inside = (row < size) & (column < size)
        index = np.where(inside, row * size + column, size * size).astype(place.dtype)
        spread = functools.partial(
            lax.broadcast_in_dim, shape=whole, broadcast_dimensions=(0, 1, 3, 5)
        )
        total += jnp.where(spread(place_then) == index, spread(cotangent_then), 0)
    total = total.reshape(batch, blocks[0] * stride, blocks[1] * stride, maps)
    return total[:, :height, :width].astype(cotangent.dtype)


def _by_phases(size, stride, shape, place, cotangent):
    """Returns the same numbers. The gradients of each phase of the stride are computed separately,
    then interleaved within rows, then across rows.
    """
    blocks = [math.ceil(extent / stride) for extent in shape]
    earlier = list(_earlier(size, stride, shape, place, cotangent))

    def of_phase(row: int, column: int) -> jax.Array:
        total = jnp.zeros((), widened(cotangent).dtype)
        for up, left, place_then, cotangent_then in earlier:
            down, right = row + up * stride, column + left * stride
            if down < size and right < size:
                index = place.dtype.type(down * size + right)
                total += jnp.where(place_then == index, cotangent_then, 0)
        return total.astype(cotangent.dtype)

    def interleaved(phases: list[jax.Array], axis: int) -> jax.Array:
        extent, block = shape[axis - 1], blocks[axis - 1]
        padding = [[(0, 0, 0)] * 4 for _ in phases]
        for phase, edges in enumerate(padding):
            edges[axis] = (phase, extent - phase - (block - 1) * stride - 1, stride - 1)
        zero = jnp.zeros((), cotangent.dtype)
        return sum(lax.pad(x, zero, edges) for x, edges in zip(phases, padding, strict=True))  # pyright: ignore[reportReturnType]

    phases = range(stride)
    rows = [interleaved([of_phase(row, column) for column in phases], axis=2) for row in phases]
    return interleaved(rows, axis=1)


def _earlier(size, stride, shape, place, cotangent):
    """Yields (up, left, places, cotangents): for each block of the input, the values of the window
    that starts `up` and `left` blocks before it.
    """
    blocks = [math.ceil(extent / stride) for extent in shape]
    before = math.ceil(size / stride) - 1  # windows that reach into a block from before it
    padding = [
        (before, block - windows, 0)
        for block, windows in zip(blocks, place.shape[1:3], strict=True)
    ]

    def around(x: jax.Array) -> jax.Array:
        return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *padding, (0, 0, 0)))

    place, cotangent = around(place), around(cotangent)
    for up, left in itertools.product(range(before + 1), repeat=2):
        row, column = before - up, before - left
        here = (slice(None), slice(row, row + blocks[0]), slice(column, column + blocks[1]))
        yield up, left, place[here], cotangent[here]


def _max_and_place(x: jax.Array, size: int, stride: int) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum of each window, and its position in the window."""
    rows, columns = (pooled(extent, size, stride) for extent in x.shape[1:3])
    overhang = [(0, _overhang(extent, size, stride)) for extent in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *overhang, (0, 0)), constant_values=-jnp.inf)

    def values(row, column):
        return x[:, row : row + (rows - 1) * stride + 1 : stride,
                 column : column + (columns - 1) * stride + 1 : stride]  # fmt: skip

    largest = values(0, 0)
    # The smallest type with one more index than positions, for "no position".
    place = jnp.zeros(largest.shape, np.min_scalar_type(size * size))
    for index, offset in enumerate(_offsets(size)[1:], start=1):
        candidate = values(*offset)
        # A NaN is propagated, so that it is not hidden by the maximum.
        wins = (candidate > largest) | (candidate != candidate)
        largest = jnp.where(wins, candidate, largest)
        place = jnp.where(wins, place.dtype.type(index), place)
    return largest, place


def _offsets(size: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(size) for column in range(size)]


def _overhang(extent: int, size: int, stride: int) -> int:
    """Returns how far the last window extends beyond the input."""
    return max(0, (pooled(extent, size, stride) - 1) * stride + size - extent)
