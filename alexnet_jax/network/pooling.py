"""Overlapping pooling (paper §3.4)."""

import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.network import checks, rules
from alexnet_jax.network.derivatives import with_gradient
from alexnet_jax.network.normalization import widened
from alexnet_jax.network.shapes import pooled


def max_pool(x: jax.Array, size: int = 3, stride: int = 2) -> jax.Array:
    """The largest value of each `size`×`size` window, `stride` apart.

    Args:
      x: [batch, height, width, maps].
      size: side of the window.
      stride: distance of the windows' corners, at most `size`.

    Returns:
      [batch, rows, columns, maps] with rows = ceil((height − size) / stride) + 1,
      and columns likewise: the last windows may overhang the input.

    The gradient goes to the first largest value of a window, as in XLA's own.

    Raises:
      ValueError: a shape, type or window is not allowed.
    """
    _require('max_pool', x, size, stride)
    forward, backward = (functools.partial(f, size, stride) for f in (_forward, _backward))
    return with_gradient(forward, backward)(x)


def average_pool(x: jax.Array, size: int = 3, stride: int = 2) -> jax.Array:
    """The mean of each window's values, shapes as for `max_pool`. Where a window
    overhangs, the mean of those inside, as in the authors' code. Sums are float32 at least.

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
    # Each place of the input asks the few windows over it whether their largest value came
    # from there: one pass. XLA's own gradient is a scatter, an order of magnitude slower on CPU.
    place, like = residuals
    height, width = like.shape[1:3]
    blocks = [math.ceil(extent / stride) for extent in (height, width)]
    before = math.ceil(size / stride) - 1  # windows that reach into a block from before it
    shape = (len(place), blocks[0], stride, blocks[1], stride, like.shape[3])
    phase = np.arange(stride)  # row stride · i + phase of the input is row `phase` of window i

    def around(x: jax.Array) -> jax.Array:
        padding = [
            (before, block - windows, 0)
            for block, windows in zip(blocks, x.shape[1:3], strict=True)
        ]
        return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *padding, (0, 0, 0)))

    def earlier(x: jax.Array, up: int, left: int) -> jax.Array:
        """For each place of a block of the input, the window that starts so many blocks before."""
        row, column = before - up, before - left
        windows = x[:, row : row + blocks[0], column : column + blocks[1]]
        return lax.broadcast_in_dim(windows, shape, (0, 1, 3, 5))

    place, cotangent = around(place), around(cotangent)
    total = jnp.zeros((), widened(cotangent).dtype)
    for up, left in itertools.product(range(before + 1), repeat=2):
        row, column = phase[:, None, None, None] + up * stride, phase[:, None] + left * stride
        inside = (row < size) & (column < size)
        index = np.where(inside, row * size + column, size * size).astype(place.dtype)
        total += jnp.where(earlier(place, up, left) == index, earlier(cotangent, up, left), 0)
    whole = total.reshape(len(place), blocks[0] * stride, blocks[1] * stride, -1)
    return (whole[:, :height, :width].astype(cotangent.dtype),)


def _max_and_place(x: jax.Array, size: int, stride: int) -> tuple[jax.Array, jax.Array]:
    """The windows' largest values, and which place of the window each came from."""
    rows, columns = (pooled(extent, size, stride) for extent in x.shape[1:3])
    overhang = [(0, _overhang(extent, size, stride)) for extent in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *overhang, (0, 0)), constant_values=-jnp.inf)

    def values(row, column):
        return x[:, row : row + (rows - 1) * stride + 1 : stride,
                 column : column + (columns - 1) * stride + 1 : stride]  # fmt: skip

    largest = values(0, 0)
    # The smallest type that holds one index more, for no place of the window.
    place = jnp.zeros(largest.shape, np.min_scalar_type(size * size))
    for index, offset in enumerate(_offsets(size)[1:], start=1):
        candidate = values(*offset)
        # A NaN wins too, or it would be lost here and found nowhere.
        wins = (candidate > largest) | (candidate != candidate)
        largest = jnp.where(wins, candidate, largest)
        place = jnp.where(wins, place.dtype.type(index), place)
    return largest, place


def _offsets(size: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(size) for column in range(size)]


def _overhang(extent: int, size: int, stride: int) -> int:
    """How far the last window reaches beyond the input."""
    return max(0, (pooled(extent, size, stride) - 1) * stride + size - extent)
