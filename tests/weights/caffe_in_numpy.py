"""Caffe's layers in NumPy, float64, as src/caffe/layers has them; nothing of alexnet_jax is
read here. Arrays are [batch, maps, height, width]."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray


def convolution(x: Array, weights: Array, bias: Array, stride=1, pad=0, group=1) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    side = weights.shape[-1]
    windows = sliding_window_view(x, (side, side), axis=(2, 3))[:, :, ::stride, ::stride]
    sums = [
        np.einsum('bmhwij,fmij->bfhw', part, kernel, optimize=True)
        for part, kernel in zip(
            np.split(windows, group, axis=1), np.split(weights, group), strict=True
        )
    ]
    return np.concatenate(sums, axis=1) + bias.reshape(-1)[:, None, None]


def lrn(x: Array, size=5, alpha=1.0, beta=0.75, k=1.0) -> Array:
    half = size // 2
    squares = np.pad(x**2, ((0, 0), (half, half), (0, 0), (0, 0)))
    sums = sliding_window_view(squares, size, axis=1).sum(-1)
    return x * (k + alpha / size * sums) ** -beta


def lrn_within(x: Array, size=5, alpha=1.0, beta=0.75) -> Array:
    """Divides by size² at the borders too: the average of a padded map."""
    half = size // 2
    squares = np.pad(x**2, ((0, 0), (0, 0), (half, half), (half, half)))
    sums = sliding_window_view(squares, (size, size), axis=(2, 3)).sum((-2, -1))
    return x * (1 + alpha / size**2 * sums) ** -beta


def pool(x: Array, size: int, stride: int, average: bool = False) -> Array:
    """Windows that overhang are cut at the end of the map, and averages are over the rest."""
    rows, columns = (math.ceil((extent - size) / stride) + 1 for extent in x.shape[2:])
    reduce = np.mean if average else np.max
    return np.stack([
        np.stack([
            reduce(x[:, :, i : i + size, j : j + size], axis=(2, 3))
            for j in range(0, columns * stride, stride)
        ], axis=-1)
        for i in range(0, rows * stride, stride)
    ], axis=-2)  # fmt: skip


def relu(x: Array, slope: float = 0) -> Array:
    return np.where(x > 0, x, slope * x)


def inner_product(x: Array, weights: Array, bias: Array) -> Array:
    return x.reshape(len(x), -1) @ weights.T + bias.reshape(-1)
