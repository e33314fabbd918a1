"""Convolution with a bias."""

import os

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.network import checks, platforms, products, rules
from alexnet_jax.network.collectives import varying_like
from alexnet_jax.network.derivatives import with_gradient
from alexnet_jax.network.normalization import widened

PLACES_A_THREAD = 32  # total over the images, in the output map of a convolution


def conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """Convolves without groups.

    x [batch, height, width, maps], kernel [size, size, maps, features], bias [features] ->
    [batch, rows, columns, features].

    `padding` is (before, after) on both spatial axes. A float32 kernel is rounded to bfloat16 for a
    product with a bfloat16 x (`products.py`).

    Raises:
      ValueError: the shapes do not fit, or the kernel is larger than the padded map.
    """
    _require(x, kernel, bias, stride, padding, groups=1)
    sums = products.convolution(x, kernel, stride, padding)
    return _add_bias(sums, varying_like(bias, sums))


def grouped_conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    stride: int,
    padding: tuple[int, int],
    groups: int,
) -> jax.Array:
    """Convolves `groups` independent groups of maps and features.

    kernel: [size, size, maps / groups, features]. Each group is a separate convolution, because
    `feature_group_count` is several times slower (docs/LOG.md).

    Raises:
      ValueError: as `conv`; maps or features are not divisible by the groups.
    """
    _require(x, kernel, bias, stride, padding, groups)
    if groups == 1:
        return conv(x, kernel, bias, stride, padding)
    xs, kernels, biases = (jnp.split(array, groups, -1) for array in (x, kernel, bias))
    parts = zip(xs, kernels, biases, strict=True)
    return jnp.concatenate([conv(*part, stride, padding) for part in parts], axis=-1)


def conv_of_any_batch(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    stride: int,
    padding: tuple[int, int],
    groups: int,
) -> jax.Array:
    """Convolves as `grouped_conv`, so that on CPU an image's sums have the same bits in every batch.

    If a batch has few positions for the number of threads, XLA splits each sum among the threads.
    Zero images are added until there are enough positions (docs/LOG.md states the number).
    """

    def padded(x: jax.Array) -> jax.Array:
        if not isinstance(x.shape[0], int):  # exported for batches of any size
            return x
        rows, columns = ((side + sum(padding) - len(kernel)) // stride + 1 for side in x.shape[1:3])
        enough = -(-PLACES_A_THREAD * _threads() // (rows * columns))
        missing = enough - len(x)
        if missing <= 0:
            return x
        return jnp.pad(x, ((0, missing), (0, 0), (0, 0), (0, 0)))

    _require(x, kernel, bias, stride, padding, groups)
    whole = platforms.form(cpu=padded, default=lambda x: x)(x)
    sums = grouped_conv(whole, kernel, bias, stride, padding, groups)
    return sums if whole is x else sums[: len(x)]


def _threads() -> int:
    """Returns the maximum number of XLA's threads."""
    return int(os.getenv('PJRT_NPROC') or os.cpu_count() or 1)


def _require(x, kernel, bias, stride, padding, groups) -> None:
    checks.require(
        'conv', stride=(stride, rules.PIXELS), padding=(padding, rules.PADDING),
        groups=(groups, rules.COUNT),
    )  # fmt: skip
    checks.require_maps('conv', x)
    checks.require_shape('conv: kernel', kernel, 'size', 'size', 'maps', 'features')
    maps, features, places = x.shape[3], kernel.shape[3], x.shape[1:3]
    if maps % groups or features % groups:
        raise ValueError(
            f'conv: {maps} maps and {features} features in {groups} groups; expected: multiples'
            ' of the groups'
        )
    checks.require_shape('conv: kernel', kernel, 'size', 'size', maps // groups, 'features')
    checks.require_shape('conv: bias', bias, features)
    if any(
        side > extent + sum(padding) for side, extent in zip(kernel.shape, places, strict=False)
    ):
        raise ValueError(
            f'conv: a kernel of {kernel.shape[:2]} over a map of {places} with padding {padding};'
            ' expected: a kernel no larger than the padded map'
        )


def _forward(sums: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
    return (widened(sums) + bias).astype(sums.dtype), bias


def _backward(bias: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    return cotangent, sum_over_places(cotangent).astype(bias.dtype)


_add_bias = with_gradient(_forward, _backward)


def sum_over_places(x: jax.Array) -> jax.Array:
    """Sums x [batch, ..., maps] over all but the maps: [maps], float32 at least."""
    if x.dtype != widened(x).dtype:  # XLA converts while it sums; a product would need a copy
        return jnp.sum(widened(x), axis=tuple(range(x.ndim - 1)))
    # One product per image: on CPU, XLA's own sum takes several times as long. One product over all
    # images would sum too many terms in float32.
    places = x.reshape(len(x), -1, x.shape[-1])
    ones = jnp.ones(places.shape[:2], x.dtype)
    of_images = jnp.einsum('bp,bpm->bm', ones, places, precision=lax.Precision.HIGHEST)
    return jnp.sum(of_images, axis=0)
